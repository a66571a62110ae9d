"""Where points fall, for the model and for the controls."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from refam_analysis.evaluation.grounding import (
    SOURCES,
    GroundingReport,
    NoItemsError,
    grounding_accuracy,
    hits,
    untrained,
)
from refam_analysis.evaluation.items import GroundingItem, ItemsError
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.recording import record
from refam_analysis.segmentation import HeatmapSettings, heatmap, peak, segment
from refam_analysis.segmentation.segmenters.embedded import SamConfig, small_sam
from refam_analysis.segmentation.segmenters.sam import SamSegmenter

SETTINGS = HeatmapSettings(noise_levels=(0.4, 0.8), seeds=2, blocks=(1, 2), aggregation="product")


@pytest.fixture(scope="module")
def report(model: DiffusionModel, items: list[GroundingItem]) -> GroundingReport:
    return grounding_accuracy(model, items, SETTINGS, magnets=(".",), batch_size=3, seed=11)


def item_of(masks: list[list[list[int]]], target: int, distractors: tuple[int, ...]) -> GroundingItem:
    array = np.array(masks, dtype=bool)
    return GroundingItem(
        np.zeros((*array.shape[1:], 3), np.uint8), array, "a ring", "attribute", target, distractors, 0
    )


MASKS = [[[1, 0, 0, 0]], [[0, 1, 0, 0]], [[0, 0, 1, 0]]]


@pytest.mark.parametrize(
    ("x", "expected"), [(0, [0, 0, 1, 0]), (1, [1, 0, 0, 0]), (2, [0, 1, 0, 0]), (3, [0, 0, 0, 1])], ids=str
)
def test_a_point_lies_on_one_thing(x: int, expected: list[int]) -> None:
    """The second object is meant; the third is the distractor most like it, the first comes after."""
    assert hits([item_of(MASKS, 1, (2, 0))], np.array([[x, 0.0]])).tolist() == [expected]


def test_a_random_point_lies_on_things_in_proportion_to_their_area() -> None:
    wide = item_of([[[1, 1, 1, 0]], [[0, 0, 0, 1]]], 0, (1,))
    assert hits([wide], np.full((1, 2), np.nan)).tolist() == [[0.75, 0.25, 0.0]]


def test_items_of_fewer_objects_have_zeros_at_the_missing_places() -> None:
    few, many = item_of(MASKS[:1], 0, ()), item_of(MASKS, 0, (1, 2))
    points = np.array([[3.0, 0.0], [2.0, 0.0]])
    assert hits([few, many], points).tolist() == [[0, 0, 0, 1], [0, 0, 1, 0]]
    assert hits([few], points[:1], distractors=3).tolist() == [[0, 0, 0, 0, 1]]


def test_many_points_an_item_are_looked_up_at_once() -> None:
    points = np.array([[[0.0, 0.0], [1.0, 0.0], [3.0, 0.0]]])
    assert hits([item_of(MASKS, 1, (2, 0))], points)[0, :, 0].tolist() == [0, 1, 0]


def test_the_models_points_are_the_peaks_of_each_items_own_heatmap(
    report: GroundingReport, model: DiffusionModel, items: list[GroundingItem]
) -> None:
    """One item at a time, by the public calls: noise of seed, seed + 1 for the first item, and so on."""
    rows = report.outcomes[report.outcomes.source == "model"]
    for index, (item, row) in enumerate(zip(items, rows.itertuples(), strict=True)):
        group = [
            record(model, item.image, item.expression, magnets=(".",), noise_level=[0.4, 0.8], seed=11 + 2 * index + k)
            for k in range(2)
        ]
        assert (row.x, row.y) == pytest.approx(peak(heatmap(group, SETTINGS), item.image.shape[:2]))


def test_the_shares_of_every_row_sum_to_1(report: GroundingReport) -> None:
    places = ["target", "distractor_1", "distractor_2", "background"]
    np.testing.assert_allclose(report.outcomes[places].sum(axis=1), 1.0)
    summary = report.summary()
    assert summary.source.tolist() == list(SOURCES)
    np.testing.assert_allclose(summary[["target", "likelier_distractor", "elsewhere"]].sum(axis=1), 1.0)


def test_the_summary_counts_scenes_alike_and_its_intervals_hold_the_shares(report: GroundingReport) -> None:
    rows = report.outcomes[report.outcomes.source == "random_point"]
    by_hand = rows.groupby("scene").target.mean().mean()
    summary = report.summary(seed=1).set_index("source").loc["random_point"]
    assert summary.target == pytest.approx(by_hand)
    assert summary.target_low < summary.target < summary.target_high
    assert summary["items"] == 7
    likelier = max(rows.groupby("scene")[name].mean().mean() for name in ("distractor_1", "distractor_2"))
    assert summary.likelier_distractor == pytest.approx(likelier)
    assert summary.ratio == pytest.approx(by_hand / likelier)


def test_the_summary_by_kind_has_a_row_a_kind(report: GroundingReport) -> None:
    summary = report.summary(by_kind=True)
    assert len(summary) == 2 * len(SOURCES)
    assert summary.groupby("source")["items"].sum().tolist() == [7] * len(SOURCES)


def test_the_random_point_has_the_share_of_the_targets_area(
    report: GroundingReport, items: list[GroundingItem]
) -> None:
    rows = report.outcomes[report.outcomes.source == "random_point"]
    assert rows.target.tolist() == pytest.approx([item.masks[item.target].mean() for item in items])


def test_the_size_of_the_batch_does_not_matter(
    report: GroundingReport, model: DiffusionModel, items: list[GroundingItem]
) -> None:
    again = grounding_accuracy(model, items, SETTINGS, magnets=(".",), batch_size=7, seed=11)
    np.testing.assert_allclose(again.outcomes[["x", "y"]], report.outcomes[["x", "y"]])


def test_the_control_with_another_expression_asks_for_one_of_another_scene(
    model: DiffusionModel, items: list[GroundingItem]
) -> None:
    """Two scenes: each must be asked with the other's sentence, at the noise of its own place."""
    pair = items[:2]
    found = grounding_accuracy(model, pair, magnets=(), sources=["other_expression"], seed=4).outcomes
    for index, row in enumerate(found.itertuples()):
        recording = record(model, pair[index].image, pair[1 - index].expression, noise_level=0.6, seed=4 + index)
        assert (row.x, row.y) == pytest.approx(peak(heatmap(recording), (40, 40)))
        assert row.expression == pair[index].expression


