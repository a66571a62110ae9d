"""The search for settings: each row is what a direct measurement gives, and a stopped search goes on."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from refam_analysis.evaluation.grounding import NoItemsError, grounding_accuracy
from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.evaluation.search import SearchFolderError, SearchResult, SearchSpace, choose_settings
from refam_analysis.models import DiffusionModel
from refam_analysis.segmentation import HeatmapSettings

SPACE = SearchSpace(noise_levels=(0.3, 0.7), longest_run=2, head_counts=(1, 3))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("searches") / "one"


@pytest.fixture(scope="module")
def result(model: DiffusionModel, items: list[GroundingItem], folder: Path) -> SearchResult:
    return choose_settings(model, items, SPACE, magnets=(".",), folder=folder, batch_size=3, seed=2)


def test_every_combination_is_tried_once(result: SearchResult) -> None:
    runs = 1 + 4 + 3
    by_blocks = 2 * 2 * 3 * 2 * runs
    assert len(result.table) == by_blocks + 8 + 1
    assert result.table.settings.nunique() == len(result.table)


def test_the_best_comes_first(result: SearchResult) -> None:
    assert result.table.target.is_monotonic_decreasing
    assert result.settings == HeatmapSettings.from_dict(json.loads(result.table.settings[0]))


def test_rows_equal_a_direct_measurement(
    result: SearchResult, model: DiffusionModel, items: list[GroundingItem]
) -> None:
    sample = np.random.default_rng(0).choice(len(result.table), 8, replace=False)
    with_heads = [i for i, heads in enumerate(result.table.heads) if heads != "all"][-2:]
    for index in [0, *sample, *with_heads]:
        row = result.table.iloc[index]
        settings = HeatmapSettings.from_dict(json.loads(row.settings))
        rows = grounding_accuracy(model, items, settings, magnets=(".",), sources=["model"], seed=2).outcomes
        assert row.target == pytest.approx(rows.target.mean())
        assert row.likelier_distractor == pytest.approx(max(rows.distractor_1.mean(), rows.distractor_2.mean()))
        assert (row.noise_level, row.direction) == (settings.noise_levels[0], settings.direction)


def test_heads_are_joined_in_the_order_of_what_each_does_alone(result: SearchResult) -> None:
    rows = result.table[result.table.heads != "all"]
    heads = [json.loads(text) for text in rows.heads]
    alone = {tuple(pairs[0]): target for pairs, target in zip(heads, rows.target, strict=True) if len(pairs) == 1}
    (joined,) = [pairs for pairs in heads if len(pairs) == 3]
    chosen = sorted(alone[tuple(pair)] for pair in joined)
    assert len(alone) == 8 and chosen == sorted(alone.values())[-3:]


def test_a_finished_search_is_read_and_a_stopped_one_goes_on(
    result: SearchResult, model: DiffusionModel, items: list[GroundingItem], folder: Path
) -> None:
    parts = {path: path.stat().st_mtime_ns for path in folder.glob("*.parquet")}
    assert len(parts) == 3
    lost = folder / "noise-0.7.parquet"
    lost.unlink()
    again = choose_settings(model, items, SPACE, magnets=(".",), folder=folder, batch_size=5, seed=2)
    assert again.settings == result.settings
    np.testing.assert_allclose(again.table.target, result.table.target)
    assert {path: path.stat().st_mtime_ns for path in parts if path != lost} == {
        path: time for path, time in parts.items() if path != lost
    }
    assert lost.is_file() and not list(folder.glob("*.partial"))


def test_a_half_written_part_is_not_read(
    result: SearchResult, model: DiffusionModel, items: list[GroundingItem], tmp_path: Path
) -> None:
    (tmp_path / "noise-0.3.partial").write_bytes(b"cut")
    again = choose_settings(model, items, SPACE, magnets=(".",), folder=tmp_path, batch_size=3, seed=2)
    assert again.settings == result.settings


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"magnets": ()}, "magnets"),
        ({"seed": 3}, "seed"),
        ({"space": SearchSpace(noise_levels=(0.3,), longest_run=1)}, "head_counts, longest_run"),
    ],
    ids=["magnets", "seed", "space"],
)
def test_two_searches_do_not_mix_in_one_folder(
    result: SearchResult, model: DiffusionModel, items: list[GroundingItem], folder: Path, change: dict, says: str
) -> None:
    arguments = {"space": SPACE, "magnets": (".",), "seed": 2, **change}
    with pytest.raises(SearchFolderError, match=says):
        choose_settings(model, items, folder=folder, **arguments)


def test_other_items_are_another_search(
    result: SearchResult, model: DiffusionModel, items: list[GroundingItem], folder: Path
) -> None:
    with pytest.raises(SearchFolderError, match="items"):
        choose_settings(model, items[1:], SPACE, magnets=(".",), folder=folder, seed=2)


def test_no_items_cannot_be_searched(model: DiffusionModel) -> None:
    with pytest.raises(NoItemsError):
        choose_settings(model, [])


def test_one_block_is_all_there_is() -> None:
    assert SearchSpace().block_choices([5]) == [None]
    assert len(SearchSpace().block_choices(range(8))) == 36


def test_handling_sinks_is_searched_too(model: DiffusionModel, items: list[GroundingItem]) -> None:
    space = SearchSpace(noise_levels=(0.3,), longest_run=1, head_counts=(), gas=("none", "suppress"))
    some = items[:3]
    table = choose_settings(model, some, space, magnets=(".",), seed=2).table
    assert table.groupby("gas").size().to_dict() == {"none": 60, "suppress": 60}
    row = table[table.gas == "suppress"].iloc[0]
    settings = HeatmapSettings.from_dict(json.loads(row.settings))
    assert settings.gas == "suppress"
    direct = grounding_accuracy(model, some, settings, magnets=(".",), sources=["model"], seed=2).outcomes
    assert row.target == pytest.approx(direct.target.mean())
