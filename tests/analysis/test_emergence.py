"""Tables over scenes: their numbers against scene values, planted structure, and the statistics of two curves."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from refam_analysis.analysis.concentration import CONCENTRATION, concentration_of
from refam_analysis.analysis.depth import depth_trends, late_minus_early, rank_correlation
from refam_analysis.analysis.emergence import (
    concentration_by_block,
    phrases_by_block,
    phrases_by_head,
    sinks_and_semantics_by_block,
    sinks_and_semantics_of,
    sinks_with_semantics,
)
from refam_analysis.analysis.localisation import (
    average_precision,
    average_precision_of,
    content_maps,
    localisation_by_block,
    localisation_by_step,
)
from refam_analysis.analysis.phrases import phrase_structure
from refam_analysis.analysis.statistics import NoRecordingsError
from refam_analysis.analysis.units import RecordingsDifferError
from refam_analysis.recording.recording import Recording

SENTENCE = ("the", "ring", "on", "the", "left")
DIRECTIONS = ("image_to_text", "text_to_image")
MASK = np.zeros((12, 16), dtype=bool)
MASK[4:8, 8:12] = True
Make = Callable[..., Recording]


@pytest.fixture(name="scenes")
def _scenes(make_recording: Make, make_tokens: Callable, random_attention: Callable) -> Callable[..., list[Recording]]:
    """Scenes in which head 1 of the later blocks attends within phrases."""

    def build(count: int, *, blocks: int = 3, words: tuple[str, ...] = SENTENCE, **options: object) -> list[Recording]:
        phrase = np.array([0, 0, 1, 1, 1])
        recordings = []
        for seed in range(count):
            attention = random_attention(seed, blocks=blocks)
            across = np.ones((22, 22))
            across[:5, :5] = np.where(phrase[:, None] == phrase, 1.0, 0.2)
            attention[:, :, 1:, 1] *= across
            attention /= attention.sum(-1, keepdims=True)
            recordings.append(make_recording(attention, make_tokens(words), **options))
        return recordings

    return build


# Phrases


def test_planted_phrases_are_found_in_their_blocks_and_head(scenes: Callable) -> None:
    table = phrases_by_head(scenes(12)).set_index(["block", "head"])
    assert {place for place, q in table["q"].items() if q <= 0.05} == {(1, 1), (2, 1)}
    assert (table.loc[[(1, 1), (2, 1)], "excess_low"] > 0.2).all()
    by_block = phrases_by_block(scenes(12)).set_index("block")
    assert by_block.index[by_block["q"] <= 0.05].tolist() == [1, 2]


def test_the_table_is_the_mean_of_the_scenes(scenes: Callable) -> None:
    recordings = scenes(5)
    each = np.stack([phrase_structure(one).mean("head").values for one in recordings])
    table = phrases_by_block(iter(recordings))
    for place, column in enumerate(("observed", "null", "excess", "as_block_diagonal")):
        np.testing.assert_allclose(table[column], each[:, place].mean(axis=0))
    expected = [
        stats.permutation_test((column,), np.mean, permutation_type="samples", alternative="greater").pvalue
        for column in each[:, 2].T
    ]
    np.testing.assert_allclose(table["p"], expected)
    assert (table["excess_low"] <= table["excess"]).all() and (table["excess"] <= table["excess_high"]).all()


def test_sentences_with_one_grouping_are_left_out_and_counted(scenes: Callable) -> None:
    recordings = scenes(4) + scenes(3, words=("the", "red", "ring"))
    table = phrases_by_block(recordings)
    assert table[["scenes", "left_out"]].drop_duplicates().values.tolist() == [[4, 3]]
    np.testing.assert_allclose(table["excess"], phrases_by_block(recordings[:4])["excess"])


def test_nothing_but_sentences_with_one_grouping_is_no_error(scenes: Callable) -> None:
    table = phrases_by_block(scenes(3, words=("the", "red", "ring")))
    assert table[["observed", "excess", "p", "q"]].isna().all(axis=None)
    assert table["scenes"].tolist() == [0, 0, 0]


def test_phrases_of_each_sentence_may_be_given(scenes: Callable) -> None:
    recordings = scenes(4)
    other = [[["the"], ["ring", "on", "the", "left"]]] * 4
    assert not np.allclose(phrases_by_block(recordings, other)["excess"], phrases_by_block(recordings)["excess"])
    with pytest.raises(ValueError, match="shorter"):
        phrases_by_block(recordings, other[:3])


def test_one_scene_has_no_test(scenes: Callable) -> None:
    table = phrases_by_block(scenes(1)[0])
    assert table[["p", "q", "excess_low"]].isna().all(axis=None) and table["excess"].notna().all()


# Maps


@pytest.fixture(name="two_steps")
def _two_steps(make_recording: Make, make_tokens: Callable, random_attention: Callable) -> list[Recording]:
    """Three scenes at two noise levels, both directions; the second step is sharper."""
    recordings = []
    for seed in range(3):
        attention = np.concatenate([random_attention(seed, spread=0.2), random_attention(seed + 50, spread=2.0)])
        recording = make_recording(attention, make_tokens(SENTENCE), keep=(*DIRECTIONS, "full"))
        recordings.append(Recording(recording.dataset.assign_coords(noise_level=("step", [0.2, 0.8]))))
    return recordings


@pytest.mark.parametrize("direction", DIRECTIONS)
def test_concentration_is_stated_by_step_and_block(two_steps: list[Recording], direction: str) -> None:
    table = concentration_by_block(two_steps, direction=direction)  # type: ignore[arg-type]
    assert table[["step", "noise_level"]].drop_duplicates().values.tolist() == [[0, 0.2], [1, 0.8]]
    each = np.stack([concentration_of(one, direction=direction).values for one in two_steps])  # type: ignore[arg-type]
    row = table.set_index(["step", "block", "measure"])
    for place, measure in enumerate(CONCENTRATION):
        assert row.loc[(1, 1, measure), "value"] == pytest.approx(np.nanmean(each[:, 1, 1, place]))
    entropy = table[table["measure"] == "normalised_spatial_entropy"].set_index(["step", "block"])["value"]
    assert (entropy[1] < entropy[0]).all()


def test_each_step_is_judged_by_its_own_map(two_steps: list[Recording]) -> None:
    table = localisation_by_step(two_steps, [MASK] * 3).set_index(["step", "block", "measure"])
    for step, level in enumerate((0.2, 0.8)):
        alone = [Recording(one.dataset.isel(step=[step])) for one in two_steps]
        expected = localisation_by_block(alone, [MASK] * 3).set_index(["block", "measure"])
        found = table.loc[step]
        assert set(found.pop("noise_level")) == {level}
        pd.testing.assert_frame_equal(found, expected)


def test_other_noise_levels_are_refused(two_steps: list[Recording]) -> None:
    other = Recording(two_steps[1].dataset.assign_coords(noise_level=("step", [0.2, 0.9])))
    for table in (concentration_by_block, lambda found: localisation_by_step(found, [MASK] * 2)):
        with pytest.raises(RecordingsDifferError, match="noise levels"):
            table([two_steps[0], other])


def test_a_scenes_average_precision_is_that_of_its_content_maps(two_steps: list[Recording]) -> None:
    found = average_precision_of(two_steps[0], MASK, "text_to_image", "text_share")
    maps = content_maps(two_steps[0], direction="text_to_image", normalisation="text_share")
    assert found.values.tolist() == [average_precision(one, MASK) for one in maps.values]
    assert found["block"].values.tolist() == [0, 1]


# Sinks and semantics


@pytest.fixture(name="joined")
def _joined(make_recording: Make, make_tokens: Callable, random_attention: Callable) -> Callable[..., list[Recording]]:
    """Scenes with a sink on a padding token, and eleven patches that look at the ring with heats from 1 to 2.

    A scene is given, block by block, how strong its sink is, and the heat of the twelfth patch, which is the mask's.
    """

    def build(count: int, sinks: list[float], heats: list[float], *, keep: tuple[str, ...] = ("full",)) -> list:
        recordings = []
        for seed in range(count):
            attention = random_attention(seed, blocks=len(sinks), spread=0.01)
            for block, (sink, heat) in enumerate(zip(sinks, heats, strict=True)):
                attention[:, :, block, :, :, 6] *= sink
                attention[:, :, block, :, 10:, 1] *= np.insert(np.linspace(1.0, 2.0, 11), 6, heat)
            attention /= attention.sum(-1, keepdims=True)
            recordings.append(make_recording(attention, make_tokens(["the", "ring"]), keep=(*DIRECTIONS, *keep)))
        return recordings

    return build


GROWING = [1.5, 2.0, 3.0, 4.0, 6.0, 9.0]
FINDING = [1.05, 1.25, 1.45, 1.65, 1.85, 2.05]


def test_sinks_and_semantics_that_grow_together_correlate(joined: Callable) -> None:
    row = sinks_with_semantics(joined(6, GROWING, FINDING), [MASK] * 6).iloc[0]
    assert row["rho"] > 0.8 and row["low"] > 0.5
    assert row["p"] == 2.0**-6
    assert (row["blocks"], row["scenes"], row["lag"]) == (6, 6, 0)
    against = sinks_with_semantics(joined(6, GROWING, FINDING[::-1]), [MASK] * 6).iloc[0]
    assert against["rho"] < -0.8 and against["p"] > 0.9


def test_a_lag_is_found_where_it_was_planted(joined: Callable) -> None:
    sinks, heats = [2.0, 9.0, 3.0, 6.0, 2.5, 4.0], [1.65, 1.05, 2.05, 1.45, 1.85, 1.25]
    table = sinks_with_semantics(joined(4, sinks, heats), [MASK] * 4, lags=(-1, 0, 1)).set_index("lag")
    assert table["rho"].idxmax() == 1
    assert table["blocks"].tolist() == [5, 6, 5]


@pytest.mark.parametrize("text", [1.0, 0.05], ids=["sides-alike", "text-ignored"])
def test_sink_strength_is_that_of_the_strongest_key_on_its_weaker_side(
    text: float, make_recording: Make, make_tokens: Callable, random_attention: Callable
) -> None:
    attention = random_attention(4, blocks=6, spread=1.0)
    attention[..., :10] *= text
    attention /= attention.sum(-1, keepdims=True)
    recording = make_recording(attention, make_tokens(["the", "ring"]), keep=("full", "image_to_text"))
    found = sinks_and_semantics_of(recording, MASK)
    for block in range(6):
        effects = []
        for queries in (slice(0, 10), slice(10, 22)):
            mass = attention[0, 0, block, :, queries].mean(axis=(0, 1))
            effects.append([mass[key] / np.median(mass[:10] if key < 10 else mass[10:]) for key in range(22)])
        strongest = max(min(one, other) for one, other in zip(*effects, strict=True))
        assert float(found.sel(measure="sink_strength", block=block)) == pytest.approx(strongest)
    np.testing.assert_allclose(found.sel(measure="sharpness"), average_precision_of(recording, MASK))


def test_without_a_mask_sharpness_is_what_lacks_to_an_even_map(joined: Callable) -> None:
    recordings = joined(3, GROWING, GROWING)
    found = sinks_and_semantics_of(recordings[0]).sel(measure="sharpness")
    heat = recordings[0]["image_to_text"].values[0, 0].mean(axis=1)[:, :, :, 1].reshape(6, 12)
    shares = heat / heat.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(found, 1 + (shares * np.log(shares)).sum(axis=1) / np.log(12))
    assert sinks_with_semantics(recordings).loc[0, "rho"] > 0.9
    assert "entropy" in sinks_and_semantics_by_block(recordings).attrs["sharpness"]


def test_reductions_say_the_same_as_full_attention(joined: Callable) -> None:
    received = ("received_from_text", "received_from_image")
    left, right = (joined(2, GROWING, GROWING, keep=keep) for keep in (("full",), received))
    pd.testing.assert_frame_equal(
        sinks_and_semantics_by_block(left, [MASK] * 2), sinks_and_semantics_by_block(right, [MASK] * 2)
    )


def test_a_model_with_one_side_of_queries_has_one_sided_sinks(
    make_recording: Make, make_tokens: Callable, random_attention: Callable
) -> None:
    attention = random_attention(0)
    keep, absent = ("image_to_text", "received_from_image"), ["received_from_text"]
    recording = make_recording(attention, make_tokens(["the", "ring"]), keep=keep, absent=absent)
    mass = recording["received_from_image"].values[0, 0].mean(axis=1)
    expected = [max((row[:10] / np.median(row[:10])).max(), (row[10:] / np.median(row[10:])).max()) for row in mass]
    np.testing.assert_allclose(sinks_and_semantics_of(recording).sel(measure="sink_strength"), expected)


def test_the_table_of_blocks_holds_both_means(joined: Callable) -> None:
    recordings = joined(3, GROWING, GROWING)
    each = np.stack([sinks_and_semantics_of(one, MASK).values for one in recordings])
    table = sinks_and_semantics_by_block(recordings, [MASK] * 3)
    np.testing.assert_allclose(table["value"], each.mean(axis=0).ravel())
    assert table.attrs["sharpness"] == "average precision"
    assert table["measure"].tolist() == ["sink_strength"] * 6 + ["sharpness"] * 6


def test_no_recording_is_an_error() -> None:
    for table in (phrases_by_block, concentration_by_block, sinks_with_semantics, depth_trends):
        with pytest.raises(NoRecordingsError):
            table([])


# Depth


def profile(values: list[float]) -> xr.DataArray:
    return xr.DataArray(values, dims="block", coords={"block": range(len(values))})


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([1.0], 0.0),
        ([1.0, 4.0], 3.0),
        ([1.0, 9.0, 9.0, 5.0], 4.0),
        ([0.0, 2.0, 9.0, 4.0, 8.0], 5.0),
        ([0.0, 2.0, 9.0, 9.0, 4.0, 8.0], 5.0),
    ],
    ids=lambda value: f"{len(value)}-blocks" if isinstance(value, list) else "",
)
def test_late_minus_early_compares_thirds(values: list[float], expected: float) -> None:
    assert late_minus_early(profile(values)) == expected


@given(st.integers(0, 1000), st.integers(3, 12))
def test_rank_correlation_is_spearmans(seed: int, length: int) -> None:
    one, other = np.random.default_rng(seed).integers(0, 6, size=(2, length))
    one[0], other[0], one[1], other[1] = 9, 0, 8, 7
    assert rank_correlation(one, other) == pytest.approx(stats.spearmanr(one, other).statistic)


@pytest.mark.parametrize("values", [[1.0, 1.0, 1.0], [1.0, np.nan, 2.0], []], ids=["constant", "nan", "empty"])
def test_what_has_no_order_has_no_rank_correlation(values: list[float]) -> None:
    assert np.isnan(rank_correlation(values, range(len(values))))


def test_a_trend_is_the_mean_over_scenes_and_two_sided() -> None:
    profiles = [profile([3.0, 2.0 + 0.1 * scene, 1.0]) for scene in range(6)]
    table = depth_trends(profiles).set_index("trend")
    assert table.loc["late_minus_early", "value"] == -2.0
    assert table.loc["rank_correlation", "value"] == pytest.approx(-1.0)
    assert table["p"].tolist() == [2 * 2.0**-6] * 2
    assert table["scenes"].tolist() == [6, 6]


def test_scenes_that_cannot_say_take_no_part_in_a_trend() -> None:
    profiles = [profile([1.0, 2.0, 3.0]), profile([np.nan] * 3), profile([1.0, 3.0, 5.0])]
    table = depth_trends(profiles).set_index("trend")
    assert table.loc["late_minus_early", "value"] == 3.0
    assert table["scenes"].tolist() == [2, 2]


def test_a_trend_that_one_scene_has_is_not_tested() -> None:
    table = depth_trends([profile([1.0, 2.0, 3.0]), profile([np.nan] * 3)])
    assert table[["low", "high", "p"]].isna().all(axis=None) and table["scenes"].tolist() == [1, 1]
