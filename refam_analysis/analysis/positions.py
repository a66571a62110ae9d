"""What stands at each query and key of a recording: side, piece, word, kind, and the role that names it over scenes.

A role is what the same position is called in every scene, so that a statistic over scenes has something to pair:
``the``, ``magnet .``, ``padding 3``, ``</s>``, ``image 4,7``. Everything is read from the coordinates that a
Recording puts on its axes; no tokenizer is asked again.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Literal

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from refam_analysis.errors import RefamError

if TYPE_CHECKING:
    from refam_analysis.models.layout import TokenLayout

Side = Literal["text", "image"]
SIDES: tuple[Side, ...] = ("text", "image")

FIRST_TOKEN = "first token"  # noqa: S105 (a token of text)
"""The role that the first text token has besides its own, whatever word it is."""


class MissingSideError(RefamError, KeyError):
    """The model has no queries of the side that was asked for."""

    def __init__(self, side: str, sizes: dict[str, int]) -> None:
        super().__init__(
            f"There are no {side} queries in this attention (its sides: {sizes}). A model with separate "
            "cross-attention has queries on the image side only: ask for those."
        )

    def __str__(self) -> str:
        """The sentence as it is: KeyError would quote it."""
        return str(self.args[0])


def positions(array: xr.DataArray, axis: Literal["query", "key", "token"]) -> pd.DataFrame:
    """The labels along one axis, a row a position.

    Args:
        array: of a Recording, with ``axis`` among its axes.
        axis: whose labels to read.

    Returns:
        The columns ``position`` (in the sequence; in the text segment for ``token``), ``side`` ("text", "image" or
        "other"), ``text``, ``word`` and ``kind``. The kind of an image token is "image", of a token on neither side
        "other", and of a text token "unknown" where the recorder was not told the tokens.
    """
    places = array[axis].values
    side = np.full(len(places), "text") if axis == "token" else sides_along(array, axis)
    columns: dict[str, NDArray[np.str_]] = {}
    for name in ("text", "word", "kind"):
        label = _prefix(array, axis) + name
        columns[name] = array[label].values.astype(str) if label in array.coords else np.full(len(places), "")
    columns["kind"] = np.where(side != "text", side, np.where(columns["kind"] == "", "unknown", columns["kind"]))
    return pd.DataFrame({"position": places, "side": side, **columns})


def sides_along(array: xr.DataArray, axis: Literal["query", "key"]) -> NDArray[np.str_]:
    """The side of each position along an axis: "text", "image" or "other".

    Args:
        array: of a Recording, with ``axis`` among its axes.
        axis: query or key.
    """
    sides: NDArray[np.str_] = array.coords[f"{_prefix(array, axis)}side"].values.astype(str)
    return sides


def _prefix(array: xr.DataArray, axis: str) -> str:
    """What a Recording puts before the labels of an axis: beside queries, those of the keys are ``key_side``..."""
    return "key_" if axis == "key" and "query" in array.dims else ""


def labels_of_keys(array: xr.DataArray) -> xr.DataArray:
    """An array whose queries are gone, with its keys labelled as a Recording labels keys without queries.

    Args:
        array: reduced from one with the axes query and key.

    Returns:
        The same with ``side``, ``text``, ``word`` and ``kind`` on ``key``.
    """
    named = {f"key_{name}": name for name in ("side", "text", "word", "kind") if f"key_{name}" in array.coords}
    return array.rename(named)


def side_indices(array: xr.DataArray, axis: Literal["query", "key"], side: Side) -> NDArray[np.intp]:
    """Where one side stands along an axis.

    Args:
        array: of a Recording.
        axis: query or key.
        side: text or image.

    Returns:
        Indices, ascending.

    Raises:
        MissingSideError: nothing of that side is there.
    """
    sides = sides_along(array, axis)
    found = np.flatnonzero(sides == side)
    if len(found) == 0:
        raise MissingSideError(side, dict(Counter(sides.tolist())))
    return found


def roles(table: pd.DataFrame, layout: TokenLayout) -> list[str]:
    """The role of each position, no two alike.

    A word is its own role, a later piece of it ``word [2]``, its second occurrence ``word (2)``; magnets carry their
    kind in front, since the expression may hold the same word; padding is counted from its first token, image tokens
    go by their place in the grid, and what else has no word by its name.

    Args:
        table: from :func:`positions`.
        layout: of the sequence, which says where in the grid an image token is.

    Returns:
        One role a row.

    >>> from refam_analysis.models.layout import TokenLayout
    >>> table = pd.DataFrame({"position": range(6), "side": ["text"] * 4 + ["image"] * 2,
    ...     "text": ["a", "ring", "a", "<pad>", "", ""], "word": ["a", "ring", "a", "", "", ""],
    ...     "kind": ["stop", "content", "magnet", "padding", "image", "image"]})
    >>> roles(table, TokenLayout(text=slice(0, 4), image=slice(4, 6), grid=(1, 2)))
    ['a', 'ring', 'magnet a', 'padding 0', 'image 0,0', 'image 0,1']
    """
    seen: Counter[str] = Counter()
    named: list[str] = []
    previous, piece = "", 1
    for position, side, text, word, kind in table[["position", "side", "text", "word", "kind"]].itertuples(index=False):
        if side == "image":
            place = np.unravel_index(int(position) - layout.image.start, layout.grid)
            named.append("image " + ",".join(str(int(index)) for index in place))
            continue
        if not (word or text) or kind == "padding":
            name = kind if side == "text" and kind != "unknown" else side
            named.append(f"{name} {seen[f'#{name}']}")
            seen[f"#{name}"] += 1
            continue
        name = f"magnet {word}" if kind == "magnet" else (word or text)
        piece = piece + 1 if word and name == previous and not _begins(text, word) else 1
        previous = name
        seen[name] += piece == 1
        occurrence = f" ({seen[name]})" if seen[name] > 1 else ""
        named.append(name + occurrence + (f" [{piece}]" if piece > 1 else ""))
    return named


def _begins(text: str, word: str) -> bool:
    """Whether a piece can be the first of its word."""
    return word.startswith(text.strip("▁Ġ "))
