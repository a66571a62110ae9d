"""What the sentence alone tells: accuracy of noun phrases, and what they and places leave of a scene's expressions."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from refam_analysis.evaluation.expressions import (
    expression_readings,
    noun_phrase_accuracy,
    objects_meant,
    readings_by_kind,
)
from refam_analysis.prompts import parsed
from refam_analysis.prompts.noun_phrases import Source
from refam_analysis.scenes import KINDS, Scene, SceneObject, Scenes

needs_spacy = pytest.mark.skipif(not parsed.is_installed(), reason="the extra nlp is not installed")
PARSERS = ["rules", pytest.param("spacy", marks=needs_spacy)]
SCENE = Scene(
    (
        SceneObject("ring", "red", "small", 0.2, 0.2, 0.1),
        SceneObject("ring", "blue", "large", 0.8, 0.5, 0.16),
        SceneObject("star", "red", "large", 0.5, 0.8, 0.17),
    ),
    "navy",
)


@pytest.mark.parametrize(
    ("parser", "subset", "number", "phrases", "heads"),
    [
        ("rules", "main", 60, 58, 58),
        ("rules", "held_out", 30, 27, 26),
        pytest.param("spacy", "main", 60, 54, 54, marks=needs_spacy),
        pytest.param("spacy", "held_out", 30, 21, 24, marks=needs_spacy),
    ],
)
def test_noun_phrases_are_right_as_often_as_measured(
    parser: Source, subset: str, number: int, phrases: int, heads: int
) -> None:
    """Lower bounds: what was measured, less a margin for another version of the parser."""
    table = noun_phrase_accuracy(parser=parser, subset=subset)
    right = table[["phrase_right", "head_right"]].sum()
    print(f"{parser}, {subset}: phrase {right['phrase_right']}, head {right['head_right']} of {len(table)}")
    assert len(table) == number
    assert right["phrase_right"] >= phrases and right["head_right"] >= heads


@pytest.mark.parametrize("subset", ["main", "held_out"])
def test_phrases_decided_by_hand_are_words_of_their_expressions_in_order(subset: str) -> None:
    table = noun_phrase_accuracy(parser="rules", subset=subset)
    assert not table["expression"].duplicated().any()
    assert set(table["style"]) == {"refcoco", "refcoco+", "refcocog", "video"}
    for row in table.itertuples():
        left = iter(row.expression.split())
        assert all(word in left for word in row.phrase.split()), row.expression
        assert row.head in row.phrase.split()


@pytest.mark.parametrize(
    ("phrase", "objects"),
    [
        ("the red ring", [0]),
        ("the ring", [0, 1]),
        ("the one", [0, 1, 2]),
        ("the large red one", [2]),
        ("the green one", []),
        ("the leftmost ring", [0]),
        ("the lowest one", [2]),
        ("the largest red one", [2]),
        ("the topmost green one", []),
        ("the ring of fire", []),
    ],
)
def test_objects_meant_by_a_phrase(phrase: str, objects: list[int]) -> None:
    assert objects_meant(phrase, SCENE) == objects


def test_materials_tell_objects_of_rich_scenes_apart() -> None:
    matt, shiny = (
        SceneObject("heart", "red", "large", x, 0.5, 0.16, material=m) for x, m in ((0.2, "matt"), (0.8, "shiny"))
    )
    assert objects_meant("the shiny red heart", Scene((matt, shiny), "grass")) == [1]


@pytest.fixture(scope="module", params=PARSERS)
def readings(request: pytest.FixtureRequest) -> pd.DataFrame:
    return expression_readings(Scenes("validation", length=60), parser=request.param)


def test_noun_phrases_delete_place_and_relation_and_nothing_else(readings: pd.DataFrame) -> None:
    alone = readings.groupby("kind")["singled_out"].mean()
    assert alone["attribute"] == 1.0 and alone["superlative"] == 1.0
    assert alone["location"] == 0.0 and alone["relation"] == 0.0


def test_noun_phrases_are_true_of_the_target_among_others(readings: pd.DataFrame) -> None:
    lost = readings[readings["kind"].isin(["location", "relation"])]
    assert (lost["meant"] > 1).mean() > 0.95


def test_places_are_named_by_location_and_never_by_attribute_and_relation(readings: pd.DataFrame) -> None:
    named = readings.groupby("kind")["has_place"].mean()
    assert named["location"] == 1.0 and named["attribute"] == 0.0 and named["relation"] == 0.0
    assert 0.0 < named["superlative"] < 1.0


def test_the_bias_favours_the_target_mostly_and_never_without_a_place(readings: pd.DataFrame) -> None:
    assert readings.loc[readings["kind"] == "location", "favoured"].mean() > 0.8
    assert not readings.loc[~readings["has_place"], "favoured"].any()


def test_shares_by_kind_are_those_of_the_rows() -> None:
    readings = expression_readings(Scenes("validation", length=40), parser="rules")
    table = readings_by_kind(readings).set_index("kind")
    assert list(table.index) == list(KINDS)
    for kind, rows in readings.groupby("kind"):
        assert table.loc[kind, "scenes"] == len(rows)
        for name in ("singled_out", "has_place", "favoured"):
            low, share, high = table.loc[kind, [f"{name}_low", name, f"{name}_high"]]
            assert share == pytest.approx(rows[name].mean())
            assert low <= share <= high
    assert np.isfinite(table.to_numpy(dtype=float)).all()
