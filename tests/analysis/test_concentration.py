"""Concentration of maps: each measure against a plain count, and the words' maps of a recording."""

from collections.abc import Callable
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from refam_analysis.analysis.concentration import (
    CONCENTRATION,
    MapError,
    clusters,
    concentration_of,
    gini,
    maps_of_words,
    spatial_entropy,
    spatial_entropy_of,
)
from refam_analysis.analysis.localisation import MaskError
from refam_analysis.prompts import Token


@st.composite
def maps(draw: st.DrawFn) -> np.ndarray:
    """(y, x) or (frame, y, x), some with many equal values, some with none."""
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    shape = draw(st.sampled_from([(1, 4), (3, 3), (5, 4), (2, 3, 4), (3, 4, 4)]))
    levels = draw(st.sampled_from([2, 5, 10_000]))
    heat = generator.integers(0, levels, size=shape).astype(float) ** draw(st.sampled_from([1, 4]))
    heat.flat[0] += 1.0
    return heat


@given(maps())
def test_entropy_is_the_sum_over_tokens(heat: np.ndarray) -> None:
    shares = [float(value) / float(heat.sum()) for value in heat.ravel()]
    assert spatial_entropy(heat) == pytest.approx(-sum(share * log(share) for share in shares if share > 0))


@given(maps())
def test_gini_is_half_the_mean_difference_of_two_tokens_over_the_mean(heat: np.ndarray) -> None:
    values = heat.ravel()
    differences = [abs(one - other) for one in values for other in values]
    assert gini(heat) == pytest.approx(np.mean(differences) / (2 * values.mean()))


def flooded(hot: np.ndarray) -> list[int]:
    """Sizes of clusters by walking from token to token."""
    left = {tuple(place) for place in np.argwhere(hot)}
    sizes = []
    while left:
        front, size = [left.pop()], 0
        while front:
            place = front.pop()
            size += 1
            for axis in range(hot.ndim):
                for step in (-1, 1):
                    near = tuple(p + step * (a == axis) for a, p in enumerate(place))
                    if near in left:
                        left.remove(near)
                        front.append(near)
        sizes.append(size)
    return sorted(sizes, reverse=True)


@given(heat=maps(), threshold=st.sampled_from([0.5, 1.0, 2.0]))
def test_clusters_are_what_can_be_walked_to(heat: np.ndarray, threshold: float) -> None:
    assert clusters(heat, threshold=threshold).tolist() == flooded(heat > threshold * heat.mean())


@given(heat=maps(), scale=st.sampled_from([1e-6, 0.3, 1e5]))
def test_no_measure_depends_on_the_scale(heat: np.ndarray, scale: float) -> None:
    assert spatial_entropy(scale * heat) == pytest.approx(spatial_entropy(heat))
    assert gini(scale * heat) == pytest.approx(gini(heat))
    assert clusters(scale * heat, threshold=np.pi / 2).tolist() == clusters(heat, threshold=np.pi / 2).tolist()


def test_tokens_that_touch_at_a_corner_are_two_clusters() -> None:
    assert clusters(np.eye(4)).tolist() == [1, 1, 1, 1]


def test_a_cluster_goes_on_in_the_next_frame() -> None:
    heat = np.zeros((3, 4, 4))
    heat[0, 1, 1] = heat[1, 1, 1] = heat[2, 3, 3] = 1.0
    assert clusters(heat).tolist() == [2, 1]


def test_an_even_map_has_no_cluster_and_all_entropy() -> None:
    assert clusters(np.ones((3, 4))).tolist() == []
    assert spatial_entropy(np.ones((3, 4))) == pytest.approx(log(12))
    assert gini(np.ones((3, 4))) == pytest.approx(0.0)


def test_a_map_without_heat_has_no_distribution() -> None:
    cold = np.zeros((3, 4))
    assert np.isnan(spatial_entropy(cold)) and np.isnan(gini(cold))
    assert clusters(cold).tolist() == []


@pytest.mark.parametrize("measure", [spatial_entropy, gini, clusters])
@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_what_is_no_heat_is_refused(measure: Callable, value: float) -> None:
    with pytest.raises(MapError, match="finite and not negative"):
        measure([[1.0, value]])


