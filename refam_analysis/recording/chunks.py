"""Scores a few rows at a time: how a call is cut into chunks that stay in the cache, and their scores.

The memory that a reduction needs beside its result is three chunks, each of at most :data:`CHUNK_BYTES` of its device,
or of one row where that is larger, and its operands; `sizes.working_bytes` has the formula. Nothing here is as large as
the whole attention, unless that fits into one chunk.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import ceil, prod

import torch

from refam_analysis.recording.attention_calls import AttentionCall, Moved

CHUNK_BYTES: Mapping[str, int] = {"cpu": 4 * 2**20, "cuda": 256 * 2**20}
"""Size of a chunk of float32 scores by device: about a cache on a CPU, enough to fill a GPU."""


@dataclass(frozen=True)
class Chunk:
    """A box of the attention: some items of the batch, some heads, some rows (queries), a range of columns (keys).

    Whole items, or heads of a single item, so that the box is one range of (item, head) pairs.
    """

    items: slice
    heads: slice
    rows: slice
    columns: slice

    @property
    def index(self) -> tuple[slice, slice, slice]:
        """Where the chunk's rows lie in an array of (batch, head, query, ...)."""
        return self.items, self.heads, self.rows

    def rows_of(self, array: torch.Tensor) -> torch.Tensor:
        """The chunk's rows of an array of (1 or batch, 1 or head, 1 or query)."""
        return array[tuple(map(_broadcast_range, array.shape, self.index))]

    @property
    def shape(self) -> tuple[int, int, int, int]:
        """(items, heads, rows, columns)."""
        items, heads, rows, columns = (
            part.stop - part.start for part in (self.items, self.heads, self.rows, self.columns)
        )
        return items, heads, rows, columns


def plan_chunks(
    items: int, heads: int, rows: slice, columns: slice, *, device: torch.device, whole_heads: bool = False
) -> Iterator[Chunk]:
    """Cut (items, heads, rows, columns) into chunks of bounded size, each of whole columns.

    Args:
        items: batch size.
        heads: number of heads.
        rows: range of queries.
        columns: range of keys.
        device: decides the size of a chunk.
        whole_heads: every chunk has all heads, as an average over heads needs.
    """
    budget = CHUNK_BYTES.get(device.type, CHUNK_BYTES["cuda"]) // 4
    height, width = rows.stop - rows.start, columns.stop - columns.start
    item_step = max(1, budget // max(1, heads * height * width))
    fits = heads * height * width <= budget
    head_step = heads if fits or whole_heads else max(1, budget // max(1, height * width))
    rows_at_most = max(1, min(height, budget // max(1, head_step * width)))
    row_step = max(1, ceil(height / max(1, ceil(height / rows_at_most))))  # even parts: a short last one costs most
    for item in range(0, items, item_step):
        for head in range(0, heads, head_step):
            for row in range(rows.start, rows.stop, row_step):
                yield Chunk(
                    slice(item, min(items, item + item_step)),
                    slice(head, min(heads, head + head_step)),
                    slice(row, min(rows.stop, row + row_step)),
                    columns,
                )


class Workspace:
    """Memory for chunks that is used again: fresh memory costs more than what is computed in it."""

    def __init__(self) -> None:
        self._rooms: dict[str, torch.Tensor] = {}

    def take(self, purpose: str, shape: Sequence[int], like: torch.Tensor) -> torch.Tensor:
        """An uninitialised tensor of this shape, valid until the next one for the same purpose is taken."""
        room, size = self._rooms.get(purpose), prod(shape)
        if room is None or room.numel() < size or room.dtype != like.dtype or room.device != like.device:
            room = self._rooms[purpose] = torch.empty(size, dtype=like.dtype, device=like.device)
        return room[:size].view(*shape)


class Scores:
    """The scores of a call, or with ``lse`` the logarithms of its probabilities, chunk by chunk.

    The log-sum-exp is subtracted inside the matrix product: it is one more channel of the query, against a channel
    of ones of the key. So log p_ij needs one pass over memory.

    Args:
        call: the operands.
        lse: (batch, head, query), or None for the scores themselves.
        workspace: where the chunks are put.
    """

    #: What stands for log 0, so that 0 * log 0 is 0; exp of it is 0 in every precision.
    LOG_ZERO = -1.0e4

    def __init__(self, call: AttentionCall, lse: torch.Tensor | None, workspace: Workspace) -> None:
        dtype = call.score_dtype
        query = call.query.detach().to(dtype) * call.scale
        key = call.key.detach().to(dtype)
        if lse is not None:
            query = torch.cat([query, -lse.to(dtype).unsqueeze(-1)], -1)
            key = torch.cat([key, key.new_ones(*key.shape[:-1], 1)], -1)
        if call.grouped:
            key = key.repeat_interleave(call.heads // key.shape[1], dim=1)
        self._heads = call.heads
        self._query = query.flatten(0, 1)
        self._key = key.flatten(0, 1)
        self._bias = call.bias
        self._is_log_probability = lse is not None
        self._workspace = workspace
        self._moved = call.moved if lse is not None else None
        self._mass = None
        if self._moved is not None and lse is not None:
            self._mass = self._moved.probabilities(call, lse).sum(-1).flatten(0, 1)

    def compute(self, chunk: Chunk) -> torch.Tensor:
        """(items, heads, rows, columns) of the chunk. The next call writes into the same memory."""
        pairs = self._pairs(chunk)
        scores = self._workspace.take("scores", chunk.shape, self._query)
        torch.bmm(self._query[pairs, chunk.rows], self._key[pairs, chunk.columns].mT, out=scores.flatten(0, 1))
        if self._bias is not None:
            scores += self._bias[tuple(map(_broadcast_range, self._bias.shape, _ranges(chunk)))]
            if self._is_log_probability:
                scores.clamp_(min=self.LOG_ZERO)
        if self._moved is not None:
            self._move(self._moved, scores, chunk)
        return scores

    def _move(self, moved: Moved, scores: torch.Tensor, chunk: Chunk) -> None:
        """Take an intervention's mass from its keys and give it to its receivers, as far as they are in the chunk."""
        assert self._mass is not None
        start, stop = max(chunk.rows.start, moved.rows.start), min(chunk.rows.stop, moved.rows.stop)
        if start >= stop:
            return
        columns = chunk.columns
        part = scores.flatten(0, 1)[:, start - chunk.rows.start : stop - chunk.rows.start]
        mass = self._mass[self._pairs(chunk), start - moved.rows.start : stop - moved.rows.start]
        share = (mass / len(moved.onto)).log_()
        for column in (key - columns.start for key in moved.onto if columns.start <= key < columns.stop):
            part[..., column] = torch.logaddexp(part[..., column], share)
        part[..., [key - columns.start for key in moved.keys if columns.start <= key < columns.stop]] = self.LOG_ZERO

    def _pairs(self, chunk: Chunk) -> slice:
        last = (chunk.items.stop - 1) * self._heads + chunk.heads.stop
        return slice(chunk.items.start * self._heads + chunk.heads.start, last)


def _ranges(chunk: Chunk) -> tuple[slice, slice, slice, slice]:
    return chunk.items, chunk.heads, chunk.rows, chunk.columns


def _broadcast_range(size: int, wanted: slice) -> slice:
    return slice(0, 1) if size == 1 else wanted