def test_the_untrained_model_has_other_weights_and_leaves_the_model_alone(model: DiffusionModel) -> None:
    before = {name: tensor.clone() for name, tensor in model.transformer.state_dict().items()}
    state = torch.random.get_rng_state()
    fresh, again, other = untrained(model, 1), untrained(model, 1), untrained(model, 2)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert fresh.transformer.config == model.transformer.config
    for name, tensor in model.transformer.state_dict().items():
        assert torch.equal(tensor, before[name])
        assert torch.equal(fresh.transformer.state_dict()[name], again.transformer.state_dict()[name])
    weight = "x_embedder.weight"
    states = [one.transformer.state_dict()[weight] for one in (model, fresh, other)]
    assert not torch.equal(states[0], states[1]) and not torch.equal(states[1], states[2])
    assert next(fresh.transformer.parameters()).dtype == next(model.transformer.parameters()).dtype


def test_the_untrained_control_asks_the_untrained_model(model: DiffusionModel, items: list[GroundingItem]) -> None:
    found = grounding_accuracy(model, items[:1], sources=["untrained"], seed=6).outcomes.iloc[0]
    recording = record(untrained(model, 6), items[0].image, items[0].expression, noise_level=0.6, seed=6)
    assert (found.x, found.y) == pytest.approx(peak(heatmap(recording), (40, 40)))


def test_the_models_own_settings_are_taken(tiny_flux_folder: Path, items: list[GroundingItem]) -> None:
    report = grounding_accuracy(load_model(tiny_flux_folder), items[:1], sources=["model"])
    assert report.settings == HeatmapSettings()


def test_no_items_have_no_share(model: DiffusionModel) -> None:
    with pytest.raises(NoItemsError, match="hard_items"):
        grounding_accuracy(model, [])


def test_an_unknown_source_is_answered_with_those_there_are(model: DiffusionModel, items: list[GroundingItem]) -> None:
    with pytest.raises(ItemsError, match="other_expression, random_point"):
        grounding_accuracy(model, items, sources=["oracle"])  # type: ignore[list-item]


def test_a_single_scene_has_no_other_expression(model: DiffusionModel, items: list[GroundingItem]) -> None:
    with pytest.raises(ItemsError, match="two scenes"):
        grounding_accuracy(model, items[-2:], sources=["other_expression"])


SWITCHED = [
    {"noun_phrase": True},
    {"spatial_bias": 1.0},
    {"upsampling": "bicubic", "spatial_bias": 0.5},
    {"gas": "redirect", "noun_phrase": True, "seeds": 2},
    {"blocks": "informative", "direction": "text_to_image", "normalisation": "map"},
]


@pytest.mark.parametrize("own", SWITCHED, ids=[", ".join(one) for one in SWITCHED])
def test_points_are_those_of_segment_with_what_the_model_brings(
    tiny_flux_folder: Path, items: list[GroundingItem], tmp_path: Path, own: dict
) -> None:
    """The model's refam.json switches things on; nobody who calls says so."""
    shutil.copytree(tiny_flux_folder, tmp_path / "model")
    about = tmp_path / "model" / "refam.json"
    about.write_text(json.dumps({**json.loads(about.read_text()), "grounding": own}))
    switched = load_model(tmp_path / "model")
    some = [items[0], items[4]]
    report = grounding_accuracy(switched, some, magnets=(".",), sources=["model"], seed=3)
    sam = SamSegmenter(small_sam(SamConfig(image_size=40, patch_size=8, width=24, depth=1, heads=2)))
    for number, (item, row) in enumerate(zip(some, report.outcomes.itertuples(), strict=True)):
        seed = 3 + number * own.get("seeds", 1)
        found = segment(switched, item.image, item.expression, magnets=(".",), segmenter=sam, seed=seed)
        assert (row.x, row.y) == pytest.approx(found.point)
