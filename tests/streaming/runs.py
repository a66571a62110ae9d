"""The run that the tests of stores interrupt; as a program, has it killed at many moments, by SIGKILL.

    python runs.py MODEL FOLDER flush 3 9 27 ... time 0.1 0.2 ...

``flush n``: when for the nth time something has been written and is waited for. ``time s``: after so many seconds,
while every block is slowed. One process loads the model, and forks for every run.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr

from refam_analysis.models import DiffusionModel, find_blocks, load_model
from refam_analysis.recording import Recording, record, store

SENTENCE = "the red circle"


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def recorded(model: DiffusionModel, **options: Any) -> Recording:
    """Two steps of four blocks, two branches."""
    settings = {"noise_level": 0.8, "steps": 2, "guidance": 2.0, "keep": ["full", "entropy"], **options}
    return record(model, picture(), SENTENCE, **settings)


class Stopped(Exception):
    """Ends a run in its middle."""


def interrupted(model: DiffusionModel, path: Path, *, before: int) -> None:
    """Stop a run before its block number ``before``, counted over both steps."""
    left = [before]

    def stop(*_: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise Stopped

    handles = [block.module.register_forward_pre_hook(stop) for block in find_blocks(model.transformer)]
    with pytest.raises(Stopped):
        recorded(model, store=path)
    for handle in handles:
        handle.remove()


def assert_same(found: Recording, expected: Recording) -> None:
    xr.testing.assert_identical(found.dataset.load(), expected.dataset.load())
    assert found.attrs == expected.attrs
    assert repr(found) == repr(expected)
    assert found.tokens == expected.tokens


def nbytes(recording: Recording) -> int:
    """Bytes of the quantities."""
    return sum(array.nbytes for array in recording.dataset.data_vars.values())


def written(path: Path) -> dict[str, int]:
    """When each chunk was written."""
    return {str(file.relative_to(path)): file.stat().st_mtime_ns for file in path.rglob("*/c/**/*") if file.is_file()}


def _forked(run: Callable[[], object], seconds: float | None = None) -> None:
    """Run in a child, and wait until it has been killed; by us, where seconds are given."""
    child = os.fork()
    if not child:
        run()
        os._exit(0)
    if seconds is not None:
        time.sleep(seconds)
        os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)


def _at_flush(model: DiffusionModel, path: Path, number: int) -> None:
    flush, left = store._put_on_disk, [number]

    def flush_or_die(file: Path) -> None:
        left[0] -= 1
        if not left[0]:
            os.kill(os.getpid(), signal.SIGKILL)
        flush(file)

    store._put_on_disk = flush_or_die
    recorded(model, store=path)


def _slowly(model: DiffusionModel, path: Path) -> None:
    for block in find_blocks(model.transformer):
        block.module.register_forward_pre_hook(lambda *_: time.sleep(0.03))
    recorded(model, store=path)


def main(model_folder: str, folder: str, *moments: str) -> None:
    """Kill one run a moment; each leaves ``FOLDER/kind-number.zarr``, or nothing."""
    torch.set_num_threads(1)
    model, kind = load_model(model_folder), ""
    for moment in moments:
        if moment in ("flush", "time"):
            kind = moment
        elif kind == "flush":
            _forked(lambda m=moment: _at_flush(model, Path(folder, f"flush-{m}.zarr"), int(m)))
        else:
            _forked(lambda m=moment: _slowly(model, Path(folder, f"time-{m}.zarr")), float(moment))


if __name__ == "__main__":
    main(*sys.argv[1:])
