"""The causal tests: tokens are chosen as defined, runs differ in the intervention, and tables follow from runs."""

from __future__ import annotations

from itertools import product

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from refam_analysis.errors import RefamError
from refam_analysis.evaluation.items import GroundingItem, hard_items
from refam_analysis.experiments import causal
from refam_analysis.experiments.intervened import PreparedScene, prepare_scene
from refam_analysis.experiments.picture_distance import (
    PictureSizeError,
    root_mean_square,
    structural_dissimilarity,
)
from refam_analysis.experiments.sink_changes import ARMS, SceneChanges, changes_of, claims_of, picture_changes_of
from refam_analysis.experiments.sink_choice import TooFewTokensError, draw_others, rank_keys
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.prompts import make_prompt
from refam_analysis.recording import Intervention, Recording, record
from refam_analysis.segmentation import HeatmapSettings, heatmap, peak

MAGNETS = (".", "with")
SETTINGS = HeatmapSettings(noise_levels=(0.5, 0.7), seeds=2, blocks=(0, 3))


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    model = load_model("embedded")
    model.pipeline.set_progress_bar_config(disable=True)
    return model


@pytest.fixture(scope="module")
def item() -> GroundingItem:
    return hard_items("validation", 1)[0]


@pytest.fixture(scope="module")
def scene(model: DiffusionModel, item: GroundingItem) -> PreparedScene:
    prompt = make_prompt(item.expression, MAGNETS)
    return prepare_scene(model, item.image, prompt, noise_levels=SETTINGS.noise_levels, seeds=(3, 4))


# Which tokens


@pytest.fixture(scope="module")
def recordings(scene: PreparedScene) -> list[Recording]:
    return scene.run(keep=["full"]).recordings


def plain_strength(recordings: list[Recording], block: int) -> list[float]:
    """Of every key of a block: log of the weaker side's mass over the median of the key's side (at least one half)."""
    strengths = []
    for recording in recordings:
        full = recording["full"].sel(block=block).isel(branch=0).values.astype(np.float64)
        layout, keys = recording.layout, full.shape[-1]
        sides = []
        for queries in (layout.text, layout.image):
            mass = np.mean([[keys * head[queries].mean(axis=0) for head in step] for step in full], axis=(0, 1))
            for side in (layout.text, layout.image):
                mass[side] /= max(np.median(mass[side]), 0.5)
            sides.append(np.log(mass))
        strengths.append(np.minimum(*sides))
    return np.mean(strengths, axis=0).tolist()


@pytest.mark.parametrize("blocks", [(2,), (0, 5), None], ids=str)
def test_keys_are_ranked_by_their_weaker_side(recordings: list[Recording], blocks: tuple[int, ...] | None) -> None:
    ranked = rank_keys(recordings, blocks=blocks)
    numbers = list(blocks or recordings[0].dataset["block"].values)
    strengths = np.array([plain_strength(recordings, block) for block in numbers])
    strength = strengths.max(axis=0)
    magnets = {token.index for token in recordings[0].tokens if token.kind == "magnet"}
    expected = [key for key in np.argsort(-strength, kind="stable") if key not in magnets]
    np.testing.assert_allclose(ranked["strength"], strength[expected], atol=1e-5)
    assert sorted(ranked["position"]) == sorted(expected)
    assert ranked["position"].head(5).tolist() == expected[:5]
    assert ranked["block"].head(5).tolist() == [numbers[strengths[:, key].argmax()] for key in expected[:5]]


def test_blocks_that_were_not_recorded_are_named(recordings: list[Recording]) -> None:
    with pytest.raises(RefamError, match=r"\[99\] were not recorded"):
        rank_keys(recordings, blocks=(1, 99))


TOKENS = pd.DataFrame(
    {
        "position": range(14),
        "side": ["text"] * 8 + ["image"] * 6,
        "kind": ["stop"] * 3 + ["content"] * 2 + ["special"] + ["padding"] * 2 + ["image"] * 6,
    }
)


@given(st.sets(st.integers(0, 13), min_size=1, max_size=4), st.integers(0, 99))
def test_random_tokens_are_others_of_the_same_kinds(chosen: set[int], seed: int) -> None:
    drawn, elsewhere = draw_others(TOKENS, sorted(chosen), np.random.default_rng(seed))
    assert len(set(drawn)) == len(chosen) and not set(drawn) & chosen
    rows = TOKENS.set_index("position")
    pairs = list(zip(rows.loc[sorted(chosen), "kind"], rows.loc[list(drawn), "kind"], strict=True))
    assert rows.loc[sorted(chosen), "side"].tolist() == rows.loc[list(drawn), "side"].tolist()
    assert sum(one != other for one, other in pairs) == elsewhere
    scarce = sum(max(0, 2 * one - (rows["kind"] == kind).sum())
                 for kind, one in rows.loc[sorted(chosen), "kind"].value_counts().items())  # fmt: skip
    assert elsewhere >= scarce
    if not scarce:
        assert elsewhere == 0


