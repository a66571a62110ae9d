"""Photographs and their outlines: pixels inside polygons, and pictures that are the ones that were drawn on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refam_analysis.evaluation.photographs import PhotographError, outline_mask, photograph_items

OUTLINES = Path(__file__).parents[1] / "data" / "photographs" / "outlines.json"


def test_pixels_are_inside_when_their_middles_are() -> None:
    triangle = [(-0.5, -0.5), (5.5, -0.5), (-0.5, 5.5)]
    expected = np.array([[x + y < 5 for x in range(6)] for y in range(6)])
    diagonal = np.array([[x + y == 5 for x in range(6)] for y in range(6)])
    assert (outline_mask([triangle], (6, 6)) == expected)[~diagonal].all()


def test_several_polygons_are_one_object() -> None:
    parts = [[(-0.5, -0.5), (0.5, -0.5), (0.5, 0.5), (-0.5, 0.5)], [(1.5, 0.5), (2.5, 0.5), (2.5, 1.5), (1.5, 1.5)]]
    assert outline_mask(parts, (2, 3)).tolist() == [[True, False, False], [False, False, True]]


def test_the_outlines_are_of_pictures_that_are_installed() -> None:
    items = photograph_items(OUTLINES)
    assert len(items) == 22 and len({item.scene for item in items}) == 8
    for item in items:
        assert item.image.dtype == np.uint8 and item.image.shape[2] == 3
        assert item.masks.shape == (1, *item.image.shape[:2]) and 300 < item.masks.sum() < item.masks.size / 2
    assert [item.scene for item in items] == sorted(item.scene for item in items), "one photograph after another"


@pytest.mark.parametrize(
    ("change", "says"),
    [({"sha256": "0" * 64}, "does not have the photograph"), ({"file": "gone.png"}, "does not have the photograph")],
    ids=["other-picture", "no-picture"],
)
def test_another_picture_than_the_drawn_one_is_refused(tmp_path: Path, change: dict[str, str], says: str) -> None:
    told = json.loads(OUTLINES.read_text())
    told["photographs"][0] |= change
    (tmp_path / "outlines.json").write_text(json.dumps(told))
    with pytest.raises(PhotographError, match=says):
        photograph_items(tmp_path / "outlines.json")
