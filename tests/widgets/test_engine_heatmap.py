from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from references.node import ask_node

from refam_analysis.prompts import places
from refam_analysis.segmentation import choose_mask, peak, reading, spatial_bias
from refam_analysis.segmentation.settings import AGGREGATIONS

IMPORT = "import { %s } from './engine_heatmap.js';\n"


def as_map(values: np.ndarray) -> dict[str, Any]:
    return {"values": values.flatten().tolist(), "rows": values.shape[0], "columns": values.shape[1]}


def plateaus(rng: np.random.Generator) -> list[np.ndarray]:
    """Maps of few different values, so that nearly every peak has several cells, rings among them."""
    ring = np.ones((7, 7))
    ring[2:5, 2:5] = 0.0
    crescent = np.zeros((9, 6))
    crescent[0, 1:5], crescent[1:8, 1], crescent[8, 1:5] = 1.0, 1.0, 1.0
    close = np.array([[1.0, 1.0 - 5e-7], [1.0 - 2e-6, 0.0]])
    drawn = [rng.integers(0, 3, size=rng.integers(2, 9, size=2)).astype(float) for _ in range(200)]
    return [ring, crescent, close, np.zeros((4, 4)), -close, *drawn]


def test_point_has_the_same_rule_for_ties_and_plateaus() -> None:
    maps = plateaus(np.random.default_rng(0))
    code = "const reply = question.map((map) => peak({ ...map, values: Float64Array.from(map.values) }, [96, 64]));"
    found = ask_node(IMPORT % "peak" + code, [as_map(values) for values in maps])
    np.testing.assert_allclose(found, [peak(values, size=(96, 64)) for values in maps], atol=1e-9)


@pytest.mark.parametrize("how", AGGREGATIONS)
def test_words_become_one_map(how: Any) -> None:
    words = np.random.default_rng(1).random((3, 4, 5))
    words[0, 0] = 0.0
    maps = [{**as_map(one)} for one in words]
    found = ask_node(IMPORT % "aggregate" + f"const reply = [...aggregate(question, '{how}').values];", maps)
    expected = reading.aggregate(torch.from_numpy(words.reshape(3, -1)), torch.ones(3, dtype=torch.bool), how)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("how", ["none", "bilinear", "bicubic"])
def test_upsampling_is_that_of_pytorch(how: Any) -> None:
    values = np.random.default_rng(2).random((5, 7)) ** 4
    code = f"const reply = [...upsample(question, '{how}').values];"
    found = ask_node(IMPORT % "upsample" + code, as_map(values))
    expected = reading.upsample(torch.from_numpy(values)[None], how)[0].numpy()
    np.testing.assert_allclose(found, expected.flatten(), atol=1e-9)


@pytest.mark.parametrize(
    "text", ["the red circle", "the dog at the top left", "the one in the corner", "the middle one"]
)
def test_prior_of_places_is_that_of_python(text: str) -> None:
    found = places(text)
    along = [
        {
            axis: value and {"position": value.position, "spread": value.spread, "eitherEnd": value.either_end}
            for axis, value in (("x", place.x), ("y", place.y))
        }
        for place in found
    ]
    code = "const reply = [...withPlaces({ ...question.map }, question.places, 0.7).values];"
    ones = ask_node(IMPORT % "withPlaces" + code, {"map": as_map(np.ones((6, 8))), "places": along})
    np.testing.assert_allclose(ones, spatial_bias(found, (6, 8), strength=0.7).flatten(), atol=1e-12)


@pytest.mark.parametrize("by", ["score", "agreement"])
def test_same_mask_is_chosen(by: Any) -> None:
    rng = np.random.default_rng(3)
    questions, expected = [], []
    for _ in range(40):
        heat = rng.random((4, 4))
        masks, scores = rng.random((3, 12, 10)) > rng.random((3, 1, 1)), rng.integers(0, 3, 3) / 4
        questions.append(
            {"map": as_map(heat), "masks": masks.reshape(3, -1).astype(int).tolist(), "scores": scores.tolist()}
        )
        expected.append(choose_mask(masks, scores, heat, by=by))
    code = f"const reply = question.map((q) => chooseMask(q.masks, q.scores, q.map, [12, 10], '{by}'));"
    assert ask_node(IMPORT % "chooseMask" + code, questions) == expected


def test_content_words_keep_their_pieces_together() -> None:
    tokens = [
        {"kind": "stop", "word": "the", "wordIndex": 0}, {"kind": "content", "word": "teapot", "wordIndex": 1},
        {"kind": "content", "word": "teapot", "wordIndex": 1}, {"kind": "magnet", "word": "a", "wordIndex": 2},
    ]  # fmt: skip
    code = "const reply = contentWords(question, 'the teapot');"
    assert ask_node(IMPORT % "contentWords" + code, tokens) == [{"text": "teapot", "index": 1, "tokens": [1, 2]}]