def test_every_token_of_a_kind_is_drawn_alike() -> None:
    drawn = [draw_others(TOKENS, [9], np.random.default_rng(seed))[0][0] for seed in range(600)]
    counts = pd.Series(drawn).value_counts()
    assert sorted(counts.index) == [8, 10, 11, 12, 13]
    assert counts.between(80, 165).all()


def test_too_few_other_tokens_are_an_error() -> None:
    with pytest.raises(TooFewTokensError, match="4 random tokens were asked for, and the image has no other"):
        draw_others(TOKENS, [8, 9, 10, 11], np.random.default_rng(0))


# Runs


def test_the_undisturbed_run_is_the_models_own(
    scene: PreparedScene, recordings: list[Recording], model: DiffusionModel, item: GroundingItem
) -> None:
    alone = record(model, item.image, item.expression, magnets=MAGNETS, noise_level=(0.5, 0.7), seed=4, keep=["full"])
    np.testing.assert_allclose(recordings[1]["full"], alone["full"], atol=1e-5)
    assert recordings[1].tokens == alone.tokens and recordings[1].noise_levels == (0.5, 0.7)
    with torch.no_grad():
        output = model.transformer(**scene.inputs[1].kwargs)[0]
    prediction = scene.run(keep=["entropy"]).predictions[1]
    assert torch.equal(prediction, model.predicted(output, scene.inputs[1].mixture))


def test_magnets_are_where_the_prompt_has_them(scene: PreparedScene) -> None:
    assert [scene.tokens[place - scene.layout.text.start].word for place in scene.magnets] == list(MAGNETS)


@pytest.fixture(scope="module")
def changed(model: DiffusionModel, item: GroundingItem) -> SceneChanges:
    return changes_of(model, item, SETTINGS, magnets=MAGNETS, numbers=(1, 2), draws=2, blocks=(1, 3), seed=3)


def by_hand(
    model: DiffusionModel, item: GroundingItem, magnets: tuple[str, ...], act: Intervention | None
) -> dict[str, float]:
    """The measures of one run, from `record` and the heatmap; the prediction from the transformer's own output."""
    seen = [
        record(model, item.image, item.expression, magnets=magnets, noise_level=(0.5, 0.7), seed=seed,
               keep=["image_to_text"], intervention=act)
        for seed in (3, 4)
    ]  # fmt: skip
    heat = heatmap(seen, SETTINGS).values
    truth = item.masks[item.target]
    fine = np.kron(heat, np.ones((8, 8)))
    above = [fine >= level for level in sorted(set(heat.ravel()), reverse=True)]
    recalls = [0.0, *((one & truth).sum() / truth.sum() for one in above)]
    precisions = [(one & truth).sum() / one.sum() for one in above]
    x, y = peak(heat, truth.shape)
    return {
        "background_ratio": fine[~truth].mean() / fine[truth].mean(),
        "point_accuracy": float(truth[int(y + 0.5), int(x + 0.5)]),
        "average_precision": float(np.dot(np.diff(recalls), precisions)),
    }


@pytest.mark.parametrize(("path", "number"), [("score", 2), ("value", 1), ("redirect", 2), ("redirect_word", 1)])
def test_rows_are_what_single_runs_give(
    model: DiffusionModel, item: GroundingItem, changed: SceneChanges, path: str, number: int
) -> None:
    (arm,) = [arm for arm in ARMS if arm.path == path]
    magnets = MAGNETS if arm.with_magnets else ()
    scene = prepare_scene(
        model, item.image, make_prompt(item.expression, magnets), noise_levels=(0.5, 0.7), seeds=(3, 4)
    )
    before = scene.run(keep=["full"])
    ranked = rank_keys(before.recordings, blocks=(1, 3))
    candidates = ranked if path != "redirect_word" else ranked[ranked["kind"] == "content"]
    keys = candidates["position"].head(number).tolist()
    act = Intervention(tuple(keys), arm.how, onto=scene.magnets if magnets else (), blocks=(1, 3))
    rows = changed.changes.query("path == @path and number == @number").set_index("measure")
    for column, chosen in (("undisturbed", None), ("sink", act)):
        expected = by_hand(model, item, magnets, chosen)
        assert rows.loc["background_ratio", column] == pytest.approx(expected["background_ratio"], rel=1e-3)
        assert rows.loc["point_accuracy", column] == expected["point_accuracy"]
        assert rows.loc["average_precision", column] == pytest.approx(expected["average_precision"], abs=1e-3)
    after = scene.run(act, keep=["entropy"])
    moved = [
        float(((two[draw] - one[draw]) ** 2).sum().sqrt() / (one[draw] ** 2).sum().sqrt())
        for one, two in zip(before.predictions, after.predictions, strict=True)
        for draw in range(2)
    ]
    assert rows.loc["prediction", "undisturbed"] == 0.0
    assert rows.loc["prediction", "sink"] == pytest.approx(np.mean(moved), rel=1e-4)


