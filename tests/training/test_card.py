"""The model cards say what the results say, and nothing when the results are stale."""

from __future__ import annotations

import re
from pathlib import Path

import pandas as pd
import pytest

from refam_analysis.evaluation.grounding import GroundingReport
from refam_analysis.experiments import drawn_motion, generation, grounding, learning, motion
from refam_analysis.experiments.provenance import NoResultError, Result, Stopwatch
from refam_analysis.scenes import COLOURS
from refam_analysis.segmentation import HeatmapSettings
from refam_analysis.training.card import main, segmenter_card, transformer_card, video_card

LOG = [
    '{"model": "dit", "command": "python -m refam_analysis.training.dit --size 64 --seed 0"}',
    '{"model": "sam", "command": "python -m refam_analysis.training.sam --seed 0"}',
    '{"model": "autoencoder", "step": 100, "loss": 0.05}',
    '{"model": "autoencoder", "psnr": 31.52}',
    '{"model": "dit", "step": 36000, "samples": 1152000, "loss": 0.345, "rate": 80.0}',
    '{"model": "sam", "step": 3000, "samples": 48000, "loss": 0.21}',
]


def result(name: str, configuration: dict, **tables: pd.DataFrame) -> Result:
    return Result(name, tables, Stopwatch().provenance(f"refam experiment {name}", configuration, {}))


@pytest.fixture
def results() -> dict[str, Result]:
    """Results as the experiments make them, of numbers that are easy to find again."""
    outcomes = pd.DataFrame({"source": "model", "kind": ["attribute", "location"] * 50, "scene": range(100)})
    outcomes["target"] = [1.0] * 61 + [0.0] * 39
    outcomes["distractor_1"] = [0.0] * 90 + [1.0] * 10
    pictures = pd.DataFrame({"colour": ["red"] * 10, "other_colour": ["blue"] * 10, "true_colour": ["red"] * 10})
    shapes = {name: ["star"] * 10 for name in ("shape", "other_shape", "drawn_shape", "true_shape")}
    pictures = pictures.assign(object=True, **shapes)
    pictures = pictures.assign(held_out=False, in_place=1.0, **{f"share_{name}": 0.0 for name in COLOURS})
    pictures["share_red"] = [1.0] * 9 + [0.0]
    summary = pd.DataFrame([{"occlusion": 0.0, "group": "all", "clicks": 1250, "iou": 0.9412, "iou_low": 0.93,
                             "iou_high": 0.95, "best": 0.96, "correlation": 0.77}])  # fmt: skip
    log = pd.DataFrame({"line": LOG})
    settings = HeatmapSettings(blocks=(1, 2))
    table = grounding.summary(GroundingReport(outcomes, settings))
    asked = {"items": 100, "settings": settings.to_dict()}
    drawn = {"captions": 10, "steps": 28, "guidance": 3.0, "filled": 0.5}
    return {
        "settings": result("settings", {"items": 300}),
        "grounding": result("grounding", asked, outcomes=outcomes, summary=table),
        "generation": result("generation", drawn, summary=generation.summary(pictures)),
        "segmenter": result("segmenter", {"scenes": 500}, summary=summary),
        "learning": result("learning", {}, log=log, curves=learning.curves(log)),
    }


def test_the_card_of_the_transformer_has_its_numbers(results: dict[str, Result]) -> None:
    card = transformer_card(results)
    words = " ".join(card.split())
    assert card.startswith("---\nlicense: apache-2.0\n")
    for said in (
        "36,000 steps, 1,152,000 samples, 4.0 hours; loss at the end 0.345",
        "Autoencoder: 100 steps; loss",
        "31.5 dB",
        "--size 64 --seed 0",
        "chosen on validation scenes",
        "600 validation scenes",
        "'blocks': (1, 2)",
        "is met",
        "refam experiment grounding refam experiment generation",
    ):
        assert said.replace("(1, 2)", "[1, 2]") in words
    assert re.search(r"\| model \| all \| 100 \| 0\.610 \(0\.\d+ to 0\.\d+\) \| 0\.100 ", card)
    assert re.search(r"\| colour fills the object \| 10 \| 0\.900 ", card)
    assert "| ... colour: at random | 10 | 0.125 |" in card
    assert "training.sam" not in card and "nan" not in card


def test_the_card_of_the_segmenter_has_its_numbers(results: dict[str, Result]) -> None:
    card = segmenter_card(results)
    assert "Segmenter: 3,000 steps, 48,000 samples; loss at the end 0.210." in card
    assert "| 0.00 | all | 1250 | 0.96 | 0.77 | 0.941 (0.930 to 0.950) |" in card
    assert "training.sam --seed 0" in card and "training.dit" not in card


