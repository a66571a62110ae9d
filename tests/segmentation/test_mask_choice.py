"""The choice among candidate masks: what each rule prefers, against IoUs counted pixel by pixel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from refam_analysis.segmentation.mask_choice import CandidatesError, agreement, choose_mask, scaled_heatmap

BUTTON, COAT = np.zeros((2, 8, 8), dtype=bool)
BUTTON[3:5, 3:5] = True
COAT[1:7, 1:7] = True
MASKS = np.stack([BUTTON, COAT])


def test_the_score_decides_where_it_is_asked() -> None:
    assert choose_mask(MASKS, [0.9, 0.8], COAT.astype(float), by="score") == 0
    assert choose_mask(MASKS, [0.8, 0.9], BUTTON.astype(float), by="score") == 1


@pytest.mark.parametrize(("heat", "chosen"), [(BUTTON, 0), (COAT, 1)], ids=["button", "coat"])
def test_agreement_finds_the_mask_that_the_heatmap_shows(heat: np.ndarray, chosen: int) -> None:
    assert choose_mask(MASKS, [0.9, 0.8], heat.astype(float), by="agreement") == chosen
    assert choose_mask(MASKS, [0.8, 0.9], 0.1 + 0.05 * heat, by="agreement") == chosen, "scale and floor do not count"


def test_equal_agreement_is_decided_by_the_score_then_by_the_order() -> None:
    same = np.stack([COAT, COAT, COAT])
    assert choose_mask(same, [0.1, 0.9, 0.9], COAT.astype(float), by="agreement") == 1


def test_an_even_heatmap_leaves_the_choice_to_the_score() -> None:
    assert agreement(MASKS, np.full((8, 8), 0.3)).tolist() == [0.0, 0.0]
    assert choose_mask(MASKS, [0.2, 0.3], np.full((8, 8), 0.3), by="agreement") == 1


@given(arrays(bool, (3, 5, 6)), arrays(bool, (5, 6)))
def test_agreement_with_a_mask_is_their_iou(masks: np.ndarray, heat: np.ndarray) -> None:
    if heat.all():
        heat = ~heat  # an even map, of ones or zeros, shows nothing
    pixels = {(y, x) for y, x in zip(*heat.nonzero(), strict=True)}
    for mask, found in zip(masks, agreement(masks, heat.astype(float)), strict=True):
        inside = {(y, x) for y, x in zip(*mask.nonzero(), strict=True)}
        expected = len(inside & pixels) / len(inside | pixels) if inside | pixels else 0.0
        assert found == pytest.approx(expected)


def test_a_coarse_heatmap_covers_the_whole_picture() -> None:
    heat = scaled_heatmap([[0.0, 0.0], [0.0, 2.0]], (6, 8))
    assert heat.shape == (6, 8) and heat.min() == 0.0 and heat.max() == 1.0
    assert heat[-1, -1] == 1.0 and heat[0, 0] == 0.0


@pytest.mark.parametrize(
    ("masks", "scores", "heat", "by", "says"),
    [
        (MASKS, [0.9], COAT * 1.0, "score", r"scores \(1,\)"),
        (MASKS[0], [0.9], COAT * 1.0, "score", "candidate, height, width"),
        (MASKS[:0], [], COAT * 1.0, "score", "candidate"),
        (MASKS, [0.9, 0.8], COAT * 1.0, "beauty", "'score' or 'agreement'"),
        (MASKS, [0.9, 0.8], np.zeros((2, 8, 8)), "agreement", r"\(2, 8, 8\)"),
        (MASKS, [0.9, 0.8], COAT - 2.0, "agreement", "not negative"),
        (MASKS, [0.9, 0.8], np.full((8, 8), np.nan), "agreement", "finite"),
    ],
    ids=["scores", "axes", "none", "unknown", "frames", "negative", "nan"],
)
def test_what_cannot_be_chosen_among_is_refused(
    masks: np.ndarray, scores: list[float], heat: np.ndarray, by: str, says: str
) -> None:
    with pytest.raises(CandidatesError, match=says):
        choose_mask(masks, scores, heat, by=by)  # type: ignore[arg-type]
