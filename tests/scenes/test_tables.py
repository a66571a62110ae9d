"""The data set in numbers: what the tables say of scenes is what was drawn."""

from __future__ import annotations

import numpy as np
import pytest

from refam_analysis.scenes import HELD_OUT, Scene, SceneObject, SceneOptions, Scenes, SceneSample, render
from refam_analysis.scenes.tables import expression_table, object_table


def sample_of(*objects: SceneObject, size: int = 64) -> SceneSample:
    scene = Scene(objects, "navy")
    return SceneSample(np.zeros((size, size, 3), np.uint8), render([scene], size=size).masks[0].numpy(), scene, ())


def square(x: float, colour: str = "red") -> SceneObject:
    return SceneObject("square", colour, "large", x, 0.5, 0.2)


def test_every_object_has_a_row() -> None:
    samples = list(Scenes("test", length=6, size=32))
    table = object_table(samples)
    expected = [(i, j, o.colour, o.shape, o.size) for i, s in enumerate(samples) for j, o in enumerate(s.scene.objects)]
    assert list(table[["scene", "object", "colour", "shape", "size"]].itertuples(index=False, name=None)) == expected


def test_area_is_the_share_of_the_picture_that_is_seen() -> None:
    (area,) = object_table([sample_of(square(0.5))])["area"]
    assert area == pytest.approx((2 * 0.86 * 0.2) ** 2, rel=0.05)


def test_what_lies_in_front_hides_a_share() -> None:
    behind, before = object_table([sample_of(square(0.4), square(0.4 + 0.86 * 0.2, "blue"))])["visible"]
    assert (behind, before) == (pytest.approx(0.5, abs=0.05), 1.0)


def test_no_object_is_hidden_where_none_may_be() -> None:
    assert (object_table(Scenes("validation", length=8, size=48))["visible"] == 1.0).all()


def test_occlusion_hides_less_than_half_of_most_objects() -> None:
    options = SceneOptions(objects=(4, 4), occlusion=1.0)
    visible = object_table(Scenes("validation", length=12, size=48, options=options))["visible"]
    assert visible.min() < 0.98 and visible.median() > 0.5


def test_held_out_pairs_are_told() -> None:
    table = object_table(Scenes("test", length=30, size=16, kinds=()))
    pairs = zip(table["colour"], table["shape"], strict=True)
    assert table["held_out"].tolist() == [pair in HELD_OUT for pair in pairs]
    assert table["held_out"].any()


def test_a_lone_object_offers_no_relation() -> None:
    table = expression_table(Scenes("test", length=20, options=SceneOptions(objects=(1, 1))))
    assert (table.loc[table["kind"] == "relation", "offers"] == 0).all()
    assert (table.loc[table["kind"] == "attribute", "offers"] > 0).all()


def test_offers_count_expressions_and_targets_count_objects() -> None:
    table = expression_table(Scenes("test", length=20))
    assert (table["targets"] <= table["objects"]).all()
    assert (table["targets"] <= table["offers"]).all()
    assert ((table["offers"] > 0) == (table["targets"] > 0)).all()
    assert table.groupby("scene")["kind"].apply(list).map(len).eq(4).all()
