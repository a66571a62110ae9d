"""Recordings of any shape, type, words and attributes are the same after they were saved and loaded."""

from __future__ import annotations

import math

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fuzz.mutating import examples
from refam_analysis.models.layout import TokenLayout
from refam_analysis.prompts import Token
from refam_analysis.recording import QUANTITIES, Recording, load_recording
from refam_analysis.recording.labels import build_dataset, make_axes, quantity_axes

KINDS = ("special", "padding", "template", "magnet", "punctuation", "stop", "content")
plain = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**40), 2**40) | st.floats(-1e9, 1e9) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
NAMES = ("full", "text_to_image", "image_to_text", "text_to_text", "entropy", "received_from_text")


@st.composite
def recordings(draw: st.DrawFn) -> Recording:
    text, grid = draw(st.integers(1, 5)), draw(st.lists(st.integers(1, 3), min_size=2, max_size=3))
    image_first, cells = draw(st.booleans()), math.prod(grid)
    sides = (
        (slice(cells, cells + text), slice(0, cells)) if image_first else (slice(0, text), slice(text, text + cells))
    )
    layout = TokenLayout(text=sides[0], image=sides[1], grid=tuple(grid))
    names = draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=3, unique=True))
    blocks = draw(st.lists(st.integers(0, 60), min_size=1, max_size=3, unique=True).map(sorted))
    levels = draw(st.lists(st.floats(0, 1) | st.just(math.nan), min_size=1, max_size=2))
    branches = draw(st.sampled_from([["conditional"], ["conditional", "unconditional"]]))
    heads = draw(st.none() | st.integers(1, 3))
    tokens = [
        Token(i, draw(st.text(max_size=4)), draw(st.text(max_size=4)), draw(st.sampled_from(KINDS)), "t5",
              draw(st.none() | st.integers(0, 4)))
        for i in range(text)
    ] if draw(st.booleans()) else []  # fmt: skip
    axes = make_axes(
        names, layout, blocks=blocks, branches=branches, noise_levels=levels,
        heads=None if heads is None else range(heads),
    )  # fmt: skip
    dtype = draw(st.sampled_from([np.float16, np.float32, np.float64]))
    lengths = {"token": text, "query": text + cells, "key": text + cells, "text_query": text, "text_key": text,
               **dict(zip(layout.grid_axes, grid, strict=True))}  # fmt: skip
    values = {
        name: draw(arrays.arrays(dtype, (len(levels), len(branches), len(blocks), heads or 1,
                                         *(lengths[axis] for axis in quantity_axes(name, layout.grid_axes)))))
        for name in names
    }  # fmt: skip
    types = {number: draw(st.sampled_from(["double", "single", "ünïcode"])) for number in blocks}
    attributes = {
        **draw(st.dictionaries(st.text(min_size=1, max_size=6), plain, max_size=3)),
        "model": draw(st.text(max_size=6)),
    }
    return Recording(build_dataset(values, axes, layout, tokens=tokens, block_types=types, attributes=attributes))


@given(recording=recordings())
@examples(40)
def test_a_recording_is_the_same_after_a_round_trip(
    recording: Recording, tmp_path_factory: pytest.TempPathFactory
) -> None:
    path = recording.save(tmp_path_factory.mktemp("round") / "trip.zarr")
    again = load_recording(path)
    xr.testing.assert_identical(again.dataset.load(), recording.dataset)
    assert again.attrs == recording.attrs and again.tokens == recording.tokens and again.layout == recording.layout
    assert again.kept == recording.kept and set(again.kept) <= set(QUANTITIES)
