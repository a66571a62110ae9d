"""Runs that are killed, stopped or find the disk full: what is complete opens, the rest raises, and is completed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from streaming import runs
from streaming.runs import Stopped, assert_same, interrupted, nbytes, recorded, written

from refam_analysis.models import DiffusionModel, TokenLayout, find_blocks, load_model
from refam_analysis.recording import (
    QuantityMissingError,
    Recorder,
    Recording,
    RecordingIncompleteError,
    RecordingStore,
    StoreSpaceError,
    load_recording,
)
from refam_analysis.recording import storage as storage_module
from refam_analysis.recording import store as store_module

Inputs = Callable[..., dict[str, torch.Tensor]]


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


MOMENTS = {
    "flush": ["1", "20", "38", "40", "41", "43", "44", "46", "60", "70", "85", "87", "88", "1000"],
    "time": ["0.3", "0.4", "0.5"],
}


@pytest.fixture(scope="module")
def killed(tiny_flux_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What runs left that were killed at these moments."""
    folder = tmp_path_factory.mktemp("killed")
    program = [sys.executable, runs.__file__, str(tiny_flux_folder), str(folder)]
    moments = [part for kind, when in MOMENTS.items() for part in (kind, *when)]
    subprocess.run([*program, *moments], check=True, timeout=300, env={**os.environ, "OMP_NUM_THREADS": "1"})
    return folder


@pytest.mark.parametrize("moment", [f"{kind}-{when}" for kind, all_of in MOMENTS.items() for when in all_of])
def test_a_killed_run_opens_with_what_is_complete_and_is_completed(
    model: DiffusionModel, killed: Path, tmp_path: Path, whole: Recording, moment: str
) -> None:
    for left in killed.glob(f"*{moment}.*"):
        shutil.copytree(left, tmp_path / left.name)
    path = tmp_path / f"{moment}.zarr"
    if path.exists():
        opened = load_recording(path)
        complete = opened.attrs.get("complete_blocks", [[0, 1, 2, 3]] * 2)
        for step, blocks in enumerate(complete):
            for name in ("full", "entropy") if blocks else ():
                found, expected = (one[name].sel(step=step, block=blocks).values for one in (opened, whole))
                np.testing.assert_array_equal(found, expected)
        for block in set(range(4)).difference(*complete):
            with pytest.raises(RecordingIncompleteError, match="same arguments"):
                opened.select(blocks=block)["entropy"].load()
    assert_same(recorded(model, store=path), whole)
    assert not list(tmp_path.rglob("*.partial"))


def test_the_moments_are_before_between_and_after_the_blocks(killed: Path) -> None:
    there = {moment: killed / f"flush-{moment}.zarr" for moment in MOMENTS["flush"]}
    attributes = {moment: load_recording(path).attrs for moment, path in there.items() if path.exists()}
    complete = {sum(map(len, one["complete_blocks"])) for one in attributes.values() if "complete_blocks" in one}
    assert len(attributes) < len(there) and len(complete) >= 4
    assert any("complete_blocks" not in one for one in attributes.values())


@pytest.mark.parametrize("before", [0, 1, 3, 4, 6, 7])
def test_an_interrupted_run_says_what_is_complete(
    model: DiffusionModel, tmp_path: Path, whole: Recording, before: int
) -> None:
    interrupted(model, tmp_path / "run.zarr", before=before)
    if not before:
        assert not (tmp_path / "run.zarr").exists()
        return
    opened = load_recording(tmp_path / "run.zarr")
    numbers = [0, 1, 2, 3]
    assert opened.attrs["complete_blocks"] == [numbers[:before], numbers[: max(0, before - 4)]]
    assert f"interrupted, {before} of 8 blocks are complete" in repr(opened)
    assert f"{before} of 8 blocks" in opened._repr_html_()
    assert opened.dataset.sizes["step"] == (2 if before > 4 else 1)
    first = opened["full"].isel(step=0)
    np.testing.assert_array_equal(first.values, whole["full"].isel(step=0, block=slice(0, before)).values)


def test_what_is_not_complete_raises(model: DiffusionModel, tmp_path: Path) -> None:
    interrupted(model, tmp_path / "run.zarr", before=2)
    opened = load_recording(tmp_path / "run.zarr")
    with pytest.raises(RecordingIncompleteError, match=r"Block 3 is not complete.*same arguments.*\[0, 1\]"):
        opened.select(blocks=[0, 3])
    with pytest.raises(QuantityMissingError, match="block 9"):
        opened.select(blocks=9)
    with pytest.raises(QuantityMissingError, match="block 1"):
        opened.select(blocks=0).select(blocks=1)
    with pytest.raises(RecordingIncompleteError):
        load_recording(opened.save(tmp_path / "copy.zarr")).select(blocks=3)


def test_a_step_that_is_not_complete_raises_when_it_is_read(
    model: DiffusionModel, tmp_path: Path, whole: Recording
) -> None:
    interrupted(model, tmp_path / "run.zarr", before=6)
    entropy = load_recording(tmp_path / "run.zarr")["entropy"]
    assert entropy.shape == whole["entropy"].shape
    for part in (entropy, entropy.sel(block=[1, 2]), entropy.isel(step=-1), entropy[1, :, 3, 0], entropy.sel(block=2)):
        with pytest.raises(RecordingIncompleteError, match="block [23] of step 1, branch 0, is not complete"):
            part.load()
    expected = whole["entropy"]
    for index in ((0,), (slice(None), 0, [0, 1]), (1, 1, 1), (slice(None), slice(None), slice(1, None, -1), 1)):
        np.testing.assert_array_equal(entropy[index].values, expected[index].values)


