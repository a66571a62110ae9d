"""Damage to a stored recording: noticed wherever it is, named by block, and the rest can still be read."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import zarr
from streaming.runs import recorded

from refam_analysis.errors import RefamError
from refam_analysis.models import load_model
from refam_analysis.recording import (
    QuantityMissingError,
    Recording,
    RecordingDamagedError,
    RecordingIncompleteError,
    load_recording,
    rescue_recording,
)

Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory, tiny_flux_folder: Path) -> tuple[Path, Recording]:
    """The folder of a recording of two steps of four blocks, and the recording. Do not write into it."""
    recording = recorded(load_model(tiny_flux_folder), guidance=None)
    return recording.save(tmp_path_factory.mktemp("stored") / "run.zarr"), recording


@pytest.fixture
def copy(stored: tuple[Path, Recording], tmp_path: Path) -> Path:
    return Path(shutil.copytree(stored[0], tmp_path / "run.zarr"))


def flip(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 4
    path.write_bytes(content)


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


DAMAGES: dict[str, Damage] = {
    "flipped": flip,
    "cut": cut,
    "removed": Path.unlink,
    "emptied": lambda p: p.write_bytes(b""),
}
damages = pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
BLOCK_2 = Path("full", "c", "1", "0", "2", "0", "0", "0")


def one_file_of_each_kind(path: Path) -> list[Path]:
    """What describes the run, and of every array what describes it and its last chunk."""
    files = sorted(file for file in path.rglob("*") if file.is_file())
    return list({(file.relative_to(path).parts[0], file.name == "zarr.json"): file for file in files}.values())


@damages
def test_damage_to_a_file_is_noticed(copy: Path, stored: tuple[Path, Recording], damage: Damage) -> None:
    for file in one_file_of_each_kind(copy):
        whole = file.read_bytes()
        damage(file)
        with pytest.raises(RefamError, match=r"run\.zarr"):
            load_recording(copy).dataset.load()
        file.write_bytes(whole)
    assert load_recording(copy).attrs == stored[1].attrs


def test_every_turned_bit_of_what_describes_the_run_is_noticed(copy: Path, stored: tuple[Path, Recording]) -> None:
    about = copy / "zarr.json"
    whole = about.read_bytes()
    for place in range(0, len(whole), 211):
        about.write_bytes(whole[:place] + bytes([whole[place] ^ 2]) + whole[place + 1 :])
        try:
            found = load_recording(copy)
        except RefamError:
            continue
        assert found.attrs == stored[1].attrs and found.dataset.load().equals(stored[1].dataset)


def test_a_damaged_block_is_named_and_others_are_read(copy: Path, stored: tuple[Path, Recording]) -> None:
    flip(copy / BLOCK_2)
    full = load_recording(copy)["full"]
    with pytest.raises(RecordingDamagedError, match="'full' of block 2 of step 1, branch 0,.*rescue_recording"):
        full.load()
    np.testing.assert_array_equal(full.isel(step=0), stored[1]["full"].isel(step=0))
    np.testing.assert_array_equal(full.sel(block=[0, 1, 3]), stored[1]["full"].sel(block=[0, 1, 3]))


@damages
def test_what_is_whole_of_a_damaged_recording_is_rescued(
    copy: Path, stored: tuple[Path, Recording], damage: Damage
) -> None:
    damage(copy / BLOCK_2)
    rescued = rescue_recording(copy)
    assert rescued.attrs["damaged"] == {"full": [[1, 0, 2]]}
    with pytest.raises(RecordingIncompleteError, match="'full' of block 2 of step 1, branch 0, is lost"):
        rescued["full"].load()
    np.testing.assert_array_equal(rescued["full"].isel(step=0), stored[1]["full"].isel(step=0))
    np.testing.assert_array_equal(rescued["entropy"], stored[1]["entropy"])
    assert rescued.tokens == stored[1].tokens


@damages
def test_other_quantities_are_rescued_where_the_description_of_one_is_lost(
    copy: Path, stored: tuple[Path, Recording], damage: Damage
) -> None:
    damage(copy / "full" / "zarr.json")
    rescued = rescue_recording(copy)
    with pytest.raises(QuantityMissingError, match="damaged on the disk"):
        rescued["full"]
    np.testing.assert_array_equal(rescued["entropy"], stored[1]["entropy"])


@pytest.mark.parametrize("name", ["zarr.json", "block/zarr.json", "noise_level/c/0"])
@damages
def test_without_what_describes_the_run_nothing_is_rescued(copy: Path, name: str, damage: Damage) -> None:
    damage(copy / name)
    with pytest.raises(RefamError, match=r"run\.zarr"):
        rescue_recording(copy)


def test_a_recording_of_the_earlier_format_is_read(copy: Path, stored: tuple[Path, Recording]) -> None:
    """It had no sums of its small files."""
    group = zarr.open_group(copy, mode="r+")
    kept = {name: value for name, value in group.attrs.items() if name != "refam_sums"}
    group.attrs.put({**kept, "refam_format": 1})
    assert load_recording(copy).attrs == stored[1].attrs
