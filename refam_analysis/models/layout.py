"""Token layouts: where the text and the image stand in a transformer's sequence, and how the image is laid out."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal, get_args

from refam_analysis.errors import RefamError

Attention = Literal["joint", "separate", "cross", "text_only", "image_only"]
"""How text and image attend. ``joint``: one sequence, one softmax. ``separate``: image queries over image keys, and in
a second attention over text keys; there are no text queries. ``cross``: only the second has a softmax to record.
``text_only`` and ``image_only``: in a refiner one of them attends to itself; positions stay those of the sequence that
comes after it."""


Role = Literal["joint", "image", "text", "other"]
"""What one attention call of a block is. ``joint``: all queries of a sequence over all its keys, of text and image, or
in a refiner of one of them. ``image``: image queries over image keys. ``text``: image queries over text keys.
``other``: one that is not recorded."""

CALLS: Mapping[Attention, tuple[Role, ...]] = {
    "joint": ("joint",),
    "separate": ("image", "text"),
    "cross": ("text",),
    "text_only": ("joint",),
    "image_only": ("joint",),
}
"""The calls that a block makes, in order, where nothing else is known."""


class LayoutError(RefamError, ValueError):
    """A token layout contradicts itself."""


@dataclass(frozen=True)
class TokenLayout:
    """Where text and image tokens stand in the sequence that the blocks attend over.

    Attributes:
        text: positions of the text tokens, padding included.
        image: positions of the image tokens, in row-major order of the grid.
        grid: (y, x) image tokens, or (frame, y, x) for a clip.
        attention: whether they attend jointly. Where they attend apart, each has a sequence of its own, and here the
            image is written behind the text all the same: text=slice(0, 120), image=slice(120, 1144).

    Raises:
        LayoutError: a slice is open, empty, stepped or backwards, the slices overlap, or the grid does not have as
            many cells as the image slice has positions; or the attention is unknown, or separate or cross and the
            image does not follow the text.

    >>> TokenLayout(text=slice(0, 512), image=slice(512, 1536), grid=(32, 32)).length
    1536
    """

    text: slice
    image: slice
    grid: tuple[int, ...]
    attention: Attention = "joint"

    def __post_init__(self) -> None:
        object.__setattr__(self, "text", _checked("text", self.text))
        object.__setattr__(self, "image", _checked("image", self.image))
        object.__setattr__(self, "grid", tuple(self.grid))
        if len(self.grid) not in (2, 3) or any(side < 1 for side in self.grid):
            raise LayoutError(f"The grid is {self.grid}. Give (y, x) or (frame, y, x), each at least 1.")
        if math.prod(self.grid) != self.image_length:
            cells = " x ".join(map(str, self.grid))
            raise LayoutError(
                f"The grid {cells} has {math.prod(self.grid)} cells, but the image slice has {self.image_length} "
                "positions. Make them agree."
            )
        if self.attention not in get_args(Attention):
            raise LayoutError(f"attention is {self.attention!r}. Choose one of {', '.join(get_args(Attention))}.")
        apart = self.attention in ("separate", "cross")
        if apart and (self.text.start, self.image.start) != (0, self.text.stop):
            raise LayoutError(
                f"Text at {self.text} and image at {self.image} attend in two sequences: write the text from 0 on, "
                "and the image behind it."
            )
        if self.text.start < self.image.stop and self.image.start < self.text.stop:
            raise LayoutError(
                f"Text positions {self.text.start}..{self.text.stop - 1} and image positions "
                f"{self.image.start}..{self.image.stop - 1} overlap. A position is one or the other."
            )

    @property
    def text_length(self) -> int:
        """Number of text tokens."""
        return int(self.text.stop - self.text.start)

    @property
    def image_length(self) -> int:
        """Number of image tokens."""
        return int(self.image.stop - self.image.start)

    @property
    def length(self) -> int:
        """Length of the sequence up to the last text or image token."""
        return int(max(self.text.stop, self.image.stop))

    @property
    def query_positions(self) -> range:
        """Where there are queries: everywhere, or in the image alone where text does not attend.

        In a refiner on its own side; that of the image goes on, with what fills the image up, to a text behind it.
        """
        text, image = (range(side.start, side.stop) for side in (self.text, self.image))
        filled = range(image.start, max(image.stop, text.start))
        return {"joint": range(self.length), "text_only": text, "image_only": filled}.get(self.attention, image)

    @property
    def key_positions(self) -> range:
        """Where there are keys: everywhere, or in the text alone where only cross-attention is recorded.

        In a refiner where there are queries.
        """
        if self.attention in ("joint", "separate"):
            return range(self.length)
        return range(self.text.start, self.text.stop) if self.attention == "cross" else self.query_positions

    @property
    def grid_axes(self) -> tuple[str, ...]:
        """Names of the grid's axes.

        >>> TokenLayout(text=slice(0, 4), image=slice(4, 28), grid=(2, 3, 4)).grid_axes
        ('frame', 'y', 'x')
        """
        return ("frame", "y", "x")[-len(self.grid) :]


def text_then_image(text_length: int, grid: tuple[int, ...], attention: Attention = "joint") -> TokenLayout:
    """The layout of a sequence in which the image follows the text at once.

    >>> text_then_image(4, (2, 3)).image
    slice(4, 10, None)
    """
    image = slice(text_length, text_length + math.prod(grid))
    return TokenLayout(text=slice(0, text_length), image=image, grid=grid, attention=attention)


def longest(layouts: Iterable[TokenLayout]) -> TokenLayout:
    """The layout with the most keys, the first of several.

    >>> longest([text_then_image(4, (2, 3)), text_then_image(7, (2, 3))]).text_length
    7
    """
    return max(layouts, key=lambda layout: len(layout.key_positions))


def _checked(name: str, positions: slice) -> slice:
    """The slice with plain integers and no step."""
    start, stop, step = positions.start or 0, positions.stop, positions.step
    if not isinstance(start, int) or not isinstance(stop, int) or step not in (None, 1) or not 0 <= start < stop:
        raise LayoutError(
            f"The {name} positions are {positions}. Give slice(first, last + 1), with 0 <= first <= last."
        )
    return slice(start, stop)
