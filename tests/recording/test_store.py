"""Recordings that are streamed to disk: the same as in memory, whatever interrupts them, and never read as less."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from diffusers import FluxTransformer2DModel

from refam_analysis.errors import RefamError
from refam_analysis.models import DiffusionModel, TokenLayout, find_blocks, load_model
from refam_analysis.prompts import Token, make_prompt
from refam_analysis.recording import (
    QUANTITIES,
    Intervention,
    MemoryBudgetError,
    OtherRunError,
    QuantityMissingError,
    Recorder,
    Recording,
    RecordingFormatError,
    RecordingIncompleteError,
    RecordingStore,
    StoreShapeError,
    StoreSpaceError,
    load_recording,
    record,
    record_batch,
    sizes,
)
from refam_analysis.recording import storage as storage_module
from refam_analysis.recording import store as store_module

Inputs = Callable[..., dict[str, torch.Tensor]]
SENTENCE = "the red circle"


@pytest.fixture(scope="module")
def model(tiny_flux_folder: Path) -> Iterator[DiffusionModel]:
    """One thread, as in the programs that are killed: sums are then taken in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_model(tiny_flux_folder)
    torch.set_num_threads(threads)


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


def recorded(model: DiffusionModel, **options: Any) -> Recording:
    """Two steps of four blocks, two branches; the same as in ``killed_runs.py``."""
    settings = {"noise_level": 0.8, "steps": 2, "guidance": 2.0, "keep": ["full", "entropy"], **options}
    return record(model, picture(), SENTENCE, **settings)


def assert_same(found: Recording, expected: Recording) -> None:
    xr.testing.assert_identical(found.dataset.load(), expected.dataset.load())
    assert found.attrs == expected.attrs
    assert repr(found) == repr(expected)
    assert found.tokens == expected.tokens


class Stopped(Exception):
    """Ends a run in its middle."""


def interrupted(model: DiffusionModel, path: Path, *, before: int, error: type[Exception] = Stopped) -> None:
    """Stop a run before its block number ``before``, counted over both steps."""
    left = [before]

    def stop(*_: object) -> None:
        left[0] -= 1
        if left[0] < 0:
            raise error

    handles = [block.module.register_forward_pre_hook(stop) for block in find_blocks(model.transformer)]
    with pytest.raises(error):
        recorded(model, store=path)
    for handle in handles:
        handle.remove()


# --- the same as in memory ---


@pytest.mark.parametrize(
    "options",
    [
        {"keep": QUANTITIES},
        {"dtype": torch.float16},
        {"heads": "mean", "noise_level": [0.2, 0.9], "steps": 1},
        {"heads": [1], "blocks": [3, 1], "guidance": None},
        {"words": ["circle"], "keep": ["text_to_image", "entropy"], "steps": 1},
        {"size": (48, 16), "keep": None, "steps": 1, "guidance": None},
        {"intervention": Intervention(keys=(3,), how="redirect", onto=(7,))},
    ],
    ids=["everything", "float16", "mean", "some", "words", "another-size", "intervention"],
)
def test_a_store_has_what_memory_has(model: DiffusionModel, tmp_path: Path, options: dict[str, Any]) -> None:
    streamed = recorded(model, store=tmp_path / "run.zarr", **options)
    assert not any(array.variable._in_memory for array in streamed.dataset.data_vars.values())
    expected = recorded(model, **options)
    assert_same(streamed, expected)
    assert_same(load_recording(tmp_path / "run.zarr"), expected)


def test_a_finished_store_is_what_save_writes(model: DiffusionModel, tmp_path: Path) -> None:
    def files(path: Path) -> list[str]:
        return sorted(str(file.relative_to(path)) for file in path.rglob("*"))

    streamed = recorded(model, store=tmp_path / "run.zarr")
    streamed.save(tmp_path / "again.zarr")
    assert files(tmp_path / "run.zarr") == files(tmp_path / "again.zarr")
    assert sorted(os.listdir(tmp_path)) == ["again.zarr", "run.zarr"]
    assert_same(load_recording(tmp_path / "again.zarr"), streamed)


