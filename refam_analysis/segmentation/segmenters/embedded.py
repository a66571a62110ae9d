"""The embedded segmenter: segment-anything's own ``Sam``, in a configuration small enough to ship.

Here are its configuration, the function that builds it with random weights (training starts from that), and how it is
written to and read from a folder. Its training is in :mod:`refam_analysis.training.sam`; how a ``Sam`` of any size is
prompted is in :mod:`refam_analysis.segmentation.segmenters.sam`.
"""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, cast, get_args

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer

from refam_analysis.errors import RefamError
from refam_analysis.scenes.sampling import Style
from refam_analysis.weights import embedded_folder

LARGEST = 4096
"""Of all sizes: more is taken for a broken file before memory is asked for."""
CONFIG_FILE, WEIGHTS_FILE = "config.json", "model.safetensors"
_SCENES = "scenes"
"""Entry of the configuration that says which scenes the segmenter was trained on; plain ones where it is missing."""


class SegmenterFolderError(RefamError, ValueError):
    """A folder does not hold an embedded segmenter, or holds a broken one."""

    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(
            f"The folder {str(folder)!r} is no embedded segmenter: {problem}. It needs a {CONFIG_FILE} and "
            f"a {WEIGHTS_FILE} of one training run (python -m refam_analysis.training.sam makes them)."
        )


