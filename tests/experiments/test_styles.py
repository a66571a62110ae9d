"""Experiments on a model that says it knows rich scenes: they are made on rich scenes, unless others are asked for."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from refam_analysis.evaluation.items import hard_items, moving_options
from refam_analysis.experiments import ablation, causal, generation, grounding, magnets, mask_choice, segmenter, video
from refam_analysis.experiments.provenance import Result, Stopwatch
from refam_analysis.experiments.styles import items_in, style_in, style_option
from refam_analysis.models import load_model
from refam_analysis.scenes import MATERIALS, RICH_SHAPES, MovingScenes
from refam_analysis.segmentation.segmenters.embedded import SamConfig, save_embedded_sam, small_sam
from refam_analysis.weights import embedded_folder


@pytest.fixture(scope="module")
def rich_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The embedded model, saying of itself that it knows rich scenes, and read at one noise level in one pass."""
    folder = Path(shutil.copytree(embedded_folder("embedded-dit"), tmp_path_factory.mktemp("rich") / "embedded-dit"))
    said = json.loads((folder / "refam.json").read_text())
    said["grounding"] |= {"seeds": 1}
    (folder / "refam.json").write_text(json.dumps(said | {"scenes": "rich"}))
    return folder


TESTS: dict[str, tuple[Any, Any, str, int]] = {
    "grounding": (grounding, grounding.GroundingTest(items=3), "outcomes", 0),
    "mask-choice": (mask_choice, mask_choice.MaskChoiceTest(validation=2, test=3), "outcomes", 0),
    "magnets": (magnets, magnets.MagnetTest(scenes=3, doses=()), "scenes", magnets.FIRST_SCENE),
    "causal": (causal, causal.CausalTest(scenes=3, pictures=0, numbers=(1,), draws=1), "handling", 0),
}
"""By name: the module, a small test, the table with a row a scene, and the first item of the split."""


@pytest.mark.parametrize("name", list(TESTS))
def test_scenes_are_those_that_the_model_knows(name: str, rich_folder: Path, tmp_path: Path) -> None:
    module, test, table, first = TESTS[name]
    result = module.run(test, folder=rich_folder, results=tmp_path / "results")
    assert result.provenance.configuration["style"] == "rich"
    assert "--style" not in result.provenance.command
    rows = result[table]
    rows = rows[rows["split"] == "test"] if "split" in rows else rows
    expected = [item.scene for item in hard_items("test", 3, skip=first, style="rich")]
    assert list(dict.fromkeys(rows["scene"])) == expected


def test_items_are_those_that_a_configuration_says() -> None:
    made_on = hard_items("test", 3, kinds=("location",), skip=5, style="rich")
    again = items_in({"first_scene": 5, "kinds": ["location"], "style": "rich"}, 2, first=1)
    assert [item.scene for item in again] == [item.scene for item in made_on[1:]]
    assert [item.scene for item in items_in({}, 2)] == [item.scene for item in hard_items("test", 2)]


def test_other_scenes_can_be_asked_for(rich_folder: Path, tmp_path: Path) -> None:
    test = grounding.GroundingTest(items=2, style="plain")
    result = grounding.run(test, folder=rich_folder, results=tmp_path)
    assert result["outcomes"]["expression"][:2].tolist() == [item.expression for item in hard_items("test", 2)]
    assert result.provenance.command.endswith(" --style plain")
    again = grounding.repeat(result, load_model(rich_folder), first=1, number=1)
    np.testing.assert_allclose(again[["x", "y"]], result["outcomes"].query("source == 'model'")[["x", "y"]][1:])


def test_pictures_are_drawn_from_rich_captions_and_judged_among_rich_shapes(rich_folder: Path, tmp_path: Path) -> None:
    result = generation.run(generation.GenerationTest(captions=6, steps=1), folder=rich_folder, results=tmp_path)
    words = {word for caption in result["pictures"]["caption"] for word in caption.split()}
    assert words & set(MATERIALS)
    assert result["pictures"]["shape"].isin(RICH_SHAPES).all()
    chance = result["summary"].set_index("measure").at["... shape: at random", "share"]
    assert chance == pytest.approx(1 / 12)


def test_a_segmenter_is_clicked_in_the_scenes_that_it_knows(tmp_path: Path) -> None:
    config = SamConfig(image_size=48, patch_size=8, width=24, depth=1, heads=2)
    save_embedded_sam(small_sam(config), config, tmp_path / "embedded-sam", scenes="rich")
    test = segmenter.SegmenterTest(scenes=6, occlusions=(0.0,))
    result = segmenter.run(test, folder=tmp_path / "embedded-sam", results=tmp_path / "results")
    assert set(result["clicks"]["shape"]) - {"circle", "square", "triangle", "cross", "ring", "star"}
    again = segmenter.repeat(result, folder=tmp_path / "embedded-sam", first=4, number=1)
    assert again["shape"].tolist() == result["clicks"].query("scene == 4")["shape"].tolist()


def test_clips_are_of_the_style_that_is_asked_for() -> None:
    (clip,) = MovingScenes("test", length=1, options=moving_options("rich"))
    assert all(item.material in MATERIALS for item in clip.motion.scene.objects)
    assert len(np.unique(clip.frames[:2].reshape(2, -1), axis=0)) == 2


def result_of(name: str, **about: Any) -> Result:
    return Result(name, {}, Stopwatch().provenance(f"refam experiment {name}", about, {}))


def test_the_scenes_of_an_ablation_are_those_it_was_made_on() -> None:
    result = result_of("ablation", first_scene=20, kinds=["attribute", "location"], style="rich")
    expected = hard_items("test", 2, skip=21, style="rich")
    assert [item.scene for item in ablation.asked_items(result, 2, first=1)] == [item.scene for item in expected]


@pytest.mark.parametrize(("about", "materials"), [({}, {""}), ({"style": "rich"}, set(MATERIALS))])
def test_the_clips_of_a_result_are_those_it_was_made_on(about: dict[str, str], materials: set[str]) -> None:
    clips = video.followed_clips(result_of("video", clips=2, **about))
    assert len(clips) == 2
    assert {item.material for item in clips[0].motion.scene.objects} <= materials


@pytest.mark.parametrize(("about", "style"), [({}, "plain"), ({"style": None}, "plain"), ({"style": "rich"}, "rich")])
def test_results_that_name_no_style_are_of_plain_scenes(about: dict[str, Any], style: str) -> None:
    assert style_in(about) == style
    assert style_option(None) == ""
