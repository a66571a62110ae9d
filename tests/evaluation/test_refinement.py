"""Refined settings: each row is what a direct measurement gives, and heads are added greedily."""

from __future__ import annotations

import json

import pytest

from refam_analysis.evaluation.grounding import NoItemsError, grounding_accuracy
from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.evaluation.refinement import add_heads, more_draws, passes, score_settings, switched
from refam_analysis.models import DiffusionModel
from refam_analysis.segmentation import HeatmapSettings, NoMagnetsError, with_numbered_blocks

MIXED = [
    HeatmapSettings(noise_levels=(0.3,), seeds=2),
    HeatmapSettings(noise_levels=(0.3, 0.7), seeds=2, aggregation="product"),
    HeatmapSettings("text_to_image", "map", heads=((1, 0), (2, 1)), noise_levels=(0.7,), seeds=2),
    HeatmapSettings(blocks=(3,), noise_levels=(0.7,), seeds=2),
    HeatmapSettings(noise_levels=(0.3,), seeds=2, gas="suppress"),
    HeatmapSettings(noise_levels=(0.3, 0.7), seeds=2, gas="redirect", heads=((1, 0), (2, 1))),
    HeatmapSettings(noise_levels=(0.3,), seeds=2, noun_phrase=True, spatial_bias=1.0),
    HeatmapSettings("text_to_image", noise_levels=(0.3,), seeds=2, upsampling="bicubic", spatial_bias=0.5),
    HeatmapSettings(noise_levels=(0.3,), seeds=2, blocks="informative"),
]


def test_rows_equal_a_direct_measurement(model: DiffusionModel, items: list[GroundingItem]) -> None:
    table = score_settings(model, items, MIXED, magnets=(".",), batch_size=3, seed=5)
    for settings, row in zip(MIXED, table.to_dict("records"), strict=True):
        direct = grounding_accuracy(model, items, settings, magnets=(".",), sources=["model"], seed=5).outcomes
        assert row["target"] == pytest.approx(direct["target"].mean())
        assert row["likelier_distractor"] == pytest.approx(direct[["distractor_1", "distractor_2"]].mean().max())
        assert HeatmapSettings.from_dict(json.loads(row["settings"])) == with_numbered_blocks(model, settings)
        assert (row["gas"], row["noun_phrase"], row["spatial_bias"], row["upsampling"]) == (
            settings.gas, settings.noun_phrase, settings.spatial_bias, settings.upsampling
        )  # fmt: skip


def test_noise_levels_that_different_blocks_are_read_at(model: DiffusionModel, items: list[GroundingItem]) -> None:
    """What is read at two levels together, has the same blocks at both, whatever else is read at one of them."""
    both = HeatmapSettings(noise_levels=(0.3, 0.7), blocks=(3,))
    table = score_settings(model, items, [both, HeatmapSettings(noise_levels=(0.7,))], batch_size=3)
    direct = grounding_accuracy(model, items, both, sources=["model"]).outcomes
    assert table["target"][0] == pytest.approx(direct["target"].mean())


def test_handling_sinks_is_not_passed_over(model: DiffusionModel, items: list[GroundingItem]) -> None:
    """Settings that handle sinks have a pass that looks for them, and passes of their own."""
    ways = [HeatmapSettings(seeds=2), HeatmapSettings(seeds=2, gas="suppress")]
    calls: list[object] = []
    hook = model.transformer.register_forward_pre_hook(lambda *_: calls.append(None))
    score_settings(model, items[:1], ways)
    hook.remove()
    assert len(calls) == sum(map(passes, ways)) == 2 + 3


def test_redirecting_without_magnets_is_refused(model: DiffusionModel, items: list[GroundingItem]) -> None:
    with pytest.raises(NoMagnetsError):
        score_settings(model, items[:1], [HeatmapSettings(gas="redirect")])


def test_switches_are_every_combination_once() -> None:
    made = switched(HeatmapSettings(heads=((1, 0),), seeds=2), gas="suppress", strengths=(0.5, 1.0))
    assert len(set(made)) == len(made) == 2 * 2 * 3 * 3
    assert {one.gas for one in made} == {"suppress"} and {one.seeds for one in made} == {2}
    assert {(one.blocks, one.heads) for one in made} == {(None, ((1, 0),)), ("informative", None)}


def test_fewer_draws_are_the_first_of_them(model: DiffusionModel, items: list[GroundingItem]) -> None:
    one, two = HeatmapSettings(seeds=1), HeatmapSettings(seeds=2)
    together = score_settings(model, items[:1], [one, two], seed=4)
    alone = score_settings(model, items[:1], [one], seed=4)
    assert together["target"][0] == alone["target"][0]


def test_without_items_nothing_is_scored(model: DiffusionModel) -> None:
    with pytest.raises(NoItemsError):
        score_settings(model, [], MIXED)


def test_more_draws_are_every_level_and_pair_with_every_number_of_seeds() -> None:
    made = more_draws(HeatmapSettings(blocks=(1,)), (0.7, 0.4, 0.5), seeds=(1, 3))
    assert len(set(made)) == len(made) == 2 * (3 + 3)
    assert [passes(one) for one in made] == sorted(passes(one) for one in made)
    assert {one.blocks for one in made} == {(1,)}


def test_heads_are_added_one_at_a_time_while_they_help(model: DiffusionModel, items: list[GroundingItem]) -> None:
    table = add_heads(model, items, HeatmapSettings(blocks=(0,)), most=3)
    assert set(table["blocks"]) == {"all"}
    heads = [frozenset(tuple(pair) for pair in json.loads(text)) for text in table["heads"]]
    rounds = [table[[len(one) == count for one in heads]] for count in (1, 2, 3)]
    assert len(rounds[0]) == 4 * 2 and len(rounds[1]) == 4 * 2 - 1
    best = [heads[rows["margin"].idxmax()] for rows in rounds if len(rows)]
    reached = [rows["margin"].max() for rows in rounds if len(rows)]
    for count, start in enumerate(best[:-1], 2):
        assert all(start < one for one in heads if len(one) == count)
    assert all(later > earlier for earlier, later in zip(reached[:-2], reached[1:-1], strict=True))