PIECES = (
    Token(0, "the", "the", "stop", "t5", 0),
    Token(1, "tri", "triangle", "content", "t5", 1),
    Token(2, "angle", "triangle", "content", "t5", 1),
    Token(3, "left", "left", "content", "t5", 2),
    *(Token(index, "<pad>", "", "padding", "t5", None) for index in range(4, 10)),
)
DIRECTIONS = ("text_to_image", "image_to_text")


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_the_map_of_a_word_is_the_mean_over_its_pieces_and_the_heads(
    direction: str, make_recording: Callable, random_attention: Callable
) -> None:
    attention = random_attention(1, spread=2.0)
    found = maps_of_words(make_recording(attention, PIECES, keep=DIRECTIONS), direction=direction)  # type: ignore[arg-type]
    assert found.dims == ("step", "block", "word", "y", "x")
    assert found["text"].values.tolist() == ["triangle", "left"]
    for block in range(2):
        heads = attention[0, 0, block]
        pieces = heads[:, 1:3, 10:].mean(1) if direction == "text_to_image" else heads[:, 10:, 1:3].mean(2)
        np.testing.assert_allclose(found.values[0, block, 0], pieces.mean(0).reshape(3, 4))
        left = heads[:, 3, 10:] if direction == "text_to_image" else heads[:, 10:, 3]
        np.testing.assert_allclose(found.values[0, block, 1], left.mean(0).reshape(3, 4))


def test_measures_are_means_over_words(make_recording: Callable, random_attention: Callable) -> None:
    recording = make_recording(random_attention(1, spread=2.0), PIECES, keep=DIRECTIONS)
    found = concentration_of(recording, threshold=1.5)
    each = maps_of_words(recording).values[0, 1]
    by_hand = {
        "spatial_entropy": np.mean([spatial_entropy(one) for one in each]),
        "normalised_spatial_entropy": np.mean([spatial_entropy(one) / log(12) for one in each]),
        "gini": np.mean([gini(one) for one in each]),
        "clusters": np.mean([len(clusters(one, threshold=1.5)) for one in each]),
        "cluster_size": np.mean([clusters(one, threshold=1.5).mean() for one in each]),
        "hot_share": np.mean([clusters(one, threshold=1.5).sum() / 12 for one in each]),
    }
    assert tuple(by_hand) == CONCENTRATION
    np.testing.assert_allclose(found.sel(block=1).values[0], list(by_hand.values()))
    entropy = spatial_entropy_of(recording, "text_to_image")
    assert float(entropy.sel(block=1)) == pytest.approx(by_hand["normalised_spatial_entropy"])


def test_two_words_that_are_sharp_at_two_places_are_sharp(make_recording: Callable, make_tokens: Callable) -> None:
    attention = np.full((1, 1, 1, 1, 22, 22), 1e-9)
    attention[..., 0, 12] = attention[..., 1, 20] = 1.0
    attention[..., 2:, :] = 1.0
    attention /= attention.sum(-1, keepdims=True)
    recording = make_recording(attention, make_tokens(["red", "ring"]), keep=["text_to_image"])
    assert float(spatial_entropy_of(recording)[0]) < 1e-5
    assert float(concentration_of(recording).sel(measure="cluster_size")[0, 0]) == 1.0


def test_even_maps_have_no_cluster_size(make_recording: Callable, make_tokens: Callable) -> None:
    attention = np.full((1, 1, 2, 1, 22, 22), 1 / 22)
    found = concentration_of(make_recording(attention, make_tokens(["ring"]), keep=["text_to_image"]))
    assert np.isnan(found.sel(measure="cluster_size")).all()
    np.testing.assert_array_equal(found.sel(measure="clusters"), 0.0)
    np.testing.assert_allclose(found.sel(measure="normalised_spatial_entropy"), 1.0)


def test_tokens_without_words_stand_for_themselves(make_recording: Callable, random_attention: Callable) -> None:
    recording = make_recording(random_attention(0), PIECES, keep=["text_to_image"], anonymous=True)
    assert maps_of_words(recording, kinds=["unknown"]).sizes["word"] == 10
    with pytest.raises(MaskError, match="content"):
        maps_of_words(recording)
