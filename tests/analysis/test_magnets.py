"""The account of mass by token kind: exact, balanced, and paired over scenes."""

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from refam_analysis.analysis.magnets import KINDS, mass_by_kind, mass_moved, mass_shares
from refam_analysis.analysis.units import RecordingsDifferError
from refam_analysis.prompts.tokens import TokenKind
from refam_analysis.recording.recording import Recording


@pytest.fixture(name="pair")
def _pair(make_recording: Callable, make_tokens: Callable, random_attention: Callable) -> Callable:
    """The same scenes without magnets and with two, which draw ``factor`` times as much as other keys."""

    def build(count: int, factor: float = 4.0) -> tuple[list[Recording], list[Recording]]:
        without = [make_recording(random_attention(s), make_tokens(["the", "ring"])) for s in range(count)]
        with_magnets = []
        for seed in range(count):
            attention = random_attention(seed)
            attention[..., 2:4] *= factor
            attention /= attention.sum(-1, keepdims=True)
            with_magnets.append(make_recording(attention, make_tokens(["the", "ring"], [".", "a"])))
        return without, with_magnets

    return build


@pytest.mark.parametrize("side", ["text", "image"])
def test_a_share_is_the_probability_on_the_kind(
    side: str, make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    attention = random_attention(2, spread=2.0)
    shares = mass_shares(make_recording(attention, make_tokens(["the", "red", "ring"], ["."])), from_queries=side)
    rows = attention[0, 0, 1, :, :10] if side == "text" else attention[0, 0, 1, :, 10:]
    found = shares.sel(block=1)
    assert float(found.sel(kind="content")) == pytest.approx(
        np.mean([row[[1, 2]].sum() for head in rows for row in head])
    )
    assert float(found.sel(kind="padding")) == pytest.approx(
        np.mean([row[5:10].sum() for head in rows for row in head])
    )
    assert float(found.sel(kind="image")) == pytest.approx(np.mean([row[10:].sum() for head in rows for row in head]))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(seed=st.integers(0, 1000), magnets=st.lists(st.sampled_from([".", "a", "with"]), max_size=4))
def test_the_shares_of_all_kinds_sum_to_one(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable, seed: int, magnets: list[str]
) -> None:
    recording = make_recording(random_attention(seed, spread=2.0), make_tokens(["the", "ring"], magnets))
    for side in ("text", "image"):
        np.testing.assert_allclose(mass_shares(recording, from_queries=side).sum("kind"), 1.0)


def test_the_table_has_means_intervals_and_numbers_of_keys(pair: Callable) -> None:
    _, recordings = pair(6)
    table = mass_by_kind(recordings)
    assert list(dict.fromkeys(table["kind"])) == ["content", "magnet", "stop", "special", "padding", "image"]
    row = table.set_index(["block", "from_queries", "kind"]).loc[(1, "image", "magnet")]
    each = [float(mass_shares(r, from_queries="image").sel(block=1, kind="magnet")) for r in recordings]
    assert row["value"] == pytest.approx(np.mean(each))
    assert min(each) <= row["low"] < row["value"] < row["high"] <= max(each)
    assert (row["keys"], row["scenes"]) == (2, 6)


def test_what_magnets_gain_the_others_lose(pair: Callable) -> None:
    table = mass_moved(*pair(14))
    np.testing.assert_allclose(table.groupby(["block", "from_queries"])["change"].sum(), 0.0, atol=1e-12)
    np.testing.assert_allclose(table["with_magnets"] - table["without"], table["change"])
    change = table.groupby("kind")[["change", "low", "high", "q"]].mean()
    assert change.loc["magnet", "low"] > 0.1
    assert change.loc["image", "high"] < 0 and change.loc["content", "high"] < 0
    assert change.loc["magnet", "q"] < 0.01


def test_magnets_take_the_places_of_padding(pair: Callable) -> None:
    table = mass_moved(*pair(3)).set_index(["block", "from_queries", "kind"])
    row = table.loc[(0, "text", "padding")]
    assert (row["keys"], row["keys_with_magnets"]) == (7, 5)


def test_p_is_the_two_sided_permutation_test_over_scenes(pair: Callable) -> None:
    without, with_magnets = pair(8, factor=1.0)
    table = mass_moved(without, with_magnets[1:] + with_magnets[:1]).set_index(["block", "from_queries", "kind"])
    row = table.loc[(0, "text", "content")]
    shares = [
        [float(mass_shares(r, from_queries="text").sel(block=0, kind="content")) for r in recordings]
        for recordings in (with_magnets[1:] + with_magnets[:1], without)
    ]
    expected = stats.permutation_test(
        (np.subtract(*shares),), np.mean, permutation_type="samples", n_resamples=np.inf
    ).pvalue
    assert row["p"] == pytest.approx(expected)


def test_one_pair_has_no_test(pair: Callable) -> None:
    table = mass_moved(*(recordings[0] for recordings in pair(1)))
    assert table[["p", "q", "low", "high"]].isna().all(axis=None)


def test_scenes_that_do_not_pair_are_refused(pair: Callable) -> None:
    without, with_magnets = pair(3)
    with pytest.raises(RecordingsDifferError, match="3 recordings.*with magnets 2"):
        mass_moved(without, with_magnets[:2])


def test_every_kind_has_an_account() -> None:
    assert set(get_args(TokenKind)) <= set(KINDS)
