"""Masks in run lengths and polygons, against masks drawn by hand and against pycocotools."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from numpy.typing import NDArray
from pycocotools import mask as coco
from references.small_datasets import box_mask, compressed, polygon, runs

from refam_analysis.evaluation.datasets.rle import (
    BadMaskError,
    decode_mask,
    encode_mask,
    from_polygons,
    from_segmentation,
    mask_area,
    union,
)

masks = arrays.arrays(np.bool_, st.tuples(st.integers(1, 12), st.integers(1, 12)))
boxes = st.tuples(st.integers(0, 18), st.integers(0, 12), st.integers(1, 20), st.integers(1, 15)).map(
    lambda b: (min(b[0], b[2] - 1), min(b[1], b[3] - 1), b[2], b[3])
)


@given(masks)
def test_a_mask_survives_encoding(mask: NDArray[np.bool_]) -> None:
    np.testing.assert_array_equal(decode_mask(encode_mask(mask)), mask)


@given(masks)
def test_run_lengths_written_from_the_description_decode_to_the_mask(mask: NDArray[np.bool_]) -> None:
    np.testing.assert_array_equal(decode_mask(compressed(mask)), mask)  # type: ignore[arg-type]


@given(arrays.arrays(np.bool_, (40, 60), elements=st.booleans()))
@settings(max_examples=20)
def test_decoding_equals_that_of_pycocotools(mask: NDArray[np.bool_]) -> None:
    rle = coco.encode(np.asfortranarray(mask, dtype=np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # its own, about numpy 2
        expected = coco.decode(rle).astype(bool)
    np.testing.assert_array_equal(decode_mask(rle), expected)


def test_long_runs_take_several_letters() -> None:
    mask = np.zeros((900, 1200), dtype=np.bool_)
    mask[450:, 1100:] = True
    np.testing.assert_array_equal(decode_mask(encode_mask(mask)), mask)
    assert mask_area(encode_mask(mask)) == 450 * 100


@given(masks)
def test_a_crowd_in_plain_run_lengths_is_the_mask(mask: NDArray[np.bool_]) -> None:
    height, width = mask.shape
    rle = from_segmentation({"size": [height, width], "counts": runs(mask)}, height, width)
    np.testing.assert_array_equal(decode_mask(rle), mask)


@given(st.lists(boxes, min_size=1, max_size=3))
def test_polygons_with_whole_corners_are_their_rectangles(rectangles: list[tuple[int, int, int, int]]) -> None:
    rle = from_polygons([polygon(box) for box in rectangles], 15, 20)
    np.testing.assert_array_equal(decode_mask(rle), box_mask((15, 20), *rectangles))


def test_a_line_beside_a_polygon_adds_nothing() -> None:
    box = (2, 3, 9, 8)
    rle = from_polygons([[0.0, 0.0, 15.0, 12.0], polygon(box)], 15, 20)
    np.testing.assert_array_equal(decode_mask(rle), box_mask((15, 20), box))


@given(masks, st.randoms())
def test_a_union_has_every_pixel_of_its_parts(mask: NDArray[np.bool_], random: Any) -> None:
    part = mask & np.array([[random.random() < 0.5 for _ in row] for row in mask])
    rest = mask & ~part
    np.testing.assert_array_equal(decode_mask(union([encode_mask(part), encode_mask(rest)])), mask)


def test_a_union_of_two_sizes_is_refused() -> None:
    with pytest.raises(BadMaskError, match="sizes"):
        union([encode_mask(np.ones((2, 3))), encode_mask(np.ones((3, 2)))])


@pytest.mark.parametrize("counts", [b"22", "22"], ids=["bytes", "text"])
def test_counts_may_be_bytes_or_text(counts: bytes | str) -> None:
    assert decode_mask({"size": [2, 2], "counts": counts}).astype(int).tolist() == [[0, 1], [0, 1]]
    assert mask_area({"size": [2, 2], "counts": counts}) == 2


@given(st.one_of(st.binary(max_size=40), st.text(max_size=40)), st.integers(1, 40), st.integers(1, 40))
@settings(max_examples=300)
def test_whatever_the_letters_are_the_mask_is_right_in_size_or_refused(
    counts: bytes | str, height: int, width: int
) -> None:
    try:
        mask = decode_mask({"size": [height, width], "counts": counts})
    except BadMaskError:
        return
    assert mask.shape == (height, width)
    np.testing.assert_array_equal(decode_mask(encode_mask(mask)), mask)


BAD = {
    "too few pixels": {"size": [5, 4], "counts": "55"},
    "empty": {"size": [2, 2], "counts": ""},
    "cut in a number": {"size": [5, 4], "counts": "b"},
    "no letter of COCO's": {"size": [2, 2], "counts": b"\xff\xff"},
    "letter beyond Latin-1": {"size": [2, 2], "counts": "2☕"},
    "endless number": {"size": [2, 2], "counts": "o" * 30 + "0"},
    "negative run": {"size": [2, 2], "counts": "N"},
    "counts of another kind": {"size": [2, 2], "counts": 4},
    "no counts": {"size": [2, 2]},
    "plain runs too short": {"size": [2, 2], "counts": [1, 2]},
    "plain runs with a negative one": {"size": [2, 2], "counts": [5, -1]},
    "plain runs of text": {"size": [2, 2], "counts": ["2", "2"]},
    "size of three": {"size": [2, 2, 1], "counts": "22"},
    "size of text": {"size": ["2", "2"], "counts": "22"},
    "huge size": {"size": [2**31, 2**31], "counts": "22"},
    "another size": {"size": [1, 4], "counts": "22"},
    "no polygon": [],
    "two corners": [[0.0, 0.0, 1.0, 1.0]],
    "odd numbers": [[0.0, 0.0, 1.0, 1.0, 1.0, 0.0, 1.0]],
    "a flat list": [0.0, 0.0, 1.0, 1.0, 1.0, 0.0],
    "far outside": [[0.0, 0.0, 1e9, 0.0, 1e9, 1e9]],
    "not a number": [[0.0, 0.0, float("nan"), 1.0, 1.0, 0.0]],
    "corners of text": [["a", "b", "c", "d", "e", "f"]],
    "nothing": None,
    "text": "22",
}


@pytest.mark.parametrize("segmentation", BAD.values(), ids=BAD.keys())
def test_a_bad_segmentation_is_refused(segmentation: Any) -> None:
    with pytest.raises(ValueError) as error:
        from_segmentation(segmentation, 2, 2)
    assert isinstance(error.value, BadMaskError)


@pytest.mark.parametrize("shape", [(3,), (0, 4), (2, 2, 1)], ids=str)
def test_only_pictures_are_encoded(shape: tuple[int, ...]) -> None:
    with pytest.raises(BadMaskError, match="shape"):
        encode_mask(np.zeros(shape))
