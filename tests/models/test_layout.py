"""Token layouts: what they know, and which contradictions they refuse."""

from typing import Any

import pytest

from refam_analysis.models import LayoutError, TokenLayout


def test_text_may_stand_before_or_after_the_image() -> None:
    first = TokenLayout(text=slice(0, 5), image=slice(5, 17), grid=(3, 4))
    last = TokenLayout(text=slice(12, 17), image=slice(0, 12), grid=(3, 4))
    assert (first.text_length, first.image_length, first.length) == (5, 12, 17)
    assert (last.text_length, last.image_length, last.length) == (5, 12, 17)


def test_an_open_start_is_zero() -> None:
    assert TokenLayout(text=slice(5), image=slice(5, 6), grid=(1, 1)).text == slice(0, 5)


def test_the_grid_of_a_clip_has_frames() -> None:
    assert TokenLayout(text=slice(0, 1), image=slice(1, 25), grid=(2, 3, 4)).grid_axes == ("frame", "y", "x")
    assert TokenLayout(text=slice(0, 1), image=slice(1, 13), grid=(3, 4)).grid_axes == ("y", "x")


@pytest.mark.parametrize(
    ("text", "image", "attention", "expected"),
    [
        (slice(0, 5), slice(5, 17), "text_only", range(5)),
        (slice(0, 5), slice(5, 17), "image_only", range(5, 17)),
        (slice(16, 21), slice(0, 12), "text_only", range(16, 21)),
        (slice(16, 21), slice(0, 12), "image_only", range(16)),
        (slice(0, 5), slice(7, 19), "image_only", range(7, 19)),
    ],
    ids=["text-first", "image-behind", "text-behind", "image-filled-up", "text-filled-up"],
)
def test_a_refiner_has_the_positions_of_its_side(text: slice, image: slice, attention: Any, expected: range) -> None:
    layout = TokenLayout(text=text, image=image, grid=(3, 4), attention=attention)
    assert layout.query_positions == layout.key_positions == expected


@pytest.mark.parametrize(
    ("text", "image", "grid", "message"),
    [
        (slice(0, 4), slice(4, 16), (3, 5), "3 x 5 has 15 cells, but the image slice has 12"),
        (slice(0, 5), slice(4, 16), (3, 4), r"0\.\.4 and image positions 4\.\.15 overlap"),
        (slice(4, 16), slice(0, 5), (1, 5), "overlap"),
        (slice(0, 4), slice(4, 16), (12,), r"The grid is \(12,\)"),
        (slice(0, 4), slice(4, 4), (0, 4), "The image positions"),
        (slice(0, None), slice(4, 16), (3, 4), "The text positions"),
        (slice(-4, 4), slice(4, 16), (3, 4), "The text positions"),
        (slice(0, 4, 2), slice(4, 16), (3, 4), "The text positions"),
        (slice(4, 0), slice(4, 16), (3, 4), "The text positions"),
    ],
    ids=["cells", "overlap", "overlap-behind", "one-axis", "empty", "open", "negative", "step", "backwards"],
)
def test_a_contradiction_is_refused(text: slice, image: slice, grid: tuple[int, ...], message: str) -> None:
    with pytest.raises(LayoutError, match=message):
        TokenLayout(text=text, image=image, grid=grid)
