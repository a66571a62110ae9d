"""The experiment with magnets: what is appended, what is measured, and how conditions are compared."""

from __future__ import annotations

from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from refam_analysis.analysis.localisation import average_precision
from refam_analysis.evaluation.items import GroundingItem, hard_items
from refam_analysis.evaluation.metrics import points_on
from refam_analysis.experiments import magnets
from refam_analysis.experiments.magnet_conditions import (
    BASELINE,
    CONTRASTS,
    CONTROLS,
    NONSENSE,
    OTHER_WORDS,
    Condition,
    appended,
    dose_conditions,
    prompt_of,
)
from refam_analysis.experiments.provenance import RESULTS, Result, load_result
from refam_analysis.models import load_model
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import DEFAULT_MAGNETS, Prompt, make_prompt
from refam_analysis.recording import record
from refam_analysis.scenes import COLOURS
from refam_analysis.segmentation import default_settings, heatmap, peak


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return load_model("embedded")


@pytest.fixture(scope="module")
def items() -> list[GroundingItem]:
    return hard_items("validation", 8)


def asked(model: DiffusionModel, item: GroundingItem, name: str, seed: int = 0) -> Prompt | None:
    (condition,) = [one for one in (*CONTROLS, *dose_conditions((2, 4, 12))) if one.name == name]
    return prompt_of(model, item, condition, seed=(seed, 0))


# What is appended


def test_the_default_magnets_are_those_of_the_library(model: DiffusionModel, items: list[GroundingItem]) -> None:
    for item in items:
        assert asked(model, item, "magnets") == make_prompt(item.expression, DEFAULT_MAGNETS)
        assert asked(model, item, BASELINE) == make_prompt(item.expression)


def test_magnets_in_front_are_the_same_words(model: DiffusionModel, items: list[GroundingItem]) -> None:
    behind, front = (asked(model, items[0], name) for name in ("magnets", "magnets in front"))
    assert front.text == " ".join((*behind.magnets, items[0].expression))
    tokens = model.tokens(front)
    assert appended(tokens, front) == list(range(len(front.magnets)))


def test_as_many_other_words_of_the_scenes_none_of_them_named(
    model: DiffusionModel, items: list[GroundingItem]
) -> None:
    for seed, item in enumerate(items):
        prompt = asked(model, item, "other words", seed)
        assert len(prompt.magnets) == len(make_prompt(item.expression, DEFAULT_MAGNETS).magnets)
        assert set(prompt.magnets) <= set(OTHER_WORDS) - set(item.expression.split())
        assert len(set(prompt.magnets)) == len(prompt.magnets)
    assert not set(OTHER_WORDS) & set(DEFAULT_MAGNETS)


def test_repeated_padding_is_read_as_padding_pieces(model: DiffusionModel, items: list[GroundingItem]) -> None:
    prompt = asked(model, items[0], "padding repeated")
    tokens = model.tokens(prompt)
    places = appended(tokens, prompt)
    expected = model.tokens(make_prompt(items[0].expression))
    padding = next(token for token in expected if token.kind == "padding")
    assert [tokens[place].text for place in places] == [padding.text] * 4
    assert tokens[places[-1] + 1].text == "</s>" and places[0] == len(items[0].expression.split())


def test_nonsense_makes_no_more_pieces_than_magnets(model: DiffusionModel, items: list[GroundingItem]) -> None:
    for item in items:
        prompt = asked(model, item, "nonsense")
        pieces = len(appended(model.tokens(prompt), prompt))
        assert set(prompt.magnets) <= set(NONSENSE)
        assert 1 < pieces <= len(make_prompt(item.expression, DEFAULT_MAGNETS).magnets)


def test_colours_shown_are_in_the_picture_and_those_absent_are_not(
    model: DiffusionModel, items: list[GroundingItem]
) -> None:
    found = 0
    for item in items:
        shown, absent = (asked(model, item, name) for name in ("colours shown", "colours absent"))
        unnamed = set(item.colours) - set(item.expression.split())
        if not unnamed:
            assert shown is None and absent is None
            continue
        found += 1
        assert set(shown.magnets) == unnamed and len(absent.magnets) == len(unnamed)
        assert set(absent.magnets) <= set(COLOURS) - set(item.colours) - set(item.expression.split())
    assert found


@pytest.mark.parametrize("words", ["magnets", "other words"])
def test_a_dose_has_its_number_and_holds_the_smaller_one(
    model: DiffusionModel, items: list[GroundingItem], words: str
) -> None:
    for item in items[:4]:
        small, large = (asked(model, item, f"{words} x {number}").magnets for number in (2, 12))
        assert len(small) == 2 and len(large) == 12 and large[:2] == small


def test_what_does_not_fit_is_no_condition(model: DiffusionModel, items: list[GroundingItem]) -> None:
    assert prompt_of(model, items[0], Condition("much", "padding", 30), seed=(0, 0)) is None
    assert prompt_of(model, items[0], Condition("many", "other words", 99), seed=(0, 0)) is None


