"""What every way of following an object through a clip offers, and how one is found by name.

A propagator is told of the object in the first frame and then shown one frame after the other; it holds no more of the
clip than it needs, and can write down where it stands, so that an interrupted run goes on. The ways themselves are in
`reprompting` (an image segmenter, asked anew in every frame) and `sam2` (SAM 2's own memory).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Literal, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from refam_analysis.errors import RefamError
from refam_analysis.segmentation.segmenters import Segmenter, load_segmenter, ships
from refam_analysis.segmentation.segmenters.repositories import is_hub_id, model_type

if TYPE_CHECKING:
    import torch
    from torch import Tensor

Event = Literal["started", "lost", "found"]
"""What happened to the object in a frame; nothing in most."""

Ask = Callable[[NDArray[np.uint8]], tuple[float, float]]
"""From a frame to the point at which the model sees the expression's object."""


class UnknownPropagatorError(RefamError, ValueError):
    """No way of following an object goes by this name."""

    def __init__(self, source: object) -> None:
        super().__init__(
            f"There is no propagation {str(source)!r}: give 'reprompting', the hub id or folder of a SAM 2 video "
            "model, or an object with begin, follow, state and restore."
        )


class NotBegunError(RefamError, RuntimeError):
    """A propagator was shown a frame before it knew what to follow."""

    def __init__(self) -> None:
        super().__init__("Nothing is followed yet: call begin(frame, point) with the first frame, then follow(frame).")


class FrameSizeError(RefamError, ValueError):
    """A frame has another size than those before it."""

    def __init__(self, frame: int, size: tuple[int, ...], first: tuple[int, ...]) -> None:
        super().__init__(
            f"Frame {frame} has the size {size} and the first frame {first} (height, width): a clip's frames have one "
            "size. Bring them to it first."
        )


@dataclass(frozen=True)
class Followed:
    """What a propagator says of one frame.

    Attributes:
        mask: bool (height, width); empty where the object is out of sight.
        score: the propagator's own guess of how well it follows, in [0, 1].
        visible: whether the object is in sight.
        event: what happened, or None.
        points: (x, y) of the points that were asked about in this frame.
    """

    mask: NDArray[np.bool_]
    score: float
    visible: bool
    event: Event | None = None
    points: tuple[tuple[float, float], ...] = field(default=())


@runtime_checkable
class Propagator(Protocol):
    """Follows one object: ``begin`` with the first frame, then ``follow`` with each of the others in order."""

    def begin(
        self, frame: NDArray[np.uint8], point: tuple[float, float], mask: NDArray[np.bool_] | None = None
    ) -> Followed:
        """Take up an object; what was followed before is forgotten.

        Args:
            frame: uint8 (height, width, 3), RGB.
            point: (x, y) in pixels, on the object.
            mask: of the object where it is known, bool (height, width); otherwise the propagator's own.
        """

    def follow(self, frame: NDArray[np.uint8]) -> Followed:
        """Find the object in the next frame.

        Raises:
            NotBegunError: nothing is followed yet.
            FrameSizeError: the frame has another size than the first.
        """

    def state(self) -> dict[str, Tensor]:
        """All that the next frames depend on, to be written down."""

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Go on from where :meth:`state` was taken."""


def load_propagator(
    source: str | Path | Propagator = "reprompting",
    *,
    segmenter: str | Path | Segmenter,
    ask: Ask | None = None,
    device: str | torch.device | None = None,
) -> Propagator:
    """Find a way of following an object.

    Args:
        source: ``reprompting``: the segmenter is asked anew in every frame; the hub id or the folder of a SAM 2 or 2.1
            video model in transformers' format; or a propagator, which is returned as it is.
        segmenter: what ``load_segmenter`` takes; used by ``reprompting`` alone.
        ask: where the model sees the object in a frame; used by ``reprompting`` alone, while the object is lost.
        device: of what is loaded here; None for the CPU. The embedded segmenter stays there.

    Returns:
        What follows an object: ``begin`` once, then ``follow`` frame by frame.

    Raises:
        UnknownPropagatorError: nothing of these.
        UnknownSegmenterError, SegmenterFolderError: the segmenter cannot be loaded.
    """
    if isinstance(source, Propagator):
        return source
    if source == "reprompting":
        from refam_analysis.segmentation.video.reprompting import Reprompting

        return Reprompting(load_segmenter(segmenter, device=None if ships(segmenter) else device), ask=ask)
    if isinstance(source, (str, Path)) and _is_sam2_video(source):
        from refam_analysis.segmentation.video.sam2 import load_sam2_video

        return load_sam2_video(source, device=device)
    raise UnknownPropagatorError(source)


def _is_sam2_video(source: str | Path) -> bool:
    """Whether it is a folder with such a model, or may be one on the model hub."""
    return model_type(Path(source)) == "sam2_video" or (is_hub_id(str(source)) and not Path(source).exists())
