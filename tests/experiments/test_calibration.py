"""Calibration: attention made by hand has the parts that it should, and what is counted is what detectors call."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from scipy import stats
from typer.testing import CliRunner

from refam_analysis.analysis.sinks import detect_sinks
from refam_analysis.cli import app
from refam_analysis.experiments import calibration
from refam_analysis.experiments.calibration import DETECTOR, NAIVE
from refam_analysis.experiments.planted import PATTERNS, Pattern, Planted, PlantError, planted_attention, planted_scenes
from refam_analysis.experiments.provenance import RESULTS, Result, load_result

TEXT, KEYS = 8, 44


# What is made


@pytest.mark.parametrize("name", PATTERNS)
def test_rows_are_attention(name: str) -> None:
    attention = planted_attention(PATTERNS[name], 3)
    assert (attention > 0).all()
    np.testing.assert_allclose(attention.sum(-1), 1.0)


def test_the_seed_decides() -> None:
    one, same, other = (planted_attention(PATTERNS["all of it"], 2, seed=seed) for seed in (1, 1, 2))
    np.testing.assert_array_equal(one, same)
    assert np.abs(one - other).max() > 0.01


def test_noise_alone_prefers_no_key() -> None:
    received = planted_attention(Pattern(), 30).mean(axis=(0, 2, 3)) * KEYS
    np.testing.assert_allclose(received, 1.0, atol=0.08)


def test_locality_is_a_preference_of_image_queries_for_near_keys() -> None:
    attention = planted_attention(Pattern(locality=2.0), 10).mean(axis=(0, 1, 2))
    patch = attention[TEXT + 14]  # row 2, column 2
    near, far = patch[[TEXT + 13, TEXT + 15, TEXT + 8, TEXT + 20]].mean(), patch[[TEXT + 5, TEXT + 30]].mean()
    assert patch[TEXT + 14] > near > 1.5 * far
    np.testing.assert_allclose(attention[:TEXT], 1 / KEYS, atol=0.01)


def test_an_object_is_attended_by_many_queries_in_another_place_every_time() -> None:
    attention = planted_attention(Pattern(noise=0.01, attended=1.5), 30).mean(axis=(1, 2))
    hot = attention > 2.0 * np.median(attention, axis=-1, keepdims=True)
    sizes = hot.any(axis=1).sum(axis=-1)
    assert set(sizes) <= {4, 6, 9} and len(set(sizes)) > 1
    assert not hot[:, :, :TEXT].any()
    assert 0.6 < hot.any(axis=-1).mean() < 0.8
    assert hot.any(axis=1).mean(axis=0).max() < 0.6


def test_a_bias_is_mild_shared_and_smooth() -> None:
    preference = np.log(planted_attention(Pattern(noise=0.0, bias=0.2), 6, seed=1))
    assert np.abs(preference - preference[:, :, :1, :1]).max() < 1e-6  # every head and query alike
    image = preference[:, :, 0, 0, TEXT:] - preference[:, :, 0, 0, TEXT:].mean(axis=-1, keepdims=True)
    np.testing.assert_allclose(image, image[:1].repeat(6, axis=0), atol=1e-6)
    assert 0.1 < image.std() < 0.3 and np.ptp(preference[0, 0, 0, 0]) <= 0.8 + 1e-6
    grid = image[0].reshape(4, 6, 6)
    assert np.corrcoef(grid[:, :, 1:].ravel(), grid[:, :, :-1].ravel())[0, 1] > 0.5


@pytest.mark.parametrize("role", ["</s>", "padding 2", "image 3,1"])
def test_a_planted_key_has_its_role_and_its_effect(role: str) -> None:
    recordings = planted_scenes(Pattern(noise=0.1), 4, sink=Planted(role, 6.0, block=1))
    table = detect_sinks(recordings).set_index(["block", "role"])
    assert table.loc[(1, role), "effect"] == pytest.approx(6.0, rel=0.05)
    assert table.drop((1, role))["effect"].max() < 1.3


def test_a_sink_needs_a_key_that_every_scene_has() -> None:
    with pytest.raises(PlantError, match="'red'"):
        planted_scenes(Pattern(), 2, sink=Planted("red", 5.0))


# The naive detector


def test_the_moments_are_those_of_permuted_rows() -> None:
    (recording,) = planted_scenes(PATTERNS["all of it"], 1)
    masses, variances = calibration.masses_and_variances(recording)
    full, generator = recording["full"].values[0, 0], np.random.default_rng(0)
    draws = []
    for _ in range(400):
        shuffled = generator.permuted(full, axis=-1)
        sides = [shuffled[:, :, :TEXT], shuffled[:, :, TEXT:]]
        draws.append([KEYS * side.mean(axis=(1, 2)) for side in sides])
    np.testing.assert_allclose(np.mean(draws, axis=(0, 3)), 1.0, atol=1e-9)
    np.testing.assert_allclose(np.var(draws, axis=(0, 3)), variances, rtol=0.06)
    for at, rows in enumerate((full[:, :, :TEXT], full[:, :, TEXT:])):
        np.testing.assert_allclose(masses[at], KEYS * rows.mean(axis=(1, 2)))


def test_p_is_the_weaker_sides_normal_tail() -> None:
    masses, variances = np.full((3, 2, 1, 4), 1.0), np.full((3, 2, 1), 0.04)
    masses[:, 0, 0, 2], masses[:, 1, 0, 2] = [1.1, 1.4, 1.3], [1.3, 1.6, 1.9]
    table = calibration.permuted_within_rows(masses, variances)
    expected = stats.norm.sf((np.mean([1.1, 1.4, 1.3]) - 1.0) / np.sqrt(0.04 / 3))
    assert table["p"].tolist() == pytest.approx([0.5, 0.5, expected, 0.5])
    assert table["position"].tolist() == [0, 1, 2, 3]
    assert table["q"][2] == pytest.approx(4 * expected)


# What is counted


def test_a_data_set_is_the_same_alone_and_among_others() -> None:
    together = calibration.examine("all of it", 3.0, [4, 5, 6], scenes=[5, 20])
    alone = calibration.examine("all of it", 3.0, [5], scenes=[5, 20])
    pd.testing.assert_frame_equal(together.query("dataset == 5").reset_index(drop=True), alone)


def test_a_data_set_is_what_the_public_functions_say_of_its_scenes() -> None:
    scenes = planted_scenes(PATTERNS["object"], 20, sink=Planted("padding 1", 4.0), seed=[0, 1])
    counted = calibration.examine("object", 4.0, [1], scenes=[20]).set_index("detector").loc[DETECTOR]
    table = detect_sinks(scenes)
    assert counted["called"] == table["is_sink"].sum() == 1
    assert counted["rows"] == len(table)


def test_ours_keeps_still_where_permuted_rows_raise_alarms() -> None:
    rows = calibration.examine("all of it", 1.0, range(4), scenes=[20])
    called = rows.groupby("detector")["called"].sum()
    assert called[DETECTOR] == 0
    assert called[NAIVE] > 40


def test_where_its_null_is_true_the_naive_detector_keeps_its_level() -> None:
    rows = calibration.examine("noise", 1.0, range(12), scenes=[20])
    assert (rows.query("detector == @NAIVE")["called"] > 0).mean() < 0.3


def test_a_planted_sink_is_counted_as_found_and_the_rest_as_false() -> None:
    rows = calibration.examine("all of it", 5.0, [1], scenes=[5, 20])
    assert set(rows["kind"]) == {"padding"}
    ours, naive = (rows[rows["detector"] == name].set_index("scenes") for name in (DETECTOR, NAIVE))
    assert ours.loc[20, ["called", "false", "found"]].tolist() == [1, 0, True]
    assert ours.loc[5, ["called", "found"]].tolist() == [0, False]
    assert naive.loc[20, "found"] and naive.loc[20, "false"] == naive.loc[20, "called"] - 1 > 5


def datasets() -> pd.DataFrame:
    rows = [
        ("noise", 1.0, "none", 0, 0, False), ("noise", 1.0, "none", 3, 3, False), ("noise", 1.0, "none", 0, 0, False),
        ("all of it", 5.0, "special", 2, 1, True), ("all of it", 5.0, "image", 0, 0, False),
    ]  # fmt: skip
    table = pd.DataFrame(rows, columns=["pattern", "factor", "kind", "called", "false", "found"])
    return table.assign(detector=DETECTOR, scenes=20, rows=100)


def test_the_level_is_the_share_of_data_sets_with_an_alarm() -> None:
    (row,) = calibration.level_table(datasets()).to_dict("records")
    assert (row["pattern"], row["datasets"], row["alarms"], row["called"]) == ("noise", 3, 1, 1.0)
    interval = stats.binomtest(1, 3).proportion_ci(method="exact")
    assert (row["value"], row["low"], row["high"]) == pytest.approx((1 / 3, interval.low, interval.high))


def test_power_is_counted_by_kind_and_together() -> None:
    table = calibration.power_table(datasets()).set_index("kind")
    assert table["value"].to_dict() == {"all": 0.5, "special": 1.0, "image": 0.0}
    assert table["false_share"].to_dict() == {"all": 0.25, "special": 0.5, "image": 0.0}
    assert table.loc["image", ["low", "found"]].tolist() == [0.0, 0]
    assert table.loc["all", "false_share_low"] <= 0.25 <= table.loc["all", "false_share_high"]


# The experiment


COMMAND = "refam experiment calibration --level-sets 1 --power-sets 3 --seed 2"


@pytest.fixture(scope="module")
def simulated(tmp_path_factory: pytest.TempPathFactory) -> Result:
    results = tmp_path_factory.mktemp("calibration") / "results"
    said = CliRunner().invoke(app, [*COMMAND.split()[1:], "--results", str(results)])
    assert said.exit_code == 0, said.output
    assert "all of it" in said.output
    return load_result("calibration", results=results)


def test_the_command_is_the_one_in_the_provenance(simulated: Result) -> None:
    assert simulated.provenance.command == COMMAND


def test_every_data_set_has_a_row_a_detector_and_number_of_scenes(simulated: Result) -> None:
    rows = simulated["datasets"]
    assert len(rows) == (5 * 1 + 4 * 3) * 4 * 2
    assert set(rows.query("factor > 1")["kind"]) == {"special", "padding", "image"}
    pd.testing.assert_frame_equal(simulated["level"], calibration.level_table(rows))
    pd.testing.assert_frame_equal(simulated["power"], calibration.power_table(rows, seed=2))


def test_some_data_sets_can_be_repeated(simulated: Result) -> None:
    again = calibration.repeat(simulated, pattern="all of it", factor=5.0, first=1, number=1)
    rows = simulated["datasets"].query("factor == 5 and dataset == 1").reset_index(drop=True)
    pd.testing.assert_frame_equal(rows, again)


def test_a_stopped_run_goes_on(tmp_path: Path) -> None:
    test = calibration.CalibrationTest(level_sets=1, power_sets=1, scenes=(5,), factors=(5.0,))
    results = tmp_path / "results"
    results.touch()
    with pytest.raises(OSError):  # a file lies where the folder of the results should
        calibration.run(test, results=results)
    results.unlink()
    (part,) = tmp_path.glob(".cache/calibration-*/noise-1-0000.parquet")
    pd.read_parquet(part).assign(called=77).to_parquet(part)
    result = calibration.run(test, results=results)
    assert set(result["datasets"].query("pattern == 'noise'")["called"]) == {77}
    assert not list(tmp_path.glob(".cache/*"))


def test_committed_data_sets_are_examined_alike() -> None:
    if not (RESULTS / "calibration").is_dir():
        pytest.skip("results/calibration is not made yet")
    result = load_result("calibration")
    rows = result["datasets"]
    for pattern, factor, first in (("object", 1.0, 17), ("all of it", 1.0, 40), ("all of it", 3.0, 8)):
        again = calibration.repeat(result, pattern=pattern, factor=factor, first=first, number=1)
        kept = rows.query("pattern == @pattern and factor == @factor and dataset == @first")
        pd.testing.assert_frame_equal(kept.reset_index(drop=True), again)
    pd.testing.assert_frame_equal(result["level"], calibration.level_table(rows))
    pd.testing.assert_frame_equal(
        result["power"], calibration.power_table(rows, seed=result.provenance.configuration["seed"])
    )