def test_large_heads_are_chunks_of_their_own(
    model: DiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(storage_module, "_MAX_HEAD_BYTES", 1000)
    streamed = recorded(model, store=tmp_path / "run.zarr")
    chunks = [file for file in (tmp_path / "run.zarr" / "full" / "c").rglob("*") if file.is_file()]
    assert len(chunks) == 2 * 2 * 4 * 2
    assert_same(streamed, recorded(model))


@torch.no_grad()
def test_a_shorter_branch_is_filled_with_nan(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, tmp_path: Path
) -> None:
    layouts = [TokenLayout(text=slice(0, 5), image=slice(5, 14), grid=(3, 3)), layout]
    options: dict[str, Any] = {"keep": ["full", "received_from_text"], "branches": ["conditional", "unconditional"]}
    found = []
    for sink in (None, RecordingStore(tmp_path / "run.zarr", noise_levels=[float("nan")])):
        with Recorder(transformer, layouts, sink=sink, **options) as recorder:
            transformer(**inputs(2))
        found.append(recorder.recording())
    assert np.isnan(found[1]["full"].isel(branch=0, query=slice(14, None))).all()
    assert_same(found[1], found[0])


@torch.no_grad()
def test_branches_that_take_turns(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, tmp_path: Path
) -> None:
    tokens = [Token(i, f"t{i}", f"w{i}", "content", "t5", i) for i in range(5)]
    described = {"noise_levels": [0.2, 0.6], "tokens": tokens, "attributes": {"seed": 3}}
    options: dict[str, Any] = {"branches": ["conditional", "unconditional"], "branch_order": "passes"}
    found = []
    for sink in (None, RecordingStore(tmp_path / "run.zarr", **described)):
        with Recorder(transformer, layout, sink=sink, **options) as recorder:
            for seed in range(4):
                transformer(**inputs(seed=seed))
        named = {} if sink else {"noise_levels": [0.2, 0.6], "tokens": [tokens], "attributes": [{"seed": 3}]}
        found.append(recorder.recording(**named))
    assert_same(found[1], found[0])


def test_a_bar_counts_the_blocks(model: DiffusionModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    recorded(model, store=tmp_path / "quiet.zarr")
    assert capsys.readouterr().err == ""
    recorded(model, store=tmp_path / "run.zarr", progress=True)
    assert "8/8" in capsys.readouterr().err
    assert not any(block.module._forward_hooks for block in find_blocks(model.transformer))


# --- killed, and taken up again ---

MOMENTS = {
    "flush": ["1", "20", "38", "40", "41", "43", "44", "46", "60", "70", "85", "87", "88", "1000"],
    "time": ["0.3", "0.4", "0.5"],
}


@pytest.fixture(scope="module")
def killed(tiny_flux_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What runs left that were killed at these moments."""
    folder = tmp_path_factory.mktemp("killed")
    program = [sys.executable, str(Path(__file__).with_name("killed_runs.py")), str(tiny_flux_folder), str(folder)]
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


@pytest.fixture(scope="module")
def whole(model: DiffusionModel) -> Recording:
    return recorded(model)


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


def written(path: Path) -> dict[str, int]:
    """When each chunk was written."""
    return {str(file.relative_to(path)): file.stat().st_mtime_ns for file in path.rglob("*/c/**/*") if file.is_file()}


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


# --- what is refused ---


@pytest.mark.parametrize("finished", [False, True], ids=["interrupted", "finished"])
@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"seed": 1}, "seed (0 there, 1 now)"),
        ({"noise_level": 0.7}, "noise_level ([0.8, 0.4] there, [0.7, 0.35] now)"),
        ({"guidance": 3.0}, "guidance (2.0 there, 3.0 now)"),
        ({"guidance": None}, "branches"),
        ({"keep": ["full"]}, 'keep (["entropy", "full"] there, ["full"] now)'),
        ({"blocks": [1, 2]}, "block ([0, 1, 2, 3] there, [1, 2] now)"),
        ({"heads": "mean"}, "heads"),
        ({"heads": [0]}, "head ([0, 1] there, [0] now)"),
        ({"dtype": torch.float16}, 'dtype (["float32"] there, ["float16"] now)'),
        ({"size": (16, 24)}, "size ([32, 40] there, [16, 24] now)"),
        ({"magnets": ["."]}, "prompt"),
    ],
    ids=["seed", "level", "guidance", "branch", "keep", "blocks", "mean", "heads", "dtype", "size", "magnets"],
)
def test_another_run_is_refused(
    model: DiffusionModel, stores: dict[bool, Path], finished: bool, change: dict[str, Any], said: str
) -> None:
    before = written(stores[finished])
    with pytest.raises(OtherRunError, match="holds another run") as caught:
        recorded(model, store=stores[finished], **change)
    assert said in str(caught.value) and isinstance(caught.value, FileExistsError)
    assert written(stores[finished]) == before


@pytest.fixture(scope="module")
def stores(model: DiffusionModel, tmp_path_factory: pytest.TempPathFactory) -> dict[bool, Path]:
    """An interrupted and a finished one."""
    folder = tmp_path_factory.mktemp("stores")
    interrupted(model, folder / "interrupted.zarr", before=3)
    recorded(model, store=folder / "finished.zarr")
    return {False: folder / "interrupted.zarr", True: folder / "finished.zarr"}


def test_what_is_no_store_is_left_alone(model: DiffusionModel, tmp_path: Path) -> None:
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all of it")
    with pytest.raises(RecordingFormatError):
        recorded(model, store=tmp_path / "mine")
    assert os.listdir(tmp_path / "mine") == ["thesis.txt"]


def test_a_store_takes_one_item(
    model: DiffusionModel, transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, tmp_path: Path
) -> None:
    prompts = [make_prompt(SENTENCE)] * 2
    with pytest.raises(StoreShapeError, match="the batch has 2"):
        record_batch(model, [picture()] * 2, prompts, store=tmp_path / "run.zarr")
    store = RecordingStore(tmp_path / "run.zarr", noise_levels=[0.5])
    with torch.no_grad(), Recorder(transformer, layout, sink=store):
        with pytest.raises(StoreShapeError, match="a batch of 2"):
            transformer(**inputs(2))
    assert not (tmp_path / "run.zarr").exists()


@torch.no_grad()
def test_a_store_takes_as_many_steps_as_it_has_levels(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, tmp_path: Path
) -> None:
    with Recorder(transformer, layout, sink=RecordingStore(tmp_path / "run.zarr", noise_levels=[0.5])) as recorder:
        transformer(**inputs())
        with pytest.raises(StoreShapeError, match="room for 1 steps"):
            transformer(**inputs())
    with pytest.raises(RefamError, match="given to its store"):
        recorder.recording(noise_levels=[0.5])
    assert recorder.recording().noise_levels == (0.5,)


# --- damage ---


@pytest.mark.parametrize("before", [6, None], ids=["interrupted", "finished"])
def test_a_damaged_chunk_raises(model: DiffusionModel, tmp_path: Path, before: int | None) -> None:
    path = tmp_path / "run.zarr"
    interrupted(model, path, before=before) if before else recorded(model, store=path)
    file = path / "full" / "c" / "0" / "1" / "1" / "0" / "0" / "0"
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    full = load_recording(path)["full"]
    assert np.isfinite(full.isel(step=0, branch=0).values).all()
    with pytest.raises(ValueError, match="checksum"):
        full.isel(step=0, branch=1, block=1).load()
    file.unlink()
    with pytest.raises(RecordingIncompleteError, match="'full' has"):
        load_recording(path)


def test_lost_marks_are_noticed(model: DiffusionModel, tmp_path: Path) -> None:
    interrupted(model, tmp_path / "run.zarr", before=6)
    shutil.rmtree(tmp_path / "run.zarr" / storage_module.MARKS)
    with pytest.raises(RecordingIncompleteError, match="marks"):
        load_recording(tmp_path / "run.zarr")


# --- room ---


def test_a_disk_that_is_too_small_is_refused_before_anything_is_written(
    model: DiffusionModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, whole: Recording
) -> None:
    usage, needed = shutil.disk_usage(tmp_path), whole.dataset.drop_vars(whole.dataset.coords).nbytes
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
    usage, needed = shutil.disk_usage(tmp_path), whole.dataset.drop_vars(whole.dataset.coords).nbytes // 4
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
    needed = whole.dataset.drop_vars(whole.dataset.coords).nbytes * 6 // 8
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


def test_writing_takes_three_times_an_array_at_most(tmp_path: Path) -> None:
    """Incompressible numbers, one chunk a head: what `estimate` says of ``streamed``."""
    values = np.random.default_rng(0).random((1, 1, 3, 6, 512, 520), np.float32)
    layout = storage_module.encoding(xr.DataArray(values, dims=("step", "branch", "block", "head", "query", "key")))
    array = zarr.create_array(tmp_path / "a.zarr", shape=values.shape, dtype=values.dtype, **layout)
    array[0, 0, 0] = values[0, 0, 0]
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    array[0, 0, 1] = values[0, 0, 1]
    peak = tracemalloc.get_traced_memory()[1] - before
    tracemalloc.stop()
    assert values[0, 0, 0].nbytes < peak < 3 * values[0, 0, 0].nbytes


def test_more_than_the_budget_is_refused(model: DiffusionModel, tmp_path: Path, whole: Recording) -> None:
    needed = 2 * whole.dataset.drop_vars(whole.dataset.coords).nbytes  # of the passes, and once more put together
    with pytest.raises(MemoryBudgetError, match=rf"\({needed} bytes\) in memory.*\({needed - 1} bytes\).*store=path"):
        recorded(model, budget=needed - 1)
    assert_same(recorded(model, budget=needed), whole)
    assert_same(recorded(model, budget=0, store=tmp_path / "run.zarr"), whole)
    one = whole.dataset.drop_vars(whole.dataset.coords).nbytes // 4
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
