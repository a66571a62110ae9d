"""One forward pass while it is recorded: where results go, and whether every block was seen.

The recorder opens a pass when the transformer starts and closes it when the transformer returns. A pass that breaks
off is dropped; one that returns without having shown every block, in order, with the attention calls that its family
says, is an error that names the block.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch

from refam_analysis.errors import RefamError
from refam_analysis.models.blocks import Block
from refam_analysis.models.layout import Role, TokenLayout, longest
from refam_analysis.recording.attention_calls import AttentionCall
from refam_analysis.recording.chunks import Workspace
from refam_analysis.recording.plans import Plan, Results, Sink, narrowed, sides_of
from refam_analysis.recording.quantities import QUANTITIES, SHOWN_BY
from refam_analysis.recording.reductions import reduce_attention


class MissedAttentionError(RefamError, RuntimeError):
    """A block did not show the attention calls that it should have made."""

    def __init__(self, block: Block, found: int, expected: int) -> None:
        if found:
            reason = (
                "If the model is of a family that is not known here, tell the Recorder its calls, such as "
                "calls=('joint', 'other')."
            )
        else:
            reason = (
                "Use PyTorch's own attention: transformer.set_attention_backend('native'), no attention processor "
                "that computes its softmax by hand, no cache of earlier steps (transformer.disable_cache()), and no "
                "skipped layers."
            )
        verb = "was" if expected == 1 else "were"
        super().__init__(
            f"{str(block).capitalize()} made {found} attention calls where {expected} {verb} expected. {reason}"
        )


class BlockOrderError(RefamError, RuntimeError):
    """Blocks ran in another order than the module tree has them."""

    def __init__(self, block: Block, expected: Block | None) -> None:
        place = f"where {expected} was expected" if expected else "after the last one"
        super().__init__(f"{str(block).capitalize()} ran {place}, so blocks cannot be numbered.")


class LayoutMismatchError(RefamError, ValueError):
    """The attention runs over another number of tokens than the layout says."""

    def __init__(self, block: Block, role: Role, found: tuple[int, int], expected: tuple[int, int]) -> None:
        super().__init__(
            f"By the layout the {role} attention of {block} has {expected[0]} queries and {expected[1]} keys, but it "
            f"attends from {found[0]} queries to {found[1]} keys. Give the Recorder a TokenLayout for the whole "
            "sequence, padding included."
        )


class BatchChangedError(RefamError, ValueError):
    """Two blocks or two passes of one recording have different batch sizes or heads."""

    def __init__(self, block: Block, found: tuple[int, int], expected: tuple[int, int]) -> None:
        super().__init__(
            f"{str(block).capitalize()} has batch size {found[0]} and {found[1]} heads, where {expected[0]} and "
            f"{expected[1]} were recorded before. Use one Recorder for each batch."
        )


@dataclass
class _Group:
    """Items of one layout, which are reduced together."""

    items: range
    layout: TokenLayout
    results: dict[str, torch.Tensor]


class Pass:
    """The results of one forward pass, filled block by block.

    Args:
        plan: of the recorder.
        batch: number of items that the transformer was given; None to learn it from the first attention call.
        sink: where finished blocks go; None to hold them all.
    """

    def __init__(self, plan: Plan, batch: int | None, sink: Sink | None = None) -> None:
        self._plan, self._batch, self._sink = plan, batch or 0, sink
        self._places = {block.index: place for place, block in enumerate(plan.recorded)}
        self._workspace = Workspace()
        self._calls = 0
        self._next = 0
        self._running: Block | None = None
        self._heads = 0
        self._groups: list[_Group] = []

    @property
    def running(self) -> Block | None:
        """The block that is running, None between blocks."""
        return self._running

    @property
    def batch(self) -> tuple[int, int]:
        """Number of items and of heads; heads are known after the first call."""
        return self._batch, self._heads

    def results_of(self, item: int) -> tuple[TokenLayout, dict[str, torch.Tensor]]:
        """The layout of an item, and its results (branch, block, head, ...)."""
        group = next(group for group in self._groups if item in group.items)
        return group.layout, {name: values[item - group.items.start] for name, values in group.results.items()}

    def keeps(self, block: Block, role: Role) -> bool:
        """Whether an attention call of this block belongs to the recording."""
        return block.index in self._places and role != "other"

    def wants(self, block: Block, role: Role) -> bool:
        """Whether an attention call of this block is kept, and not there already."""
        if not self.keeps(block, role):
            return False
        return self._sink is None or not self._sink.has(self._places[block.index])

    def enter_block(self, block: Block) -> None:
        """A block starts."""
        blocks = self._plan.blocks
        expected = blocks[self._next] if self._next < len(blocks) else None
        if block is not expected:
            raise BlockOrderError(block, expected)
        self._running, self._calls = block, 0

    def leave_block(self, block: Block) -> None:
        """The block has returned."""
        if self._calls != (expected := self._expected(block)):
            raise MissedAttentionError(block, self._calls, expected)
        place = self._places.get(block.index)
        if self._sink is not None and place is not None and not self._sink.has(place):
            self._sink.write(place, [self.results_of(item)[1] for item in range(self._batch)])
        self._running = None
        self._next += 1

    def close(self) -> None:
        """The transformer has returned."""
        self._workspace = Workspace()
        if self._sink is not None:
            self._groups = []
        if self._next < len(self._plan.blocks):
            block = self._plan.blocks[self._next]
            raise MissedAttentionError(block, 0, self._expected(block))

    def count(self, block: Block, call: AttentionCall) -> tuple[Role, TokenLayout]:
        """Note a call of the running block, and check that it is the one that the layout describes.

        Returns:
            Its role, and the layout of its items, the longest where they differ. A call too many is none of ours
            ("other"); leaving the block then says so.
        """
        self._calls += 1
        self._batch = self._batch or call.query.shape[0]
        layout = longest(self._layouts())
        role = self._role(block) if self._calls <= self._expected(block) else "other"
        if role == "other":
            return role, layout
        items = 1 if self._plan.one_call_an_item else self._batch
        self._heads = self._heads or call.heads
        if (call.query.shape[0], call.heads) != (items, self._heads):
            raise BatchChangedError(block, (call.query.shape[0], call.heads), (items, self._heads))
        expected = tuple(sides["all"].stop for sides in sides_of(layout, role))
        if call.length != expected:
            raise LayoutMismatchError(block, role, call.length, expected)
        return role, layout

    def keep_attention(self, block: Block, call: AttentionCall, lse: torch.Tensor) -> None:
        """Reduce an attention call of the running block and keep the results, on the CPU, in the asked dtype."""
        if not self._groups:
            self._groups = self._allocate()
        role, place = self._role(block), 0 if self._sink is not None else self._places[block.index]
        items = self._items()
        with torch.no_grad():
            for group in self._groups:
                here = range(max(items.start, group.items.start), min(items.stop, group.items.stop))
                if here:
                    rows = slice(here.start - group.items.start, here.stop - group.items.start)
                    targets = {name: values[rows, 0, place] for name, values in group.results.items()}
                    within = slice(here.start - items.start, here.stop - items.start)
                    self._reduce(role, group.layout, *self._some(call, lse, within, group.layout), targets)

    def _some(
        self, call: AttentionCall, lse: torch.Tensor, items: slice, layout: TokenLayout
    ) -> tuple[AttentionCall, torch.Tensor]:
        """The items, heads and queries of a call that are kept, without what lies behind the end of their layout."""
        assert self._running is not None
        role = self._role(self._running)
        queries, keys = (sides["all"].stop for sides in sides_of(layout, role))
        if items != slice(0, len(lse)) or (queries, keys) != call.length:
            call, lse = call.narrow(items, queries, keys), lse[items, :, :queries]
        if not isinstance(self._plan.heads, str):
            call, lse = call.take_heads(self._plan.heads), lse[:, list(self._plan.heads)]
        if self._plan.queries is not None:
            first = layout.query_positions.start
            places = [position - first for position in self._plan.queries if 0 <= position - first < queries]
            call, lse = call.take_queries(places), lse[:, :, places]
        return call, lse

    def _reduce(
        self, role: Role, layout: TokenLayout, call: AttentionCall, lse: torch.Tensor, results: Results
    ) -> None:
        targets = {name: _of_role(name, values, layout, role) for name, values in results.items()}
        targets = {name: values for name, values in targets.items() if name in SHOWN_BY[role]}
        on_cpu = call.query.device.type == "cpu"
        filled = targets if on_cpu else {k: torch.empty_like(v, device=lse.device) for k, v in targets.items()}
        queries, keys = sides_of(layout, role)
        reduce_attention(
            call,
            lse,
            narrowed(queries, self._plan.queries, first=layout.query_positions.start),
            keys,
            filled,
            mean_over_heads=self._plan.heads == "mean",
            workspace=self._workspace,
        )
        if not on_cpu:
            for name, target in targets.items():
                target.copy_(filled[name])

    def _expected(self, block: Block) -> int:
        return len(self._plan.calls[block.index]) * (self._batch if self._plan.one_call_an_item else 1)

    def _role(self, block: Block) -> Role:
        """Of the call that was counted last; of the first one before that."""
        roles = self._plan.calls[block.index]
        return roles[max(0, self._calls - 1) % len(roles)]

    def _items(self) -> range:
        """The items of the call that was counted last."""
        if not self._plan.one_call_an_item:
            return range(self._batch)
        assert self._running is not None
        item = (self._calls - 1) // len(self._plan.calls[self._running.index])
        return range(item, item + 1)

    def _layouts(self) -> tuple[TokenLayout, ...]:
        items = self._items()
        layouts = self._plan.layouts_of(self._batch)[items.start : items.stop]
        return layouts or self._plan.layouts

    def _allocate(self) -> list[_Group]:
        """Room for every item, not yet filled: one group for all where they are laid out alike, else one an item."""
        layouts = self._plan.layouts_of(self._batch)
        together = all(layout == layouts[0] for layout in layouts)
        ranges = [range(self._batch)] if together else [range(i, i + 1) for i in range(self._batch)]
        kept = self._plan.kept_heads(self._heads)
        heads = 1 if kept is None else len(kept)
        blocks = 1 if self._sink is not None else len(self._places)
        groups = []
        for items in ranges:
            layout = layouts[items.start]
            shapes = {
                name: (len(items), 1, blocks, heads, *self._plan.shape_of(name, layout)) for name in self._plan.keep
            }
            room = {name: torch.empty(shape, dtype=self._plan.dtype) for name, shape in shapes.items()}
            groups.append(_Group(items, layout, room))
        return groups


def _of_role(name: str, values: torch.Tensor, layout: TokenLayout, role: Role) -> torch.Tensor:
    """The part of a quantity that a call of this role fills: by key, that of its own keys."""
    if role == "joint" or QUANTITIES[name].form != "by_key":
        return values
    keys, first = layout.text if role == "text" else layout.image, layout.key_positions.start
    return values[..., keys.start - first : keys.stop - first]
