"""Exact parts and summaries of an attention, read off its scores and the log-sum-exp of its rows.

With D_ij = s_ij - lse_i the attention is exp(D_ij), and

    entropy_i     = log M_i - sum_j exp(D_ij) D_ij / M_i,  M_i = sum_j exp(D_ij)      (nats; M = 1 over whole rows)
    received_j    = 1 / N_q * sum_i N_i exp(D_ij)                          over the N_q queries of a side
    uniformity_j  = exp(H_j) / N_q,  H_j = log R_j - sum_i exp(D_ij) D_ij / R_j,  R_j = sum_i exp(D_ij)

where N_i is how many keys the model lets query i attend to: all, but for those that it masks. An intervention does not
change it.

Every row and column that anything needs is visited once, a chunk at a time, and only the kept maps are stored. Where
a whole row is visited, what its sum lacks of 1 by rounding is divided out. On a CPU this one pass gives entropy, and
received mass with it, in less time than a second fused call with the keys as values.

Sums are taken in float32, whatever the model computes in; the operands are the model's own. The largest errors against
the float64 softmax of the very same operands, 1536 tokens, two heads of 64 channels (held to bounds in the tests):

| operands | scores up to | probability | entropy in nats | received, relative | uniformity, relative |
|---|---|---|---|---|---|
| float32 | 5 | 5e-8 | 2e-6 | 1e-6 | 8e-6 |
| float32 | 16 | 1.3e-6 | 5e-6 | 2.4e-6 | 6e-6 |
| float32 | 33 | 4e-6 | 7e-6 | 8e-6 | 8e-6 |
| float16 | 33 | 3e-6 | 6e-6 | 1e-5 | 1.1e-5 |
| bfloat16 | 33 | 1.2e-6 | 3e-6 | 4e-6 | 9e-6 |

A softmax in half precision itself is off by 3e-3 (float16) and 3e-2 (bfloat16) in a probability, and by 7e-3 and 6e-2
nats. Where maps alone are kept, the error is that of the log-sum-exp, and from :data:`LARGE_SCORE` on whole rows are
visited all the same. Rows that may attend to nothing are zeros, with entropy 0; a key that no query of a side attends
to (in float32: less than 1e-38) has the uniformity nan.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch

from refam_analysis.recording.attention_calls import AttentionCall
from refam_analysis.recording.chunks import Chunk, Scores, Workspace, plan_chunks
from refam_analysis.recording.precision import exact_products
from refam_analysis.recording.quantities import QUANTITIES, Quantity, Sides

LARGE_SCORE = 20.0
"""Where a row's log-sum-exp exceeds this, its rounding shows in the fifth decimal of a probability. Then whole rows are
visited for maps too, and what the row's sum lacks of 1 is divided out."""

_WEIGHTED = ("entropy", "uniformity")
"""Quantities that need p log p."""


@dataclass(frozen=True)
class _Visit:
    """Rows and columns to go through, and what is to be taken from them."""

    rows: slice
    columns: slice
    quantities: tuple[Quantity, ...]
    whole_rows: bool


def result_shape(quantity: Quantity, queries: Sides, keys: Sides) -> tuple[int, ...]:
    """Shape of a quantity for one item and head: (query, key), (query,) or (key,)."""
    height, width = _length(queries[quantity.rows]), _length(keys[quantity.columns])
    return {"map": (height, width), "by_query": (height,), "by_key": (width,)}[quantity.form]


