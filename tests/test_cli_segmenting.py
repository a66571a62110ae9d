"""``refam segment`` and ``segment-batch`` on a tiny model: every switch reaches the library, and files come out."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from references.commands import one_sentence, refam

from refam_analysis.models import load_model
from refam_analysis.segmentation import HeatmapSettings, default_settings, from_run_lengths, segment

SENTENCE = "the red circle on the left"


def settings_of(noise_png: Path, model: Path, tiny_sam: Path, folder: Path, *switches: object) -> HeatmapSettings:
    """What the library was given, as the JSON of the intermediates tells."""
    result = refam(
        "segment", "--image", noise_png, "--expression", SENTENCE, "--out", folder / "mask.png", "--model", model,
        "--segmenter", tiny_sam, "--magnets", ".", "--json", folder / "all.json", *switches,
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    return HeatmapSettings.from_dict(json.loads((folder / "all.json").read_text())["settings"])


SWITCHES = {
    "none": ((), {}),
    "direction": (("--direction", "text_to_image"), {"direction": "text_to_image"}),
    "normalisation": (("--normalisation", "map"), {"normalisation": "map"}),
    "blocks": (("--blocks", "0,2-3"), {"blocks": (0, 2, 3)}),
    "heads": (("--heads", "0:1,2:0"), {"heads": ((0, 1), (2, 0))}),
    "noise levels": (("--noise-level", 0.3, "--noise-level", 0.7), {"noise_levels": (0.3, 0.7)}),
    "seeds": (("--seeds", 2), {"seeds": 2}),
    "aggregation": (("--aggregation", "product"), {"aggregation": "product"}),
    "gas": (("--gas", "redirect"), {"gas": "redirect"}),
    "noun phrase": (("--noun-phrase",), {"noun_phrase": True}),
    "no noun phrase": (("--no-noun-phrase",), {"noun_phrase": False}),
    "spatial bias": (("--spatial-bias", 0.5), {"spatial_bias": 0.5}),
    "upsampling": (("--upsampling", "bicubic"), {"upsampling": "bicubic"}),
}


@pytest.mark.parametrize(("switches", "expected"), SWITCHES.values(), ids=SWITCHES)
def test_every_switch_reaches_the_library(
    noise_png: Path, tiny_flux_folder: Path, tiny_sam: Path, tmp_path: Path, switches: tuple, expected: dict
) -> None:
    found = settings_of(noise_png, tiny_flux_folder, tiny_sam, tmp_path, *switches)
    assert found == HeatmapSettings(**expected)


def test_informative_blocks_are_written_as_their_numbers(
    noise_png: Path, tiny_flux_folder: Path, tiny_sam: Path, tmp_path: Path
) -> None:
    found = settings_of(noise_png, tiny_flux_folder, tiny_sam, tmp_path, "--blocks", "informative")
    assert isinstance(found.blocks, tuple) and found.blocks[-1] == 3


def test_blocks_take_the_place_of_the_models_heads(
    noise_png: Path, tiny_flux_folder: Path, tiny_sam: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for part in tiny_flux_folder.iterdir():
        (model / part.name).symlink_to(part)
    (model / "refam.json").unlink()
    about = json.loads((tiny_flux_folder / "refam.json").read_text())
    own = {"heads": [[1, 0]], "seeds": 2, "spatial_bias": 0.3}
    (model / "refam.json").write_text(json.dumps({**about, "grounding": own}))
    assert default_settings(load_model(model)).heads == ((1, 0),)
    found = settings_of(noise_png, model, tiny_sam, tmp_path, "--blocks", "all")
    assert found == HeatmapSettings(seeds=2, spatial_bias=0.3)


def test_the_intermediates_are_those_of_the_library_call(
    noise_png: Path, tiny_flux_folder: Path, tiny_sam: Path, tmp_path: Path
) -> None:
    settings_of(noise_png, tiny_flux_folder, tiny_sam, tmp_path, "--noun-phrase", "--spatial-bias", 0.5, "--seed", 4)
    read = json.loads((tmp_path / "all.json").read_text())
    expected = segment(
        load_model(tiny_flux_folder), noise_png, SENTENCE, magnets=(".",), segmenter=tiny_sam, noun_phrase=True,
        spatial_bias=0.5, seed=4,
    )  # fmt: skip
    assert read["point"] == list(expected.point) and list(read) == list(expected.stages)
    np.testing.assert_allclose(read["heatmap"]["values"], expected.heatmap, rtol=1e-5)
    np.testing.assert_array_equal(from_run_lengths(read["mask"]), expected.mask)


@pytest.mark.parametrize("switch", [("--blocks", "3-"), ("--blocks", "some"), ("--heads", "3"), ("--spatial-bias", 2)])
def test_what_cannot_be_read_is_a_usage_error(
    noise_png: Path, tiny_flux_folder: Path, tiny_sam: Path, tmp_path: Path, switch: tuple
) -> None:
    result = refam(
        "segment", "--image", noise_png, "--expression", SENTENCE, "--out", tmp_path / "mask.png", "--magnets", "",
        "--model", tiny_flux_folder, "--segmenter", tiny_sam, *switch,
    )  # fmt: skip
    assert result.exit_code == 2 and (f"'{switch[1]}'" in result.output or switch[0] in result.output)


def test_blocks_that_are_not_there_are_answered_in_one_sentence(
    noise_png: Path, tiny_flux_folder: Path, tiny_sam: Path, tmp_path: Path
) -> None:
    said = one_sentence(
        refam("segment", "--image", noise_png, "--expression", SENTENCE, "--out", tmp_path / "mask.png", "--magnets",
              "", "--model", tiny_flux_folder, "--segmenter", tiny_sam, "--blocks", "9")
    )  # fmt: skip
    assert "9" in said


@pytest.fixture
def table(noise_png: Path, tmp_path: Path) -> Path:
    path = tmp_path / "table.csv"
    path.write_text(f"image,expression\n{noise_png},the ring\n{noise_png},the\n{noise_png},{SENTENCE}\n")
    return path


def test_a_batch_is_written_with_all_that_is_asked(
    table: Path, noise_png: Path, tiny_flux_folder: Path, tiny_sam: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    result = refam(
        "segment-batch", "--csv", table, "--out", out, "--model", tiny_flux_folder, "--segmenter", tiny_sam,
        "--magnets", ".", "--spatial-bias", 1, "--on-error", "skip", "--overlays", "--intermediates",
    )  # fmt: skip
    assert result.exit_code == 0, result.output
    assert "2 rows, 1 skipped (skipped.csv says why)" in result.stdout
    results = pd.read_csv(out / "results.csv")
    expected = segment(
        load_model(tiny_flux_folder), noise_png, SENTENCE, magnets=(".",), segmenter=tiny_sam, spatial_bias=1.0
    )
    assert results["row"].tolist() == [1, 3] and tuple(results.loc[1, ["x", "y"]]) == expected.point
    stems = {Path(mask).stem for mask in results["mask"]}
    assert {path.stem for path in (out / "overlays").iterdir()} == stems
    read = {path.stem: json.loads(path.read_text()) for path in (out / "intermediates").iterdir()}
    assert {one["prompt"]["expression"] for one in read.values()} == {"the ring", SENTENCE} and set(read) == stems


def test_a_bad_row_is_answered_in_one_sentence(
    table: Path, tiny_flux_folder: Path, tiny_sam: Path, tmp_path: Path
) -> None:
    said = one_sentence(
        refam("segment-batch", "--csv", table, "--out", tmp_path / "out", "--model", tiny_flux_folder,
              "--segmenter", tiny_sam, "--magnets", "")
    )  # fmt: skip
    assert "Row 2" in said and "only stop words" in said


def test_a_table_without_its_columns_is_answered_in_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "table.csv").write_text("picture,text\na.png,ring\n")
    said = one_sentence(refam("segment-batch", "--csv", tmp_path / "table.csv", "--out", tmp_path / "out"))
    assert "no column image and no column expression" in said
