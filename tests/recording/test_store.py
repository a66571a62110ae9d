"""Recordings that are streamed to disk: the same as in memory, never mixed with another run, never read as less."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from diffusers.hooks import apply_group_offloading
from streaming.runs import SENTENCE, assert_same, interrupted, picture, recorded, written

from refam_analysis.errors import RefamError
from refam_analysis.models import DiffusionModel, TokenLayout, find_blocks, load_model
from refam_analysis.prompts import Token, make_prompt
from refam_analysis.recording import (
    QUANTITIES,
    Intervention,
    OtherRunError,
    Recorder,
    RecordingFormatError,
    RecordingIncompleteError,
    RecordingStore,
    StoreShapeError,
    load_recording,
    record_batch,
)
from refam_analysis.recording import storage as storage_module

Inputs = Callable[..., dict[str, torch.Tensor]]


@pytest.fixture(scope="module")
def model(tiny_flux_folder: Path) -> Iterator[DiffusionModel]:
    """One thread, as in the programs that are killed: sums are then taken in the same order."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield load_model(tiny_flux_folder)
    torch.set_num_threads(threads)


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
    monkeypatch.setattr(storage_module, "LARGE_HEAD_BYTES", 1000)
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


def other_weights(folder: Path) -> DiffusionModel:
    """The same model by name, trained a little further."""
    model = load_model(folder)
    with torch.no_grad():
        for weights in model.transformer.parameters():
            weights.mul_(1.001)
    return model


@pytest.mark.parametrize("finished", [False, True], ids=["interrupted", "finished"])
def test_other_weights_under_the_same_name_are_refused(
    tiny_flux_folder: Path, stores: dict[bool, Path], finished: bool
) -> None:
    before = written(stores[finished])
    with pytest.raises(OtherRunError, match=r"It differs in the weights of the model\. Give the same model"):
        recorded(other_weights(tiny_flux_folder), store=stores[finished])
    assert written(stores[finished]) == before


def test_weights_that_cannot_be_read_are_not_told_apart(
    model: DiffusionModel, tiny_flux_folder: Path, tmp_path: Path
) -> None:
    """They lie on the disk between passes, as group offloading has it."""
    interrupted(model, tmp_path / "run.zarr", before=3)
    away = load_model(tiny_flux_folder)
    cpu = torch.device("cpu")
    apply_group_offloading(
        away.transformer, cpu, cpu, offload_type="leaf_level", offload_to_disk_path=str(tmp_path / "weights")
    )
    completed = recorded(away, store=tmp_path / "run.zarr")
    assert completed.attrs["weights_fingerprint"] == recorded(model).attrs["weights_fingerprint"]
    assert_same(completed, recorded(model))


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
