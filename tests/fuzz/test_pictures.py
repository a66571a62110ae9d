"""Pictures and clips whose bytes are changed: pixels, or one of our sentences."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from PIL import Image

from fuzz.mutating import changes, examples, mutate
from refam_analysis.errors import RefamError
from refam_analysis.evaluation.datasets.files import picture_size, read_labels, read_picture
from refam_analysis.models.images import load_image
from refam_analysis.segmentation.video import open_frames
from refam_analysis.segmentation.video.files import write_overlay
from refam_analysis.widgets.probe_pictures import uploaded

PIXELS = np.random.default_rng(0).integers(0, 256, (12, 14, 3), np.uint8)


def encoded(format_: str, mode: str = "RGB", **options: Any) -> bytes:
    picture = Image.fromarray(PIXELS)
    picture = Image.frombytes(mode, (14, 12), PIXELS.tobytes()) if mode == "LAB" else picture.convert(mode)
    written = io.BytesIO()
    picture.save(written, format=format_, **options)
    return written.getvalue()


def with_orientation() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded("JPEG", exif=exif)


FILES: dict[str, bytes] = {
    "png": encoded("PNG"), "palette": encoded("PNG", "P"), "deep": encoded("PNG", "I;16"), "bits": encoded("PNG", "1"),
    "jpeg": encoded("JPEG"), "turned": with_orientation(), "cmyk": encoded("JPEG", "CMYK"), "webp": encoded("WEBP"),
    "tiff": encoded("TIFF", compression="tiff_lzw"), "lab": encoded("TIFF", "LAB"), "float": encoded("TIFF", "F"),
    "gif": encoded("GIF"), "bmp": encoded("BMP"), "rgba": encoded("PNG", "RGBA"),
}  # fmt: skip

READERS: dict[str, Callable[[Path], Any]] = {
    "a model's": load_image,
    "a data set's": lambda path: read_picture(str(path), "image 1"),
    "a data set's masks": lambda path: read_labels(str(path), "frame 1"),
    "a header's": lambda path: picture_size(str(path), "image 1"),
    "an upload's": lambda path: uploaded(path.read_bytes(), path.name),
}


@pytest.mark.parametrize("reader", READERS.values(), ids=READERS.keys())
@pytest.mark.parametrize("data", FILES.values(), ids=FILES.keys())
@given(changed=changes)
@examples(8)
def test_a_changed_picture_is_pixels_or_a_sentence(
    reader: Callable[[Path], Any], data: bytes, changed: list[tuple[str, float, bytes]], tmp_path: Path
) -> None:
    path = tmp_path / "picture"
    for content in (data, mutate(data, changed)):
        path.write_bytes(content)
        try:
            reader(path)
        except RefamError as error:
            assert str(error).endswith(".")


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("clip") / "clip.mp4"
    frames = open_frames(np.random.default_rng(0).integers(0, 256, (4, 24, 32, 3), np.uint8))
    write_overlay(path, frames, np.zeros((4, 24, 32), dtype=bool))
    return path.read_bytes()


@given(changed=changes)
@examples(150)
def test_a_changed_video_is_frames_or_a_sentence(
    clip: bytes, changed: list[tuple[str, float, bytes]], tmp_path: Path
) -> None:
    path = tmp_path / "clip.mp4"
    path.write_bytes(mutate(clip, changed))
    try:
        frames = open_frames(path)
        assert len(frames) == sum(1 for _ in frames.read())
    except RefamError as error:
        assert str(error).endswith(".")


@given(data=st.binary(max_size=300))
@examples(60)
def test_any_bytes_are_no_video(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "clip.mp4").write_bytes(data)
    with pytest.raises(RefamError):
        list(open_frames(tmp_path / "clip.mp4").read())


names = st.text(st.sampled_from("a0²1٣½ .-"), min_size=1, max_size=6)


@given(stems=st.lists(names, min_size=1, max_size=3, unique=True))
@example(stems=["1²3"])  # a digit that no number has
@examples(40)
def test_a_folder_of_pictures_is_a_clip_whatever_they_are_called(
    stems: list[str], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("frames")
    for stem in stems:
        (folder / f"x{stem}.png").write_bytes(FILES["png"])
    assert len(list(open_frames(folder).read())) == len(stems)