def test_every_contrast_is_between_conditions_of_the_experiment() -> None:
    names = {condition.name for condition in magnets.MagnetTest().conditions}
    assert {name for pair in CONTRASTS.values() for name in pair} <= names
    assert len(names) == len(magnets.MagnetTest().conditions)


# What is measured


def by_hand(model: DiffusionModel, item: GroundingItem, words: tuple[str, ...], seed: int) -> dict[str, float]:
    """The scene alone, by the library's public calls."""
    settings = default_settings(model).attention_alone
    group = [
        record(model, item.image, item.expression, magnets=words, noise_level=settings.noise_levels, seed=seed + draw,
               keep=["image_to_text"])
        for draw in range(settings.seeds)
    ]  # fmt: skip
    heat = heatmap(group, settings).values
    mask = item.masks[item.target]
    onto = np.mean([one["image_to_text"].values.mean((0, 1, 2, 3, 4, 5)) for one in group], axis=0)
    kinds = np.array([token.kind for token in group[0].tokens])
    return {
        "average_precision": average_precision(heat, mask),
        "point_accuracy": float(points_on([peak(heat, item.image.shape[:2])], [mask])[0]),
        "peak_to_mean": float(heat.max() / heat.mean()),
        "mass_appended": onto[kinds == "magnet"].sum(),
        "mass_padding": onto[kinds == "padding"].sum(),
        "mass_content": onto[kinds == "content"].sum(),
        "mass_stop": onto[kinds == "stop"].sum(),
    }


@pytest.mark.parametrize(("name", "words"), [(BASELINE, ()), ("magnets", DEFAULT_MAGNETS)], ids=["none", "magnets"])
def test_a_scene_in_a_batch_measures_as_it_does_alone(
    model: DiffusionModel, items: list[GroundingItem], name: str, words: tuple[str, ...]
) -> None:
    rows = magnets.measure(model, items[:3], CONTROLS[:3], first=5, seed=2)
    row = rows[(rows["item"] == 6) & (rows["condition"] == name)].iloc[0]
    expected = by_hand(model, items[1], words, 2 + 6 * default_settings(model).seeds)
    assert {measure: row[measure] for measure in expected} == pytest.approx(expected, rel=1e-3)
    assert row["words"] == row["pieces"] == len(make_prompt(items[1].expression, words).magnets)


def test_reading_stop_words_changes_the_heatmap_alone(model: DiffusionModel, items: list[GroundingItem]) -> None:
    rows = magnets.measure(model, items[:4], CONTROLS[:5]).set_index(["condition", "item"])
    mass = [f"mass_{name}" for name in magnets.MASSES]
    for plain, read in ((BASELINE, "stop words read"), ("magnets", "magnets, stop words read"),
                        ("magnets", "magnets, all words read")):  # fmt: skip
        pd.testing.assert_frame_equal(rows.loc[plain, mass], rows.loc[read, mass])
        assert (rows.loc[plain, "peak_to_mean"] != rows.loc[read, "peak_to_mean"]).any()


def test_a_scene_without_the_condition_has_no_row(model: DiffusionModel, items: list[GroundingItem]) -> None:
    plain = [item for item in items if set(item.colours) - set(item.expression.split())][:1]
    bare = [GroundingItem(**{**vars(item), "colours": ()}) for item in plain]
    shown = [condition for condition in CONTROLS if condition.name in (BASELINE, "colours shown")]
    rows = magnets.measure(model, [*plain, *bare], shown)
    assert rows[["item", "condition"]].values.tolist() == [[0, BASELINE], [1, BASELINE], [0, "colours shown"]]


# Tables over scenes


def table_of(values: dict[str, list[float]]) -> pd.DataFrame:
    """Average precision of some scenes under some conditions; all else is alike."""
    rows = [
        {"item": item, "scene": item, "kind": "attribute", "condition": name, "words": 2, "pieces": 3}
        | dict.fromkeys(magnets.MEASURES, 0.5)
        | {"average_precision": value}
        for name, scenes in values.items()
        for item, value in enumerate(scenes)
        if not np.isnan(value)
    ]
    return pd.DataFrame(rows)


NONE, DOSE = [0.5, 0.6, 0.4, 0.9], [0.7, 0.7, np.nan, 0.8]


def test_conditions_are_paired_with_the_baseline() -> None:
    found = magnets.summary(table_of({BASELINE: NONE, "magnets x 2": DOSE})).set_index(["condition", "measure"])
    row = found.loc[("magnets x 2", "average_precision")]
    differences = np.array([0.2, 0.1, -0.1])
    assert row["change"] == pytest.approx(differences.mean()) and row["value"] == pytest.approx(2.2 / 3)
    sums = [np.dot(signs, differences) for signs in product((1, -1), repeat=3)]
    assert row["p"] == pytest.approx(2 * np.mean(np.array(sums) >= differences.sum() - 1e-12))
    assert differences.min() <= row["change_low"] <= row["change"] <= row["change_high"] <= differences.max()
    assert row[["series", "number", "words", "pieces", "scenes"]].tolist() == ["magnets", 2, 2, 3, 3]
    assert found.loc[BASELINE, "p"].isna().all() and (found.loc[BASELINE, "change"] == 0).all()
    made = found["p"].notna().sum()
    assert row["q"] == pytest.approx(min(1.0, row["p"] * made)) and made == len(magnets.MEASURES)


