"""One forward pass while it is recorded: where results go, and whether every block was seen.

The recorder opens a pass when the transformer starts and closes it when the transformer returns. A pass that breaks
off is dropped; one that returns without having shown every block, in order, is an error that names the block.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from refam_analysis.errors import RefamError
from refam_analysis.recording.attention_calls import AttentionCall
from refam_analysis.recording.blocks import Block
from refam_analysis.recording.chunks import Workspace
from refam_analysis.recording.quantities import QUANTITIES, Sides
from refam_analysis.recording.reductions import reduce_attention, result_shape


class MissedAttentionError(RefamError, RuntimeError):
    """A block did not show the attention calls that it should have made."""

    def __init__(self, block: Block, found: int) -> None:
        if found:
            reason = (
                "This kind of block (a second attention beside the joint one, or one call a sample) cannot be "
                "recorded yet."
            )
        else:
            reason = (
                "Use PyTorch's own attention: transformer.set_attention_backend('native'), no attention processor "
                "that computes its softmax by hand, and no skipped layers."
            )
        super().__init__(f"{str(block).capitalize()} made {found} attention calls where 1 was expected. {reason}")


class BlockOrderError(RefamError, RuntimeError):
    """Blocks ran in another order than the module tree has them."""

    def __init__(self, block: Block, expected: Block | None) -> None:
        place = f"where {expected} was expected" if expected else "after the last one"
        super().__init__(f"{str(block).capitalize()} ran {place}, so blocks cannot be numbered.")


class LayoutMismatchError(RefamError, ValueError):
    """The attention runs over another number of tokens than the layout says."""

    def __init__(self, block: Block, call: AttentionCall, length: int) -> None:
        super().__init__(
            f"The layout covers {length} tokens, but {block} attends from {call.query.shape[-2]} queries to "
            f"{call.key.shape[-2]} keys. Give the Recorder a TokenLayout for the whole sequence, padding included."
        )


class BatchChangedError(RefamError, ValueError):
    """Two blocks or two passes of one recording have different batch sizes or heads."""

    def __init__(self, block: Block, found: tuple[int, int], expected: tuple[int, int]) -> None:
        super().__init__(
            f"{str(block).capitalize()} has batch size {found[0]} and {found[1]} heads, where {expected[0]} and "
            f"{expected[1]} were recorded before. Use one Recorder for each batch."
        )


class Pass:
    """The results of one forward pass, filled block by block.

    Args:
        blocks: all blocks of the network, in order.
        recorded: those whose attention is kept.
        keep: names of the quantities.
        queries, keys: where the sides lie.
        mean_over_heads: keep the mean over heads only.
        dtype: of what is kept.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        recorded: Sequence[Block],
        *,
        keep: Sequence[str],
        queries: Sides,
        keys: Sides,
        mean_over_heads: bool,
        dtype: torch.dtype,
    ) -> None:
        self._blocks = blocks
        self._places = {block.index: place for place, block in enumerate(recorded)}
        self._keep, self._queries, self._keys = keep, queries, keys
        self._mean_over_heads, self._dtype = mean_over_heads, dtype
        self._workspace = Workspace()
        self._calls = 0
        self._next = 0
        self._running: Block | None = None
        self._batch: tuple[int, int] | None = None
        self.results: dict[str, torch.Tensor] = {}

    @property
    def running(self) -> Block | None:
        """The block that is running, None between blocks."""
        return self._running

    @property
    def batch(self) -> tuple[int, int]:
        """Number of items and of heads; known after the first call."""
        assert self._batch is not None
        return self._batch

    def wants(self, block: Block) -> bool:
        """Whether this block's attention is kept."""
        return block.index in self._places

    def enter_block(self, block: Block) -> None:
        """A block starts."""
        expected = self._blocks[self._next] if self._next < len(self._blocks) else None
        if block is not expected:
            raise BlockOrderError(block, expected)
        self._running, self._calls = block, 0

    def leave_block(self, block: Block) -> None:
        """The block has returned."""
        if self._calls != 1:
            raise MissedAttentionError(block, self._calls)
        self._running = None
        self._next += 1

    def close(self) -> None:
        """The transformer has returned."""
        self._workspace = Workspace()
        if self._next < len(self._blocks):
            raise MissedAttentionError(self._blocks[self._next], 0)

    def count(self, block: Block, call: AttentionCall) -> None:
        """Note a call of the running block, and check that it is the one that the layout describes.

        A second call in a block is not kept; leaving the block then says so.
        """
        self._calls += 1
        lengths = call.query.shape[-2], call.key.shape[-2]
        if self._calls == 1 and lengths != (self._queries["all"].stop, self._keys["all"].stop):
            raise LayoutMismatchError(block, call, self._queries["all"].stop)
        found = call.query.shape[0], call.heads
        if self._batch is None:
            self._batch = found
        elif found != self._batch:
            raise BatchChangedError(block, found, self._batch)

    def keep_attention(self, block: Block, call: AttentionCall, lse: torch.Tensor) -> None:
        """Reduce the block's attention and keep the results, on the CPU, in the asked dtype."""
        if self._calls > 1:
            return
        if not self.results:
            self.results = self._allocate()
        place = self._places[block.index]
        targets = {name: values[:, 0, place] for name, values in self.results.items()}
        on_cpu = call.query.device.type == "cpu"
        results = targets if on_cpu else {k: torch.empty_like(v, device=lse.device) for k, v in targets.items()}
        with torch.no_grad():
            reduce_attention(
                call,
                lse,
                self._queries,
                self._keys,
                results,
                mean_over_heads=self._mean_over_heads,
                workspace=self._workspace,
            )
            if not on_cpu:
                _copy_all(results, targets)

    def _allocate(self) -> dict[str, torch.Tensor]:
        """For each quantity (item, branch, block, head, ...), not yet filled."""
        items, heads = self.batch
        shape = (items, 1, len(self._places), 1 if self._mean_over_heads else heads)
        return {
            name: torch.empty(*shape, *result_shape(QUANTITIES[name], self._queries, self._keys), dtype=self._dtype)
            for name in self._keep
        }


def _copy_all(results: Mapping[str, torch.Tensor], targets: Mapping[str, torch.Tensor]) -> None:
    for name, target in targets.items():
        target.copy_(results[name])
