"""The benchmark of F compares like with like: the official code, written out, gives the same numbers."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.contours import SIZE, official, official_outline, pairs, variants
from refam_analysis.evaluation.metrics import contour_accuracies, outline


@pytest.mark.parametrize("kind", ["small", "medium", "large", "noise"])
def test_both_give_the_same_f_of_every_frame(kind: str) -> None:
    predicted, true = pairs(kind, 2)
    assert predicted.shape == true.shape == (2, *SIZE)
    expected = official(predicted, true)
    np.testing.assert_allclose(contour_accuracies(predicted, true), expected, atol=1e-9)
    assert kind == "noise" or all(0.1 < value < 1.0 for value in expected)


def test_masks_are_objects_of_growing_size() -> None:
    areas = [pairs(kind, 3)[1].mean() for kind in ("small", "medium", "large")]
    assert 0 < areas[0] < areas[1] / 4 < areas[2] / 16 < 0.1


def test_outlines_are_the_same() -> None:
    mask = np.random.default_rng(0).random((30, 40)) < 0.3
    np.testing.assert_array_equal(official_outline(mask), outline(mask))


def test_what_is_timed_answers_the_same_question() -> None:
    timed = variants("small", 1)
    assert timed["official"]() == pytest.approx(timed["refam"]().tolist(), abs=1e-9)
    assert len(timed["official dilations alone"]()) == 2
