"""What an evaluation costs at any scale: hours, what they go to, and the size of what is kept. Nothing runs here.

Work is counted, not guessed: the networks are built on PyTorch's "meta" device, which has shapes and no numbers, and
their operations are counted there. How fast a GPU does it is published (peak) and assumed (what share of it is
reached); how much recording adds is measured, and given by the caller. Each constant says which of these it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from refam_analysis.errors import RefamError

DOUBLE, SINGLE = 19, 38
"""Blocks of FLUX.1 with separate weights for text and image, and of those with common ones."""
HEADS = 24
TEXT_TOKENS = 512
"""Of FLUX.1-dev, padding included."""
MASK_SECONDS = 0.004
"""Of SAM's answer to a point. Published: Zhang et al., MobileSAM, arXiv 2306.14289, for a single GPU."""
MOVING = 5e9
"""Bytes a second of recorded maps, from the GPU to the heatmap, which a processor reads. Assumed: a bus of 25e9, and
one processor that goes through them once."""
READING_SECONDS = 0.05
"""Of a photograph from object storage, on a processor, ahead of the GPU. Assumed."""


class CostError(RefamError, ValueError):
    """A question about costs that has no answer."""


@dataclass(frozen=True)
class Accelerator:
    """A GPU.

    Attributes:
        name: of it.
        peak: operations a second in bfloat16, dense. Published by NVIDIA.
        share: of the peak that is reached. Assumed; for large matrix products 0.3 to 0.6 are usual.
        segmenter: seconds in which SAM ViT-H encodes a picture. Published for the A100, on segment-anything.com, which
            says "about 0.15"; taken over for the others, where it is less.
    """

    name: str
    peak: float
    share: float = 0.4
    segmenter: float = 0.15


A100 = Accelerator("A100", 312e12)
H100 = Accelerator("H100", 989.4e12)


