"""Recordings of items, and points read from them in several ways."""

from __future__ import annotations

import numpy as np
import pytest

from refam_analysis.evaluation import (
    GroundingItem,
    NoItemsError,
    accuracy_by_reading,
    grounding_accuracy,
    read_points,
    record_items,
)
from refam_analysis.models import DiffusionModel
from refam_analysis.recording import record
from refam_analysis.segmentation import HeatmapSettings

BOTH = ("image_to_text", "text_to_image")


def test_each_item_has_its_own_noise_whatever_the_batch(model: DiffusionModel, items: list[GroundingItem]) -> None:
    recordings = record_items(model, items, magnets=(".",), keep=["entropy"], batch_size=3, seed=5)
    for index, (item, recording) in enumerate(zip(items, recordings, strict=True)):
        alone = record(model, item.image, item.expression, magnets=(".",), keep=["entropy"], seed=5 + index)
        np.testing.assert_allclose(recording["entropy"], alone["entropy"], atol=1e-4)


def test_names_to_keep_may_come_from_an_iterator(model: DiffusionModel, items: list[GroundingItem]) -> None:
    recordings = record_items(model, items, keep=iter(["entropy"]), batch_size=2)
    assert {recording.kept for recording in recordings} == {("entropy",)}


def test_no_item_is_refused(model: DiffusionModel) -> None:
    with pytest.raises(NoItemsError):
        record_items(model, [])


def test_points_are_those_of_the_grounding_test(model: DiffusionModel, items: list[GroundingItem]) -> None:
    settings = HeatmapSettings(noise_levels=(0.3, 0.7), aggregation="product")
    recordings = record_items(model, items, noise_level=settings.noise_levels, keep=BOTH)
    outcomes = grounding_accuracy(model, items, settings, sources=["model"]).outcomes
    np.testing.assert_allclose(read_points(recordings, items, settings), outcomes[["x", "y"]])


def test_accuracy_is_that_of_each_reading(model: DiffusionModel, items: list[GroundingItem]) -> None:
    readings = {direction: HeatmapSettings(direction=direction) for direction in BOTH}
    recordings = record_items(model, items, keep=BOTH)
    table = accuracy_by_reading(recordings, items, readings).set_index("reading")
    for name, settings in readings.items():
        report = grounding_accuracy(model, items, settings, sources=["model"])
        assert table.loc[name, "accuracy"] == pytest.approx(report.summary()["target"].item())
    assert (table["scenes"] == 6).all()
