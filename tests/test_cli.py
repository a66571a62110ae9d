"""The ``refam`` command on a tiny model and a tiny segmenter: files come out, and bad input is one sentence."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from references.commands import one_sentence, refam

from refam_analysis.models import load_model
from refam_analysis.recording import estimate, load_recording, record
from refam_analysis.segmentation import segment

SENTENCE = "the red circle"


def recording_of(image: Path, model: Path, *options: object) -> tuple[object, ...]:
    """The command that records the sentence, without where to."""
    return ("record", "--image", image, "--expression", SENTENCE, "--model", model, *options)


def test_help_lists_the_commands() -> None:
    result = refam("--help")
    assert result.exit_code == 0
    for command in ("segment", "record", "estimate", "demo"):
        assert command in result.output


def test_help_needs_neither_torch_nor_a_model() -> None:
    script = "import sys; from refam_analysis.cli import app; print('torch' in sys.modules, 'diffusers' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["False", "False"]


def test_the_module_runs_as_a_program() -> None:
    command = [sys.executable, "-m", "refam_analysis.cli", "--help"]
    done = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "COLUMNS": "100"}, check=True)
    assert "Find the object" in done.stdout


def test_segment_writes_the_mask_of_the_library_call(
    noise_png: Path, tiny_flux_folder: Path, tiny_sam: Path, tmp_path: Path
) -> None:
    out, overlay = tmp_path / "new" / "mask.png", tmp_path / "overlay.png"
    result = refam(
        "segment", "--image", noise_png, "--expression", SENTENCE, "--out", out, "--overlay", overlay,
        "--model", tiny_flux_folder, "--segmenter", tiny_sam, "--magnets", ". blue", "--seed", 5,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    model = load_model(tiny_flux_folder)
    expected = segment(model, noise_png, SENTENCE, magnets=(".", "blue"), segmenter=tiny_sam, seed=5)
    with Image.open(out) as written:
        assert written.mode == "L" and written.size == (90, 60)
        np.testing.assert_array_equal(np.asarray(written), expected.mask * np.uint8(255))
    assert f"{expected.mask.sum()} pixels" in result.stdout
    with Image.open(overlay) as drawn:
        assert min(drawn.size) > 200


def test_record_writes_the_recording_of_the_library_call(
    noise_png: Path, tiny_flux_folder: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run.zarr"
    result = refam(
        "record", "--image", noise_png, "--expression", SENTENCE, "--out", out, "--model", tiny_flux_folder,
        "--noise-level", 0.3, "--noise-level", 0.8, "--keep", "entropy", "--block", 1, "--block", 3, "--seed", 2,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    expected = record(
        load_model(tiny_flux_folder),
        noise_png,
        SENTENCE,
        noise_level=[0.3, 0.8],
        keep=["entropy"],
        blocks=[1, 3],
        seed=2,
    )
    written = load_recording(out)
    assert written.kept == ("entropy",)
    np.testing.assert_allclose(written["entropy"], expected["entropy"], rtol=1e-5)
    assert "run.zarr" in result.stdout and "block 2" in result.stdout


def test_record_appends_magnets_only_when_asked(noise_png: Path, tiny_flux_folder: Path, tmp_path: Path) -> None:
    common = recording_of(noise_png, tiny_flux_folder, "--keep", "entropy")
    assert refam(*common, "--out", tmp_path / "none.zarr").exit_code == 0
    assert refam(*common, "--out", tmp_path / "two.zarr", "--magnets", ". a").exit_code == 0
    assert load_recording(tmp_path / "none.zarr").attrs["prompt"] == SENTENCE
    assert load_recording(tmp_path / "two.zarr").attrs["prompt"] == f"{SENTENCE} . a"


def test_record_into_a_store_is_the_same_and_can_be_repeated(
    noise_png: Path, tiny_flux_folder: Path, tmp_path: Path
) -> None:
    common = recording_of(noise_png, tiny_flux_folder, "--size", 24, 40)
    assert refam(*common, "--out", tmp_path / "whole.zarr").exit_code == 0
    for _ in range(2):
        result = refam(*common, "--store", tmp_path / "streamed.zarr")
        assert result.exit_code == 0 and "streamed.zarr" in result.stdout, result.output
    whole, streamed = (load_recording(tmp_path / f"{name}.zarr") for name in ("whole", "streamed"))
    assert streamed.attrs == whole.attrs and streamed.attrs["size"] == [24, 40]
    for name in whole:
        np.testing.assert_allclose(streamed[name], whole[name], rtol=1e-5)
    assert "holds another run" in one_sentence(refam(*common, "--store", tmp_path / "streamed.zarr", "--seed", 1))


@pytest.mark.parametrize("places", [(), ("--out", "a.zarr", "--store", "b.zarr")], ids=["neither", "both"])
def test_record_needs_one_place(noise_png: Path, tmp_path: Path, places: tuple[str, ...]) -> None:
    result = refam("record", "--image", noise_png, "--expression", SENTENCE, *places)
    assert result.exit_code == 2 and "either --out or --store" in result.output


def test_estimate_says_what_the_library_says(tiny_flux_folder: Path) -> None:
    result = refam(
        "estimate", "--model", tiny_flux_folder, "--keep", "full", "--block", 1, "--size", 16, 24, "--steps", 3,
        "--no-measure",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    model = load_model(tiny_flux_folder)
    expected = estimate(model, keep=["full"], blocks=[1], size=(16, 24), steps=3, measure=False)
    assert result.stdout == f"{expected}\n" and "not measured" in result.stdout
    assert "1 forward pass," in refam("estimate", "--model", tiny_flux_folder).stdout


def test_demo_draws_the_whole_path(long_prompts: Path, tiny_sam: Path, tmp_path: Path) -> None:
    out = tmp_path / "demo.png"
    result = refam("demo", "--out", out, "--model", long_prompts, "--segmenter", tiny_sam, "--scene", 1)
    assert result.exit_code == 0, result.output
    assert " the target, IoU of the mask 0." in result.stdout
    with Image.open(out) as drawn:
        assert drawn.size[0] > 800


@pytest.fixture
def long_prompts(tiny_flux_folder: Path, tmp_path: Path) -> Path:
    """The tiny model with room for every sentence of the scenes."""
    shutil.copytree(tiny_flux_folder, tmp_path / "model")
    about = tmp_path / "model" / "refam.json"
    about.write_text(about.read_text().replace('"text_length": 24', '"text_length": 96'))
    return tmp_path / "model"


BAD = {
    "empty expression": ({"--expression": ""}, "is empty"),
    "only stop words": ({"--expression": "the"}, "only stop words"),
    "too long": ({"--expression": "the red circle " * 9}, "would be cut"),
    "no image": ({"--image": "nowhere.png"}, "no such file"),
    "no model": ({"--model": "./nowhere"}, "nowhere"),
    "no segmenter": ({"--segmenter": "sam9"}, "no segmenter 'sam9'"),
    "mask without format": ({"--out": "mask"}, "picture format"),
    "mask of unknown format": ({"--out": "mask.xyz"}, "picture format"),
    "overlay of unknown format": ({"--overlay": "overlay.xyz"}, "picture format"),
    "mask below a file": ({"--out": "file/mask.png"}, "cannot be made"),
}


@pytest.mark.parametrize(("changes", "says"), BAD.values(), ids=BAD)
def test_bad_input_is_answered_in_one_sentence(
    noise_png: Path,
    tiny_flux_folder: Path,
    tiny_sam: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    changes: dict[str, str],
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("file").touch()
    options = {
        "--image": noise_png,
        "--expression": SENTENCE,
        "--out": tmp_path / "mask.png",
        "--model": tiny_flux_folder,
        "--segmenter": tiny_sam,
        "--magnets": "",
        **changes,
    }
    assert says in one_sentence(refam("segment", *[text for pair in options.items() for text in pair]))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


@pytest.mark.parametrize("size", [(1, 1), (3, 400)], ids=str)
def test_a_picture_too_small_to_point_into_is_answered_in_one_sentence(
    tiny_flux_folder: Path, tiny_sam: Path, tmp_path: Path, size: tuple[int, int]
) -> None:
    Image.new("RGB", size).save(tmp_path / "small.png")
    said = one_sentence(
        refam("segment", "--image", tmp_path / "small.png", "--expression", SENTENCE, "--out", tmp_path / "mask.png",
              "--model", tiny_flux_folder, "--segmenter", tiny_sam, "--magnets", "")
    )  # fmt: skip
    assert f"{size[0]} x {size[1]} pixels" in said


def test_a_recording_is_never_overwritten(noise_png: Path, tiny_flux_folder: Path, tmp_path: Path) -> None:
    (tmp_path / "run.zarr").mkdir()
    said = one_sentence(
        refam("record", "--image", noise_png, "--expression", SENTENCE, "--out", tmp_path / "run.zarr",
              "--model", tiny_flux_folder)
    )  # fmt: skip
    assert "already" in said


def test_a_quantity_that_does_not_exist_is_answered_in_one_sentence(
    noise_png: Path, tiny_flux_folder: Path, tmp_path: Path
) -> None:
    said = one_sentence(
        refam("record", "--image", noise_png, "--expression", SENTENCE, "--out", tmp_path / "run.zarr",
              "--model", tiny_flux_folder, "--keep", "everything")
    )  # fmt: skip
    assert "'everything'" in said


def test_a_missing_option_is_a_usage_error() -> None:
    result = refam("segment", "--expression", SENTENCE)
    assert result.exit_code == 2
