"""Received mass and evenness, from full attention and as kept, against loops over queries in float64."""

import math
from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st

from refam_analysis.analysis.positions import MissingSideError
from refam_analysis.analysis.received import received_by_key, received_mass, uniformity, uniformity_by_key
from refam_analysis.recording.quantities import QuantityMissingError


def labelled(matrix: np.ndarray, text: int) -> xr.DataArray:
    queries, keys = matrix.shape
    side = np.where(np.arange(queries) < text, "text", "image")
    return xr.DataArray(
        matrix,
        dims=("query", "key"),
        coords={"query": range(queries), "key": range(keys), "side": ("query", side)},
    )


@st.composite
def matrices(draw: st.DrawFn) -> np.ndarray:
    generator = np.random.default_rng(draw(st.integers(0, 10_000)))
    queries, keys = draw(st.integers(2, 9)), draw(st.integers(1, 9))
    weights = np.exp(generator.normal(0.0, draw(st.sampled_from([0.1, 1.0, 6.0])), size=(queries, keys)))
    return weights / weights.sum(1, keepdims=True)


@given(matrices(), st.sampled_from(["text", "image"]))
def test_received_mass_equals_a_loop_over_queries(matrix: np.ndarray, side: str) -> None:
    rows = matrix[:1] if side == "text" else matrix[1:]
    expected = [math.fsum(row[j] for row in rows) / len(rows) * matrix.shape[1] for j in range(matrix.shape[1])]
    result = received_mass(labelled(matrix, 1), from_queries=side)
    np.testing.assert_allclose(result.values, expected, rtol=1e-12)


@given(matrices())
def test_received_mass_has_mean_one(matrix: np.ndarray) -> None:
    assert float(received_mass(labelled(matrix, 1), from_queries="image").mean()) == pytest.approx(1.0)


@given(matrices())
def test_uniformity_equals_a_loop_over_queries(matrix: np.ndarray) -> None:
    rows = matrix[1:]
    expected = []
    for j in range(matrix.shape[1]):
        column = [row[j] / math.fsum(r[j] for r in rows) for row in rows]
        expected.append(math.exp(-math.fsum(p * math.log(p) for p in column)) / len(rows))
    np.testing.assert_allclose(uniformity(labelled(matrix, 1), from_queries="image").values, expected, rtol=1e-9)


def test_uniformity_tells_an_even_key_from_one_that_a_single_query_reads() -> None:
    matrix = np.array([[0.5, 0.5, 0.0], [0.5, 0.0, 0.5], [0.5, 0.0, 0.5], [0.5, 0.0, 0.5], [1.0, 0.0, 0.0]])
    result = uniformity(labelled(matrix, 4), from_queries="text")
    np.testing.assert_allclose(result.values, [1.0, 0.25, 0.75])


def test_uniformity_of_a_key_that_receives_nothing_is_missing() -> None:
    result = uniformity(labelled(np.array([[1.0, 0.0], [1.0, 0.0]]), 1), from_queries="text")
    np.testing.assert_equal(result.values, [1.0, np.nan])


@pytest.mark.parametrize("measure", [received_mass, uniformity], ids=["mass", "uniformity"])
def test_a_side_without_queries_is_named(measure: Callable[..., xr.DataArray]) -> None:
    with pytest.raises(MissingSideError, match=r"no text queries.*'image': 2"):
        measure(labelled(np.full((2, 3), 1 / 3), 0), from_queries="text")


@pytest.mark.parametrize("side", ["text", "image"])
@pytest.mark.parametrize("image_first", [False, True], ids=["text-first", "image-first"])
def test_kept_reductions_and_full_attention_give_the_same(
    side: str, image_first: bool, make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    names = (f"received_from_{side}", f"uniformity_from_{side}")
    attention, tokens = random_attention(3), make_tokens(["the", "red", "ring"])
    full = make_recording(attention, tokens, image_first=image_first)
    kept = make_recording(attention, tokens, keep=names, image_first=image_first)
    for measure in (received_by_key, uniformity_by_key):
        left, right = measure(full, from_queries=side), measure(kept, from_queries=side)
        assert left.dims == ("step", "branch", "block", "head", "key")
        np.testing.assert_allclose(left.values, right.values, rtol=1e-12)
        assert left["side"].values.tolist() == right["side"].values.tolist()
        assert left["word"].values.tolist() == right["word"].values.tolist()


def test_uniformity_that_was_not_kept_is_none_but_mass_is_asked_for(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    recording = make_recording(random_attention(1), make_tokens(["ring"]), keep=["entropy"])
    assert uniformity_by_key(recording, from_queries="text") is None
    with pytest.raises(QuantityMissingError, match="received_from_text"):
        received_by_key(recording, from_queries="text")
