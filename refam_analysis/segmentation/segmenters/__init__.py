"""Segmenters: models that turn a point in an image into masks.

What they all offer (`base`), the small ones that ship (`embedded`), how any segment-anything model is prompted (`sam`)
and read from a checkpoint (`checkpoints`), MobileSAM's image encoder (`tiny_vit`), and SAM 2 (`sam2`), which lies in
repositories (`repositories`).
:func:`load_segmenter` finds one by name, :func:`load_segmenter_for` the one that goes with a model.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, overload

from refam_analysis.errors import RefamError
from refam_analysis.segmentation.segmenters.base import NoImageError, Segmenter, SegmenterInputError
from refam_analysis.segmentation.segmenters.repositories import is_hub_id, model_type
from refam_analysis.weights import WEIGHTS, WeightsFile, embedded_folder, fetch, find_weights

if TYPE_CHECKING:
    import torch
    from segment_anything.modeling import Sam

    from refam_analysis.models.base import DiffusionModel
    from refam_analysis.scenes.sampling import Style

    Device = str | torch.device | None

CHECKPOINT_SUFFIXES = (".pth", ".pt", ".safetensors")
EMBEDDED_SEGMENTERS = MappingProxyType({"embedded": "embedded-sam", "embedded-rich": "embedded-rich-sam"})
"""Names of the segmenters that ship, and the folders of their weights; see :func:`embedded_segmenter`."""
_SAM2_DEFAULT = "sam2.1-hiera-tiny"


class UnknownSegmenterError(RefamError, ValueError):
    """No segmenter goes by this name."""

    def __init__(self, source: object, problem: str | None = None) -> None:
        names = ", ".join(map(repr, SEGMENTERS))
        why = f" ({problem})" if problem else ""
        super().__init__(
            f"There is no segmenter {str(source)!r}{why}: give one of {names}; a checkpoint of segment-anything or "
            f"MobileSAM ({' or '.join(CHECKPOINT_SUFFIXES)}); the folder of a small Sam or of a SAM 2; the id of a "
            f"SAM 2 on the model hub; or an object with set_image and predict."
        )


def load_segmenter(source: str | Path | Segmenter = "embedded", *, device: Device = None) -> Segmenter:
    """Find a segmenter.

    Args:
        source: one of

            - a name of :data:`SEGMENTERS`: "embedded", for plain scenes, and "embedded-rich", for rich ones, ship with
              the package; the weights of the others are fetched once, with a progress bar, and checked each time
              (:func:`refam_analysis.weights.fetch`);
            - a checkpoint file of segment-anything (ViT-B, ViT-L, ViT-H) or of MobileSAM;
            - a folder that ``python -m refam_analysis.training.sam`` wrote, or one with a SAM 2 as transformers
              saves it;
            - the id of a SAM 2 on the model hub, such as "facebook/sam2.1-hiera-small";
            - a segmenter, which is returned as it is, and stays where it is.
        device: where it computes, such as "cuda"; None for the CPU.

    Returns:
        A segmenter: ``set_image`` once, then ``predict`` as often as one likes.

    Raises:
        UnknownSegmenterError: no such name, file or folder, or an object without ``set_image`` and ``predict``.
        SegmenterFolderError, CheckpointError, Sam2SourceError: weights are missing, broken, or of another model.
        WeightsError: weights cannot be fetched.
    """
    if isinstance(source, Segmenter):
        return source
    if not isinstance(source, (str, Path)):
        raise UnknownSegmenterError(source)
    if isinstance(source, str) and source in SEGMENTERS:
        return SEGMENTERS[source](device)
    path = Path(source)
    if os.path.isdir(path):
        return _sam2(path, device) if model_type(path).startswith("sam2") else _small_sam(device, path)
    if os.path.isfile(path):
        return _checkpoint(path, device)
    if path.suffix in CHECKPOINT_SUFFIXES:
        raise UnknownSegmenterError(source, "there is no such file")
    if isinstance(source, str) and is_hub_id(source):
        return _sam2(source, device)
    raise UnknownSegmenterError(source)


def load_segmenter_for(model: DiffusionModel, source: str | Path | Segmenter | None = None) -> Segmenter:
    """Find the segmenter that masks what a model points at.

    Args:
        model: from ``load_model``.
        source: as for :func:`load_segmenter`; None for the one that ships for the scenes that the model knows, see
            :func:`embedded_segmenter`.

    Returns:
        A segmenter, which computes where :func:`device_beside` says.

    The errors are those of :func:`load_segmenter`.

    >>> import refam_analysis as ra
    >>> segmenter = load_segmenter_for(ra.load_model("embedded-rich"))
    >>> segmenter.set_image(ra.Scenes("test", options=ra.scenes.SceneOptions(style="rich"))[0].image)
    >>> segmenter.predict([(40, 40)])[0].shape
    (1, 3, 96, 96)
    """
    chosen = chosen_segmenter(model, source)
    return load_segmenter(chosen, device=device_beside(model, chosen))


@overload
def chosen_segmenter(model: DiffusionModel, source: str | None) -> str: ...
@overload
def chosen_segmenter(model: DiffusionModel, source: str | Path | Segmenter | None) -> str | Path | Segmenter: ...
def chosen_segmenter(model: DiffusionModel, source: str | Path | Segmenter | None) -> str | Path | Segmenter:
    """What was asked for, or the name of the segmenter that ships for the scenes that the model knows.

    >>> import refam_analysis as ra
    >>> chosen_segmenter(ra.load_model("embedded-rich"), None), chosen_segmenter(ra.load_model("embedded"), "sam2")
    ('embedded-rich', 'sam2')
    """
    return embedded_segmenter(model.scene_style) if source is None else source


def device_beside(model: DiffusionModel, source: object) -> torch.device | None:
    """Where a segmenter that is loaded for a model computes: where that does, but for those that ship.

    Args:
        model: from ``load_model``.
        source: as for :func:`load_segmenter`.

    Returns:
        The model's device; None for the segmenters that ship, which are computed on the CPU, as in the book, and for
        a loaded one, which stays where it is.

    >>> import refam_analysis as ra
    >>> device_beside(ra.load_model("embedded"), "mobile-sam")
    device(type='cpu')
    """
    return model.device if isinstance(source, str | Path) and not ships(source) else None


def ships(source: object) -> bool:
    """Whether this names one of the segmenters that ship.

    >>> ships("embedded-rich"), ships("mobile-sam")
    (True, False)
    """
    return isinstance(source, str) and source in EMBEDDED_SEGMENTERS


def embedded_segmenter(style: Style) -> str:
    """The name of the segmenter that ships for scenes of a style.

    >>> embedded_segmenter("plain"), embedded_segmenter("rich")
    ('embedded', 'embedded-rich')
    """
    return "embedded" if style == "plain" else f"embedded-{style}"


def _shipped(name: str, device: Device) -> Segmenter:
    return _small_sam(device, embedded_folder(EMBEDDED_SEGMENTERS[name]))


def _small_sam(device: Device, folder: Path) -> Segmenter:
    from refam_analysis.segmentation.segmenters.embedded import load_embedded_sam

    return _prompted(load_embedded_sam(folder), device)


def _checkpoint(path: Path, device: Device) -> Segmenter:
    from refam_analysis.segmentation.segmenters.checkpoints import load_sam

    return _prompted(load_sam(path), device)


def _prompted(sam: Sam, device: Device) -> Segmenter:
    from refam_analysis.segmentation.segmenters.sam import SamSegmenter

    return SamSegmenter(sam.to(device) if device is not None else sam)


def _sam2(source: str | Path, device: Device) -> Segmenter:
    from refam_analysis.segmentation.segmenters.sam2 import load_sam2

    return load_sam2(source, device=device)


def _fetched(name: str, device: Device) -> Segmenter:
    weights = find_weights(name)
    if isinstance(weights, WeightsFile):
        return _checkpoint(fetch(weights, progress=True), device)
    return _sam2(weights.repository, device)


SEGMENTERS: dict[str, Callable[[Device], Segmenter]] = {
    **{name: partial(_shipped, name) for name in EMBEDDED_SEGMENTERS},
    **{name: partial(_fetched, name) for name in WEIGHTS},
    "sam2": partial(_fetched, _SAM2_DEFAULT),
}
"""What makes each named segmenter on a device. Their libraries are imported only when one is asked for."""

__all__ = [
    "EMBEDDED_SEGMENTERS",
    "SEGMENTERS",
    "NoImageError",
    "Segmenter",
    "SegmenterInputError",
    "UnknownSegmenterError",
    "chosen_segmenter",
    "device_beside",
    "embedded_segmenter",
    "load_segmenter",
    "load_segmenter_for",
    "ships",
]
