"""Row entropy against explicit softmax, and its table over scenes."""

import math
import statistics
from collections.abc import Callable

import numpy as np
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from refam_analysis.analysis.entropy import (
    HeadsAveragedError,
    entropy_by_block,
    entropy_by_head,
    entropy_by_row,
    entropy_by_step,
    head_spread,
    head_spread_of,
    row_entropy,
    side_entropy_of,
)
from refam_analysis.analysis.statistics import NoRecordingsError
from refam_analysis.analysis.units import RecordingsDifferError
from refam_analysis.recording import Recording
from refam_analysis.recording.quantities import QuantityMissingError


def rows_by_hand(attention: np.ndarray) -> np.ndarray:
    flat = [-math.fsum(p * math.log(p) for p in row) for row in attention.reshape(-1, attention.shape[-1])]
    return np.array(flat).reshape(attention.shape[:-1])


@pytest.mark.parametrize("keep", ["full", "entropy"])
def test_entropy_of_rows_equals_the_sum_by_hand(
    keep: str, make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    attention = random_attention(5, spread=3.0)
    recording = make_recording(attention, make_tokens(["ring"]), keep=[keep])
    np.testing.assert_allclose(entropy_by_row(recording).values, rows_by_hand(attention), rtol=1e-12)


def test_zeros_in_a_row_count_as_nothing(make_recording: Callable, make_tokens: Callable) -> None:
    attention = np.zeros((1, 1, 1, 1, 22, 22))
    attention[..., :2] = 0.5
    recording = make_recording(attention, make_tokens(["ring"]))
    np.testing.assert_allclose(entropy_by_row(recording).values, math.log(2))


@pytest.mark.parametrize("keep", ["full", "entropy"])
def test_the_table_holds_the_mean_over_scenes_of_each_side(
    keep: str, make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    every = [random_attention(seed, spread=2.0) for seed in range(5)]
    table = entropy_by_block([make_recording(a, make_tokens(["ring"]), keep=[keep], blocks=[3, 7]) for a in every])
    means = np.mean([rows_by_hand(a)[0, 0] for a in every], axis=(0, 2))
    found = table.set_index(["block", "from_queries", "measure"])["value"]
    for index, block in enumerate([3, 7]):
        assert found[block, "text", "entropy"] == pytest.approx(means[index, :10].mean())
        assert found[block, "image", "entropy"] == pytest.approx(means[index, 10:].mean())
        assert found[block, "image", "normalised"] == pytest.approx(means[index, 10:].mean() / math.log(22))
    assert (table["low"] < table["value"]).all() and (table["value"] < table["high"]).all()
    assert set(table["scenes"]) == {5}


def test_uniform_attention_is_one_when_normalised(make_recording: Callable, make_tokens: Callable) -> None:
    table = entropy_by_block(make_recording(np.full((1, 1, 2, 1, 22, 22), 1 / 22), make_tokens(["ring"])))
    np.testing.assert_allclose(table.loc[table["measure"] == "normalised", "value"], 1.0)


def test_one_recording_has_no_interval(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    table = entropy_by_block(make_recording(random_attention(0), make_tokens(["ring"])))
    assert table["low"].isna().all() and set(table["scenes"]) == {1}


def test_only_the_conditional_branch_counts(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    both = np.concatenate([random_attention(0), random_attention(1, spread=5.0)], axis=1)
    tokens = make_tokens(["ring"])
    left = entropy_by_block(make_recording(both, tokens))
    right = entropy_by_block(make_recording(both[:, :1], tokens))
    np.testing.assert_array_equal(left["value"], right["value"])


def test_recordings_are_read_one_after_the_other(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    stream = (make_recording(random_attention(seed), make_tokens(["ring"])) for seed in range(3))
    assert set(entropy_by_block(stream)["scenes"]) == {3}


def test_nothing_cannot_be_summarised() -> None:
    with pytest.raises(NoRecordingsError, match="at least one Recording"):
        entropy_by_block([])


def test_recordings_of_other_blocks_are_refused(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    tokens = make_tokens(["ring"])
    pair = [make_recording(random_attention(0), tokens, blocks=blocks) for blocks in ([0, 1], [0, 2])]
    with pytest.raises(RecordingsDifferError, match=r"\[0, 1\].*\[0, 2\]"):
        entropy_by_block(pair)


def test_what_was_not_kept_is_asked_for(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    recording = make_recording(random_attention(0), make_tokens(["ring"]), keep=["received_from_text"])
    with pytest.raises(QuantityMissingError, match="entropy"):
        entropy_by_block(recording)


# --- per head and per step ---


@given(hnp.arrays(np.float64, (3, 5), elements=st.floats(0.001, 1)))
def test_entropy_lies_between_one_key_and_all_alike_whatever_their_order(weights: np.ndarray) -> None:
    rows = weights / weights.sum(-1, keepdims=True)
    found = row_entropy(xr.DataArray(rows, dims=("query", "key")))
    assert (found > 0).all() and (found <= math.log(5) + 1e-12).all()
    turned = row_entropy(xr.DataArray(rows[:, ::-1], dims=("query", "key")))
    np.testing.assert_allclose(found, turned, rtol=1e-12)


def steps_and_heads(seed: int, random_attention: Callable) -> np.ndarray:
    """Two steps, two blocks, three heads that differ in sharpness."""
    parts = [[random_attention(9 * seed + 3 * i + j, heads=1, spread=1.0 + i + j) for j in range(3)] for i in range(2)]
    return np.concatenate([np.concatenate(heads, axis=3) for heads in parts], axis=0)


def averaged(recording: Recording) -> Recording:
    """As recorded with heads="mean"."""
    dataset = recording.dataset.mean("head").expand_dims(head=1, axis=3).drop_vars("head", errors="ignore")
    return Recording(dataset.assign_attrs({**recording.attrs, "heads": "mean"}))


def test_one_scene_has_every_step_block_and_head(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    attention = steps_and_heads(0, random_attention)
    found = side_entropy_of(make_recording(attention, make_tokens(["ring"]), blocks=[3, 7]))
    assert found.dims == ("from_queries", "measure", "step", "block", "head")
    assert found["block"].values.tolist() == [3, 7] and found["head"].values.tolist() == [0, 1, 2]
    rows = rows_by_hand(attention)[:, 0]
    np.testing.assert_allclose(found.sel(from_queries="text", measure="entropy"), rows[..., :10].mean(-1))
    np.testing.assert_allclose(
        found.sel(from_queries="image", measure="normalised"), rows[..., 10:].mean(-1) / math.log(22)
    )


def test_the_table_by_head_averages_nothing_but_queries_and_scenes(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    every = [steps_and_heads(seed, random_attention) for seed in range(4)]
    table = entropy_by_head(make_recording(a, make_tokens(["ring"])) for a in every)
    assert table.columns[:4].tolist() == ["step", "noise_level", "block", "head"]
    assert len(table) == 2 * 2 * 3 * 2 * 2
    means = np.mean([rows_by_hand(a)[:, 0, ..., 10:].mean(-1) for a in every], axis=0)
    rows = table[(table["from_queries"] == "image") & (table["measure"] == "entropy")]
    np.testing.assert_allclose(rows["value"], means.ravel())
    assert (rows["low"] < rows["value"]).all() and set(rows["scenes"]) == {4}


def test_the_table_by_step_keeps_steps_and_their_noise_levels(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    attention = steps_and_heads(1, random_attention)
    recording = make_recording(attention, make_tokens(["ring"]))
    recording = Recording(recording.dataset.assign_coords(noise_level=("step", [0.9, 0.3])))
    table = entropy_by_step(recording).set_index(["step", "block", "from_queries", "measure"])
    means = rows_by_hand(attention)[:, 0, ..., :10].mean(axis=(2, 3))
    for step, level in enumerate([0.9, 0.3]):
        for block in range(2):
            row = table.loc[(step, block, "text", "entropy")]
            assert row["value"] == pytest.approx(means[step, block]) and row["noise_level"] == level


def test_steps_of_other_noise_levels_are_refused(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    one = make_recording(random_attention(0), make_tokens(["ring"]))
    other = Recording(one.dataset.assign_coords(noise_level=("step", [0.1])))
    with pytest.raises(RecordingsDifferError, match="noise levels"):
        entropy_by_step([one, other])


def test_the_spread_over_heads_is_that_of_the_textbook(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    attention = steps_and_heads(2, random_attention)
    found = head_spread_of(make_recording(attention, make_tokens(["ring"])))
    heads = rows_by_hand(attention)[:, 0, ..., 10:].mean(axis=(0, 3)) / math.log(22)
    for block, values in enumerate(heads.tolist()):
        lower, median, upper = statistics.quantiles(values, n=4, method="inclusive")
        expected = {
            "mean": statistics.fmean(values), "deviation": statistics.pstdev(values), "minimum": min(values),
            "lower_quartile": lower, "median": median, "upper_quartile": upper, "maximum": max(values),
            "range": max(values) - min(values),
        }  # fmt: skip
        got = found.sel(from_queries="image", block=block).to_series().to_dict()
        assert got == pytest.approx(expected)


def test_the_spread_over_scenes_is_the_mean_of_each_scenes_own(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    every = [make_recording(steps_and_heads(s, random_attention), make_tokens(["ring"])) for s in range(5)]
    table = head_spread(every).set_index(["block", "from_queries", "statistic"])
    means = sum(head_spread_of(one) for one in every) / 5
    for labels in table.index:
        block, side, statistic = labels
        expected = float(means.sel(block=block, from_queries=side, statistic=statistic))
        assert table.loc[labels, "value"] == pytest.approx(expected)
    assert (table["low"] <= table["high"]).all() and set(table["scenes"]) == {5}


@pytest.mark.parametrize("table", [entropy_by_head, head_spread, head_spread_of])
def test_single_heads_of_a_mean_over_heads_are_refused(
    table: Callable, make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    recording = averaged(make_recording(random_attention(0), make_tokens(["ring"]), keep=["entropy"]))
    with pytest.raises(HeadsAveragedError, match='heads="each"'):
        table(recording)


def test_entropies_that_were_averaged_over_heads_have_the_same_table_by_block(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    each = make_recording(random_attention(0, spread=2.0), make_tokens(["ring"]), keep=["entropy"])
    np.testing.assert_allclose(entropy_by_block(averaged(each))["value"], entropy_by_block(each)["value"])


def test_the_entropy_of_a_mean_over_heads_is_not_taken_for_the_mean_of_entropies(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    recording = averaged(make_recording(random_attention(0, spread=2.0), make_tokens(["ring"])))
    with pytest.raises(QuantityMissingError, match="entropy"):
        entropy_by_block(recording)


def test_recordings_of_other_heads_are_refused(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    pair = [make_recording(random_attention(0, heads=heads), make_tokens(["ring"])) for heads in (2, 3)]
    with pytest.raises(RecordingsDifferError, match="along head"):
        entropy_by_head(pair)
