"""Any ``Sam`` of the segment-anything package, prompted through the package's own ``SamPredictor``.

The size of the model does not matter here: the small one that ships and the official checkpoints are used alike. How
they are built and loaded is elsewhere.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from refam_analysis.segmentation.segmenters.base import NoImageError, check_image, check_points, image_key


class SamSegmenter:
    """A :class:`~refam_analysis.segmentation.segmenters.base.Segmenter` around a ``Sam``.

    An image that is set already is not encoded again, so a model whose weights change needs a new segmenter.

    Args:
        model: any ``Sam``; used where it is (device, dtype float32) and left unchanged.

    >>> from refam_analysis.segmentation.segmenters.embedded import SamConfig, small_sam
    >>> segmenter = SamSegmenter(small_sam(SamConfig(image_size=32, patch_size=8, depth=1)))
    >>> segmenter.set_image(np.zeros((24, 40, 3), np.uint8))
    >>> masks, scores = segmenter.predict([(3, 5), (30, 20)])
    >>> masks.shape, scores.shape
    ((2, 3, 24, 40), (2, 3))
    """

    def __init__(self, model: Sam) -> None:
        self.predictor = SamPredictor(model)
        self._key: bytes | None = None

    def set_image(self, image: NDArray[np.uint8]) -> None:
        """Encode an image; see the protocol."""
        array = check_image(image)
        if (key := image_key(array)) != self._key:
            self._key = None  # until the encoder is through: it may be interrupted
            self.predictor.set_image(array)
            self._key = key

    def predict(self, points: ArrayLike) -> tuple[NDArray[np.bool_], NDArray[np.float32]]:
        """Masks and scores of each point; see the protocol.

        Raises:
            NoImageError: no image was set.
            SegmenterInputError: a point lies outside the image.
        """
        predictor = self.predictor
        if not predictor.is_image_set:
            raise NoImageError
        checked = check_points(points, predictor.original_size)
        inside = predictor.transform.apply_coords(checked[:, None], predictor.original_size)
        coordinates = torch.as_tensor(inside, dtype=torch.float32, device=predictor.device)
        labels = torch.ones(coordinates.shape[:2], dtype=torch.int, device=predictor.device)
        masks, scores, _ = predictor.predict_torch(coordinates, labels, multimask_output=True)
        return masks.cpu().numpy(), scores.float().cpu().numpy()
