"""What a recording may take: the budget of memory, and what writing a store takes."""

from __future__ import annotations

import tracemalloc
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from streaming.runs import assert_same, nbytes, recorded

from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.recording import (
    MemoryBudgetError,
    Recording,
    sizes,
)
from refam_analysis.recording import storage as storage_module


@pytest.fixture(scope="module")
def model(tiny_flux_folder: Path) -> Iterator[DiffusionModel]:
    """One thread, as in the programs that are killed: sums are then taken in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_model(tiny_flux_folder)
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def whole(model: DiffusionModel) -> Recording:
    return recorded(model)


def test_writing_takes_three_times_a_chunk_at_most(tmp_path: Path) -> None:
    """Incompressible numbers, one chunk a head: what `estimate` says of ``streamed``."""
    values = np.random.default_rng(0).random((1, 1, 3, 6, 512, 520), np.float32)
    layout = storage_module.encoding(xr.DataArray(values, dims=("step", "branch", "block", "head", "query", "key")))
    array = zarr.create_array(tmp_path / "a.zarr", shape=values.shape, dtype=values.dtype, **layout)
    array[0, 0, 0] = values[0, 0, 0]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    array[0, 0, 1, 2:3] = values[0, 0, 1, 2:3]
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert array.chunks[3] == 1
    assert values[0, 0, 0, 0].nbytes < peak < 3 * values[0, 0, 0, 0].nbytes


def test_more_than_the_budget_is_refused(model: DiffusionModel, tmp_path: Path, whole: Recording) -> None:
    needed = 2 * nbytes(whole)  # of the passes, and once more put together
    with pytest.raises(MemoryBudgetError, match=rf"\({needed} bytes\) in memory.*\({needed - 1} bytes\).*store=path"):
        recorded(model, budget=needed - 1)
    assert_same(recorded(model, budget=needed), whole)
    assert_same(recorded(model, budget=0, store=tmp_path / "run.zarr"), whole)
    one = nbytes(whole) // 4
    recorded(model, budget=one, steps=1, guidance=None)
    with pytest.raises(MemoryError):
        recorded(model, budget=one - 1, steps=1, guidance=None)


def test_the_budget_is_half_of_what_is_available(
    model: DiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine, container = tmp_path / "meminfo", tmp_path / "memory.max"
    machine.write_text("MemTotal:       9000 kB\nMemFree:        1 kB\nMemAvailable:       400 kB\n")
    monkeypatch.setattr(sizes, "_MEMORY_OF_MACHINE", machine)
    monkeypatch.setattr(sizes, "_LIMIT_OF_CONTAINER", container)
    assert sizes.available_memory() == 400 * 1024
    container.write_text("max\n")
    assert sizes.available_memory() == 400 * 1024
    with pytest.raises(MemoryBudgetError, match=f"{200 * 1024} bytes"):
        recorded(model)
    container.write_text("1000\n")
    assert sizes.available_memory() == 1000
