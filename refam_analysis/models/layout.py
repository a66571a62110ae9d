"""Token layouts: where the text and the image stand in a transformer's sequence, and how the image is laid out."""

from __future__ import annotations

import math
from dataclasses import dataclass

from refam_analysis.errors import RefamError


class LayoutError(RefamError, ValueError):
    """A token layout contradicts itself."""


@dataclass(frozen=True)
class TokenLayout:
    """Where text and image tokens stand in the sequence that the blocks attend over.

    Attributes:
        text: positions of the text tokens, padding included.
        image: positions of the image tokens, in row-major order of the grid.
        grid: (y, x) image tokens, or (frame, y, x) for a clip.

    Raises:
        LayoutError: a slice is open, empty, stepped or backwards, the slices overlap, or the grid does not have as
            many cells as the image slice has positions.

    >>> TokenLayout(text=slice(0, 512), image=slice(512, 1536), grid=(32, 32)).length
    1536
    """

    text: slice
    image: slice
    grid: tuple[int, ...]

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
    def grid_axes(self) -> tuple[str, ...]:
        """Names of the grid's axes.

        >>> TokenLayout(text=slice(0, 4), image=slice(4, 28), grid=(2, 3, 4)).grid_axes
        ('frame', 'y', 'x')
        """
        return ("frame", "y", "x")[-len(self.grid) :]


def _checked(name: str, positions: slice) -> slice:
    """The slice with plain integers and no step."""
    start, stop, step = positions.start or 0, positions.stop, positions.step
    if not isinstance(start, int) or not isinstance(stop, int) or step not in (None, 1) or not 0 <= start < stop:
        raise LayoutError(
            f"The {name} positions are {positions}. Give slice(first, last + 1), with 0 <= first <= last."
        )
    return slice(start, stop)