def test_contrasts_take_the_second_from_the_first() -> None:
    table = table_of({BASELINE: NONE, "magnets": DOSE, "other words": [0.1, 0.2, 0.3, 0.4]})
    pairs = {"words": ("magnets", "other words"), "missing": ("magnets", "nonsense")}
    found = magnets.contrasts(table, pairs).set_index(["contrast", "measure"])
    row = found.loc[("words", "average_precision")]
    assert row["change"] == pytest.approx(np.mean([0.6, 0.5, 0.4])) and row["scenes"] == 3
    assert set(found.index.get_level_values("contrast")) == {"words"}


def test_what_is_not_finite_leaves_the_scene_out_of_its_measure() -> None:
    table = table_of({BASELINE: NONE, "magnets": [0.7, 0.7, 0.5, 0.8]})
    table.loc[(table["item"] == 1) & (table["condition"] == BASELINE), "background_ratio"] = np.inf
    found = magnets.summary(table).set_index(["condition", "measure"])["scenes"]
    assert found["magnets", "background_ratio"] == 3 and found["magnets", "average_precision"] == 4


def test_scene_values_pair_the_two_conditions() -> None:
    values = magnets.scene_values(table_of({BASELINE: NONE, "magnets": DOSE}), "magnets")
    assert values.index.tolist() == [0, 1, 3]
    assert values[("without", "average_precision")].tolist() == [0.5, 0.6, 0.9]
    assert values[("change", "average_precision")].tolist() == pytest.approx([0.2, 0.1, -0.1])


# The experiment

TEST = magnets.MagnetTest(scenes=3, doses=(1,), seed=7, batch_size=2)


@pytest.fixture(scope="module")
def result(folder: Path) -> Result:
    return magnets.run(TEST, folder=folder, results=folder.parents[1] / "results")


def test_the_result_is_loaded_as_it_was_written(result: Result, folder: Path) -> None:
    again = load_result("magnets", results=folder.parents[1] / "results", weights=folder.parent)
    assert set(again.tables) == {"scenes", "summary", "contrasts"}
    pd.testing.assert_frame_equal(again["scenes"], result["scenes"])
    assert again.provenance.command == "refam experiment magnets --items 3 --seed 7"
    assert not list((folder.parents[1] / ".cache").glob("magnets-*"))
    assert set(result["scenes"]["condition"]) == {condition.name for condition in TEST.conditions}


def test_the_tables_follow_from_the_scenes(result: Result) -> None:
    pd.testing.assert_frame_equal(result["summary"], magnets.summary(result["scenes"], seed=7))
    pd.testing.assert_frame_equal(result["contrasts"], magnets.contrasts(result["scenes"], seed=7))


def test_some_scenes_can_be_repeated(result: Result, model: DiffusionModel) -> None:
    again = magnets.repeat(result, model, first=1, number=1)
    rows = result["scenes"].query("item == 1").reset_index(drop=True)
    assert again["condition"].tolist() == rows["condition"].tolist()
    pd.testing.assert_frame_equal(rows[["words", "pieces"]], again[["words", "pieces"]])
    # A token just above the bar of a cluster in one batch may be just below it in another.
    exact = ["average_precision", "peak_to_mean", *(f"mass_{name}" for name in magnets.MASSES)]
    pd.testing.assert_frame_equal(rows[exact], again[exact], rtol=1e-3, atol=1e-6)


def test_a_stopped_run_goes_on(folder: Path, tmp_path: Path) -> None:
    test, results = magnets.MagnetTest(scenes=2, doses=(), batch_size=1), tmp_path / "results"
    results.touch()
    with pytest.raises(OSError):  # a file lies where the folder of the results should
        magnets.run(test, folder=folder, results=results)
    results.unlink()
    (part,) = tmp_path.glob(".cache/magnets-*/000001.parquet")
    kept = pd.read_parquet(part)
    kept.assign(average_precision=0.123).to_parquet(part)
    found = magnets.run(test, folder=folder, results=results)["scenes"]
    assert (found.query("item == 1")["average_precision"] == 0.123).all()
    assert (found.query("item == 0")["average_precision"] != 0.123).any()


def test_committed_scenes_measure_alike(model: DiffusionModel) -> None:
    if not (RESULTS / "magnets").is_dir():
        pytest.skip("results/magnets is not made yet")
    result = load_result("magnets")
    again = magnets.repeat(result, model, first=11, number=1)
    rows = result["scenes"].query("item == 11").reset_index(drop=True)
    assert again[["condition", "words", "pieces"]].equals(rows[["condition", "words", "pieces"]])
    smooth = ["average_precision", "peak_to_mean", *(f"mass_{name}" for name in magnets.MASSES)]
    pd.testing.assert_frame_equal(rows[smooth], again[smooth], rtol=5e-3, atol=2e-3)
    pd.testing.assert_frame_equal(result["summary"], magnets.summary(result["scenes"], seed=0))
    pd.testing.assert_frame_equal(result["contrasts"], magnets.contrasts(result["scenes"], seed=0))