@exact_products()
def reduce_attention(
    call: AttentionCall,
    lse: torch.Tensor,
    queries: Sides,
    keys: Sides,
    results: Mapping[str, torch.Tensor],
    *,
    mean_over_heads: bool = False,
    workspace: Workspace | None = None,
) -> None:
    """Fill ``results`` with the quantities that it names.

    Args:
        call: the attention.
        lse: (batch, head, query), from a kernel.
        queries: where the sides lie among the queries.
        keys: where the sides lie among the keys.
        results: for each name a tensor (batch, head, ...) of :func:`result_shape`, of any floating dtype, written in
            place; with ``mean_over_heads`` its head axis has length 1.
        mean_over_heads: store the mean over heads of each quantity (of each head's entropy, not the entropy of the
            mean).
        workspace: memory to use again from call to call.
    """
    workspace = workspace or Workspace()
    scores = Scores(call, lse, workspace)
    items, heads = lse.shape[:2]
    taken = _Taken(call, lse, queries, keys, results)
    inexact = lse.numel() > 0 and bool(lse.abs().amax() > LARGE_SCORE)
    for visit in _plan_visits(results, queries, keys, always_whole=inexact):
        plan = plan_chunks(items, heads, visit.rows, visit.columns, device=lse.device, whole_heads=mean_over_heads)
        weighted = any(quantity.name.startswith(_WEIGHTED) for quantity in visit.quantities)
        for chunk in plan:
            logarithm = scores.compute(chunk)
            if (place := taken.place_of(visit, chunk, logarithm)) is not None:
                torch.exp(logarithm, out=place)
                continue
            room = workspace.take("probabilities", chunk.shape, logarithm) if weighted else logarithm
            probability = torch.exp(logarithm, out=room)
            product = logarithm.mul_(probability) if weighted else None
            taken.take(visit.quantities, _Part(chunk, probability, product, _correction(probability, visit)))
    taken.finish()


@dataclass(frozen=True)
class _Part:
    """A chunk of the attention as it was computed, and by what its rows are still to be multiplied.

    Attributes:
        chunk: which part.
        probability: p, (items, heads, rows, columns).
        product: p log p, where some quantity needs it.
        correction: (items, heads, rows), 1 / sum_j p_ij; None where the rows are not whole.
    """

    chunk: Chunk
    probability: torch.Tensor
    product: torch.Tensor | None
    correction: torch.Tensor | None


def _correction(probability: torch.Tensor, visit: _Visit) -> torch.Tensor | None:
    if not visit.whole_rows:
        return None
    total = probability.sum(-1)
    return total.reciprocal_().masked_fill_(total == float("inf"), 0.0)


