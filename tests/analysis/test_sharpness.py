"""Sharpness of maps and clusters off the target, and their change over scenes."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refam_analysis.analysis.concentration import MapError
from refam_analysis.analysis.localisation import average_precision, background_ratio, content_maps, peak_inside
from refam_analysis.analysis.magnets import mass_shares
from refam_analysis.analysis.regions import region_shares
from refam_analysis.analysis.sharpness import (
    MAP_MEASURES,
    background_clusters,
    map_measures,
    peak_to_mean,
    scene_changes,
    sharpness_changed,
    sharpness_of,
)
from refam_analysis.analysis.units import RecordingsDifferError
from refam_analysis.recording.recording import Recording

GRID = (3, 4)
MASK = np.zeros((6, 8), bool)
MASK[1:4, 2:6] = True


def flood(hot: np.ndarray) -> list[int]:
    """Sizes of the regions of edge neighbours, by flooding."""
    left, sizes = {tuple(place) for place in np.argwhere(hot).tolist()}, []
    while left:
        front, size = [left.pop()], 0
        while front:
            y, x = front.pop()
            size += 1
            for near in ((y + 1, x), (y - 1, x), (y, x + 1), (y, x - 1)):
                if near in left:
                    left.remove(near)
                    front.append(near)
        sizes.append(size)
    return sorted(sizes, reverse=True)


@given(arrays(np.float64, (5, 6), elements=st.floats(0.0, 9.0)), st.sampled_from([1.0, 1.5, 2.0]))
def test_clusters_off_the_target_are_those_of_a_flood(heat: np.ndarray, threshold: float) -> None:
    target = np.zeros((5, 6), bool)
    target[1:3, 2:4] = True
    hot = (heat > threshold * heat.mean()) & ~target
    near_the_edge = np.isclose(heat, threshold * heat.mean(), rtol=1e-9, atol=0)
    if not near_the_edge.any():
        assert background_clusters(heat, target, threshold=threshold).tolist() == flood(hot)


def test_heat_on_the_target_is_no_cluster_but_raises_the_bar() -> None:
    heat = np.zeros((3, 4))
    heat[0, 0], heat[2, 3] = 1.0, 1.0
    assert background_clusters(heat, heat == 2).tolist() == [1, 1]
    target = np.zeros((3, 4), bool)
    target[0, 0] = True
    assert background_clusters(heat, target).tolist() == [1]
    heat[0, 0] = 9.0
    assert background_clusters(heat, target).tolist() == []
    assert background_clusters(np.where(target, heat, 0.0), target).tolist() == []


def test_measures_are_those_of_the_functions() -> None:
    heat = np.array([[0.1, 0.3, 0.2, 6.0], [0.4, 7.0, 0.1, 0.2], [5.0, 4.0, 0.3, 0.1]])
    found = map_measures(heat, MASK)
    assert tuple(found) == MAP_MEASURES
    assert found["average_precision"] == average_precision(heat, MASK)
    assert found["point_accuracy"] == peak_inside(heat, MASK)
    assert found["background_ratio"] == background_ratio(heat, MASK)
    assert found["peak_to_mean"] == pytest.approx(heat.max() / (heat.sum() / 12))
    sizes = background_clusters(heat, MASK)
    assert sizes.tolist() == [2, 1] and found["background_clusters"] == 2.0
    assert found["background_cluster_size"] == pytest.approx(sum(sizes) / len(sizes))
    assert found["background_largest_share"] == pytest.approx(max(sizes) / sum(sizes))


def test_a_map_without_clusters_has_a_number_and_no_size() -> None:
    found = map_measures(np.ones(GRID), MASK)
    assert found["background_clusters"] == 0.0 and found["peak_to_mean"] == 1.0
    assert np.isnan(found["background_cluster_size"]) and np.isnan(found["background_largest_share"])


@pytest.mark.parametrize("heat", [[[-1.0, 2.0]], [[np.nan, 1.0]]], ids=["negative", "nan"])
def test_what_is_no_heat_is_refused(heat: list) -> None:
    with pytest.raises(MapError, match="not negative"):
        peak_to_mean(heat)
    with pytest.raises(MapError, match="not negative"):  # also where it is on the target, which has no clusters
        background_clusters(heat, [[True, False]])


@pytest.fixture(name="pairs")
def _pairs(make_recording: Callable, make_tokens: Callable, random_attention: Callable) -> Callable:
    def build(count: int) -> tuple[list[Recording], list[Recording]]:
        keep = ("image_to_text", "received_from_text", "received_from_image")
        each = [
            [make_recording(random_attention(2 * s + bool(m), spread=2.0), make_tokens(["the", "ring"], m), keep=keep)
             for s in range(count)]
            for m in ([], [".", "a"])
        ]  # fmt: skip
        return each[0], each[1]

    return build


def test_changes_are_paired_over_scenes(pairs: Callable) -> None:
    without, with_magnets = pairs(7)
    table = sharpness_changed(iter(without), iter(with_magnets), [MASK] * 7).set_index(["block", "measure"])
    values = [
        [average_precision(content_maps(one).sel(block=1).values, MASK) for one in recordings]
        for recordings in (without, with_magnets)
    ]
    row = table.loc[(1, "average_precision")]
    assert row["without"] == pytest.approx(np.mean(values[0]))
    assert row["change"] == pytest.approx(np.mean(np.subtract(values[1], values[0])))
    assert row["low"] <= row["change"] <= row["high"] and row["scenes"] == 7
    assert list(table.loc[0].index) == list(MAP_MEASURES)


def test_a_scene_without_clusters_takes_no_part_in_their_size(pairs: Callable) -> None:
    without, with_magnets = pairs(7)
    each = [
        [sharpness_of(r, MASK).sel(block=0, measure="background_cluster_size").item() for r in recordings]
        for recordings in (without, with_magnets)
    ]
    both = np.isfinite(each).all(axis=0)
    assert 0 < both.sum() < 7
    table = sharpness_changed(without, with_magnets, [MASK] * 7).set_index(["block", "measure"])
    row = table.loc[(0, "background_cluster_size")]
    assert row["scenes"] == both.sum()
    assert row["change"] == pytest.approx(np.subtract(each[1], each[0])[both].mean())


def test_one_scenes_values_are_those_of_its_map_and_its_mass(pairs: Callable) -> None:
    (without,), (with_magnets,) = pairs(1)
    regions = region_shares(MASK, [], GRID)
    table = scene_changes(without, with_magnets, MASK, regions=regions)
    for column, recording in (("without", without), ("with_magnets", with_magnets)):
        expected = average_precision(content_maps(recording).values.mean(axis=0), MASK)
        assert table.loc["average_precision", column] == pytest.approx(expected)
        padding = mass_shares(recording, from_queries="text").sel(kind="padding").values.mean()
        assert table.loc["mass_padding_from_text", column] == pytest.approx(padding)
    onto = with_magnets["image_to_text"].values[0, 0, ..., 2:4].sum(-1).mean((0, 1))
    weights = regions.sel(region="background").values
    assert table.loc["magnets_from_background", "with_magnets"] == pytest.approx((onto * weights).sum() / weights.sum())
    assert table.loc["magnets_from_background", "without"] == 0.0
    assert np.isnan(table.loc["magnets_from_distractors", "with_magnets"])
    difference = table["with_magnets"] - table["without"]
    np.testing.assert_array_equal(table["change"], difference)


def test_other_blocks_are_refused(make_recording: Callable, make_tokens: Callable, random_attention: Callable) -> None:
    one, other = (
        make_recording(random_attention(0), make_tokens(["ring"]), keep=("image_to_text",), blocks=blocks)
        for blocks in ([0, 1], [0, 2])
    )
    with pytest.raises(RecordingsDifferError, match=r"\[0, 2\]"):
        sharpness_changed([one], [other], [MASK])
