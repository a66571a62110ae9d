"""Real photographs with outlines drawn by hand: what a segmenter that is meant for photographs is measured on.

The photographs come inside the wheels of scikit-image and matplotlib, so nothing is fetched. The outlines lie in
``tests/data/photographs/outlines.json`` of the repository and were drawn before any segmenter had seen the pictures.
"""

from __future__ import annotations

import hashlib
import importlib.util
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.path import Path as Outline
from numpy.typing import NDArray

from refam_analysis.errors import RefamError
from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.models.images import load_image

_FOLDERS = {"skimage": ("skimage", "data"), "matplotlib": ("matplotlib", "mpl-data/sample_data")}
"""Where a package keeps its photographs."""


class PhotographError(RefamError, ValueError):
    """A photograph or its outlines cannot be used."""


def photograph_items(outlines: str | Path) -> list[GroundingItem]:
    """The objects that were outlined, one an item, those of one photograph after another.

    Args:
        outlines: the JSON file: ``photographs`` (``file``, ``package``, ``sha256``) and ``objects`` (``photograph``,
            ``name``, ``tolerance`` in pixels, ``outline``: polygons of (x, y), whole numbers in the middles of pixels).

    Returns:
        Items with the name of the object as ``expression``, the photograph's file name as ``kind``, its number as
        ``scene``, and one mask.

    Raises:
        PhotographError: a package is not installed, or ships another picture than the one that was drawn on.
    """
    told = json.loads(Path(outlines).read_text(encoding="utf-8"))
    names = [photograph["file"] for photograph in told["photographs"]]
    pictures = {photograph["file"]: _picture(photograph) for photograph in told["photographs"]}
    return [
        GroundingItem(
            image=(image := pictures[drawn["photograph"]]),
            masks=outline_mask(drawn["outline"], image.shape[:2])[None],
            expression=drawn["name"],
            kind=drawn["photograph"],
            target=0,
            distractors=(),
            scene=names.index(drawn["photograph"]),
        )
        for drawn in told["objects"]
    ]


def outline_mask(polygons: Sequence[Sequence[Sequence[float]]], size: tuple[int, int]) -> NDArray[np.bool_]:
    """The pixels whose middles lie inside one of several polygons.

    Args:
        polygons: each a list of (x, y), whole numbers in the middles of pixels, closed by itself.
        size: (height, width).

    >>> outline_mask([[(0.5, -0.5), (2.5, -0.5), (2.5, 0.5), (0.5, 0.5)]], (2, 4)).astype(int).tolist()
    [[0, 1, 1, 0], [0, 0, 0, 0]]
    """
    height, width = size
    middles = np.stack(np.meshgrid(np.arange(width), np.arange(height)), axis=-1).reshape(-1, 2)
    inside = [Outline([*polygon, polygon[0]], closed=True).contains_points(middles) for polygon in polygons]
    return np.any(inside, axis=0).reshape(size)


def _picture(photograph: Mapping[str, Any]) -> NDArray[np.uint8]:
    package, below = _FOLDERS[photograph["package"]]
    found = importlib.util.find_spec(package)
    if found is None or not found.submodule_search_locations:
        raise PhotographError(f"The photograph {photograph['file']!r} comes with {package}: install it first.")
    path = Path(found.submodule_search_locations[0]) / below / photograph["file"]
    if not path.is_file() or hashlib.sha256(path.read_bytes()).hexdigest() != photograph["sha256"]:
        raise PhotographError(
            f"The installed {package} does not have the photograph {photograph['file']!r} that the outlines were drawn "
            f"on: install the version that constraints.txt pins."
        )
    return np.array(load_image(path))
