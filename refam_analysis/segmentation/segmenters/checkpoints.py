"""Checkpoint files of segment-anything and MobileSAM: which model a file holds, and the ``Sam`` made of it.

The sizes are read off the tensors themselves, so one function loads ViT-B, ViT-L, ViT-H, MobileSAM and what was trained
further from them. Nothing that could run code is unpickled.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import Tensor, nn

from refam_analysis.errors import RefamError
from refam_analysis.segmentation.segmenters.tiny_vit import PATCH, TinyVitEncoder, renamed, speed_up

_ENCODER = "image_encoder."
_DECODER_HEADS = 8
"""Of every published model; no tensor's shape tells it."""


class CheckpointError(RefamError, ValueError):
    """A file is no checkpoint of segment-anything or MobileSAM."""

    def __init__(self, path: Path, problem: str) -> None:
        super().__init__(
            f"The file {str(path)!r} cannot be used as a segmenter: {problem}. It should hold the state dictionary of "
            f"segment-anything (ViT-B, ViT-L, ViT-H) or of MobileSAM; `refam weights list` names some."
        )


def load_sam(path: str | Path, *, image_size: int | None = None, fast: bool = True) -> Sam:
    """Build the ``Sam`` that a checkpoint holds.

    Args:
        path: of a ``.pth``, ``.pt`` or ``.safetensors`` file with a state dictionary.
        image_size: pixels of the longer side inside the model; None for what it was trained with. Only MobileSAM takes
            another one: less is faster, and draws worse.
        fast: prepare MobileSAM's encoder for inference (:func:`~.tiny_vit.speed_up`). False keeps every module of the
            checkpoint, for training.

    Returns:
        The model in evaluation mode, float32, on the CPU. Every tensor of the file is used, and none is missing; only
        MobileSAM's classifier is left out.

    Raises:
        CheckpointError: the file is missing, unreadable, unsafe, or of another model.
    """
    path = Path(path)
    state = _read(path)
    try:
        mobile = any(name.startswith(_ENCODER + "trunk.") for name in state)
        if mobile:
            sam = _mobile_sam(state, 1024 if image_size is None else image_size)
        elif image_size is None:
            sam = _vit_sam(state)
        else:
            raise CheckpointError(path, f"image_size={image_size} was asked for, and only MobileSAM takes one")
    except CheckpointError:
        raise
    except KeyError as error:
        raise CheckpointError(path, f"it has no tensor {error}") from error
    except (IndexError, ValueError, ZeroDivisionError, AssertionError, RuntimeError) as error:
        raise CheckpointError(path, f"its tensors have the shapes of no such model ({_line(error)})") from error
    try:
        sam.load_state_dict(state, strict=True)
    except RuntimeError as error:
        raise CheckpointError(path, " ".join(str(error).split())[:600]) from error
    if mobile and fast:
        speed_up(sam.image_encoder.eval())
    return sam.eval()


def _read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file; those of MobileSAM's encoder already under our names."""
    if not path.is_file():
        raise CheckpointError(path, "there is no such file")
    try:
        # Only newer versions of PyTorch read safetensors by themselves.
        safe = path.suffix == ".safetensors"
        loaded = load_file(path) if safe else torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(path, f"it holds more than tensors, or no tensors ({_line(error)})") from error
    except Exception as error:
        # Changed bytes make PyTorch's reader raise anything: RuntimeError, KeyError, AttributeError, ...
        raise CheckpointError(path, f"it cannot be read ({_line(error)})") from error
    if not isinstance(loaded, Mapping) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()
    ):
        raise CheckpointError(path, "it holds no state dictionary")
    if not any(name.startswith(_ENCODER) for name in loaded):
        raise CheckpointError(path, f"no tensor's name begins with {_ENCODER!r}")
    encoder = {name.removeprefix(_ENCODER): value for name, value in loaded.items() if name.startswith(_ENCODER)}
    rest = {name: value for name, value in loaded.items() if not name.startswith(_ENCODER)}
    return rest | {_ENCODER + name: value for name, value in renamed(encoder).items()}


def _line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__


def _mobile_sam(state: Mapping[str, Tensor], image_size: int) -> Sam:
    embedding = state[_ENCODER + "neck.0.weight"].shape[0]
    return _assembled(TinyVitEncoder(image_size, embedding), state, image_size, PATCH)


def _vit_sam(state: Mapping[str, Tensor]) -> Sam:
    """Sizes of the image encoder, off the shapes of its tensors."""
    _, _, patch, _ = state[_ENCODER + "patch_embed.proj.weight"].shape
    _, grid, _, width = state[_ENCODER + "pos_embed"].shape
    depth = _count(state, _ENCODER + r"blocks\.(\d+)\.")
    hidden = state[_ENCODER + "blocks.0.mlp.lin1.weight"].shape[0]
    reach = [state[f"{_ENCODER}blocks.{i}.attn.rel_pos_h"].shape for i in range(depth)]
    heads = width // reach[0][1]
    # A block's relative positions span its window, or the whole grid.
    windows = {(length + 1) // 2 for length, _ in reach} - {grid}
    encoder = ImageEncoderViT(
        img_size=grid * patch,
        patch_size=patch,
        embed_dim=width,
        depth=depth,
        num_heads=heads,
        mlp_ratio=hidden / width,
        out_chans=state[_ENCODER + "neck.0.weight"].shape[0],
        norm_layer=partial(nn.LayerNorm, eps=1e-6),
        qkv_bias=_ENCODER + "blocks.0.attn.qkv.bias" in state,
        use_rel_pos=True,
        window_size=max(windows, default=0),
        global_attn_indexes=tuple(i for i, (length, _) in enumerate(reach) if (length + 1) // 2 == grid),
    )
    return _assembled(encoder, state, grid * patch, patch)


def _assembled(encoder: nn.Module, state: Mapping[str, Tensor], image_size: int, patch: int) -> Sam:
    """segment-anything's prompt encoder and mask decoder around an image encoder."""
    tokens, embedding = state["mask_decoder.mask_tokens.weight"].shape
    grid = image_size // patch
    layers = "mask_decoder.transformer.layers."
    decoder: dict[str, Any] = {
        "depth": _count(state, layers.replace(".", r"\.") + r"(\d+)\."),
        "embedding_dim": embedding,
        "num_heads": _DECODER_HEADS,
        "mlp_dim": state[layers + "0.mlp.lin1.weight"].shape[0],
    }
    iou_head = "mask_decoder.iou_prediction_head.layers."
    return Sam(
        encoder,
        PromptEncoder(
            embed_dim=embedding,
            image_embedding_size=(grid, grid),
            input_image_size=(image_size, image_size),
            mask_in_chans=state["prompt_encoder.mask_downscaling.3.weight"].shape[0],
        ),
        MaskDecoder(
            transformer_dim=embedding,
            transformer=TwoWayTransformer(**decoder),
            num_multimask_outputs=tokens - 1,
            iou_head_depth=_count(state, iou_head.replace(".", r"\.") + r"(\d+)\."),
            iou_head_hidden_dim=state[iou_head + "0.weight"].shape[0],
        ),
    )


def _count(state: Mapping[str, Tensor], pattern: str) -> int:
    """One more than the highest number that names have at a place."""
    found = [int(match[1]) for name in state if (match := re.match(pattern, name))]
    return max(found, default=-1) + 1