def test_part_of_a_recording_is_not_saved_as_a_whole(model: DiffusionModel, tmp_path: Path, whole: Recording) -> None:
    interrupted(model, tmp_path / "run.zarr", before=6)
    opened = load_recording(tmp_path / "run.zarr")
    with pytest.raises(RecordingIncompleteError):
        opened.save(tmp_path / "copy.zarr")
    assert os.listdir(tmp_path) == ["run.zarr"]
    opened.select(blocks=[0, 1]).save(tmp_path / "copy.zarr")
    copy = load_recording(tmp_path / "copy.zarr")
    np.testing.assert_array_equal(copy["full"].values, whole["full"].sel(block=[0, 1]).values)


def test_what_is_complete_is_neither_computed_nor_written_again(
    model: DiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interrupted(model, tmp_path / "run.zarr", before=6)
    before = written(tmp_path / "run.zarr")
    calls: list[object] = []
    reduce_attention = sys.modules["refam_analysis.recording.passes"].reduce_attention  # type: ignore[attr-defined]
    monkeypatch.setattr(
        "refam_analysis.recording.passes.reduce_attention",
        lambda *args, **kwargs: calls.append(reduce_attention(*args, **kwargs)),
    )
    recorded(model, store=tmp_path / "run.zarr")
    assert len(calls) == 2
    after = written(tmp_path / "run.zarr")
    kept = {name: when for name, when in before.items() if not name.startswith(storage_module.MARKS)}
    assert len(kept) > 20 and kept.items() <= after.items()


def test_a_finished_store_runs_nothing(model: DiffusionModel, tmp_path: Path, whole: Recording) -> None:
    recorded(model, store=tmp_path / "run.zarr")
    handle = model.transformer.register_forward_pre_hook(lambda *_: pytest.fail("the model ran"))
    again = recorded(model, store=tmp_path / "run.zarr")
    handle.remove()
    assert_same(again, whole)


def test_a_run_that_is_killed_while_it_tidies_up_is_finished(
    model: DiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Recording
) -> None:
    rename = os.rename

    def only_there(source: Path, target: Path) -> None:
        if storage_module.MARKS in str(source):
            raise Stopped
        rename(source, target)

    monkeypatch.setattr(store_module.os, "rename", only_there)
    with pytest.raises(Stopped):
        recorded(model, store=tmp_path / "run.zarr")
    assert (tmp_path / "run.zarr" / storage_module.MARKS).is_dir()
    assert_same(load_recording(tmp_path / "run.zarr"), whole)


@torch.no_grad()
def test_a_pass_that_breaks_off_is_dropped(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, tmp_path: Path
) -> None:
    def stop(*_: object) -> None:
        raise Stopped

    with Recorder(transformer, layout) as recorder:
        transformer(**inputs(seed=1))
    expected = recorder.recording()
    with Recorder(transformer, layout, sink=RecordingStore(tmp_path / "run.zarr", noise_levels=[float("nan")])) as to:
        handle = transformer.single_transformer_blocks[1].register_forward_pre_hook(stop)
        with pytest.raises(Stopped):
            transformer(**inputs(seed=0))
        handle.remove()
        transformer(**inputs(seed=1))
    assert_same(to.recording(), expected)


# --- room ---


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    model: DiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Recording
) -> None:
    usage, needed = shutil.disk_usage(tmp_path), nbytes(whole)
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(StoreSpaceError, match=rf"\({needed} bytes before.*\({needed - 1} bytes\) free.*Nothing was"):
        recorded(model, store=tmp_path / "run.zarr")
    assert os.listdir(tmp_path) == []
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda path: usage._replace(free=needed))
    recorded(model, store=tmp_path / "run.zarr")


def test_a_resumed_run_needs_room_for_the_rest(
    model: DiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Recording
) -> None:
    interrupted(model, tmp_path / "run.zarr", before=6)
    usage, needed = shutil.disk_usage(tmp_path), nbytes(whole) // 4
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda path: usage._replace(free=needed - 1))
    with pytest.raises(StoreSpaceError, match=rf"\({needed} bytes before.*What is complete is kept"):
        recorded(model, store=tmp_path / "run.zarr")
    monkeypatch.setattr(store_module.shutil, "disk_usage", lambda path: usage._replace(free=needed))
    assert_same(recorded(model, store=tmp_path / "run.zarr"), whole)


def test_a_disk_that_becomes_full_leaves_earlier_blocks(
    model: DiffusionModel, tmp_path: Path, whole: Recording
) -> None:
    """The system refuses to write more: here for a limit on the size of files, which only the full maps exceed."""
    resource = pytest.importorskip("resource", reason="only POSIX can limit the size of files")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    def limit(*_: object) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))

    handle = find_blocks(model.transformer)[2].module.register_forward_pre_hook(limit)
    try:
        with pytest.raises(StoreSpaceError, match="What is complete is kept") as caught:
            recorded(model, store=tmp_path / "run.zarr")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        handle.remove()
    needed = nbytes(whole) * 6 // 8
    assert f"({needed} bytes" in str(caught.value) and isinstance(caught.value, OSError)
    opened = load_recording(tmp_path / "run.zarr")
    assert opened.attrs["complete_blocks"] == [[0, 1], []]
    np.testing.assert_array_equal(opened["full"].values, whole["full"].isel(step=[0], block=[0, 1]).values)
    assert_same(recorded(model, store=tmp_path / "run.zarr"), whole)


def test_what_a_write_has_left_is_removed(model: DiffusionModel, tmp_path: Path) -> None:
    interrupted(model, tmp_path / "run.zarr", before=6)
    left = tmp_path / "run.zarr" / "full" / "c" / "1" / "0.123.partial"
    left.touch()
    recorded(model, store=tmp_path / "run.zarr")
    assert not left.exists()
