"""``refam segment-video``, as a new user types it, with tiny models."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from references.commands import refam

import refam_analysis as ra
from refam_analysis.scenes import MovingScenes
from refam_analysis.segmentation.video import open_frames, read_mask


@pytest.fixture(scope="module")
def clip(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("clip")
    for i, frame in enumerate(MovingScenes("test", length=1)[0].frames[:8]):
        Image.fromarray(frame).save(folder / f"{i}.png")
    return folder


def test_masks_overlay_and_json_are_those_of_the_library_call(
    tiny_flux_folder: Path, tiny_sam: Path, clip: Path, tmp_path: Path
) -> None:
    places = {name: tmp_path / name for name in ("masks", "overlay.mp4", "all.json")}
    command = (
        "segment-video", "--video", clip, "--expression", "the red circle", "--out", places["masks"],
        "--model", tiny_flux_folder, "--segmenter", tiny_sam, "--overlay", places["overlay.mp4"],
        "--json", places["all.json"], "--magnets", "", "--noise-level", 0.4, "--seed", 2,
        "--mask-choice", "agreement", "--no-noun-phrase",
    )  # fmt: skip
    done = refam(*command)
    assert done.exit_code == 0, done.output
    expected = ra.segment_video(
        ra.load_model(tiny_flux_folder), clip, "the red circle", magnets=(), segmenter=tiny_sam, seed=2,
        settings=ra.HeatmapSettings(noise_levels=(0.4,)), mask_choice="agreement",
    )  # fmt: skip
    written = np.stack([read_mask(path) for path in sorted((places["masks"] / "masks").iterdir())])
    assert np.array_equal(written, expected.masks)
    assert len(open_frames(places["overlay.mp4"])) == 8
    told = json.loads(places["all.json"].read_text())
    assert [row["visible"] for row in told["frames"]] == expected.visible.tolist()
    assert f"8 frames from the point ({expected.point[0]:g}, {expected.point[1]:g})" in done.output
    assert "frame 0: started" in done.output
    again = refam(*command)
    assert again.exit_code == 0 and again.output == done.output


def test_a_folder_of_another_run_is_one_sentence(
    tiny_flux_folder: Path, tiny_sam: Path, clip: Path, tmp_path: Path
) -> None:
    shared = (
        "segment-video", "--video", clip, "--out", tmp_path, "--model", tiny_flux_folder, "--segmenter", tiny_sam,
        "--magnets", "",
    )  # fmt: skip
    assert refam(*shared, "--expression", "the red circle").exit_code == 0
    refused = refam(*shared, "--expression", "a ring")
    assert refused.exit_code == 1 and "differs in expression" in refused.stderr


@pytest.mark.parametrize(
    ("change", "message"),
    [({"--video": "nowhere.mp4"}, "no such file or folder"), ({"--propagation": "hope"}, "no propagation 'hope'")],
    ids=["video", "propagation"],
)
def test_bad_input_is_one_sentence(
    tiny_flux_folder: Path, clip: Path, tmp_path: Path, change: dict[str, str], message: str
) -> None:
    options = {
        "--video": clip, "--expression": "the red circle", "--out": tmp_path / "out", "--model": tiny_flux_folder,
        "--magnets": "",
    } | change  # fmt: skip
    done = refam("segment-video", *(part for pair in options.items() for part in pair))
    assert done.exit_code == 1 and message in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
