"""How things are measured here: time in interleaved rounds, memory in a process of its own for each thing."""

from __future__ import annotations

import gc
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import ArrayLike
from scipy import stats
from tqdm.auto import tqdm

Work = Callable[[], object]


def interleaved(works: Mapping[str, Work], *, rounds: int, seed: int = 0, warm_up: int = 1) -> pd.DataFrame:
    """Time several things in turn, in another order every round, so that a slow minute of the machine hits them all.

    Args:
        works: by name.
        rounds: how often each.
        seed: of the orders.
        warm_up: rounds that do not count.

    Returns:
        A row a measurement: ``name``, ``round``, ``seconds``.
    """
    rng, rows = np.random.default_rng(seed), []
    names = list(works)
    for number in tqdm(range(-warm_up, rounds), desc="rounds", mininterval=5):
        for place in rng.permutation(len(names)):
            gc.collect()
            _wait()
            start = time.perf_counter()
            kept = works[names[place]]()
            _wait()
            if number >= 0:
                rows.append({"name": names[place], "round": number, "seconds": time.perf_counter() - start})
            del kept
    return pd.DataFrame(rows)


def ratios(times: pd.DataFrame, *, against: str, confidence: float = 0.95) -> pd.DataFrame:
    """Medians of the times, and of their ratios to one of them, taken round by round.

    Args:
        times: from :func:`interleaved`.
        against: name of what the others are compared with.
        confidence: of the intervals, see :func:`median_interval`.

    Returns:
        A row a name, in the order of the table: ``seconds``, ``ratio``, ``low``, ``high``, ``rounds``.
    """
    wide = times.pivot(index="round", columns="name", values="seconds")
    rows = []
    for name in times["name"].drop_duplicates():
        ratio, low, high = median_interval(wide[name] / wide[against], confidence=confidence)
        rows.append(
            {"name": name, "seconds": float(wide[name].median()), "ratio": ratio, "low": low, "high": high,
             "rounds": len(wide)}
        )  # fmt: skip
    return pd.DataFrame(rows)


def median_interval(values: ArrayLike, *, confidence: float = 0.95) -> tuple[float, float, float]:
    """The median of one number a round, and the ends of its interval by the percentile bootstrap over rounds.

    >>> median_interval([2.0, 2.0, 2.0])
    (2.0, 2.0, 2.0)
    """
    drawn = np.asarray(values, dtype=np.float64)
    low = high = drawn[0]
    if np.ptp(drawn) > 0:
        found = stats.bootstrap((drawn,), np.median, confidence_level=confidence, method="percentile", rng=0)
        low, high = found.confidence_interval
    return float(np.median(drawn)), float(low), float(high)


RETURNING = {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"}
"""Has the allocator of the C library give freed memory back at once: then resident memory is memory in use, and the
same in every run to a few hundred kilobytes. Left alone it keeps some, and peaks differ by 80 MB between runs."""


def peak_of(work: Work) -> int:
    """The most memory in use while something runs, weights and libraries included: of the GPU where there is one.

    On a CPU the peak of the resident memory, which Linux resets on request. Measured in a process of its own that was
    started with :data:`RETURNING` in its environment.
    """
    gc.collect()
    if torch.cuda.is_available():
        _wait()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        kept = work()
        _wait()
        del kept
        return torch.cuda.max_memory_allocated()
    Path("/proc/self/clear_refs").write_text("5")
    kept = work()
    peak = status_of("VmHWM")
    del kept
    return peak


def status_of(entry: str) -> int:
    """An entry of this process's status, in bytes, such as "VmHWM", the most that was resident."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(f"{entry}:"))


def in_own_process(module: str, *arguments: str) -> Any:
    """What ``python -m module arguments`` prints as JSON in its last line; freed memory is given back there."""
    command, environment = [sys.executable, "-m", module, *arguments], {**os.environ, **RETURNING}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)  # noqa: S603 (our own)
    if done.returncode:
        raise RuntimeError(f"{module} {' '.join(arguments)} failed:\n{done.stderr[-2000:]}")
    return json.loads(done.stdout.strip().splitlines()[-1])


def _wait() -> None:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