def test_random_tokens_are_averaged_over_draws(
    model: DiffusionModel, item: GroundingItem, changed: SceneChanges
) -> None:
    single = [
        changes_of(model, item, SETTINGS, magnets=MAGNETS, numbers=(2,), draws=draws, blocks=(1, 3), seed=3,
                   arms=ARMS[:1]).changes.set_index("measure")["random"]
        for draws in (1, 2)
    ]  # fmt: skip
    assert single[0]["prediction"] != single[1]["prediction"]
    rows = changed.changes.query("path == 'score' and number == 2").set_index("measure")["random"]
    pd.testing.assert_series_equal(rows, single[1])


def test_every_path_number_and_measure_has_a_row(changed: SceneChanges) -> None:
    measures = ("prediction", "average_precision", "background_ratio", "point_accuracy")
    asked = [*product(("score", "value", "redirect"), (1, 2)), ("redirect_word", 1)]
    found = set(changed.changes[["path", "number", "measure"]].itertuples(index=False, name=None))
    assert found == {(path, number, measure) for (path, number), measure in product(asked, measures)}
    assert np.isfinite(changed.changes[["undisturbed", "sink", "random"]]).all(axis=None)
    assert changed.sinks[["prompt", "rank"]].values.tolist() == [
        [prompt, rank] for prompt in ("plain", "magnets") for rank in (1, 2)
    ]


def test_a_drawn_picture_is_generates_own_until_something_is_acted_on(
    scene: PreparedScene, model: DiffusionModel
) -> None:
    plain, recordings = scene.draw(seed=2, steps=2)
    assert np.array_equal(plain, np.asarray(model.generate(scene.prompt.text, seed=2, steps=2)))
    assert recordings[0].dataset.sizes["step"] == 4  # two steps, each with the pass of the empty prompt
    act = Intervention((40, 41))
    acted, _ = scene.draw(act, seed=2, steps=2)
    again, _ = scene.draw(act, seed=2, steps=2)
    assert np.array_equal(acted, again) and not np.array_equal(acted, plain)


def test_pictures_are_compared_with_the_undisturbed_one(model: DiffusionModel, item: GroundingItem) -> None:
    text, judges = "a small red ring", {"brightness": np.mean}
    found = picture_changes_of(model, text, judges=judges, numbers=(1,), steps=2, seed=5, arms=ARMS[:1])
    scene = prepare_scene(model, item.image, make_prompt(text))
    plain, recordings = scene.draw(seed=5, steps=2, keep=["received_from_text", "received_from_image"], blocks=None)
    key = int(rank_keys(recordings)["position"][0])
    acted, _ = scene.draw(Intervention((key,)), seed=5, steps=2)
    rows = found.changes.set_index("measure")
    assert rows["undisturbed"].tolist() == [0.0, 0.0, plain.mean()]
    assert rows.loc["brightness", "sink"] == acted.mean()
    assert rows.loc["picture_rms", "sink"] == pytest.approx(root_mean_square(plain, acted))
    assert rows.loc["picture_structure", "sink"] == pytest.approx(structural_dissimilarity(plain, acted))
    assert found.sinks["position"].tolist() == [key]


# Distances of pictures


def plain_ssim(one: np.ndarray, other: np.ndarray) -> float:
    """Wang et al., window by window."""
    weights = np.array([[np.exp(-(y**2 + x**2) / (2 * 1.5**2)) for x in range(-5, 6)] for y in range(-5, 6)])
    weights /= weights.sum()
    values = []
    for channel in range(one.shape[-1]):
        x, y = (np.pad(each[..., channel] / 255.0, 5, mode="symmetric") for each in (one, other))
        for row, column in product(range(one.shape[0]), range(one.shape[1])):
            a, b = (each[row : row + 11, column : column + 11] for each in (x, y))
            mean_a, mean_b = (weights * a).sum(), (weights * b).sum()
            spread = (weights * (a - mean_a) ** 2).sum() + (weights * (b - mean_b) ** 2).sum()
            together = (weights * (a - mean_a) * (b - mean_b)).sum()
            luminance = (2 * mean_a * mean_b + 1e-4) / (mean_a**2 + mean_b**2 + 1e-4)
            values.append(luminance * (2 * together + 9e-4) / (spread + 9e-4))
    return float(np.mean(values))