class _Taken:
    """What has been taken from the chunks so far: maps go to their place at once, sums wait for the last chunk."""

    def __init__(
        self,
        call: AttentionCall,
        lse: torch.Tensor,
        queries: Sides,
        keys: Sides,
        results: Mapping[str, torch.Tensor],
    ) -> None:
        self._call = call
        self._queries, self._keys, self._results = queries, keys, results
        by_query = [name for name in results if QUANTITIES[name].form == "by_query"]
        self._rows = {name: torch.empty_like(lse) for name in by_query}
        by_key = [name for name in results if QUANTITIES[name].form == "by_key"]
        self._sums = {name: lse.new_zeros(*lse.shape[:2], 2, _length(keys["all"])) for name in by_key}

    def take(self, quantities: Sequence[Quantity], part: _Part) -> None:
        """Take from a part of the attention what these quantities need."""
        for quantity in quantities:
            {"map": self._take_map, "by_query": self._take_row, "by_key": self._take_column}[quantity.form](
                quantity, part
            )

    def place_of(self, visit: _Visit, chunk: Chunk, like: torch.Tensor) -> torch.Tensor | None:
        """Where the probabilities of a chunk are kept as they are, so that they need no way round; None elsewhere."""
        (quantity, *others) = visit.quantities
        if others or visit.whole_rows:
            return None
        result = self._place_of_map(quantity, chunk)
        kept_so = result.shape == chunk.shape and (result.dtype, result.device) == (like.dtype, like.device)
        return result if kept_so else None

    def _place_of_map(self, quantity: Quantity, chunk: Chunk) -> torch.Tensor:
        first = self._queries[quantity.rows].start
        rows = slice(chunk.rows.start - first, chunk.rows.stop - first)
        return self._results[quantity.name][chunk.items, chunk.heads, rows]

    def _take_map(self, quantity: Quantity, part: _Part) -> None:
        values = part.probability[..., self._columns(quantity, part)]
        result = self._place_of_map(quantity, part.chunk)
        if result.shape[1] < values.shape[1]:
            corrected = values if part.correction is None else values * part.correction.unsqueeze(-1)
            result.copy_(corrected.mean(1, keepdim=True))
        elif part.correction is None:
            result.copy_(values)
        else:
            torch.mul(values, part.correction.unsqueeze(-1), out=result)

    def _take_row(self, quantity: Quantity, part: _Part) -> None:
        columns = self._columns(quantity, part)
        mass = part.probability[..., columns].sum(-1)
        if not quantity.name.startswith(_WEIGHTED):
            self._rows[quantity.name][part.chunk.index] = mass if part.correction is None else mass * part.correction
            return
        assert part.product is not None
        entropy = mass.log() - part.product[..., columns].sum(-1) / mass
        self._rows[quantity.name][part.chunk.index] = entropy.masked_fill_(mass == 0, 0.0)

    def _columns(self, quantity: Quantity, part: _Part) -> slice:
        """The quantity's columns among those of the chunk."""
        wanted, first = self._keys[quantity.columns], part.chunk.columns.start
        return slice(wanted.start - first, wanted.stop - first)

    def _take_column(self, quantity: Quantity, part: _Part) -> None:
        """Add the columns' sums of p, times N_i, or of p and of p log p; each row multiplied by its correction."""
        assert part.correction is not None
        sums = self._sums[quantity.name][part.chunk.items, part.chunk.heads]
        correction = part.correction.unsqueeze(-2)
        if quantity.name.startswith("received"):
            sums[:, :, :1] += (correction * self._open_keys(part.chunk)) @ part.probability
            return
        assert part.product is not None
        sums[:, :, :1] += correction @ part.probability
        sums[:, :, 1:] += correction @ part.product
        lost = correction.log().nan_to_num_(neginf=0.0)
        sums[:, :, 1:] += (correction * lost) @ part.probability

    def _open_keys(self, chunk: Chunk) -> torch.Tensor | int:
        """N_i of a chunk's rows, (items, heads, 1, rows) or what broadcasts to it."""
        number = self._call.open_keys
        return number if isinstance(number, int) else chunk.rows_of(number).unsqueeze(-2)

    def finish(self) -> None:
        """Put the summaries in their place."""
        for name, rows in self._rows.items():
            _store(self._results[name], rows.clamp_(min=0.0))
        for name, sums in self._sums.items():
            _store(self._results[name], _finish(name, sums, _length(self._queries[QUANTITIES[name].rows])))


def _plan_visits(names: Mapping[str, object], queries: Sides, keys: Sides, *, always_whole: bool) -> Iterator[_Visit]:
    """Cut the rows where a side begins or ends; whole rows where anything needs them, else the maps' boxes alone."""
    quantities = [QUANTITIES[name] for name in names]
    edges = sorted({edge for side in queries.values() for edge in (side.start, side.stop)})
    for start, stop in zip(edges, edges[1:], strict=False):
        here = tuple(q for q in quantities if queries[q.rows].start <= start and stop <= queries[q.rows].stop)
        if here and (always_whole or any(quantity.columns == "all" for quantity in here)):
            yield _Visit(slice(start, stop), keys["all"], here, True)
            continue
        for quantity in here:
            yield _Visit(slice(start, stop), keys[quantity.columns], (quantity,), False)


def _store(result: torch.Tensor, values: torch.Tensor) -> None:
    result.copy_(values if result.shape[1] == values.shape[1] else values.mean(1, keepdim=True))


def _finish(name: str, total: torch.Tensor, rows: int) -> torch.Tensor:
    """From the columns' sums, (..., 2, key), to what the name says."""
    mass, weighted = total.unbind(-2)
    if name.startswith("received"):
        return mass / rows
    return torch.exp(mass.log() - weighted / mass) / rows


def _length(part: slice) -> int:
    return int(part.stop - part.start)
