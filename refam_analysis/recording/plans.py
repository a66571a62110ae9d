"""What a recorder keeps of every forward pass and what it expects of it, decided before the first one runs.

Here a family's data, a layout and the caller's wishes become a :class:`Plan`; `passes` fills it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

import torch
from torch import nn

from refam_analysis.errors import RefamError
from refam_analysis.models.blocks import MAIN, REFINED, Block, Stack, choose_blocks, find_blocks
from refam_analysis.models.family import BatchError, Family
from refam_analysis.models.layout import CALLS, Attention, LayoutError, Role, TokenLayout
from refam_analysis.recording.quantities import (
    QUANTITIES,
    QuantityMissingError,
    Sides,
    absent_quantities,
    check_names,
    default_keep,
)
from refam_analysis.recording.reductions import result_shape

if TYPE_CHECKING:
    from refam_analysis.recording.recording import Recording

Heads = Literal["each", "mean"] | Sequence[int]
BranchOrder = Literal["batch", "passes"]


@dataclass(frozen=True)
class Plan:
    """What is recorded of every pass, and what is expected of it.

    Attributes:
        blocks: all blocks of the stack, in order.
        calls: for each of them the attention calls that it makes, in order.
        recorded: the blocks whose attention is kept.
        keep: names of the quantities.
        layouts: one for all items, or one an item.
        one_call_an_item: every item has calls of its own.
        heads: "each", "mean" for the mean of each quantity over heads, or the numbers of some.
        queries: positions of the queries that are kept, rising; None for all.
        dtype: of what is kept.
    """

    blocks: Sequence[Block]
    calls: Sequence[tuple[Role, ...]]
    recorded: Sequence[Block]
    keep: tuple[str, ...]
    layouts: tuple[TokenLayout, ...]
    one_call_an_item: bool
    heads: Heads
    queries: tuple[int, ...] | None
    dtype: torch.dtype

    def layouts_of(self, batch: int) -> tuple[TokenLayout, ...]:
        """One an item."""
        return self.layouts * batch if len(self.layouts) == 1 else self.layouts

    def kept_heads(self, heads: int) -> Sequence[int] | None:
        """Numbers along the head axis, of a model with so many; None for a mean."""
        if self.heads == "mean":
            return None
        return range(heads) if self.heads == "each" else [int(head) for head in self.heads]

    def shape_of(self, name: str, layout: TokenLayout) -> tuple[int, ...]:
        """Shape of a quantity for one item and head: (query, key), (query,) or (key,)."""
        sides = {"text": layout.text, "image": layout.image}
        queries = {**sides, "all": slice(layout.query_positions.start, layout.query_positions.stop)}
        keys = {**sides, "all": slice(0, len(layout.key_positions))}
        return result_shape(QUANTITIES[name], narrowed(queries, self.queries), keys)


Results = Mapping[str, torch.Tensor]
"""For each quantity (item, branch, block, head, ...)."""


class Sink(Protocol):
    """Where the finished blocks of one pass go instead of staying in memory."""

    def has(self, place: int) -> bool:
        """Whether this block of the pass is there already, from an earlier run."""

    def write(self, place: int, results: Sequence[Results]) -> None:
        """Keep the results of one block, of every item (branch, 1, head, ...); ``place`` counts the recorded blocks."""


class StepSink(Protocol):
    """Where the blocks of every pass go."""

    def begin(
        self, plan: Plan, branches: Sequence[str], branch_order: BranchOrder, described: Mapping[str, Any]
    ) -> None:
        """A recorder starts to listen; ``described`` is what it knows of every recording."""

    def step(self, number: int) -> Sink:
        """The sink of one forward pass."""

    def recording(self, kernels: Sequence[str]) -> Recording:
        """What has been kept, with the names of the kernels that served."""


def make_plan(
    transformer: nn.Module,
    family: Family | None,
    layouts: tuple[TokenLayout, ...],
    keep: Iterable[str] | None,
    *,
    blocks: Iterable[int] | None,
    heads: Heads,
    queries: Iterable[int] | None,
    dtype: torch.dtype,
    calls: Sequence[Role] | None,
    stack: Stack = MAIN,
) -> tuple[Plan, dict[str, str]]:
    """Put everything together, and refuse what does not fit. The arguments are those of the Recorder.

    Returns:
        The plan, and by name the quantities that cannot be kept here, each with the reason.
    """
    attention = _check_layouts(layouts, family, transformer)
    found = find_blocks(transformer, stack)
    if stack != MAIN:  # what is peculiar to a family is so of its main stack
        attention, family = REFINED[stack], None
        layouts = tuple(replace(layout, attention=attention) for layout in layouts)
    absent = {**absent_quantities(attention), **(family.absent if family is not None else {})}
    chosen = None if queries is None else _check_queries(queries, layouts[0])
    if chosen is not None:
        absent |= beyond_queries(chosen, layouts[0])
    names = default_keep(attention, absent) if keep is None else check_names(keep)
    for name in names:
        if name in absent:
            raise QuantityMissingError(name, absent[name])
    config: Mapping[str, Any] = getattr(transformer, "config", {})
    if calls is not None:
        roles = [_check_calls(calls)] * len(found)
    elif family is not None:
        roles = [family.calls_of(config, block.index) for block in found]
    else:
        roles = [CALLS[attention]] * len(found)
    plan = Plan(
        found, roles, choose_blocks(found, blocks), names, layouts,
        one_call_an_item=family is not None and family.one_call_an_item,
        heads=_check_heads(heads), queries=chosen, dtype=dtype,
    )  # fmt: skip
    return plan, absent


def sides_of(layout: TokenLayout, role: Role) -> tuple[Sides, Sides]:
    """Where the sides lie among the queries, and among the keys, of an attention call."""
    if role == "joint":
        there = layout.query_positions
        sides = {
            "text": _within(layout.text, there),
            "image": _within(layout.image, there),
            "all": slice(0, len(there)),
        }
        return sides, sides
    image = slice(0, layout.image_length)
    queries = {"image": image, "all": image}
    if role == "image":
        return queries, queries
    text = slice(0, layout.text_length)
    return queries, {"text": text, "all": text}


def _within(part: slice, there: range) -> slice:
    """Where a part of the sequence lies in a range of it; empty where it does not."""
    start, stop = (min(max(edge, there.start), there.stop) - there.start for edge in (part.start, part.stop))
    return slice(start, stop)


def narrowed(queries: Sides, positions: Sequence[int] | None, *, first: int = 0) -> Sides:
    """Where the sides lie among chosen queries.

    Args:
        queries: where they lie among all.
        positions: of the chosen ones, rising; None for all.
        first: what the positions count the first query as.

    >>> narrowed({"text": slice(0, 4), "image": slice(4, 9)}, [1, 3, 4])
    {'text': slice(0, 2, None), 'image': slice(2, 3, None)}
    """
    if positions is None:
        return queries
    places = [position - first for position in positions]
    return {
        name: slice(bisect_left(places, side.start), bisect_left(places, side.stop)) for name, side in queries.items()
    }


def batch_size(arguments: Sequence[Any], named: Mapping[str, Any]) -> int:
    """How many items a transformer is given: the length of its first argument, a tensor or a list of one an item."""
    first = arguments[0] if arguments else named.get("hidden_states", named.get("x"))
    if first is None:
        raise BatchError(items=0)
    return len(first)


def _check_layouts(layouts: tuple[TokenLayout, ...], family: Family | None, transformer: nn.Module) -> Attention:
    attentions = {layout.attention for layout in layouts}
    if len(attentions) != 1:
        raise LayoutError("The layouts of a batch need one kind of attention, and at least one layout is needed.")
    (attention,) = attentions
    if family is not None and attention != family.attention:
        raise LayoutError(
            f"In a {type(transformer).__name__} the attention is {family.attention}, and the layout says {attention}. "
            f"Give TokenLayout(..., attention={family.attention!r})."
        )
    return attention


def _check_heads(heads: Heads) -> Heads:
    if isinstance(heads, str):
        if heads not in ("each", "mean"):
            raise RefamError(f"heads is {heads!r}. Choose 'each', 'mean', or the numbers of some heads.")
        return heads
    numbers = sorted({int(head) for head in heads})
    if not numbers or numbers[0] < 0:
        raise RefamError(f"heads is {list(heads)}. Name at least one head, counted from 0.")
    return tuple(numbers)


def _check_queries(queries: Iterable[int], layout: TokenLayout) -> tuple[int, ...]:
    positions = sorted({int(position) for position in queries})
    there = layout.query_positions
    if not positions or positions[0] not in there or positions[-1] not in there:
        raise RefamError(
            f"queries must name at least one position among {there.start} to {there.stop - 1}, where there are "
            f"queries; it has {positions[:1]} to {positions[-1:]}."
        )
    return tuple(positions)


def beyond_queries(queries: Sequence[int], layout: TokenLayout) -> dict[str, str]:
    """What needs queries of a side of which none was chosen, and that as half a sentence.

    Args:
        queries: positions in the sequence.
        layout: where the sides lie.
    """
    sides = {"text": layout.text, "image": layout.image}
    empty = {name for name, side in sides.items() if not any(side.start <= query < side.stop for query in queries)}
    return {
        quantity.name: f"it needs {quantity.rows} queries, and none was chosen."
        for quantity in QUANTITIES.values()
        if quantity.rows in empty
    }


def _check_calls(calls: Sequence[Role]) -> tuple[Role, ...]:
    if unknown := [call for call in calls if call not in get_args(Role)]:
        raise RefamError(f"calls names {unknown}. Choose from {', '.join(get_args(Role))}.")
    return tuple(calls)
