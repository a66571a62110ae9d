"""The experiment on the whole pipeline: that its rows are those of ``segment``, and its shares those of its rows."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from refam_analysis.evaluation import hard_items, mean_iou, overall_iou, point_accuracy
from refam_analysis.experiments import pipeline
from refam_analysis.experiments.provenance import Result
from refam_analysis.models import load_model
from refam_analysis.prompts import DEFAULT_MAGNETS
from refam_analysis.scenes import KINDS
from refam_analysis.segmentation import load_segmenter, segment
from refam_analysis.segmentation.pipeline import default_settings
from refam_analysis.weights import embedded_folder

TEST = pipeline.PipelineTest(items=6, seed=3, batch_size=4, first_scene=20)


@pytest.fixture(scope="module")
def result(tmp_path_factory: pytest.TempPathFactory) -> Result:
    return pipeline.run(TEST, results=tmp_path_factory.mktemp("results"))


def test_every_way_has_every_item_once(result: Result) -> None:
    counts = result["outcomes"].groupby("way")["item"].agg(["size", "nunique"])
    assert set(counts.index) == set(pipeline.WAYS) and (counts == 6).all(axis=None)
    assert set(result["outcomes"]["objects"]) <= {3, 4}


@pytest.mark.parametrize("way", ["attention", "reading", pipeline.PIPELINE])
def test_points_and_masks_are_those_of_segment(result: Result, way: str) -> None:
    model, segmenter = load_model("embedded"), load_segmenter("embedded")
    own = default_settings(model)
    settings = own.attention_alone if way == "attention" else own
    magnets = DEFAULT_MAGNETS if way == pipeline.PIPELINE else ()
    items = hard_items("test", 6, skip=20, kinds=KINDS, objects=(3, 4))
    found = [
        segment(model, item.image, item.expression, magnets=magnets, settings=settings, segmenter=segmenter,
                seed=3 + i * settings.seeds)
        for i, item in enumerate(items)
    ]  # fmt: skip
    rows = result["outcomes"].query("way == @way").sort_values("item")
    np.testing.assert_array_equal(rows[["x", "y"]], [one.point for one in found])
    masks, truths = [one.mask for one in found], [item.masks[item.target] for item in items]
    row = result["summary"].query("kind == 'all' and way == @way").iloc[0]
    assert row["point_accuracy"] == pytest.approx(point_accuracy([one.point for one in found], truths))
    assert row["mean_iou"] == pytest.approx(mean_iou(masks, truths))
    assert row["overall_iou"] == pytest.approx(overall_iou(masks, truths))


def test_a_point_that_knows_is_on_the_target(result: Result) -> None:
    rows = result["summary"].query("way == @pipeline.KNOWN")
    assert (rows["point_accuracy"] == 1.0).all()
    np.testing.assert_allclose(rows["iou_where_right"], rows["mean_iou"])


def test_kinds_are_told_apart_and_two_of_them_together() -> None:
    outcomes = pd.DataFrame(
        {"way": "reading", "item": range(4), "scene": range(4), "kind": KINDS, "objects": 3, "x": 0.0, "y": 0.0,
         "on_target": [True, False, True, True], "intersection": [3, 0, 2, 4], "union": [4, 5, 4, 4]}
    )  # fmt: skip
    table = pipeline.summary(outcomes).set_index("kind")
    assert list(table.index) == ["all", "attribute, location", *KINDS]
    both = table.loc["attribute, location"]
    assert (both["scenes"], both["point_accuracy"], both["mean_iou"]) == (2, 0.5, 0.375)
    assert both["overall_iou"] == pytest.approx(3 / 9)
    assert table.loc["all", "iou_where_right"] == pytest.approx((0.75 + 0.5 + 1.0) / 3)
    assert np.isnan(table.loc["location", "iou_where_right"])


def test_some_rows_are_computed_again(result: Result) -> None:
    again = pipeline.repeat(result, load_model("embedded"), load_segmenter("embedded"), first=2, number=3)
    rows = result["outcomes"].query("2 <= item < 5 and way != @pipeline.OTHER")
    order = ["way", "item"]
    pd.testing.assert_frame_equal(
        again.sort_values(order, ignore_index=True), rows.sort_values(order, ignore_index=True)
    )


def test_the_size_of_the_parts_does_not_matter(result: Result, tmp_path: Path) -> None:
    again = pipeline.run(dataclasses.replace(TEST, batch_size=6), results=tmp_path)
    order = ["way", "item"]
    pd.testing.assert_frame_equal(*(one["outcomes"].sort_values(order, ignore_index=True) for one in (again, result)))
    assert again.provenance.command == "refam experiment pipeline --items 6 --seed 3"


def test_clips_are_asked_with_the_sentences_that_they_have(tmp_path: Path) -> None:
    test = pipeline.PipelineTest(items=2, batch_size=2, first_scene=0)
    table = pipeline.run(test, folder=embedded_folder("embedded-video"), results=tmp_path)["summary"]
    assert list(table["kind"].unique()) == ["all", "attribute", "location"]
