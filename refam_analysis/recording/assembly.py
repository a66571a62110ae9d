"""From finished passes to recordings: which pass and which item of a batch is which step and which branch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
import xarray as xr

from refam_analysis.errors import RefamError
from refam_analysis.models.layout import TokenLayout, longest
from refam_analysis.prompts.tokens import Token
from refam_analysis.recording.labels import build_dataset, make_axes
from refam_analysis.recording.passes import Pass
from refam_analysis.recording.plans import BranchOrder, Plan
from refam_analysis.recording.recording import Recording

Place = tuple[Pass, int]
"""A pass, and the number of an item in its batch."""


class BranchesError(RefamError, ValueError):
    """What was recorded does not divide into the branches."""

    def __init__(self, what: str, number: int, branches: Sequence[str]) -> None:
        super().__init__(
            f"{number} {what} do not divide into the {len(branches)} branches {', '.join(branches)}: name the branches "
            "that ran, and in branch_order whether they share a batch or take turns."
        )


def arrange(passes: Sequence[Pass], branches: Sequence[str], order: BranchOrder) -> list[list[list[Place]]]:
    """Where every item's steps and branches were recorded: item, then step, then branch.

    Raises:
        BranchesError: the batch, or the number of passes, does not divide.
    """
    number, batch = len(branches), passes[0].batch[0]
    if order == "batch":
        if batch % number:
            raise BranchesError("items of a batch", batch, branches)
        items = batch // number
        return [[[(one, b * items + item) for b in range(number)] for one in passes] for item in range(items)]
    if len(passes) % number:
        raise BranchesError("passes", len(passes), branches)
    steps = [passes[i : i + number] for i in range(0, len(passes), number)]
    return [[[(one, item) for one in step] for step in steps] for item in range(batch)]


def assemble(
    plan: Plan,
    places: Sequence[Sequence[Place]],
    tokens: Sequence[Token],
    attributes: Mapping[str, Any],
    *,
    branches: Sequence[str],
    levels: Sequence[float],
    heads: Sequence[int] | None,
) -> Recording:
    """One item's recording.

    Args:
        plan: of the recorder.
        places: of its steps and branches, from :func:`arrange`.
        tokens: of its text segment; empty when unknown.
        attributes: what describes it.
        branches: their names.
        levels: noise levels, one a step.
        heads: numbers along the head axis; None for a mean.
    """
    found = [[one.results_of(item) for one, item in step] for step in places]
    layout = longest(layout for step in found for layout, _ in step)
    arrays = {
        name: _stacked([[results[name] for _, results in step] for step in found], plan.shape_of(name, layout))
        for name in plan.keep
    }
    dataset = label(
        plan,
        layout,
        {name: values.numpy() for name, values in arrays.items()},
        tokens,
        attributes,
        branches=branches,
        levels=levels,
        heads=heads,
    )
    return Recording(dataset)


def label(
    plan: Plan,
    layout: TokenLayout,
    arrays: Mapping[str, np.ndarray],
    tokens: Sequence[Token],
    attributes: Mapping[str, Any],
    *,
    branches: Sequence[str],
    levels: Sequence[float],
    heads: Sequence[int] | None,
) -> xr.Dataset:
    """One item's arrays with axes, coordinates and attributes.

    Args:
        plan: of the recorder.
        layout: the item's; of several branches the longest.
        arrays: by quantity, (step, branch, block, head, ...).
        tokens, attributes, branches, levels, heads: as for :func:`assemble`.
    """
    axes = make_axes(
        plan.keep,
        layout,
        blocks=[block.index for block in plan.recorded],
        branches=branches,
        noise_levels=levels,
        heads=heads,
        queries=plan.queries,
    )
    types = {block.index: block.type for block in plan.recorded}
    return build_dataset(
        arrays, axes, layout, tokens=tokens, block_types=types, attributes=attributes, queries=plan.queries
    )


def _stacked(parts: Sequence[Sequence[torch.Tensor]], shape: tuple[int, ...]) -> torch.Tensor:
    """(step, branch, block, head, ...); what a shorter branch does not have is nan. One part alone is not copied."""
    if len(parts) == len(parts[0]) == 1:
        return parts[0][0][None]
    whole = parts[0][0].new_full((len(parts), len(parts[0]), *parts[0][0].shape[1:3], *shape), float("nan"))
    for step, branches in enumerate(parts):
        for branch, part in enumerate(branches):
            corner: Any = (step, branch, ..., *(slice(0, size) for size in part.shape[3:]))
            whole[corner] = part[0]
    return whole