def test_tables_of_the_cards_are_whole(results: dict[str, Result]) -> None:
    for card in (transformer_card(results), segmenter_card(results)):
        tables = re.findall(r"(?:^\|.*\|\n)+", card, re.MULTILINE)
        assert tables
        for table in tables:
            assert len({line.count("|") for line in table.splitlines()}) == 1


def test_without_results_no_card_is_written(tmp_path: Path) -> None:
    with pytest.raises(NoResultError):
        main(results=tmp_path / "results", weights=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_cards_of_rich_models_tell_of_rich_scenes(results: dict[str, Result]) -> None:
    for name in ("grounding", "segmenter"):
        results[name].provenance.configuration["style"] = "rich"
    lines = ['{"model": "dit", "command": "python -m refam_analysis.training.dit --configuration deep --size 64"}']
    results["learning"] = result("learning", {}, log=pd.DataFrame({"line": [*lines, *LOG[1:]]}),
                                 curves=results["learning"]["curves"])  # fmt: skip
    words = " ".join(transformer_card(results).split())
    assert "12 shapes, 2 sizes and 4 materials" in words and "It has twelve blocks" in words
    card = segmenter_card(results)
    assert "two to six objects" in card and 'load_segmenter("embedded-rich")' in card and "from scratch" not in card


def test_the_card_of_a_grown_model_tells_what_it_was_grown_from(results: dict[str, Result]) -> None:
    lines = [*LOG, '{"model": "dit_earlier", "command": "python -m refam_analysis.training.dit --easy"}']
    log, table = pd.DataFrame({"line": lines}), results["learning"]["curves"]
    earlier = table[table["model"] == "dit"].assign(model="dit_earlier", step=table["step"] // 2)
    results["learning"] = result("learning", {}, log=log, curves=pd.concat([table, earlier]))
    words = " ".join(transformer_card(results).split())
    assert "A shallow transformer of six blocks came first" in words and "faint textures" not in words
    assert "Transformer and text encoders, earlier runs: 18,000 steps" in words and "training.dit --easy" in words
    results["grounding"].provenance.configuration["style"] = "rich"
    assert "A shallow transformer of six blocks was taught an easy lesson first" in " ".join(
        transformer_card(results).split()
    )


def test_a_card_without_drawings_says_nothing_of_them(results: dict[str, Result]) -> None:
    card = transformer_card({name: one for name, one in results.items() if name != "generation"}, "embedded-rich")
    assert 'load_model("embedded-rich")' in card and "## Grounding" in card
    assert "Drawing" not in card and "experiment generation" not in card


def test_the_card_of_the_video_model_tells_of_clips_and_of_motion(results: dict[str, Result]) -> None:
    rows = [
        {
            "shown": shown,
            "item": item,
            "kind": "direction",
            "target": item < 3,
            "rival": item == 3,
            "elsewhere": item > 3,
        }
        for shown in motion.SHOWN
        for item in range(8)
    ]
    ways = pd.DataFrame(
        {"named": ["moving up"] * 4, "drawn": ["moving up"] + ["nowhere"] * 3, "true": ["moving up"] * 4}
    )
    shares = {"jf": 0.857, "jf_low": 0.83, "jf_high": 0.88}
    headline = pd.DataFrame([{"source": "pipeline", "condition": "on target", "scenes": 161, **shares}])
    log = pd.DataFrame({"line": [
        '{"model": "video", "command": "python -m refam_analysis.training.video --configuration deep --frames 1"}',
        '{"model": "video_autoencoder", "psnr": 24.11}',
        '{"model": "video", "step": 18000, "samples": 832000, "loss": 0.486}',
    ]})  # fmt: skip
    results |= {
        "learning": result("learning", {}, log=log, curves=learning.curves(log)),
        "video": result("video", {"clips": 300}, headline=headline),
        "motion": result("motion", {"clips": 8}, summary=motion.summary(pd.DataFrame(rows)),
                         drawn_summary=drawn_motion.drawn_summary(ways)),
    }  # fmt: skip
    card = video_card(results, {"frames": 13, "image_size": [64, 64]})
    words = " ".join(card.split())
    assert "(13 frames of 64 x 64 pixels)" in words and "24.1 dB" in words and "It has twelve blocks" in words
    assert "sees 13 frames, which are 3 latent ones" in words and "18,000 steps, 832,000 samples" in words
    assert "100 held-out test clips of three objects" in words and "Of a clip the first frame is judged." in words
    assert (
        "| direction | clip | 8 | 0.375 (" in card and "| pipeline | on target | 161 | 0.857 (0.830 to 0.880) |" in card
    )
    assert "| goes the named way | 4 | 0.250 (" in card
    for name in ("grounding", "motion", "video", "generation"):
        assert f"refam experiment {name}" in card