@dataclass(frozen=True)
class SamConfig:
    """The size of a small ``Sam``.

    The image encoder sees ``image_size / patch_size`` tokens a side, and the mask decoder draws masks at four times
    that grid, so both what it sees and how finely it draws follow from these two numbers. For images of 96 pixels two
    choices cost the same, 16 x 16 tokens and masks of 64 x 64, one mask cell for 1.5 pixels:

    - 128 with patches of 8: SamPredictor enlarges the image by 4/3 first. That blurs edges, adds nothing that was not
      there, makes the patch embedding larger (192 numbers a patch, not 108), and puts a point off by a sixth of a
      pixel (SAM scales pixel indices, then adds half a pixel of the enlarged image).
    - 96 with patches of 6: the encoder sees the pixels as they are, and points are exact.

    Soft masks averaged to either grid and drawn back agree with the truth alike (IoU 0.95 to 0.96 on shapes of 12 to
    32 pixels), and freely chosen logits reach 1.0 on both, so the grid itself does not decide; the second is the
    default, because it loses nothing before the first layer. Patches of 4 draw masks at full resolution, for about
    three times the encoder's cost.

    Attributes:
        image_size: pixels of the longer side inside the model.
        patch_size: pixels of a patch; divides ``image_size``.
        width: channels of the image encoder; ``heads`` divides it.
        depth: blocks of the image encoder, all with global attention and relative positions.
        heads: attention heads of the image encoder.
        embedding: channels of the image embedding, of the prompts and of the mask decoder; divisible by 8.
        decoder_depth: two-way blocks of the mask decoder.
        decoder_heads: heads there; they divide half of ``embedding`` (SAM's cross-attention halves its width).
        decoder_mlp: hidden width of the two-way blocks.
        mask_channels: hidden channels of the encoder of mask prompts.
        iou_hidden: hidden width of the head that predicts each mask's IoU.
        candidates: masks proposed for a prompt.

    >>> SamConfig().grid, SamConfig().mask_size
    (16, 64)
    """

    image_size: int = 96
    patch_size: int = 6
    width: int = 96
    depth: int = 4
    heads: int = 3
    embedding: int = 64
    decoder_depth: int = 2
    decoder_heads: int = 4
    decoder_mlp: int = 256
    mask_channels: int = 16
    iou_hidden: int = 64
    candidates: int = 3

    def __post_init__(self) -> None:
        """Refuse sizes that do not fit together, before a layer deep inside does."""
        for name, number in dataclasses.asdict(self).items():
            if type(number) is not int or not 1 <= number <= LARGEST:
                raise SamConfigError(f"{name} is {number!r}; it must be a whole number from 1 to {LARGEST}")
        for name, whole, part in (
            ("image_size by patch_size", self.image_size, self.patch_size),
            ("width by heads", self.width, self.heads),
            ("embedding by 8", self.embedding, 8),
            ("half of embedding by decoder_heads", self.embedding // 2, self.decoder_heads),
        ):
            if whole % part:
                raise SamConfigError(f"{whole} / {part} is not whole; choose sizes that divide {name}")

    @property
    def grid(self) -> int:
        """Image tokens a side."""
        return self.image_size // self.patch_size

    @property
    def mask_size(self) -> int:
        """Pixels a side of the masks as the decoder draws them."""
        return 4 * self.grid


class SamConfigError(RefamError, ValueError):
    """Sizes of a small ``Sam`` that do not fit together."""

    def __init__(self, problem: str) -> None:
        super().__init__(f"This SamConfig cannot be built: {problem}.")


def small_sam(config: SamConfig | None = None) -> Sam:
    """Build segment-anything's ``Sam`` in a small size, with random weights.

    The weights, and the random frequencies of SAM's position encoding (a buffer that is saved with them), come from
    torch's global generator: call ``torch.manual_seed`` first for a repeatable start.

    Args:
        config: the sizes; None for the default.

    Returns:
        The model in evaluation mode, float32, on the CPU. ``model.image_encoder`` takes (batch, 3, image_size,
        image_size) and gives (batch, embedding, grid, grid).

    >>> model = small_sam(SamConfig(image_size=32, patch_size=8, width=24, depth=1))
    >>> model.image_encoder(torch.zeros(2, 3, 32, 32)).shape
    torch.Size([2, 64, 4, 4])
    """
    config = config or SamConfig()
    image_encoder = ImageEncoderViT(
        img_size=config.image_size,
        patch_size=config.patch_size,
        embed_dim=config.width,
        depth=config.depth,
        num_heads=config.heads,
        out_chans=config.embedding,
        norm_layer=partial(torch.nn.LayerNorm, eps=1e-6),
        use_rel_pos=True,
    )
    prompt_encoder = PromptEncoder(
        embed_dim=config.embedding,
        image_embedding_size=(config.grid, config.grid),
        input_image_size=(config.image_size, config.image_size),
        mask_in_chans=config.mask_channels,
    )
    mask_decoder = MaskDecoder(
        transformer_dim=config.embedding,
        transformer=TwoWayTransformer(
            depth=config.decoder_depth,
            embedding_dim=config.embedding,
            num_heads=config.decoder_heads,
            mlp_dim=config.decoder_mlp,
        ),
        num_multimask_outputs=config.candidates,
        iou_head_depth=3,
        iou_head_hidden_dim=config.iou_hidden,
    )
    return Sam(image_encoder, prompt_encoder, mask_decoder).eval()


def save_embedded_sam(model: Sam, config: SamConfig, folder: str | Path, *, scenes: Style = "plain") -> None:
    """Write a small ``Sam`` as ``config.json`` and ``model.safetensors`` (float16).

    Args:
        model: what :func:`small_sam` built from ``config``, trained or not.
        config: its sizes.
        folder: made when it is not there.
        scenes: style of those that it was trained on.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    weights = {
        name: tensor.detach().cpu().to(torch.float16).contiguous() for name, tensor in model.state_dict().items()
    }
    save_file(weights, folder / WEIGHTS_FILE)
    entries = dataclasses.asdict(config) | ({} if scenes == "plain" else {_SCENES: scenes})
    (folder / CONFIG_FILE).write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")


def load_embedded_sam(folder: str | Path | None = None) -> Sam:
    """Read a small ``Sam`` from its folder.

    Args:
        folder: what :func:`save_embedded_sam` wrote; None for the one that ships with the package.

    Returns:
        The model in evaluation mode, on the CPU, in float32 (the file's float16 is only for its size).

    Raises:
        MissingWeightsError: the package came without the embedded segmenter.
        SegmenterFolderError: a file is missing or unreadable, or the two do not belong together.
    """
    folder = embedded_folder("embedded-sam") if folder is None else Path(folder)
    for name in (CONFIG_FILE, WEIGHTS_FILE):
        if not (folder / name).is_file():
            raise SegmenterFolderError(folder, f"{name} is missing")
    config = _read_config(folder)
    try:
        weights = load_file(folder / WEIGHTS_FILE)
    except (SafetensorError, OSError, ValueError, RuntimeError) as error:
        raise SegmenterFolderError(folder, f"{WEIGHTS_FILE} cannot be read ({error})") from error
    with torch.device("meta"):  # shapes alone: a configuration of another model may need any amount of memory
        shapes = {name: tensor.shape for name, tensor in small_sam(config).state_dict().items()}
    if shapes != {name: tensor.shape for name, tensor in weights.items()}:
        raise SegmenterFolderError(folder, f"{WEIGHTS_FILE} does not fit {CONFIG_FILE}")
    model = small_sam(config)
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in weights.items()}, strict=True)
    except RuntimeError as error:
        raise SegmenterFolderError(folder, f"{WEIGHTS_FILE} does not fit {CONFIG_FILE} ({error})") from error
    return model


def scenes_of_segmenter(folder: str | Path | None = None) -> Style:
    """Style of the scenes that a small ``Sam`` was trained on, as its folder says.

    Args:
        folder: what :func:`save_embedded_sam` wrote; None for the one that ships with the package.

    Raises:
        MissingWeightsError: the package came without the embedded segmenter.
        SegmenterFolderError: the configuration is missing, unreadable, or names scenes that there are not.

    >>> scenes_of_segmenter() in ("plain", "rich")
    True
    """
    folder = embedded_folder("embedded-sam") if folder is None else Path(folder)
    style, known = _read_entries(folder).get(_SCENES, "plain"), get_args(Style)
    if style not in known:
        raise SegmenterFolderError(folder, f"{CONFIG_FILE} names scenes {style!r}, and there are {' and '.join(known)}")
    return cast(Style, style)


def _read_config(folder: Path) -> SamConfig:
    entries = _read_entries(folder)
    try:
        return SamConfig(**{name: value for name, value in entries.items() if name != _SCENES})
    except (ValueError, TypeError) as error:
        raise SegmenterFolderError(folder, f"{CONFIG_FILE} cannot be used ({error})") from error


def _read_entries(folder: Path) -> dict[str, Any]:
    try:
        return dict(json.loads((folder / CONFIG_FILE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError, RecursionError) as error:
        raise SegmenterFolderError(folder, f"{CONFIG_FILE} cannot be used ({error})") from error
