"""The account of mass by token kind: exact, balanced, and paired over scenes."""

from collections.abc import Callable
from typing import get_args

import numpy as np
import pytest
import xarray as xr
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from scipy import stats

from refam_analysis.analysis.magnets import (
    ALL_MAGNETS,
    KINDS,
    magnet_shares,
    magnet_shares_of,
    mass_by_kind,
    mass_moved,
    mass_shares,
    share_by_key,
)
from refam_analysis.analysis.regions import region_shares
from refam_analysis.analysis.sinks import detect_sinks
from refam_analysis.analysis.units import RecordingsDifferError
from refam_analysis.prompts.tokens import Token, TokenKind
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


def test_recordings_with_queries_of_other_sides_are_refused(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    tokens, received = make_tokens(["the", "ring"]), ["received_from_text", "received_from_image"]
    both = make_recording(random_attention(0), tokens, keep=received)
    one = make_recording(random_attention(1), tokens, keep=received[1:], absent=received[:1])
    for table in (mass_by_kind, detect_sinks):
        with pytest.raises(RecordingsDifferError, match="text and image, another of image"):
            table([both, one])


def test_every_kind_has_an_account() -> None:
    assert set(get_args(TokenKind)) <= set(KINDS)


# What each magnet takes


def regions(*, distractors: bool = True) -> xr.DataArray:
    masks = np.zeros((2, 6, 8), bool)
    masks[0, :3, 1:4] = masks[1, 4:, 5:] = True
    return region_shares(masks[0], masks[1:] if distractors else [], (3, 4))


@pytest.mark.parametrize("region", ["target", "distractors", "background"])
def test_a_magnet_takes_the_weighted_mean_over_the_region(
    region: str, make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    attention, weights = random_attention(4, spread=2.0), regions().sel(region=region).values.ravel()
    recording = make_recording(attention, make_tokens(["the", "ring"], [".", "a"]), keep=("image_to_text",))
    found = magnet_shares_of(recording, regions()).sel(block=1, queries=region)
    expected = {}
    for name, key in (("magnet .", 2), ("magnet a", 3)):
        terms = [w * attention[0, 0, 1, head, 10 + i, key] for head in range(2) for i, w in enumerate(weights)]
        expected[name] = sum(terms) / 2 / weights.sum()
        assert float(found.sel(magnet=name)) == pytest.approx(expected[name])
    assert float(found.sel(magnet=ALL_MAGNETS)) == pytest.approx(sum(expected.values()))


def test_pieces_of_a_magnet_are_added_up(make_recording: Callable, random_attention: Callable) -> None:
    pieces = [("ring", "ring", "content", 0), ("qu", "quux", "magnet", 1), ("ux", "quux", "magnet", 1)]
    tokens = [Token(i, text, word, kind, "t5", index) for i, (text, word, kind, index) in enumerate(pieces)]
    tokens += [Token(i, "<pad>", "", "padding", "t5", None) for i in range(3, 10)]
    attention = random_attention(0)
    found = magnet_shares_of(make_recording(attention, tokens, keep=("image_to_text",)), regions())
    assert found["magnet"].values.tolist() == ["magnet quux", ALL_MAGNETS]
    weights = regions().sel(region="background").values.ravel()
    both = attention[0, 0, 0, :, 10:, 1:3].sum(-1).mean(0)
    assert float(found[0, 2, 0]) == pytest.approx((weights * both).sum() / weights.sum())


def test_scenes_without_a_magnet_or_a_region_take_no_part(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    words = [[".", "red"], ["."], [".", "red"]]
    recordings = [
        make_recording(random_attention(s), make_tokens(["ring"], magnets), keep=("image_to_text",))
        for s, magnets in enumerate(words)
    ]
    table = magnet_shares(iter(recordings), [regions(), regions(), regions(distractors=False)])
    scenes = table.set_index(["block", "queries", "magnet"])["scenes"]
    assert scenes[0, "target", "magnet ."] == 3 and scenes[0, "target", "magnet red"] == 2
    assert scenes[0, "distractors", "magnet red"] == 1 and scenes[0, "distractors", ALL_MAGNETS] == 2
    assert list(dict.fromkeys(table["magnet"])) == ["magnet .", "magnet red", ALL_MAGNETS]
    first = float(magnet_shares_of(recordings[0], regions()).sel(block=1, queries="target", magnet="magnet red"))
    last = float(magnet_shares_of(recordings[2], regions()).sel(block=1, queries="target", magnet="magnet red"))
    row = table.set_index(["block", "queries", "magnet"]).loc[(1, "target", "magnet red")]
    assert row["value"] == pytest.approx((first + last) / 2)


def test_without_magnets_they_take_nothing(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    recording = make_recording(random_attention(0), make_tokens(["ring"]), keep=("image_to_text",))
    assert magnet_shares_of(recording, regions()).values.tolist() == [[[0.0]] * 3] * 2


def test_shares_of_keys_sum_to_one_where_keys_are_masked(
    make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    attention = random_attention(0, spread=2.0)
    attention[..., 4:10] = 0.0  # padding that the model masks; received mass is then relative to the other keys
    attention /= attention.sum(-1, keepdims=True)
    recording = make_recording(attention, make_tokens(["the", "ring"]), keep=("received_from_image",))
    relative = recording.dataset.assign(received_from_image=recording.dataset["received_from_image"] * 16 / 22)
    shares = share_by_key(Recording(relative), from_queries="image")
    np.testing.assert_allclose(shares.sel(block=1), attention[0, 0, 1, :, 10:].mean((0, 1)), rtol=1e-6)
