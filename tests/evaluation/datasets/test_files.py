"""Files of a data set: paths, pictures and masks, whole and broken, on a disk and in object storage."""

from __future__ import annotations

import pickle
from pathlib import Path

import fsspec
import numpy as np
import pytest
from PIL import Image
from references.small_datasets import write_labels, write_picture

from refam_analysis.evaluation.datasets.files import (
    FileFrames,
    FilePicture,
    above,
    exists,
    first_existing,
    join,
    names_in,
    picture_size,
    read_bytes,
    read_json,
    read_labels,
    read_picture,
    read_text,
)
from refam_analysis.evaluation.datasets.problems import DatasetFileError, DatasetItemError


@pytest.fixture
def bucket() -> str:
    system = fsspec.filesystem("memory")
    system.pipe("/coco/train2014/a.txt", b"hello")
    system.pipe("/coco/refs.json", b"[1, 2]")
    return "memory://coco"


def test_object_storage_is_read_like_a_disk(bucket: str) -> None:
    assert names_in(bucket) == {"train2014", "refs.json"}
    assert read_bytes(join(bucket, "train2014", "a.txt")) == b"hello"
    assert read_json(join(bucket, "refs.json")) == [1, 2]
    assert exists(join(bucket, "train2014")) and not exists(join(bucket, "val2014"))
    assert first_existing(bucket, "val2014", "train2014") == join(bucket, "train2014")
    assert above(join(bucket, "train2014")) == bucket


def test_a_folder_that_is_not_there_holds_nothing(tmp_path: Path, bucket: str) -> None:
    assert names_in(str(tmp_path / "no")) == names_in(join(bucket, "no")) == frozenset()


@pytest.mark.parametrize("root", ["disk", "bucket"])
def test_a_missing_file_is_named(root: str, tmp_path: Path, bucket: str) -> None:
    path = join(str(tmp_path) if root == "disk" else bucket, "none.json")
    with pytest.raises(DatasetFileError, match=r"none\.json: there is no such file") as error:
        read_json(path)
    assert error.value.problem.file == path


@pytest.mark.parametrize("text", ["", "{", '{"videos": [', "[1, 2", "nul", "\ufeff{}x"], ids=repr)
def test_json_that_is_cut_is_named(text: str, tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text(text)
    with pytest.raises(DatasetFileError, match=r"instances\.json: it is cut, or no JSON"):
        read_json(str(path))


def test_json_nested_too_deep_is_no_crash(tmp_path: Path) -> None:
    path = tmp_path / "instances.json"
    path.write_text("[" * 200_000)
    with pytest.raises(DatasetFileError, match="instances"):
        read_json(str(path))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_text_is_read_in_the_encodings_of_the_releases(encoding: str, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("café", encoding=encoding)
    assert read_text(str(tmp_path / "a.txt")) == "café"


@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_a_picture_is_rgb_in_the_size_of_its_file(mode: str, tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg", (20, 30), mode=mode)
    pixels = read_picture(str(tmp_path / "a.jpg"), "image 1", (20, 30))
    assert pixels.shape == (20, 30, 3) and pixels.dtype == np.uint8
    assert picture_size(str(tmp_path / "a.jpg"), "image 1") == (20, 30)


def test_a_picture_is_not_turned_by_its_exif(tmp_path: Path) -> None:
    """Annotations are in the orientation in which the pixels are stored."""
    turned = Image.Exif()
    turned[0x0112] = 6
    Image.new("RGB", (30, 20)).save(tmp_path / "a.jpg", exif=turned)
    assert read_picture(str(tmp_path / "a.jpg"), "image 1").shape == (20, 30, 3)


def test_labels_are_the_indices_of_the_palette(tmp_path: Path) -> None:
    labels = np.array([[0, 1, 2], [255, 1, 0]], dtype=np.uint8)
    write_labels(tmp_path / "a.png", labels)
    np.testing.assert_array_equal(read_labels(str(tmp_path / "a.png"), "frame 0"), labels)


def test_labels_in_gray_are_their_values(tmp_path: Path) -> None:
    labels = np.array([[0, 1], [2, 255]], dtype=np.uint8)
    Image.fromarray(labels).save(tmp_path / "a.png")
    np.testing.assert_array_equal(read_labels(str(tmp_path / "a.png"), "frame 0"), labels)


def test_labels_in_colour_are_refused(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.png", (8, 8))
    with pytest.raises(DatasetItemError, match=r"a\.png, frame 0: its mode is RGB"):
        read_labels(str(tmp_path / "a.png"), "frame 0")


@pytest.mark.parametrize("share", [0.0, 0.02, 0.3, 0.6, 0.9], ids=str)
@pytest.mark.parametrize("suffix", ["jpg", "png"])
def test_a_cut_picture_names_file_and_item(suffix: str, share: float, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    write_picture(path, (120, 160))
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DatasetItemError, match="image 7") as error:
        read_picture(str(path), "image 7")
    assert error.value.problem.file == str(path)
    assert "0x" not in str(error.value)


def test_a_cut_mask_names_file_and_item(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    write_labels(path, np.random.default_rng(0).integers(0, 5, (60, 60), dtype=np.uint8))
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(DatasetItemError, match=r"a\.png, frame 3"):
        read_labels(str(path), "frame 3")


def test_a_picture_of_another_size_says_both(tmp_path: Path) -> None:
    write_picture(tmp_path / "a.jpg", (20, 30))
    with pytest.raises(DatasetItemError, match=r"20 x 30 pixels \(height x width\), 30 x 20 were expected"):
        FilePicture(str(tmp_path / "a.jpg"), "image 1", (30, 20)).load()


def test_frames_are_read_one_at_a_time_and_survive_pickling(tmp_path: Path) -> None:
    for name in ("00000", "00005"):
        write_picture(tmp_path / f"{name}.jpg", (20, 30))
    frames = pickle.loads(pickle.dumps(FileFrames(str(tmp_path), ("00000", "00005"), "video a")))
    assert len(frames) == 2 and frames.size == (20, 30) and frames.load(1).shape == (20, 30, 3)


def test_a_frame_of_another_size_is_named(tmp_path: Path) -> None:
    write_picture(tmp_path / "0.jpg", (20, 30))
    write_picture(tmp_path / "1.jpg", (20, 28))
    with pytest.raises(DatasetItemError, match=r"1\.jpg, video a, frame 1: it is 20 x 28"):
        FileFrames(str(tmp_path), ("0", "1"), "video a").load(1)


@pytest.mark.parametrize("kind", [DatasetFileError, DatasetItemError], ids=lambda kind: kind.__name__)
def test_errors_cross_processes_whole(kind: type[DatasetFileError] | type[DatasetItemError]) -> None:
    error = kind("a.json", "ref 1", "it is cut")
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == str(error) and again.problem == error.problem
