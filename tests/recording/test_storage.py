"""Recordings on disk: the same after a round trip, all or nothing, and never read as zeros when damaged."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import xarray as xr
import zarr
from diffusers import FluxTransformer2DModel

from refam_analysis.errors import RefamError
from refam_analysis.models.layout import TokenLayout
from refam_analysis.prompts import Token
from refam_analysis.recording import (
    QUANTITIES,
    Recorder,
    Recording,
    RecordingExistsError,
    RecordingFormatError,
    RecordingIncompleteError,
    RecordingNotFoundError,
    load_recording,
)
from refam_analysis.recording import storage as storage_module

TOKENS = [Token(i, f"t{i}", "ünïcode ▁", "content", "t5", None if i else 0) for i in range(5)]


@pytest.fixture
def make(transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Any) -> Callable[..., Recording]:
    def run(**options: Any) -> Recording:
        options = {"keep": QUANTITIES, **options}
        with torch.no_grad(), Recorder(transformer, layout, **options) as recorder:
            transformer(**inputs())
            transformer(**inputs(seed=1))
        attributes = {"prompt": "ünïcode ▁", "seed": 0, "versions": {"torch": "2"}, "magnets": ["."], "revision": None}
        return recorder.recording(noise_levels=[0.2, 0.6], tokens=[TOKENS], attributes=[attributes])

    return run


def chunk_files(path: Path) -> list[Path]:
    return sorted(file for file in path.rglob("*") if file.is_file() and file.name != "zarr.json")


@pytest.mark.parametrize(
    "options",
    [{}, {"heads": "mean"}, {"dtype": torch.float16}, {"keep": ["entropy"]}, {"blocks": [1, 3]}],
    ids=["everything", "mean", "float16", "entropy", "blocks"],
)
def test_a_round_trip_changes_nothing(make: Callable[..., Recording], tmp_path: Path, options: dict[str, Any]) -> None:
    recording = make(**options)
    assert recording.save(tmp_path / "run.zarr") == tmp_path / "run.zarr"
    loaded = load_recording(tmp_path / "run.zarr")
    xr.testing.assert_identical(loaded.dataset.load(), recording.dataset)
    assert loaded.dataset.attrs == recording.dataset.attrs
    assert loaded.tokens == recording.tokens
    assert loaded.dataset["step"].dtype == recording.dataset["step"].dtype


def test_a_selection_round_trips(make: Callable[..., Recording], tmp_path: Path) -> None:
    chosen = make().select(words="ünïcode ▁", blocks=[4, 0])
    chosen.save(tmp_path / "run.zarr")
    loaded = load_recording(tmp_path / "run.zarr")
    xr.testing.assert_identical(loaded.dataset.load(), chosen.dataset)
    loaded.select(blocks=0).save(tmp_path / "again.zarr")
    assert load_recording(tmp_path / "again.zarr")["full"].block.values.tolist() == [0]


def test_arrays_are_read_when_they_are_used(make: Callable[..., Recording], tmp_path: Path) -> None:
    make().save(tmp_path / "run.zarr")
    loaded = load_recording(tmp_path / "run.zarr")
    assert not loaded.dataset["full"].variable._in_memory
    assert loaded["full"].isel(block=2, step=1, head=0).values.shape == (1, 17, 17)


def test_zeros_and_nan_are_kept(make: Callable[..., Recording], tmp_path: Path) -> None:
    recording = make(keep=["entropy"])
    recording.dataset["entropy"].values[0] = 0.0
    recording.dataset["entropy"].values[1] = np.nan
    recording.save(tmp_path / "run.zarr")
    assert np.array_equal(load_recording(tmp_path / "run.zarr")["entropy"], recording["entropy"], equal_nan=True)


def test_large_heads_are_chunks_of_their_own(
    make: Callable[..., Recording], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = make(keep=["full", "entropy"])
    monkeypatch.setattr(storage_module, "LARGE_HEAD_BYTES", 1000)
    recording.save(tmp_path / "run.zarr")
    group = zarr.open_group(tmp_path / "run.zarr", mode="r")
    assert group["full"].chunks == (1, 1, 1, 1, 17, 17) and group["entropy"].chunks == (1, 1, 1, 2, 17)
    xr.testing.assert_identical(load_recording(tmp_path / "run.zarr").dataset.load(), recording.dataset)


@pytest.mark.parametrize("kind", ["folder", "file", "dangling-link"])
def test_nothing_is_overwritten(make: Callable[..., Recording], tmp_path: Path, kind: str) -> None:
    path = tmp_path / "run.zarr"
    {"folder": path.mkdir, "file": path.touch, "dangling-link": lambda: path.symlink_to(tmp_path / "gone")}[kind]()
    with pytest.raises(RecordingExistsError, match="never overwritten"):
        make().save(path)
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.zarr"]


def test_a_write_that_fails_leaves_nothing(make: Callable[..., Recording], tmp_path: Path) -> None:
    recording = make(keep=["entropy"])
    recording.attrs["unwritable"] = object()
    with pytest.raises(TypeError):
        recording.save(tmp_path / "run.zarr")
    assert list(tmp_path.iterdir()) == []


def test_missing_folders_are_made(make: Callable[..., Recording], tmp_path: Path) -> None:
    make(keep=["entropy"]).save(tmp_path / "a" / "b" / "run.zarr")
    assert load_recording(str(tmp_path / "a" / "b" / "run.zarr")).kept == ("entropy",)


@pytest.mark.parametrize("name", ["full", "entropy", "noise_level", "block"])
def test_a_missing_chunk_is_noticed_on_opening(make: Callable[..., Recording], tmp_path: Path, name: str) -> None:
    make().save(tmp_path / "run.zarr")
    chunk_files(tmp_path / "run.zarr" / name)[-1].unlink()
    with pytest.raises(RecordingIncompleteError, match=f"'{name}' has"):
        load_recording(tmp_path / "run.zarr")


@pytest.mark.parametrize("damage", ["flip", "truncate", "empty"])
def test_a_damaged_chunk_raises_when_it_is_read(make: Callable[..., Recording], tmp_path: Path, damage: str) -> None:
    make(keep=["full"]).save(tmp_path / "run.zarr")
    file = chunk_files(tmp_path / "run.zarr" / "full")[0]
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes({"flip": content, "truncate": content[: len(content) // 2], "empty": b""}[damage])
    with pytest.raises((ValueError, RuntimeError, OSError)):
        load_recording(tmp_path / "run.zarr")["full"].load()


def test_a_missing_array_is_noticed(make: Callable[..., Recording], tmp_path: Path) -> None:
    make().save(tmp_path / "run.zarr")
    os.unlink(tmp_path / "run.zarr" / "full" / "zarr.json")
    with pytest.raises(RefamError, match="full"):
        load_recording(tmp_path / "run.zarr")


def test_what_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingNotFoundError, match="no recording at"):
        load_recording(tmp_path / "gone.zarr")
    with pytest.raises(FileNotFoundError):
        load_recording(tmp_path / "gone.zarr")
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_text("text")
    xr.Dataset({"a": ("b", [1.0])}).to_zarr(tmp_path / "other.zarr", zarr_format=3, consolidated=False)
    for name in ("folder", "file", "other.zarr"):
        with pytest.raises(RecordingFormatError):
            load_recording(tmp_path / name)


def test_one_that_does_not_list_its_arrays_is_refused(make: Callable[..., Recording], tmp_path: Path) -> None:
    path = make(keep=["entropy"]).save(tmp_path / "run.zarr")
    about = json.loads((path / "zarr.json").read_text())
    about["attributes"]["refam_arrays"] = "entropy"
    (path / "zarr.json").write_text(json.dumps(about))
    with pytest.raises(RecordingFormatError, match="does not say which arrays"):
        load_recording(path)