def test_structure_is_wangs_index() -> None:
    generator = np.random.default_rng(0)
    one = generator.integers(0, 256, (13, 15, 3), dtype=np.uint8)
    other = np.clip(one + generator.normal(0, 40, one.shape), 0, 255).astype(np.uint8)
    assert structural_dissimilarity(one, other) == pytest.approx(1 - plain_ssim(one, other), abs=1e-9)
    clip = structural_dissimilarity(np.stack([one, one]), np.stack([other, one]))
    assert clip == pytest.approx((1 - plain_ssim(one, other)) / 2, abs=1e-9)


def test_root_mean_square_by_hand() -> None:
    one, other = np.zeros((2, 2, 3), np.uint8), np.zeros((2, 2, 3), np.uint8)
    other[0, 0] = 255
    assert root_mean_square(one, other) == pytest.approx(0.5)


def test_pictures_of_two_sizes_are_refused() -> None:
    with pytest.raises(PictureSizeError, match=r"\(2, 2, 3\) and \(2, 3, 3\)"):
        root_mean_square(np.zeros((2, 2, 3)), np.zeros((2, 3, 3)))


# Tables over scenes


def table_of(values: dict[str, list[tuple[float, float, float]]]) -> pd.DataFrame:
    """Rows (undisturbed, sink, random) of each path, a scene each."""
    return pd.DataFrame([
        {"item": item, "path": path, "number": 1, "measure": "average_precision", "undisturbed": a, "sink": b,
         "random": c, "other_kind": item / 10}
        for path, scenes in values.items() for item, (a, b, c) in enumerate(scenes)
    ])  # fmt: skip


def test_the_summary_pairs_scenes() -> None:
    score = [(0.5, 0.2, 0.4), (0.6, 0.3, 0.7), (0.4, 0.3, 0.35), (0.9, 0.1, 0.8)]
    value = [(0.5, 0.6, 0.4), (0.6, float("inf"), 0.7), (0.4, 0.5, 0.4), (0.9, 0.9, 0.8)]
    table = causal.summary(table_of({"score": score, "value": value})).set_index("path")
    masked = np.array(score)
    assert table.loc["score", "undisturbed"] == pytest.approx(0.6)
    assert table.loc["score", "sink"] == pytest.approx((masked[:, 1] - masked[:, 0]).mean())
    assert table.loc["score", "random"] == pytest.approx((masked[:, 2] - masked[:, 0]).mean())
    differences = masked[:, 1] - masked[:, 2]
    assert table.loc["score", "difference"] == pytest.approx(differences.mean())
    sums = [np.dot(signs, differences) for signs in product((1, -1), repeat=4)]
    assert table.loc["score", "p"] == pytest.approx(2 * np.mean(np.array(sums) <= differences.sum() + 1e-12))
    assert table.loc["score", "q"] == pytest.approx(min(1.0, 2 * table.loc["score", "p"]))
    assert differences.min() <= table.loc["score", "difference_low"] <= differences.mean()
    assert table["scenes"].tolist() == [4, 3]
    assert table.loc["value", "undisturbed"] == pytest.approx(0.6)  # of the scenes that take part
    assert table.loc["value", "other_kind"] == pytest.approx((0.0 + 0.2 + 0.3) / 3)


def test_a_single_scene_has_no_test() -> None:
    table = causal.summary(table_of({"score": [(0.5, 0.2, 0.4)]}))
    assert table[["p", "q", "difference_low"]].isna().all(axis=None)
    assert table["difference"].item() == pytest.approx(-0.2)


def test_the_ledger_is_told_what_its_rules_ask() -> None:
    rows = [
        ("score", 1, "prediction", 0.0, 0.4, 0.1),
        ("score", 3, "prediction", 0.0, 9.0, 9.0),
        ("value", 1, "prediction", 0.0, 0.2, 0.3),
        ("score", 1, "point_accuracy", 1.0, 0.0, 0.5),
        ("redirect_word", 1, "average_precision", 0.6, 0.7, 0.5),
    ]
    changes = pd.DataFrame(rows, columns=["path", "number", "measure", "undisturbed", "sink", "random"])
    assert claims_of(changes) == pytest.approx(
        {"c3_prediction_score": np.log(0.25), "c3_prediction_value": np.log(1.5), "c3_point": -1.0,
         "c4_maps": 0.1, "c4_maps_control": -0.1}
    )  # fmt: skip
    assert np.isnan(claims_of(changes[:3])["c4_maps"])
