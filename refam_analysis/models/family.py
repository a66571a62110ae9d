"""What is peculiar to a family of models, as data; what a model does by default; what a batch or a clip may not be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from refam_analysis.errors import RefamError
from refam_analysis.models.layout import CALLS, Attention, Role
from refam_analysis.scenes.sampling import Style

CallsOfBlock = Callable[[Mapping[str, Any], int], tuple[Role, ...]]


class MissingPartError(RefamError, ValueError):
    """A live pipeline was made without a part that is needed."""

    def __init__(self, part: str) -> None:
        super().__init__(f"The pipeline has no {part}. Load it with all its parts.")


class BatchError(RefamError, ValueError):
    """What should come one an item comes in different numbers."""

    def __init__(self, **numbers: int) -> None:
        listed = ", ".join(f"{number} {name}" for name, number in numbers.items())
        super().__init__(f"A batch needs one of each for every item, and has {listed}. Give as many of each.")


class ModelSizeError(RefamError, ValueError):
    """A picture size that the model cannot cut into tokens."""

    def __init__(self, size: tuple[int, int], cell: int) -> None:
        near = tuple(nearest_multiple(side, cell) for side in size)
        super().__init__(f"The size {size} (height, width) is no multiple of {cell} pixels a side. Take {near}.")


class ClipLengthError(RefamError, ValueError):
    """A number of frames that the autoencoder cannot take."""

    def __init__(self, frames: int, compression: int) -> None:
        fitting = 1 + (max(0, frames - 1) // compression) * compression
        wanted = f"{fitting} or {fitting + compression}" if compression > 1 else "1"
        super().__init__(f"The model cannot take a clip of {frames} frames. Give {wanted} frames.")


def _calls_by_attention(attention: Attention) -> CallsOfBlock:
    return lambda config, block: CALLS[attention]


@dataclass(frozen=True)
class Family:
    """What is peculiar to the transformer class of a family, as data.

    Attributes:
        name: such as "flux".
        transformer_class: name of the diffusers class.
        attention: how text and image attend.
        calls: from the transformer's configuration and the number of a block, the attention calls that the block makes
            in one forward pass, in order; None for what the attention says.
        one_call_an_item: every item of a batch has calls of its own.
        is_video: latents have frames.
        absent: quantities that the family lacks beyond what its attention says, each with the reason.
        remarks: what a reader of its recordings has to know.
    """

    name: str
    transformer_class: str
    attention: Attention = "joint"
    calls: CallsOfBlock | None = None
    one_call_an_item: bool = False
    is_video: bool = False
    absent: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    remarks: tuple[str, ...] = ()

    def calls_of(self, config: Mapping[str, Any], block: int) -> tuple[Role, ...]:
        """The attention calls of a block, in order, for one item where each has its own."""
        return (self.calls or _calls_by_attention(self.attention))(config, block)


@dataclass(frozen=True)
class ModelDefaults:
    """What a model does where the caller does not say.

    Attributes:
        image_size: height and width in pixels.
        text_length: tokens of the text segment, padding included.
        steps: denoising steps of ``generate``.
        guidance: of ``generate``; 1 is none.
        grounding: settings for heatmaps that were chosen on validation scenes; empty where nothing was searched.
        frames: of the clips of ``generate``; 1 where there are no clips.
        scenes: style of the diagnostic scenes that it knows: what it was trained on, ``plain`` where nothing is said.
    """

    image_size: tuple[int, int]
    text_length: int
    steps: int
    guidance: float
    grounding: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    frames: int = 1
    scenes: Style = "plain"


def nearest_multiple(side: int, cell: int) -> int:
    """The multiple of a cell that is nearest to a side, at least one cell.

    >>> nearest_multiple(45, 16)
    48
    """
    return max(1, round(side / cell)) * cell
