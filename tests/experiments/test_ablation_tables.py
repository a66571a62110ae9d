"""The tables of the ablation, against values worked out by hand from a few scenes."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest

from refam_analysis.experiments.ablation_conditions import PAPER_ROWS, Condition, conditions
from refam_analysis.experiments.ablation_tables import (
    beside_the_paper,
    condition_table,
    effect_table,
    moved_points,
    pair_table,
    paper_steps,
)

KINDS = ("attribute", "location", "relation")
PLAIN, PHRASE = Condition(), Condition(noun_phrase=True)


def rows_of(values: dict[Condition, list[tuple[int, int, bool]]]) -> pd.DataFrame:
    """(intersection, union, on target) of some scenes under some conditions."""
    rows = [
        {"item": item, "scene": 100 + item, "kind": KINDS[item % len(KINDS)], **vars(condition), "sinks": 0,
         "x": 10.0 * hit, "y": 3.0, "on_target": hit, "intersection": both, "union": either}
        for condition, scenes in values.items()
        for item, (both, either, hit) in enumerate(scenes)
    ]  # fmt: skip
    return pd.DataFrame(rows)


BEFORE = [(1, 10, False), (5, 10, True), (0, 40, False)]
AFTER = [(9, 10, True), (5, 10, True), (10, 40, False)]


@pytest.fixture(scope="module")
def two() -> pd.DataFrame:
    return rows_of({PLAIN: BEFORE, PHRASE: AFTER})


def effect(table: pd.DataFrame, **fields: str) -> pd.Series:
    chosen = table[np.logical_and.reduce([table[name] == value for name, value in fields.items()])]
    assert len(chosen) == 1
    return chosen.iloc[0]


def test_values_of_a_condition_are_those_of_its_scenes(two: pd.DataFrame) -> None:
    table = condition_table(two)
    rows = table[table["kind"] == "all"]
    assert rows["mean_iou"].tolist() == pytest.approx([(0.1 + 0.5) / 3, (0.9 + 0.5 + 0.25) / 3])
    assert rows["overall_iou"].tolist() == pytest.approx([6 / 60, 24 / 60])
    assert rows["point_accuracy"].tolist() == pytest.approx([1 / 3, 2 / 3])
    assert (rows["scenes"] == 3).all() and (rows["sample"] == "all").all()


def test_a_kind_has_the_scenes_of_its_expressions(two: pd.DataFrame) -> None:
    table = condition_table(two)
    row = table[(table["kind"] == "location") & ~table["noun_phrase"]].iloc[0]
    assert (row["mean_iou"], row["overall_iou"], row["point_accuracy"], row["scenes"]) == (0.5, 0.5, 1.0, 1)
    assert np.isnan(row["mean_iou_low"])


@pytest.mark.parametrize(
    ("measure", "without", "with_"),
    [("mean_iou", 0.2, 0.55), ("overall_iou", 0.1, 0.4), ("point_accuracy", 1 / 3, 2 / 3)],
)
def test_a_switch_is_paired_over_scenes(two: pd.DataFrame, measure: str, without: float, with_: float) -> None:
    row = effect(effect_table(two), switch="noun phrase", effect="simple", measure=measure)
    assert (row["without"], row["with"], row["change"]) == pytest.approx((without, with_, with_ - without))
    assert row["change_low"] <= row["change"] <= row["change_high"] and row["scenes"] == 3


def test_p_is_the_share_of_all_exchanges_of_the_sides(two: pd.DataFrame) -> None:
    table = effect_table(two)
    differences = np.array([0.8, 0.0, 0.25])
    sums = [abs(np.dot(signs, differences)) for signs in product((1, -1), repeat=3)]
    expected = np.mean(np.array(sums) >= differences.sum() - 1e-12)
    assert effect(table, switch="noun phrase", effect="simple", measure="mean_iou")["p"] == pytest.approx(expected)


def test_overall_iou_is_tested_by_exchanging_numerators_and_denominators() -> None:
    before, after = [(1, 10, False), (5, 20, True)], [(9, 30, True), (5, 10, True)]
    row = effect(effect_table(rows_of({PLAIN: before, PHRASE: after})), effect="simple", measure="overall_iou")
    observed, reached = 14 / 40 - 6 / 30, 0
    for swaps in product((False, True), repeat=2):
        first = [b if swap else a for a, b, swap in zip(before, after, swaps, strict=True)]
        second = [a if swap else b for a, b, swap in zip(before, after, swaps, strict=True)]
        change = sum(one[0] for one in second) / sum(one[1] for one in second)
        change -= sum(one[0] for one in first) / sum(one[1] for one in first)
        reached += abs(change) >= observed - 1e-12
    assert row["change"] == pytest.approx(observed) and row["p"] == pytest.approx(reached / 4)


def test_a_main_effect_averages_over_the_other_switches() -> None:
    biased, both = Condition(spatial_bias=True), Condition(noun_phrase=True, spatial_bias=True)
    values = {PLAIN: [(0, 10, False)] * 2, PHRASE: [(4, 10, False)] * 2, biased: [(5, 10, True)] * 2,
              both: [(7, 10, True)] * 2}  # fmt: skip
    table = effect_table(rows_of(values))
    main = effect(table, switch="noun phrase", effect="main", measure="mean_iou")
    simple = effect(table, switch="noun phrase", effect="simple", measure="mean_iou")
    assert (main["change"], simple["change"]) == pytest.approx(((0.4 + 0.2) / 2, 0.4))
    assert (main["conditions"], simple["conditions"]) == (2, 1)


def test_words_of_the_control_are_no_part_of_the_average() -> None:
    control = {Condition("other words", noun_phrase=on): [(10 * on, 10, False)] * 2 for on in (False, True)}
    values = {PLAIN: [(5, 10, False)] * 2, PHRASE: [(5, 10, False)] * 2, **control}
    assert effect(effect_table(rows_of(values)), switch="noun phrase", effect="main", measure="mean_iou")["change"] == 0


def test_a_second_segmenter_is_compared_on_the_scenes_that_it_has() -> None:
    second = Condition(segmenter="second")
    values = {PLAIN: [(2, 10, True), (4, 10, True), (9, 10, True)], second: [(3, 10, True), (9, 10, True)]}
    scenes = rows_of(values)
    row = effect(effect_table(scenes), segmenter="both", effect="main", measure="mean_iou")
    assert (row["without"], row["with"], row["scenes"]) == pytest.approx((0.3, 0.6, 2))
    table = condition_table(scenes)
    rows = table[table["kind"] == "all"].set_index(["sample", "segmenter"])
    assert rows.loc[("all", "embedded"), ["mean_iou", "scenes"]].tolist() == pytest.approx([0.5, 3])
    assert rows.loc[("with second", "embedded"), ["mean_iou", "scenes"]].tolist() == pytest.approx([0.3, 2])
    assert rows.loc[("with second", "second"), ["mean_iou", "scenes"]].tolist() == pytest.approx([0.6, 2])


def test_a_scene_without_one_of_the_conditions_takes_no_part(two: pd.DataFrame) -> None:
    short = two[~((two["item"] == 0) & two["noun_phrase"])]
    row = effect(effect_table(short), switch="noun phrase", effect="simple", measure="mean_iou")
    assert (row["without"], row["with"], row["scenes"]) == pytest.approx((0.25, 0.375, 2))


def test_kinds_are_tested_apart_and_corrected_together() -> None:
    scenes = rows_of({PLAIN: BEFORE * 3, PHRASE: AFTER * 3})
    table = effect_table(scenes, by_kind=True)
    row = effect(table, switch="noun phrase", effect="simple", kind="attribute", measure="mean_iou")
    assert row["change"] == pytest.approx(0.8) and row["scenes"] == 3 and row["p"] == pytest.approx(2 / 2**3)
    p = np.sort(table["p"].to_numpy())
    assert row["q"] == pytest.approx((p * len(p) / np.arange(1, len(p) + 1))[p >= row["p"]].min())


def test_equal_arguments_give_equal_tables_and_another_seed_other_intervals(two: pd.DataFrame) -> None:
    scenes = rows_of({one: [(i + n, 40, True) for i in range(12)] for n, one in enumerate(conditions()[:8])})
    first, again, other = (effect_table(scenes, resamples=200, seed=seed) for seed in (0, 0, 1))
    pd.testing.assert_frame_equal(first, again)
    assert (first["change"] == other["change"]).all() and (first["change_low"] != other["change_low"]).any()


def test_moved_points_are_counted_where_they_come_and_go() -> None:
    after = [(9, 10, True), (5, 10, True), (10, 40, False)]
    lost = [(0, 10, False), (0, 10, False), (0, 40, False)]
    biased = Condition(spatial_bias=True)
    table = moved_points(rows_of({PLAIN: BEFORE, PHRASE: after, biased: lost})).set_index(["switch", "kind"])
    assert table.loc[("noun phrase", "all"), ["moved", "gained", "lost"]].tolist() == pytest.approx([1 / 3, 1 / 3, 0])
    assert table.loc[("spatial bias", "all"), ["moved", "gained", "lost"]].tolist() == pytest.approx([1 / 3, 0, 1 / 3])
    assert table.loc[("spatial bias", "location"), ["lost", "scenes"]].tolist() == [1, 1]


# Beside the paper


@pytest.fixture(scope="module")
def of_the_paper() -> pd.DataFrame:
    return rows_of({one: [(place, 10, place > 2), (place, 10, True)] for place, one in enumerate(PAPER_ROWS)})


def test_published_and_measured_rows_stand_side_by_side(of_the_paper: pd.DataFrame) -> None:
    table = beside_the_paper(condition_table(of_the_paper))
    assert table.index.tolist() == ["AM + NP + SB", "NP + SB", "AM + NP", "NP", "none of AM, NP, SB"]
    assert table["published", "J&F"].tolist() == ["0.576", "0.544", "0.551", "0.531", "0.500"]
    assert table["published", "PA"].tolist() == ["0.689", "0.598", "0.672", "0.602", "0.525"]
    assert [text.split()[0] for text in table["measured", "mean IoU"]] == ["0.000", "0.100", "0.200", "0.300", "0.400"]


def test_steps_of_the_paper_are_taken_in_its_table_and_on_the_scenes(of_the_paper: pd.DataFrame) -> None:
    steps = paper_steps(of_the_paper).set_index(["pair", "measure"])
    assert steps.loc[("AM, beside NP and SB", "mean_iou"), "change"] == pytest.approx(-0.1)
    assert steps.loc[("AM, beside NP and SB", "point_accuracy"), "published"] == pytest.approx(0.091)
    assert steps.loc[("SB, beside NP", "point_accuracy"), "published"] == pytest.approx(-0.004)
    assert steps.loc[("AM, NP and SB", "mean_iou"), "published"] == pytest.approx(0.076)
    assert steps.loc[("NP alone", "mean_iou"), ["without", "with"]].tolist() == pytest.approx([0.4, 0.3])


def test_a_pair_is_compared_as_a_switch_is(two: pd.DataFrame) -> None:
    row = pair_table(two, {"phrase": (PLAIN, PHRASE)}).set_index("measure").loc["mean_iou"]
    same = effect(effect_table(two), switch="noun phrase", effect="simple", measure="mean_iou")
    names = ["without", "with", "change", "change_low", "change_high", "p", "scenes"]
    assert row[names].tolist() == same[names].tolist()
