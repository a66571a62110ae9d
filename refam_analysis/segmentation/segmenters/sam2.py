"""SAM 2 and 2.1 by transformers, prompted with points."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from transformers import Sam2Model, Sam2Processor

from refam_analysis.errors import RefamError
from refam_analysis.segmentation.segmenters.base import NoImageError, check_image, check_points, image_key
from refam_analysis.segmentation.segmenters.repositories import is_hub_id


class Sam2SourceError(RefamError, ValueError):
    """A folder or hub id does not give a SAM 2."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(
            f"{source!r} gives no SAM 2: {problem}. Give the id of a repository on the model hub, such as "
            f"'facebook/sam2.1-hiera-tiny', or a folder that save_pretrained of Sam2Model and Sam2Processor wrote."
        )


class Sam2Segmenter:
    """A :class:`~refam_analysis.segmentation.segmenters.base.Segmenter` around a ``Sam2Model``.

    An image that is set already is not encoded again, so a model whose weights change needs a new segmenter.

    Args:
        model: in evaluation mode; used where it is (device, dtype) and left unchanged.
        processor: of the same repository.
    """

    def __init__(self, model: Sam2Model, processor: Sam2Processor) -> None:
        self.model: Any = model
        self.processor: Any = processor
        self._key: bytes | None = None
        self._embeddings: list[torch.Tensor] = []
        self._size = (0, 0)

    @torch.inference_mode()
    def set_image(self, image: NDArray[np.uint8]) -> None:
        """Encode an image; see the protocol."""
        array = check_image(image)
        if (key := image_key(array)) == self._key:
            return
        pixels = self.processor(images=array, return_tensors="pt")["pixel_values"]
        self._embeddings = self.model.get_image_embeddings(pixels.to(self.model.device, self.model.dtype))
        self._size = (array.shape[0], array.shape[1])
        self._key = key

    @torch.inference_mode()
    def predict(self, points: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Masks and scores of each point; see the protocol.

        Raises:
            NoImageError: no image was set.
            SegmenterInputError: a point lies outside the image.
        """
        if self._key is None:
            raise NoImageError
        checked = check_points(points, self._size)
        prompt = self.processor(
            input_points=[[[list(point)] for point in checked.tolist()]],
            input_labels=[[[1]] * len(checked)],
            original_sizes=[self._size],
            return_tensors="pt",
        )
        # The model rewrites its list of embeddings in place.
        answer = self.model(
            image_embeddings=list(self._embeddings),
            input_points=prompt["input_points"].to(self.model.device, self.model.dtype),
            input_labels=prompt["input_labels"].to(self.model.device),
            multimask_output=True,
        )
        (masks,) = self.processor.post_process_masks([answer.pred_masks[0].float().cpu()], [self._size])
        return masks.numpy(), answer.iou_scores[0].float().cpu().numpy()


def load_sam2(
    source: str | Path, *, device: str | torch.device | None = None, dtype: torch.dtype | None = None
) -> Sam2Segmenter:
    """A segmenter from a SAM 2 or 2.1 repository in the form of transformers.

    Args:
        source: an id on the model hub, or a folder. Repositories of the video model are taken too; what they have
            beyond the image model is left out.
        device: None for the CPU.
        dtype: None for float32.

    Raises:
        Sam2SourceError: there is no such repository, it holds another model, or weights are missing.
    """
    name = str(source)
    if not Path(source).is_dir() and not is_hub_id(name):
        raise Sam2SourceError(name, "it is neither a folder nor an id on the model hub")
    try:
        return Sam2Segmenter(*from_repository(Sam2Model, Sam2Processor, name, device=device, dtype=dtype))
    except RepositoryError as error:
        raise Sam2SourceError(name, str(error)) from error


class RepositoryError(Exception):
    """Why a folder or hub id cannot be used, in a line."""


def from_repository(
    model_class: Any,
    processor_class: Any,
    name: str,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> tuple[Any, Any]:
    """Load a model and its processor by transformers, which would fill what the weights lack with random numbers.

    Args:
        model_class: of transformers.
        processor_class: of transformers.
        name: an id on the model hub, or a folder.
        device: None for the CPU.
        dtype: None for float32.

    Returns:
        The model in evaluation mode, and the processor.

    Raises:
        RepositoryError: there is no such repository, it holds another model, or its weights lack tensors.
    """
    try:
        model, report = model_class.from_pretrained(
            name, dtype=dtype or torch.float32, use_safetensors=True, output_loading_info=True
        )
        processor = processor_class.from_pretrained(name)
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise RepositoryError(reason) from error
    if missing := sorted(report["missing_keys"]):
        raise RepositoryError(f"its weights lack {len(missing)} tensors, such as {missing[0]}")
    return model.eval().to(device or "cpu"), processor
