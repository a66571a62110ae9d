"""Sinks over steps and over runs: what moves is seen to move, and the numbers equal those of each step or pair."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest
from scipy import stats

from refam_analysis.analysis.key_effects import key_effects
from refam_analysis.analysis.sink_dynamics import (
    AGREEMENT,
    roles_over_steps,
    sink_agreement,
    sink_agreement_of,
    sinks_over_steps,
    strength_over_steps_of,
)
from refam_analysis.analysis.sinks import detect_sinks, sink_strength
from refam_analysis.analysis.statistics import NoRecordingsError
from refam_analysis.analysis.units import RecordingsDifferError
from refam_analysis.recording.recording import Recording

KEYS = 22
Make = Callable[..., Recording]


@pytest.fixture(name="scene")
def _scene(make_recording: Make, make_tokens: Callable, random_attention: Callable) -> Callable[..., Recording]:
    """A scene of some steps; at each, every query of block 1 attends five times as much to one key."""

    def build(
        seed: int, keys: Sequence[int | None], words: Sequence[str] = ("the", "red", "ring"), **options: object
    ) -> Recording:
        steps = []
        for step, key in enumerate(keys):
            attention = random_attention(100 * seed + step)
            if key is not None:
                attention[:, :, 1, :, :, key] *= 5.0
            steps.append(attention / attention.sum(-1, keepdims=True))
        return make_recording(np.concatenate(steps), make_tokens(words), **options)

    return build


# Over steps


def test_each_step_has_the_strength_that_it_has_alone(scene: Callable) -> None:
    recording = scene(1, [3, 5])
    together = strength_over_steps_of(recording)
    assert together["log_effect"].dims == ("step", "block")
    for step, key in enumerate((3, 5)):
        alone = sink_strength(Recording(recording.dataset.isel(step=[step])))
        for name in set(alone.variables) - {"block"}:
            np.testing.assert_array_equal(together[name].isel(step=step).values, alone[name].values)
        assert together["key"].isel(step=step).values[1] == key
    assert together["noise_level"].values.tolist() == [0.6, 0.6]


def test_a_sink_that_moves_is_seen_to_move(scene: Callable) -> None:
    keys = [[3, 3, 5], [3, 3, 5], [3, 4, 4], [3, 3, 3]]
    table = sinks_over_steps(scene(seed, moves) for seed, moves in enumerate(keys)).set_index(["step", "block"])
    moved = table.xs(1, level="block")["moved"]
    assert np.isnan(moved[0])
    assert moved[1:].tolist() == [0.25, 0.5]
    assert (table.loc[(0, 1), "role"], table.loc[(0, 1), "role_share"]) == ("</s>", 1.0)
    assert (table.loc[(2, 1), "kind"], table.loc[(2, 1), "kind_share"]) == ("padding", 0.75)


def test_strength_over_steps_is_the_geometric_mean_over_scenes(scene: Callable) -> None:
    recordings = [scene(seed, [3, None]) for seed in range(5)]
    table = sinks_over_steps(recordings).set_index(["step", "block"])
    each = [strength_over_steps_of(recording)["log_effect"].values for recording in recordings]
    np.testing.assert_allclose(table["value"], np.exp(np.mean(each, axis=0)).ravel())
    assert table.loc[(0, 1), "low"] > 3 > 2 > table.loc[(1, 1), "high"]
    assert (table["scenes"] == 5).all()


def test_chosen_roles_are_followed_over_steps(scene: Callable) -> None:
    recordings = [scene(seed, [3, None], ["the", ["red", "blue"][seed % 2], "ring"]) for seed in range(5)]
    table = roles_over_steps(recordings, ["</s>", "blue", "first token"]).set_index(["step", "block", "role"])
    each = [detect_sinks(recording) for recording in (Recording(r.dataset.isel(step=[0])) for r in recordings)]
    effects = [one.set_index(["block", "role"]).loc[(1, "</s>"), ["effect", "mass_from_text"]] for one in each]
    row = table.loc[(0, 1, "</s>")]
    assert row["value"] == pytest.approx(np.exp(np.mean([np.log(effect["effect"]) for effect in effects])))
    assert row["mass_from_text"] == pytest.approx(np.mean([effect["mass_from_text"] for effect in effects]))
    assert table.loc[(1, 1, "</s>"), "high"] < 2 < row["low"]
    assert table.loc[(0, 1, "blue"), "scenes"] == 2 and table.loc[(0, 1, "first token"), "scenes"] == 5
    assert (row["kind"], table.loc[(0, 0, "blue"), "kind"]) == ("special", "content")


def test_other_steps_are_refused(scene: Callable) -> None:
    for follow in (sinks_over_steps, lambda recordings: roles_over_steps(recordings, ["</s>"])):
        with pytest.raises(RecordingsDifferError, match="noise levels"):
            follow([scene(0, [3]), scene(0, [3, 3])])
        with pytest.raises(NoRecordingsError):
            follow([])


# From one run to another


def test_a_recording_agrees_with_itself(scene: Callable) -> None:
    found = sink_agreement_of(scene(0, [3]), scene(0, [3])).sel(block=1)
    assert found.sel(measure=list(AGREEMENT)).values.tolist() == pytest.approx([1.0, 1.0, 1.0])


def test_agreement_equals_sets_and_ranks(scene: Callable) -> None:
    one, other = scene(0, [3]), scene(1, [3], ["a", "red", "ring"])
    other.dataset["full"][0, 0, 1, :, :, 5] *= 6.0  # a second sink, stronger than the first
    found = sink_agreement_of(one, other).sel(block=1)
    sinks = [set(detect_sinks(each).query("is_sink and block == 1")["role"]) for each in (one, other)]
    assert sinks == [{"</s>"}, {"</s>", "padding 1"}]
    assert found.sel(measure="jaccard") == 0.5
    effects = [dict(zip(e.table["role"], e.log_effect()[1], strict=True)) for e in map(key_effects, (one, other))]
    shared = sorted(effects[0].keys() & effects[1].keys())
    assert len(shared) == KEYS - 1  # "the" and "a" have no partner
    rho = stats.spearmanr([effects[0][role] for role in shared], [effects[1][role] for role in shared]).statistic
    assert found.sel(measure="rank_correlation") == pytest.approx(rho)
    assert found.sel(measure="same_strongest") == 0.0


def test_where_neither_has_a_sink_there_is_no_overlap(scene: Callable) -> None:
    found = sink_agreement_of(scene(0, [3]), scene(1, [3])).sel(block=0)
    assert np.isnan(found.sel(measure="jaccard"))
    assert np.isfinite(found.sel(measure="rank_correlation"))


def test_every_two_runs_are_compared_over_scenes(scene: Callable) -> None:
    runs = {
        "seed 0": (scene(seed, [3]) for seed in range(6)),
        "seed 1": (scene(10 + seed, [3]) for seed in range(6)),
        "moved": (scene(20 + seed, [7]) for seed in range(6)),
    }
    table = sink_agreement(runs)
    assert len(table) == 3 * len(AGREEMENT) * 2
    pairs = table.set_index(["one", "other", "measure", "block"])
    for measure in ("jaccard", "same_strongest"):
        assert pairs.loc[("seed 0", "seed 1", measure, 1), ["value", "low", "high"]].tolist() == pytest.approx(
            [1.0] * 3
        )
        assert pairs.loc[("seed 0", "moved", measure, 1), "value"] == 0.0
    row = pairs.loc[("seed 0", "seed 1", "rank_correlation", 1)]
    each = [sink_agreement_of(scene(s, [3]), scene(10 + s, [3])).sel(block=1).values[1] for s in range(6)]
    assert row["value"] == pytest.approx(np.mean(each))
    assert row["low"] < row["value"] < row["high"]
    assert pairs.loc[("seed 0", "seed 1", "jaccard", 0), "scenes"] == 0


def test_runs_that_do_not_match_are_refused(scene: Callable) -> None:
    with pytest.raises(RecordingsDifferError, match="give at least two"):
        sink_agreement({"only": [scene(0, [3])]})
    with pytest.raises(RecordingsDifferError, match="short have fewer"):
        sink_agreement({"long": [scene(0, [3]), scene(1, [3])], "short": [scene(0, [3])]})
    with pytest.raises(RecordingsDifferError, match="blocks"):
        sink_agreement({"a": [scene(0, [3])], "b": [scene(0, [3], blocks=[4, 5])]})
    with pytest.raises(NoRecordingsError):
        sink_agreement({"a": [], "b": []})