@dataclass(frozen=True)
class Work:
    """What one expression asks of FLUX.1-dev, counted.

    Attributes:
        size: height and width of the picture in pixels.
        blocks: of the transformer that run.
        transformer: operations of a forward pass; a multiplication and an addition are two.
        text: operations of T5-XXL, once an expression.
        autoencoder: operations of encoding the picture, once an image.
    """

    size: int
    blocks: int
    transformer: int
    text: int
    autoencoder: int

    @property
    def image_tokens(self) -> int:
        """Of the picture: patches of 16 x 16 pixels."""
        return (self.size // 16) ** 2

    @property
    def tokens(self) -> int:
        """Of text and picture together."""
        return TEXT_TOKENS + self.image_tokens


def flux_work(size: int, *, blocks: int = DOUBLE + SINGLE) -> Work:
    """Count the operations of FLUX.1-dev.

    Args:
        size: height and width of the picture in pixels, a multiple of 16.
        blocks: of the transformer, from the first on; fewer for a pass that would end after the last one that is read.

    Raises:
        CostError: no such size, or no such number of blocks.

    >>> flux_work(1024).tokens
    4608
    """
    if size < 16 or size % 16:
        raise CostError(f"A picture of {size} pixels has no whole number of patches: give a multiple of 16.")
    if not 1 <= blocks <= DOUBLE + SINGLE:
        raise CostError(f"FLUX.1 has no {blocks} blocks to run: give 1 to {DOUBLE + SINGLE}.")
    double = min(DOUBLE, blocks)
    transformer = transformer_operations(double=double, single=blocks - double, side=size // 16)
    return Work(size, blocks, transformer, _text(), _autoencoder(size))


@cache
def transformer_operations(
    *, double: int, single: int, heads: int = HEADS, text: int = TEXT_TOKENS, side: int, text_width: int = 4096
) -> int:
    """Operations of one forward pass of a transformer with FLUX.1's blocks; those of FLUX.1 unless said otherwise.

    Args:
        double, single: numbers of blocks.
        heads: of 128 channels.
        text: number of text tokens.
        side: of the square of image tokens.
        text_width: channels of the encoded text.

    Returns:
        Of one picture; a multiplication and an addition are two.
    """
    import torch
    from diffusers import FluxTransformer2DModel

    with torch.device("meta"):
        transformer = FluxTransformer2DModel(
            num_layers=double, num_single_layers=single, num_attention_heads=heads, joint_attention_dim=text_width,
            guidance_embeds=True,
        )  # fmt: skip
        inputs: Mapping[str, torch.Tensor] = {
            "hidden_states": torch.empty(1, side**2, 64),
            "encoder_hidden_states": torch.empty(1, text, text_width),
            "pooled_projections": torch.empty(1, 768),
            "timestep": torch.empty(1),
            "guidance": torch.empty(1),
            "img_ids": torch.empty(side**2, 3),
            "txt_ids": torch.empty(text, 3),
        }
    return _counted(lambda: transformer(**inputs))


def seconds_by_part(
    work: Work,
    accelerator: Accelerator,
    *,
    expressions: float,
    passes: int = 1,
    recording: float,
    recorded: int = DOUBLE + SINGLE,
) -> dict[str, float]:
    """Seconds that one expression takes on one GPU, by what they go to.

    With the operations F and the speed v = peak * share of the GPU, b blocks recorded of the B that run, and e
    expressions an image,

        transformer = passes * F_transformer / v         recording = transformer * (recording - 1) * b / B
        text = F_text / v                                moving = passes * b * bytes of a map of each head / MOVING
        autoencoder = F_autoencoder / v / e              segmenter = T_encoding / e
        mask = T_mask

    Pictures are read ahead, beside all this.

    Args:
        work: from :func:`flux_work`.
        accelerator: the GPU.
        expressions: an image has on average.
        passes: noise levels times draws of noise.
        recording: time of a recorded forward pass over that of a plain one: the "ratio" of ``maps`` in the result
            ``recording-cost``.
        recorded: number of blocks whose maps are read, of those that run.

    Returns:
        Seconds by part; their sum is the time of an expression.

    >>> parts = seconds_by_part(flux_work(512), A100, expressions=7, recording=1.1, recorded=10)
    >>> max(parts, key=parts.get)
    'transformer'
    """
    speed = accelerator.peak * accelerator.share
    transformer = passes * work.transformer / speed
    return {
        "transformer": transformer,
        "recording": transformer * (recording - 1.0) * recorded / work.blocks,
        "moving": passes * recorded * 4 * TEXT_TOKENS * work.image_tokens * HEADS / MOVING,
        "text": work.text / speed,
        "autoencoder": work.autoencoder / speed / expressions,
        "segmenter": accelerator.segmenter / expressions,
        "mask": MASK_SECONDS,
    }


def hours(expressions: float, seconds: float, *, workers: int = 1, efficiency: float = 1.0) -> float:
    """Hours of a run.

        hours = expressions * seconds / (3600 * workers * efficiency)

    Args:
        expressions: of the data set.
        seconds: of one expression on one worker: measured (``refam report`` has the columns), or from
            :func:`seconds_by_part`.
        workers: GPUs, or processors.
        efficiency: what so many workers do, over so many times what one does.

    >>> hours(7200, 1.0, workers=2)
    1.0
    """
    return expressions * seconds / (3600.0 * workers * efficiency)


def recording_bytes(work: Work, *, row: float) -> dict[str, float]:
    """Bytes that one expression leaves, by what is kept, before compression; numbers are float32.

    Args:
        work: from :func:`flux_work`.
        row: of a run's table, measured.

    Returns:
        ``row``: the table alone. ``heatmap``: one map. ``maps, mean of heads`` and ``maps``: both directions between
        text and image, of every block. ``full``: all of the attention.

    >>> round(recording_bytes(flux_work(1024), row=1000)["full"] / 1e9)
    116
    """
    pairs = TEXT_TOKENS * work.image_tokens
    return {
        "row": row,
        "heatmap": 4 * work.image_tokens,
        "maps, mean of heads": 2 * 4 * pairs * work.blocks,
        "maps": 2 * 4 * pairs * HEADS * work.blocks,
        "full": 4 * work.tokens**2 * HEADS * work.blocks,
    }


def _counted(run: Callable[[], Any]) -> int:
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        run()
    return int(counter.get_total_flops())


@cache
def _text() -> int:
    import torch
    from transformers import T5Config, T5EncoderModel

    config = T5Config(
        d_model=4096, d_ff=10240, d_kv=64, num_heads=64, num_layers=24, feed_forward_proj="gated-gelu",
        vocab_size=32128,
    )  # fmt: skip
    with torch.device("meta"):
        encoder = T5EncoderModel(config)
        tokens = torch.zeros(1, TEXT_TOKENS, dtype=torch.long)
    return _counted(lambda: encoder(tokens))


@cache
def _autoencoder(size: int) -> int:
    import torch
    from diffusers import AutoencoderKL

    with torch.device("meta"):
        autoencoder = AutoencoderKL(
            block_out_channels=(128, 256, 512, 512), down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4, layers_per_block=2, latent_channels=16, norm_num_groups=32,
        )  # fmt: skip
        picture = torch.empty(1, 3, size, size)
    return _counted(lambda: autoencoder.encode(picture))
