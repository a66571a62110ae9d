from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from references.node import ask_node

from refam_analysis.scenes import BACKGROUNDS, COLOURS, SHAPES, SIZES, Scene, SceneObject, Scenes, render

IMPORT = "import { %s } from './engine_scene.js';\n"
VOCABULARY = {
    "colours": dict(COLOURS), "sizes": dict(SIZES), "shapes": list(SHAPES), "backgrounds": dict(BACKGROUNDS),
}  # fmt: skip


@pytest.fixture(scope="module")
def sampled() -> list[dict[str, Any]]:
    code = "const reply = Array.from({ length: 40 }, (_, seed) => sampleScene(seed, 1 + (seed % 4), question));"
    scenes: list[dict[str, Any]] = ask_node(IMPORT % "sampleScene" + code, VOCABULARY)
    return scenes


def test_pixels_are_those_of_python() -> None:
    scenes = [sample.scene for sample in Scenes("test", length=12)]
    shown = {item.shape for scene in scenes for item in scene.objects}
    assert shown == set(SHAPES)
    question = {"scenes": [dataclasses.asdict(scene) for scene in scenes], "vocabulary": VOCABULARY}
    code = "const reply = question.scenes.map((scene) => [...drawScene(scene, 96, question.vocabulary)]);"
    found = np.array(ask_node(IMPORT % "drawScene" + code, question)).reshape(-1, 96, 96, 3)
    difference = np.abs(found - render(scenes).pictures().astype(int))
    assert difference.max() <= 1
    assert (difference > 0).mean() < 1e-3


def test_seed_decides_the_scene(sampled: list[dict[str, Any]]) -> None:
    code = "const reply = [sampleScene(7, 4, question), sampleScene(8, 4, question)];"
    again, other = ask_node(IMPORT % "sampleScene" + code, VOCABULARY)
    assert again == sampled[7] and again != other


def test_scenes_keep_to_the_words_and_sizes_of_the_package(sampled: list[dict[str, Any]]) -> None:
    for number, scene in enumerate(sampled):
        assert len(scene["objects"]) == 1 + number % 4 and scene["background"] in BACKGROUNDS
        for item in scene["objects"]:
            low, high = SIZES[item["size"]]
            assert item["colour"] in COLOURS and item["shape"] in SHAPES and low <= item["radius"] <= high
            assert all(item["radius"] < item[axis] < 1 - item["radius"] for axis in "xy")


def test_objects_do_not_touch(sampled: list[dict[str, Any]]) -> None:
    for scene in sampled:
        items = [SceneObject(**item) for item in scene["objects"]]
        masks = render([Scene(tuple(items), scene["background"])]).masks[0]
        alone = [render([Scene((item,), scene["background"])]).masks[0, 0] for item in items]
        assert all((mask == single).all() for mask, single in zip(masks, alone, strict=True))


def test_suggested_names_are_true_of_one_object(sampled: list[dict[str, Any]]) -> None:
    code = "const reply = question.map(namesOf);"
    for scene, names in zip(sampled, ask_node(IMPORT % "namesOf" + code, sampled), strict=True):
        for name in names:
            words = set(name.split()[1:])
            fitting = [item for item in scene["objects"] if words <= {item["size"], item["colour"], item["shape"]}]
            assert len(fitting) == 1
