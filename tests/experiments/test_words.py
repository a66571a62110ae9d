"""Words that a model was not taught: what is asked, that only words change, and what is counted."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from refam_analysis.evaluation.grounding import grounding_accuracy, points_of
from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.experiments import words
from refam_analysis.experiments.provenance import RESULTS, load_result
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.prompts import make_prompt
from refam_analysis.scenes import RICH_SHAPES, SHAPES
from refam_analysis.segmentation.pipeline import chosen_settings


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return load_model("embedded")


@pytest.fixture(scope="module")
def items() -> list[GroundingItem]:
    return words.word_items(5)


@pytest.fixture(scope="module")
def outcomes(model: DiffusionModel, items: list[GroundingItem]) -> pd.DataFrame:
    return words.measure(model, items, chosen_settings(model))


def test_an_item_is_named_by_what_its_target_alone_is(items: list[GroundingItem]) -> None:
    for item in items:
        named = [f"the {pair[0]} {pair[1]}" for pair in zip(item.colours, item.shapes, strict=True)]
        assert [i for i, text in enumerate(named) if text == item.expression] == [item.target]


def test_items_can_be_skipped_and_are_rich_where_asked_for(items: list[GroundingItem]) -> None:
    assert [one.scene for one in words.word_items(2, skip=3)] == [one.scene for one in items[3:]]
    shapes = {shape for item in words.word_items(8, style="rich") for shape in item.shapes}
    assert shapes <= set(RICH_SHAPES) and shapes - set(SHAPES)


def test_one_word_at_a_time_is_replaced() -> None:
    masks = np.zeros((1, 4, 4), dtype=bool)
    item = GroundingItem(masks[0], masks, "the red ring", "attribute", 0, (), 0, ("red",), ("ring",))
    texts = {(way.group, way.condition): way.text for way in words.ways_of_asking(item)}
    assert texts["", words.OWN] == "the red ring"
    assert texts["colour", "synonym"] == "the crimson ring" and texts["shape", "synonym"] == "the red hoop"
    assert texts["colour", "unseen synonym"] == "the scarlet ring"
    assert texts["colour", "left out"] == "the ring" and texts["shape", "left out"] == "the red one"
    assert texts["sentence", "longer, of unseen words"].startswith("please find the red ring that")
    assert len(texts) == len(words.ways_of_asking(item)) == 1 + 2 * 4 + 2


def test_what_has_no_synonym_is_not_asked_about() -> None:
    masks = np.zeros((1, 4, 4), dtype=bool)
    item = GroundingItem(masks[0], masks, "the red star", "attribute", 0, (), 0, ("red",), ("star",))
    assert ("shape", "synonym") not in {(way.group, way.condition) for way in words.ways_of_asking(item)}


def test_every_sentence_fits_into_a_prompt(model: DiffusionModel) -> None:
    for colour, shape in (("turquoise", "crucifix"), ("purple", "triangle")):
        for form in words.SENTENCES.values():
            model.tokens(make_prompt(form.format(f"the {colour} {shape}")))


def test_own_words_are_answered_as_the_test_of_grounding_answers(
    outcomes: pd.DataFrame, model: DiffusionModel, items: list[GroundingItem]
) -> None:
    direct = grounding_accuracy(model, items, chosen_settings(model), sources=["model"]).outcomes
    own = outcomes[outcomes["condition"] == words.OWN]
    np.testing.assert_allclose(own[["x", "y"]], direct[["x", "y"]], atol=4.0)
    assert own["target"].tolist() == (direct["target"] > 0.5).tolist()


def test_an_item_has_the_same_noise_in_all_its_ways(
    outcomes: pd.DataFrame, model: DiffusionModel, items: list[GroundingItem]
) -> None:
    rows = outcomes[(outcomes["item"] == 3) & (outcomes["condition"] == "unseen synonym")]
    settings = chosen_settings(model)
    for row in rows.to_dict("records"):
        alone = points_of(model, [items[3]], [row["expression"]], settings, (), seed=3 * settings.seeds)[0]
        np.testing.assert_allclose(alone, (row["x"], row["y"]), atol=4.0)


def test_unknown_words_fall_into_pieces(outcomes: pd.DataFrame) -> None:
    own = outcomes[outcomes["condition"] == words.OWN]
    assert set(own["pieces"]) == {3}
    assert (outcomes.loc[outcomes["condition"] == "no word", "pieces"] > 3).all()


def test_the_summary_is_paired_with_the_same_items() -> None:
    counted = {
        ("", words.OWN, ""): [1, 1, 0, 1],
        ("colour", "synonym", "red"): [0, 1],
        ("colour", "synonym", "blue"): [0, 0],
    }
    rows = []
    for (group, condition, word), values in counted.items():
        first = 2 if word == "blue" else 0
        rows += [
            {"item": first + i, "group": group, "condition": condition, "word": word, "target": bool(value)}
            for i, value in enumerate(values)
        ]
    table = words.summary(pd.DataFrame(rows)).set_index("word")
    assert table.loc["all", ["items", "own", "target", "change"]].tolist() == [4, 0.75, 0.25, -0.5]
    assert table.loc["red", ["items", "own", "target"]].tolist() == [2, 1.0, 0.5]
    assert table.loc["blue", "change"] == pytest.approx(-0.5)
    assert table.index[0] == "all"


def test_committed_outcomes_are_the_same_again(model: DiffusionModel) -> None:
    if not (RESULTS / words.NAME).is_dir():
        pytest.skip("results/words is not made yet")
    result = load_result(words.NAME)
    again = words.repeat(result, model, first=40, number=2)
    rows = result["outcomes"].query("40 <= item < 42").sort_values(["group", "condition", "item"], ignore_index=True)
    again = again.sort_values(["group", "condition", "item"], ignore_index=True)
    assert again["expression"].tolist() == rows["expression"].tolist()
    moved = np.abs(again[["x", "y"]].to_numpy() - rows[["x", "y"]].to_numpy()).max(axis=1)
    # An argmax may tip to another patch where two are equal to the last digit.
    assert (moved < 4.0).mean() > 0.85
    pd.testing.assert_frame_equal(result["summary"], words.summary(result["outcomes"]))
