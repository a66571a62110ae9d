"""The whole path on clips: what comes out, where it is kept, and that an interrupted run ends alike."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from families import mochi
from families.running import loaded
from PIL import Image

import refam_analysis as ra
from refam_analysis.models import DiffusionModel
from refam_analysis.scenes import MovingSample
from refam_analysis.segmentation import HeatmapSettings, MaskChoiceError, Segmenter
from refam_analysis.segmentation.result import from_run_lengths
from refam_analysis.segmentation.video import OtherVideoError, VideoResult, VideoStoreError, read_mask, segment_video
from refam_analysis.segmentation.video.propagation import Followed
from refam_analysis.segmentation.video.sam2 import load_sam2_video
from refam_analysis.segmentation.video.store import FolderStore, MemoryStore

ONE_DRAW = HeatmapSettings()


class Interrupted(Exception):
    """Raised in the middle of a clip."""


class Breaking:
    """A clip whose reading stops with an error before one of its frames."""

    name = "breaking"

    def __init__(self, frames: np.ndarray, at: int) -> None:
        self.frames, self.at = frames, at

    def __len__(self) -> int:
        return len(self.frames)

    def read(self, start: int = 0) -> Iterator[np.ndarray]:
        for number in range(start, len(self.frames)):
            if number == self.at:
                raise Interrupted
            yield self.frames[number]


@pytest.fixture(scope="module")
def clip(clips: list[MovingSample]) -> MovingSample:
    return clips[3]


@pytest.fixture(scope="module")
def result(embedded: DiffusionModel, segmenter: Segmenter, clip: MovingSample) -> VideoResult:
    return segment_video(embedded, clip.frames, clip.expression.text, segmenter=segmenter, settings=ONE_DRAW)


def test_the_first_frame_is_what_segment_gives(
    embedded: DiffusionModel, segmenter: Segmenter, clip: MovingSample, result: VideoResult
) -> None:
    image = ra.segment(embedded, clip.frames[0], clip.expression.text, segmenter=segmenter, settings=ONE_DRAW)
    assert result.point == image.point
    np.testing.assert_allclose(result.heatmap, image.heatmap, rtol=1e-5)
    assert np.array_equal(result.masks[0], image.mask)
    for name in ("prompt", "settings", "masks", "scores", "chosen"):
        assert name in result.stages


def test_there_is_a_mask_a_score_and_a_word_on_sight_for_every_frame(clip: MovingSample, result: VideoResult) -> None:
    assert result.masks.shape == clip.truth.shape == np.asarray(result.masks).shape
    assert result.scores.shape == result.visible.shape == (24,)
    filled = np.asarray(result.masks).any((1, 2))
    assert np.array_equal(filled, result.visible)
    said = {row.frame: row.event for row in result.events.itertuples()}
    assert said.pop(0) == "started"
    assert said == {
        i: "found" if result.visible[i] else "lost" for i in range(1, 24) if result.visible[i] != result.visible[i - 1]
    }


def test_masks_are_read_one_by_one_in_parts_and_together(result: VideoResult) -> None:
    whole = np.asarray(result.masks)
    assert np.array_equal(whole[-1], result.masks[-1]) and np.array_equal(whole[3:9:2], result.masks[3:9:2])
    assert all(np.array_equal(*pair) for pair in zip(whole, result.masks, strict=True))
    with pytest.raises(IndexError):
        result.masks[24]


def test_the_same_call_gives_the_same_masks(
    embedded: DiffusionModel, segmenter: Segmenter, clip: MovingSample, result: VideoResult
) -> None:
    again = segment_video(embedded, list(clip.frames), clip.expression.text, segmenter=segmenter, settings=ONE_DRAW)
    assert np.array_equal(again.masks, result.masks) and np.array_equal(again.scores, result.scores)


def test_plain_values_tell_everything(result: VideoResult) -> None:
    written = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert [row["frame"] for row in written["frames"]] == list(range(24))
    assert [row["visible"] for row in written["frames"]] == result.visible.tolist()
    assert np.array_equal(from_run_lengths(written["first_frame"]["mask"]), result.masks[0])
    assert {"prompt", "settings", "heatmap", "point"} <= set(written["first_frame"])


def test_masks_in_a_folder_are_those_in_memory(
    embedded: DiffusionModel, segmenter: Segmenter, clip: MovingSample, result: VideoResult, tmp_path: Path
) -> None:
    options = {"segmenter": segmenter, "settings": ONE_DRAW, "store": tmp_path / "masks"}
    stored = segment_video(embedded, clip.frames, clip.expression.text, **options)
    files = sorted((tmp_path / "masks" / "masks").iterdir())
    assert [path.name for path in files] == [f"{i:05d}.png" for i in range(24)]
    assert np.array_equal(np.stack([read_mask(path) for path in files]), result.masks)
    assert np.array_equal(stored.masks, result.masks)
    done = segment_video(embedded, Breaking(clip.frames, 1), clip.expression.text, **options)
    assert np.array_equal(done.masks, result.masks) and done.events.equals(result.events)


@pytest.mark.parametrize("at", [1, 11, 20, 23], ids=lambda at: f"at-{at}")
def test_an_interrupted_run_goes_on_and_ends_alike(
    embedded: DiffusionModel, segmenter: Segmenter, clip: MovingSample, result: VideoResult, tmp_path: Path, at: int
) -> None:
    options = {"segmenter": segmenter, "settings": ONE_DRAW, "store": tmp_path / "masks"}
    with pytest.raises(Interrupted):
        segment_video(embedded, Breaking(clip.frames, at), clip.expression.text, **options)
    resumed = segment_video(embedded, clip.frames, clip.expression.text, **options)
    assert np.array_equal(resumed.masks, result.masks)
    assert np.array_equal(resumed.scores, result.scores) and resumed.events.equals(result.events)
    np.testing.assert_array_equal(resumed.heatmap, result.heatmap)
    assert not (tmp_path / "masks" / "state.safetensors").exists()


def test_another_run_in_the_folder_is_refused(
    embedded: DiffusionModel, segmenter: Segmenter, clip: MovingSample, tmp_path: Path
) -> None:
    options = {"segmenter": segmenter, "settings": ONE_DRAW, "store": tmp_path}
    segment_video(embedded, clip.frames[:2], clip.expression.text, **options)
    with pytest.raises(OtherVideoError, match="differs in expression"):
        segment_video(embedded, clip.frames[:2], "the blue star", **options)
    with pytest.raises(OtherVideoError, match="differs in frames"):
        segment_video(embedded, clip.frames[:3], clip.expression.text, **options)


def test_an_unknown_choice_of_masks_is_refused_whatever_follows(
    embedded: DiffusionModel, sam2_video_folder: Path, clip: MovingSample
) -> None:
    with pytest.raises(MaskChoiceError, match="mask_choice='largest' is unknown"):
        segment_video(
            embedded, clip.frames, "the star", propagation=sam2_video_folder,
            mask_choice="largest",  # type: ignore[arg-type]
        )  # fmt: skip


def test_a_folder_of_something_else_is_refused(
    embedded: DiffusionModel, segmenter: Segmenter, clip: MovingSample, tmp_path: Path
) -> None:
    (tmp_path / "thesis.tex").write_text("all of it")
    with pytest.raises(VideoStoreError, match=r"something else, such as thesis\.tex"):
        segment_video(embedded, clip.frames[:2], "the star", segmenter=segmenter, store=tmp_path)


def test_a_folder_in_which_a_run_was_killed_at_once_is_taken(tmp_path: Path) -> None:
    (tmp_path / "masks").mkdir()
    (tmp_path / ".video.json.partial").write_text('{"frames"')
    assert FolderStore(tmp_path, {"frames": 2}).resume() is None
    assert (tmp_path / "video.json").is_file()


def test_a_video_model_points_and_sam2_follows(
    tmp_path_factory: pytest.TempPathFactory, sam2_video_folder: Path, tmp_path: Path
) -> None:
    """Mochi and SAM 2, small and random but real: shapes, the order of frames, determinism, and going on."""
    model = loaded(mochi.CASE, tmp_path_factory.mktemp("mochi"))
    frames = np.random.default_rng(3).integers(0, 256, (25, 32, 48, 3), np.uint8)
    options = {
        "propagation": sam2_video_folder,
        "clip": 7,
        "settings": HeatmapSettings(noise_levels=(0.5,)),
        "magnets": ["."],
    }
    whole = segment_video(model, frames, "the red ring", **options)
    assert whole.masks.shape == (25, 32, 48) and whole.stages["clip"] == (0, 4, 8, 12, 16, 20, 24)
    assert whole.frame_heatmaps.shape == (2, 2, 3) and whole.frame_heatmaps["frame"].values.tolist() == [0, 4]
    sam2 = load_sam2_video(sam2_video_folder)
    direct = [sam2.begin(frames[0], whole.point).mask, *(sam2.follow(frame).mask for frame in frames[1:])]
    assert np.array_equal(whole.masks, direct)
    with pytest.raises(Interrupted):
        segment_video(model, Breaking(frames, 24), "the red ring", store=tmp_path, **{**options, "clip": 1})
    alone = segment_video(model, frames, "the red ring", **{**options, "clip": 1})
    resumed = segment_video(model, frames, "the red ring", store=tmp_path, **{**options, "clip": 1})
    assert np.array_equal(resumed.masks, alone.masks) and np.array_equal(resumed.scores, alone.scores)


def test_masks_in_memory_are_small() -> None:
    """A thousand masks of 480 x 854 pixels, 410 MB as an array, take a few megabytes."""
    y, x = np.mgrid[:480, :854]
    disc = (x - 300) ** 2 + (y - 200) ** 2 < 90**2
    kept = MemoryStore()
    for _ in range(50):
        kept.add(Followed(disc, 1.0, True), dict)
    held = sum(runs["counts"].nbytes for runs in kept._runs)
    assert 1000 / 50 * held < 4e6
    assert np.array_equal(kept.masks(disc.shape)[49], disc)


def test_a_folder_of_pictures_is_a_clip(
    embedded: DiffusionModel, segmenter: Segmenter, clip: MovingSample, result: VideoResult, tmp_path: Path
) -> None:
    for i, frame in enumerate(clip.frames):
        Image.fromarray(frame).save(tmp_path / f"{i}.png")
    found = segment_video(embedded, tmp_path, clip.expression.text, segmenter=segmenter, settings=ONE_DRAW)
    assert np.array_equal(found.masks, result.masks)
