"""Row entropy against explicit softmax, and its table over scenes."""

import math
from collections.abc import Callable

import numpy as np
import pytest

from refam_analysis.analysis.entropy import entropy_by_block, entropy_by_row
from refam_analysis.analysis.statistics import NoRecordingsError
from refam_analysis.analysis.units import RecordingsDifferError
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
