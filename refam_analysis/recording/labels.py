"""Axes and coordinates of a recording: which axes each quantity has, and how they are labelled.

A dataset holds one size an axis, so inside it the axes of the square maps of one side have names of their own
(``text_query``, ``image_key``); a recording gives them out as ``query`` and ``key``. Everything that is text (words,
kinds, sides, block types) is derived from the attributes, so that a stored recording holds numbers only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr

from refam_analysis.models.layout import TokenLayout
from refam_analysis.prompts.tokens import Token
from refam_analysis.recording.quantities import QUANTITIES

COMMON_AXES: tuple[str, ...] = ("step", "branch", "block", "head")
GIVEN_OUT_AS: Mapping[str, str] = {
    "text_query": "query",
    "text_key": "key",
    "image_query": "query",
    "image_key": "key",
}
"""Axis of the dataset -> axis of the array that a recording gives out; the others keep their name."""

SIDE_LABELS: tuple[str, ...] = ("side", "text", "word", "kind")
"""What is known of every query and key; `text`, `word` and `kind` are "" for image tokens among text tokens."""


def quantity_axes(name: str, grid_axes: Sequence[str], *, all_queries: bool = True) -> tuple[str, ...]:
    """The axes of a quantity after step, branch, block and head, inside a dataset.

    Args:
        name: of the quantity.
        grid_axes: of the image tokens.
        all_queries: whether every query was kept. Chosen ones need not fill a grid, so they have an axis of their own.

    >>> quantity_axes("text_to_image", ("y", "x")), quantity_axes("text_to_text", ("y", "x"))
    (('token', 'y', 'x'), ('text_query', 'text_key'))
    >>> quantity_axes("image_to_text", ("y", "x"), all_queries=False)
    ('image_query', 'token')
    """
    special = {
        "text_to_image": ("token" if all_queries else "text_query", *grid_axes),
        "image_to_text": (*(grid_axes if all_queries else ("image_query",)), "token"),
        "text_to_text": ("text_query", "text_key"),
        "image_to_image": ("image_query", "image_key"),
    }
    if name in special:
        return special[name]
    return {"map": ("query", "key"), "by_query": ("query",), "by_key": ("key",)}[QUANTITIES[name].form]


def make_axes(
    names: Iterable[str],
    layout: TokenLayout,
    *,
    blocks: Iterable[int],
    branches: Sequence[str],
    noise_levels: Sequence[float],
    heads: Iterable[int] | None,
    queries: Sequence[int] | None = None,
) -> xr.Coordinates:
    """The coordinates that are numbers, and the branches: what all items of a batch have in common.

    Args:
        names: of the quantities that are kept.
        layout: where the tokens stand.
        blocks: numbers of the recorded blocks, in order.
        branches: names along `branch`.
        noise_levels: one a step; nan when unknown.
        heads: numbers along `head`; None for a mean over heads.
        queries: positions of the queries that were kept; None for all.
    """
    used = {axis for name in names for axis in quantity_axes(name, layout.grid_axes, all_queries=queries is None)}
    axes: dict[str, Any] = {axis: np.array(find(layout)) for axis, find in _POSITIONS.items() if axis in used}
    if queries is not None:
        axes |= {axis: np.intersect1d(axes[axis], queries) for axis in axes if axis.endswith("query")}
    axes |= {"step": np.arange(len(noise_levels)), "branch": _strings(branches), "block": np.array(list(blocks))}
    axes["token"] = np.arange(layout.text_length)
    if heads is not None:
        axes["head"] = np.array(list(heads))
    return xr.Coordinates(
        {**{axis: (axis, values) for axis, values in axes.items()}, "noise_level": ("step", np.array(noise_levels))}
    )


def build_dataset(
    arrays: Mapping[str, np.ndarray],
    axes: xr.Coordinates,
    layout: TokenLayout,
    *,
    tokens: Sequence[Token],
    block_types: Mapping[int, str],
    attributes: Mapping[str, Any],
    queries: Sequence[int] | None = None,
) -> xr.Dataset:
    """Give the arrays of one item their axes, coordinates and attributes.

    Args:
        arrays: by quantity, (step, branch, block, head, rows or columns as `reductions.result_shape` has them).
        axes: from :func:`make_axes`.
        layout: where the tokens stand.
        tokens: of the text segment; empty when unknown.
        block_types: by the number of the block.
        attributes: what else describes the run, plain enough for JSON.
        queries: positions of the queries that were kept; None for all.
    """
    attributes = {
        **attributes,
        **({} if queries is None else {"queries": [int(position) for position in queries]}),
        "layout": layout_to_json(layout),
        "tokens": [dict(vars(token)) for token in tokens],
        "block_types": {str(number): kind for number, kind in block_types.items()},
        "branches": [str(branch) for branch in axes["branch"].values],
        "heads": "each" if "head" in axes else "mean",
    }
    positions = {str(axis): variable.values for axis, variable in axes.variables.items()}
    labels = _text_labels(positions, attributes, layout, tokens)
    variables = {name: _variable(name, values, layout, all_queries=queries is None) for name, values in arrays.items()}
    coordinates: dict[Any, xr.Variable] = {**axes.variables}
    coordinates |= {name: xr.Variable(*label) for name, label in labels.items()}
    return xr.Dataset(variables, xr.Coordinates(coordinates, dict(axes.xindexes)), attributes)


def add_labels(dataset: xr.Dataset) -> xr.Dataset:
    """Add every coordinate that is text, from the attributes; the inverse of :func:`drop_labels`."""
    positions = {str(axis): dataset[axis].values for axis in dataset.sizes if axis in dataset.coords}
    layout = layout_from_json(dataset.attrs["layout"])
    labels = _text_labels(positions, dataset.attrs, layout, tokens_of(dataset))
    return dataset.assign_coords({"branch": ("branch", _strings(dataset.attrs["branches"])), **labels})


def _variable(name: str, values: np.ndarray, layout: TokenLayout, *, all_queries: bool) -> xr.Variable:
    axes = quantity_axes(name, layout.grid_axes, all_queries=all_queries)
    if layout.grid_axes[-1] in axes:
        grid = dict(zip(layout.grid_axes, layout.grid, strict=True))
        lengths = {axis: grid.get(axis, -1) for axis in axes}
        values = values.reshape(*values.shape[:4], *lengths.values())
    return xr.Variable((*COMMON_AXES, *axes), values, {"long_name": QUANTITIES[name].meaning})


def _text_labels(
    positions: Mapping[str, np.ndarray], attributes: Mapping[str, Any], layout: TokenLayout, tokens: Sequence[Token]
) -> dict[str, tuple[str, np.ndarray]]:
    """Every coordinate that is text but the branches, from the positions along each axis."""
    types = attributes["block_types"]
    labels = {"block_type": ("block", _strings(types[str(number)] for number in positions["block"]))}
    if tokens:
        chosen = [tokens[int(index)] for index in positions["token"]]
        for label in SIDE_LABELS[1:]:
            labels[label] = ("token", _strings(getattr(token, label) for token in chosen))
    for axis in positions.keys() & _POSITIONS.keys():
        for label, values in _side_labels(positions[axis], layout, tokens).items():
            labels[f"{axis}_{label}"] = (axis, values)
    return labels


def drop_labels(dataset: xr.Dataset) -> xr.Dataset:
    """Without the coordinates that are text."""
    return dataset.drop_vars([name for name, values in dataset.coords.items() if values.dtype.kind in "UOT"])


def give_out(array: xr.DataArray) -> xr.DataArray:
    """Rename a dataset's axes and labels to what a reader sees.

    The axes of the square maps become ``query`` and ``key``. The labels of the queries, or of the keys where there
    are no queries, lose their prefix (``side``, ``text``, ``word``, ``kind``); beside queries, those of the keys are
    ``key_side`` and so on.
    """
    axes = {str(axis): GIVEN_OUT_AS.get(str(axis), str(axis)) for axis in array.dims}
    renames = {axis: shown for axis, shown in axes.items() if axis != shown}
    for axis, shown in axes.items():
        prefix = "key_" if shown == "key" and "query" in axes.values() else ""
        if shown in ("query", "key"):
            renames |= {f"{axis}_{label}": prefix + label for label in SIDE_LABELS if f"{axis}_{label}" in array.coords}
    unused = [name for name in ("token", *SIDE_LABELS) if name in array.coords and "token" not in array.dims]
    return array.drop_vars(unused).rename(renames)


def tokens_of(dataset: xr.Dataset) -> tuple[Token, ...]:
    """All tokens of the text segment, whether selected or not; empty when unknown."""
    return tuple(Token(**fields) for fields in dataset.attrs["tokens"])


def layout_to_json(layout: TokenLayout) -> dict[str, Any]:
    """A layout as plain lists.

    >>> layout_to_json(TokenLayout(text=slice(0, 2), image=slice(2, 8), grid=(2, 3)))
    {'text': [0, 2], 'image': [2, 8], 'grid': [2, 3], 'attention': 'joint'}
    """
    return {
        "text": [layout.text.start, layout.text.stop],
        "image": [layout.image.start, layout.image.stop],
        "grid": list(layout.grid),
        "attention": layout.attention,
    }


def layout_from_json(fields: Mapping[str, Any]) -> TokenLayout:
    """The inverse of :func:`layout_to_json`."""
    return TokenLayout(
        text=slice(*fields["text"]),
        image=slice(*fields["image"]),
        grid=tuple(fields["grid"]),
        attention=fields.get("attention", "joint"),
    )


_POSITIONS: Mapping[str, Callable[[TokenLayout], range]] = {
    "query": lambda layout: layout.query_positions,
    "key": lambda layout: layout.key_positions,
    "text_query": lambda layout: range(layout.text.start, layout.text.stop),
    "text_key": lambda layout: range(layout.text.start, layout.text.stop),
    "image_query": lambda layout: range(layout.image.start, layout.image.stop),
    "image_key": lambda layout: range(layout.image.start, layout.image.stop),
}
"""Positions in the sequence along each axis of queries or keys."""


def _side_labels(positions: np.ndarray, layout: TokenLayout, tokens: Sequence[Token]) -> dict[str, np.ndarray]:
    in_text = (positions >= layout.text.start) & (positions < layout.text.stop)
    in_image = (positions >= layout.image.start) & (positions < layout.image.stop)
    labels = {"side": np.where(in_text, "text", np.where(in_image, "image", "other"))}
    if not tokens or not in_text.any():
        return labels
    places = np.where(in_text, positions - layout.text.start, len(tokens))
    for label in SIDE_LABELS[1:]:
        labels[label] = _strings([*(getattr(token, label) for token in tokens), ""])[places]
    return labels


def _strings(values: Any) -> np.ndarray:
    return np.array([str(value) for value in values], dtype=str)
