"""How much a recording takes: bytes that are kept, bytes that its computation needs beside, and what memory there is.

Nothing here runs a model. `estimate` puts these numbers together, `record` refuses by them.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from math import prod
from pathlib import Path

from refam_analysis.errors import RefamError
from refam_analysis.models.layout import Role, TokenLayout, longest
from refam_analysis.recording.attention_calls import AttentionCall
from refam_analysis.recording.chunks import CHUNK_BYTES
from refam_analysis.recording.plans import Plan, narrowed, sides_of
from refam_analysis.recording.quantities import QUANTITIES, SHOWN_BY

BUDGET_SHARE = 0.5
"""Of the memory that is available, the share that a recording may take where no budget is given."""

_MEMORY_OF_MACHINE = Path("/proc/meminfo")
_LIMIT_OF_CONTAINER = Path("/sys/fs/cgroup/memory.max")


class MemoryBudgetError(RefamError, MemoryError):
    """What would be held in memory is more than it may be."""

    def __init__(self, needed: int, budget: int) -> None:
        super().__init__(
            f"The recording would hold {readable(needed)} ({needed} bytes) in memory, and may hold {readable(budget)} "
            f"({budget} bytes). Give store=path to write it to disk block by block, keep less, or raise budget."
        )


def readable(size: int) -> str:
    """A number of bytes for a reader, in powers of 1000.

    >>> readable(999), readable(1_234_000), readable(58_000_000_000)
    ('999 bytes', '1.2 MB', '58.0 GB')
    """
    for factor, unit in ((1e12, "TB"), (1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if size >= factor:
            return f"{size / factor:.1f} {unit}"
    return f"{size} bytes"


def kept_bytes(plan: Plan, heads: int, layouts: Sequence[TokenLayout]) -> dict[str, int]:
    """For each quantity the bytes that one pass keeps, of all its recorded blocks.

    Args:
        plan: of the recorder.
        heads: of the model.
        layouts: one an item of the batch, of which each branch is one.
    """
    kept = plan.kept_heads(heads)
    rows = len(plan.recorded) * (1 if kept is None else len(kept)) * plan.dtype.itemsize
    return {name: rows * sum(prod(plan.shape_of(name, layout)) for layout in layouts) for name in plan.keep}


def whole_bytes(plan: Plan, heads: int, *, batch: int) -> dict[str, int]:
    """As :func:`kept_bytes`, with every item as long as the longest: a recording has one size an axis."""
    return kept_bytes(plan, heads, [longest(plan.layouts)] * batch)


def held_bytes(plan: Plan, heads: int, *, batch: int, passes: int, branches: int) -> int:
    """Bytes that a recording without a store holds at most.

    The results of every pass, and, where several passes or branches are put together, once more what they become.

    Args:
        plan: of the recorder.
        heads: of the model.
        batch: number of items that the transformer is given.
        passes: how many there are.
        branches: how many share the batch.
    """
    held = sum(kept_bytes(plan, heads, plan.layouts_of(batch)).values()) * passes
    return held if passes == branches == 1 else held + sum(whole_bytes(plan, heads, batch=batch).values()) * passes


def working_bytes(plan: Plan, call: AttentionCall) -> int:
    """Bytes that the reduction of one block needs at most beside its results, on the device where it runs.

    With b items, h heads, q queries, k keys and c channels in a call, r quantities by query and m by key, and s bytes
    a number (4; 8 where the model computes in float64):

        operands = s b h (q + k) (c + 1)
        chunk    = s min(b h q k, max(CHUNK_BYTES / 4, k))
        sums     = s b h (q (r + 2) + k (2 m + 4))
        working  = 2 operands + 3 chunk + sums

    The operands are there twice while they are made, three times where heads or queries are chosen. A chunk is there
    for the scores, for the probabilities, and for what is on its way into the results. With a mean over heads, a chunk
    has at least one row of every head, h k instead of k, and their mean comes on top, chunk / h. On a GPU the results
    of the block are there too, before they go to the CPU. A mask that differs from query to query is not in it: the
    model holds one, and here it is there once more in numbers.

    Args:
        plan: of the recorder.
        call: one attention call that is recorded, as the model makes it; of separate attentions any of them.
    """
    roles = {role for calls in plan.calls for role in calls if role != "other"}
    return max(_working_bytes(plan, call, role) for role in roles)


def _working_bytes(plan: Plan, call: AttentionCall, role: Role) -> int:
    layout = longest(plan.layouts)
    sides, keys = sides_of(layout, role)
    q = _length(narrowed(sides, plan.queries, first=layout.query_positions.start)["all"])
    k = _length(keys["all"])
    kept = plan.kept_heads(call.heads)
    b, h, c = call.query.shape[0], call.heads if kept is None else len(kept), call.query.shape[-1]
    forms = [QUANTITIES[name].form for name in plan.keep if name in SHOWN_BY[role]]
    s = call.score_dtype.itemsize
    device = call.query.device.type
    operands = s * b * h * (q + k) * (c + 1)
    least = k * h if kept is None else k
    chunk = s * min(b * h * q * k, max(CHUNK_BYTES.get(device, CHUNK_BYTES["cuda"]) // 4, least))
    sums = s * b * h * (q * (forms.count("by_query") + 2) + k * (2 * forms.count("by_key") + 4))
    copies = 2 if isinstance(plan.heads, str) and plan.queries is None else 3
    mean = chunk // h if kept is None else 0
    results = 0 if device == "cpu" else sum(whole_bytes(plan, call.heads, batch=b).values()) // len(plan.recorded)
    return copies * operands + 3 * chunk + mean + sums + results


def available_memory() -> int:
    """Bytes that the machine can give without swapping, and no more than its container may have."""
    limit = _LIMIT_OF_CONTAINER.read_text().strip() if _LIMIT_OF_CONTAINER.is_file() else "max"
    return _of_machine() if limit == "max" else min(_of_machine(), int(limit))


def check_budget(needed: int, budget: int | None) -> None:
    """Refuse what would hold more than the budget in memory.

    Args:
        needed: bytes.
        budget: bytes; None for :data:`BUDGET_SHARE` of what is available now.

    Raises:
        MemoryBudgetError: it is more.
    """
    allowed = int(available_memory() * BUDGET_SHARE) if budget is None else budget
    if needed > allowed:
        raise MemoryBudgetError(needed, allowed)


def _of_machine() -> int:
    if _MEMORY_OF_MACHINE.is_file():
        fields = dict(line.split(":", 1) for line in _MEMORY_OF_MACHINE.read_text().splitlines() if ":" in line)
        return 1024 * int(fields["MemAvailable"].split()[0])
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")


def _length(part: slice) -> int:
    return int(part.stop - part.start)
