"""Clips are read the same from arrays, lists, folders and video files; masks and overlays come back as written."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from refam_analysis.segmentation.video import (
    FramesError,
    FrameSizeError,
    UnreadableVideoError,
    VideoOutputError,
    open_frames,
    read_mask,
    write_mask,
    write_overlay,
)


@pytest.fixture
def frames() -> np.ndarray:
    """Twelve frames, 37 x 50: each of one gray, the next brighter."""
    return np.stack([np.full((37, 50, 3), 20 * i, np.uint8) for i in range(12)])


def write_video(path: Path, frames: np.ndarray, codec: str = "ffv1") -> None:
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=10)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")))
        container.mux(stream.encode())


@pytest.mark.parametrize("source", ["array", "list", "folder", "video"])
def test_every_source_gives_the_same_frames(frames: np.ndarray, tmp_path: Path, source: str) -> None:
    if source == "folder":  # number 10 comes after number 9
        for i, frame in enumerate(frames):
            Image.fromarray(frame).save(tmp_path / f"frame{i}.png")
        (tmp_path / "notes.txt").write_text("no picture")
    write_video(tmp_path / "clip.mkv", frames) if source == "video" else None
    given = {"array": frames, "list": list(frames), "folder": tmp_path, "video": tmp_path / "clip.mkv"}[source]
    clip = open_frames(given)
    assert len(clip) == 12
    for start in (0, 7):
        assert np.array_equal(np.stack(list(clip.read(start))), frames[start:])
    assert open_frames(clip) is clip


def test_an_overlay_tints_the_mask_alone_and_is_as_long_as_the_clip(frames: np.ndarray, tmp_path: Path) -> None:
    masks = np.zeros(frames.shape[:3], dtype=bool)
    masks[:, 8:24, 16:32] = True
    write_overlay(tmp_path / "made" / "overlay.mp4", open_frames(frames), masks)
    drawn = np.stack(list(open_frames(tmp_path / "made" / "overlay.mp4").read())).astype(int)
    assert drawn.shape == (12, 38, 50, 3)  # an even number of rows
    assert np.abs(drawn[:, :4, :10] - frames[:, :4, :10]).max() < 12
    inside = drawn[:, 12:20, 20:28].mean((0, 1, 2))
    assert inside[0] > inside[1] > inside[2] + 20  # orange


def test_a_mask_is_an_indexed_picture_in_davis_colours(tmp_path: Path) -> None:
    mask = np.random.default_rng(0).random((20, 31)) > 0.5
    write_mask(mask, tmp_path / "00000.png")
    assert np.array_equal(read_mask(tmp_path / "00000.png"), mask)
    with Image.open(tmp_path / "00000.png") as picture:
        assert picture.mode == "P" and np.array_equal(np.asarray(picture), mask.astype(np.uint8))
        colours = np.asarray(picture.convert("RGB"))
    assert {tuple(colour) for colour in colours[mask]} == {(128, 0, 0)} and not colours[~mask].any()
    assert [path.name for path in tmp_path.iterdir()] == ["00000.png"]


@pytest.mark.parametrize(
    ("source", "message"),
    [([], "at least one"), (np.zeros((4, 8, 8)), r"this one is \(4, 8, 8\)"), (np.zeros((0, 8, 8, 3)), "this one is")],
    ids=["empty-list", "gray", "no-frame"],
)
def test_what_is_no_clip_is_refused(source: object, message: str) -> None:
    with pytest.raises(FramesError, match=message):
        open_frames(source)  # type: ignore[arg-type]


def test_an_empty_folder_is_told(tmp_path: Path) -> None:
    with pytest.raises(FramesError, match="holds no pictures"):
        open_frames(tmp_path)


@pytest.mark.parametrize("content", [None, b"", b"no video at all" * 50], ids=["missing", "empty", "other"])
def test_an_unreadable_video_is_told(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "clip.mp4"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(UnreadableVideoError, match=r"clip\.mp4"):
        open_frames(path)


def test_a_video_that_breaks_off_is_as_long_as_what_can_be_read(frames: np.ndarray, tmp_path: Path) -> None:
    write_video(tmp_path / "whole.mkv", frames)
    whole = (tmp_path / "whole.mkv").read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) * 2 // 3])
    try:
        clip = open_frames(tmp_path / "cut.mkv")
        read = list(clip.read())
    except UnreadableVideoError as error:
        assert "after" in str(error)
        return
    assert 0 < len(read) == len(clip) < 12


def test_a_sound_file_holds_no_pictures(tmp_path: Path) -> None:
    path = tmp_path / "sound.wav"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("pcm_s16le", rate=8000, layout="mono")
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 800), np.int16), format="s16", layout="mono")
        sound.rate = 8000
        container.mux(stream.encode(sound))
    with pytest.raises(UnreadableVideoError, match="holds no pictures"):
        open_frames(path)


def test_frames_of_two_sizes_are_refused(frames: np.ndarray) -> None:
    clip = open_frames([*frames[:3], frames[3][:30]])
    with pytest.raises(FrameSizeError, match=r"Frame 3 has the size \(30, 50\)"):
        list(clip.read())


def test_an_overlay_that_cannot_be_written_is_told(frames: np.ndarray, tmp_path: Path) -> None:
    with pytest.raises(VideoOutputError, match="cannot be written"):
        write_overlay(tmp_path / "overlay.nothing", open_frames(frames), np.zeros(frames.shape[:3], bool))


def test_a_clip_that_cannot_be_read_is_not_taken_for_one_that_cannot_be_written(
    frames: np.ndarray, tmp_path: Path
) -> None:
    clip = open_frames([*frames[:3], frames[3][:30]])
    with pytest.raises(FrameSizeError, match="Frame 3"):
        write_overlay(tmp_path / "overlay.mp4", clip, np.zeros((4, 37, 50), bool))
