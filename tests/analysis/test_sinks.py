"""The table of sinks: planted ones are found, everything else is not, and its numbers equal plain loops."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from refam_analysis.analysis.key_effects import UnknownReferenceError, key_effects
from refam_analysis.analysis.sinks import call_sinks, detect_sinks, sink_strength
from refam_analysis.analysis.statistics import NoRecordingsError
from refam_analysis.recording.quantities import QuantityMissingError
from refam_analysis.recording.recording import Recording

TEXT, KEYS = 10, 22
REDUCTIONS = ("received_from_text", "received_from_image", "uniformity_from_text", "uniformity_from_image")
Make = Callable[..., Recording]


@pytest.fixture(name="scenes")
def _scenes(make_recording: Make, make_tokens: Callable, random_attention: Callable) -> Callable[..., list[Recording]]:
    """Scenes of noisy attention in which chosen queries attend more to chosen keys of block 1."""

    def build(
        count: int,
        factor: float = 1.0,
        *,
        rows: slice = slice(None),
        columns: list[int] | None = None,
        **options: object,
    ) -> list[Recording]:
        recordings = []
        for seed in range(count):
            attention = random_attention(seed)
            for column in [3] if columns is None else columns:
                attention[:, :, 1, :, rows, column] *= factor
            attention /= attention.sum(-1, keepdims=True)
            tokens = make_tokens(["the", ["red", "blue"][seed % 2], "ring"])
            recordings.append(make_recording(attention, tokens, **options))
        return recordings

    return build


def called(table: pd.DataFrame) -> set[tuple[int, str]]:
    found = table[table["is_sink"]]
    return set(zip(found["block"], found["role"], strict=True))


@pytest.mark.parametrize("factor", [3.0, 5.0, 10.0], ids=lambda f: f"{f:g}x")
def test_a_planted_sink_is_found_and_nothing_else(scenes: Callable, factor: float) -> None:
    assert called(detect_sinks(scenes(16, factor))) == {(1, "</s>")}


def test_without_a_sink_none_is_found(scenes: Callable) -> None:
    assert called(detect_sinks(scenes(16))) == set()


def test_a_mild_preference_for_a_key_is_no_sink(scenes: Callable) -> None:
    table = detect_sinks(scenes(16, 1.5))
    assert called(table) == set()
    assert table["p"].min() > 0.05


@pytest.mark.parametrize("rows", [slice(0, TEXT), slice(TEXT, KEYS)], ids=["text-only", "image-only"])
def test_a_key_that_one_side_reads_is_no_sink(scenes: Callable, rows: slice) -> None:
    table = detect_sinks(scenes(16, 10.0, rows=rows))
    assert called(table) == set()
    row = table.set_index(["block", "role"]).loc[(1, "</s>")]
    strong, weak = ("text", "image") if rows.start == 0 else ("image", "text")
    assert row[f"effect_from_{strong}"] > 5 > 1.5 > row[f"effect_from_{weak}"]
    assert row["effect"] == row[f"effect_from_{weak}"]


def test_a_key_that_few_queries_of_a_side_read_is_no_sink(scenes: Callable) -> None:
    few = scenes(16, 60.0, rows=slice(TEXT - 3, TEXT + 3))
    assert called(detect_sinks(few)) == set()
    assert called(detect_sinks(few, minimum_uniformity=0.0)) == {(1, "</s>")}


def test_the_largest_of_an_ignored_side_is_no_sink(scenes: Callable) -> None:
    others = [key for key in range(TEXT) if key != 3]
    ignored = scenes(16, 0.1, columns=others * 4 + [3] * 3)
    assert called(detect_sinks(ignored)) == set()
    assert called(detect_sinks(ignored, minimum_mass=0.0)) == {(1, "</s>")}


def test_padding_that_is_all_sinks_needs_the_reference_of_all_keys(scenes: Callable) -> None:
    padded = scenes(16, 8.0, columns=[4, 5, 6, 7, 8, 9])
    expected = {(1, f"padding {index}") for index in range(6)}
    assert called(detect_sinks(padded)) == set()
    assert called(detect_sinks(padded, reference="all")) == expected


def test_a_kind_is_compared_with_itself_where_it_is_large_enough(scenes: Callable) -> None:
    padded = scenes(16, 8.0, columns=[4, 5, 6, 7, 8, 9, 9])  # all padding, and the last of it still more
    assert called(detect_sinks(padded, reference="kind")) == {(1, "padding 5")}
    by_kind, by_side = (detect_sinks(padded[0], reference=name).set_index("role") for name in ("kind", "side"))
    alike = by_kind["kind"] != "padding"  # words and end tokens are few: these are compared with their side
    pd.testing.assert_series_equal(by_kind["effect"][alike], by_side["effect"][alike])


def test_an_unknown_reference_is_refused(scenes: Callable) -> None:
    with pytest.raises(UnknownReferenceError, match="'sides'.*'side', 'kind', 'all'"):
        detect_sinks(scenes(1), reference="sides")


def test_image_tokens_can_be_sinks(scenes: Callable) -> None:
    assert called(detect_sinks(scenes(16, 6.0, columns=[KEYS - 1]))) == {(1, "image 2,3")}


def test_the_first_token_is_a_role_of_its_own_over_scenes(
    make_recording: Make, make_tokens: Callable, random_attention: Callable
) -> None:
    words = "red blue green teal pink gold white black grey brown".split()
    recordings = []
    for seed in range(20):
        attention = random_attention(seed)
        attention[:, :, 0, :, :, 0] *= 5
        attention /= attention.sum(-1, keepdims=True)
        recordings.append(make_recording(attention, make_tokens([words[seed % 10], "ring"])))
    table = detect_sinks(recordings)
    assert called(table) == {(0, "first token")}
    row = table.set_index(["block", "role"]).loc[(0, "first token")]
    assert (row["word"], row["kind"], row["scenes"]) == ("", "content", 20)
    assert "first token" not in set(detect_sinks(recordings[0])["role"])


@pytest.mark.parametrize("keep", [("full",), REDUCTIONS], ids=["full", "reductions"])
def test_the_numbers_of_the_table_equal_plain_loops(scenes: Callable, keep: tuple[str, ...]) -> None:
    recordings = scenes(7, 4.0, keep=keep)
    full = [recording["full"].values[0, 0, 1] for recording in scenes(7, 4.0)]
    table = detect_sinks(recordings).set_index(["block", "role"])
    row = table.loc[(1, "</s>")]
    for side, queries in (("text", range(TEXT)), ("image", range(TEXT, KEYS))):
        masses, logs, even = [], [], []
        for attention in full:
            received = [np.mean([head[i, j] for head in attention for i in queries]) * KEYS for j in range(KEYS)]
            masses.append(received[3])
            logs.append(np.log(received[3] / np.median(received[:TEXT])))
            shares = [np.array([head[i, 3] for i in queries]) for head in attention]
            even.append(np.mean([np.exp(stats.entropy(share)) / len(share) for share in shares]))
        assert row[f"mass_from_{side}"] == pytest.approx(np.mean(masses))
        assert row[f"effect_from_{side}"] == pytest.approx(np.exp(np.mean(logs)))
        assert row[f"uniformity_from_{side}"] == pytest.approx(np.mean(even))
    assert row["p"] == pytest.approx(2.0**-7)
    assert row["low"] < row["effect"] < row["high"]
    assert table.loc[(0, "red"), "scenes"] == 4 and table.loc[(0, "blue"), "scenes"] == 3


def test_q_is_corrected_over_all_blocks_and_roles(scenes: Callable) -> None:
    table = detect_sinks(scenes(9, 4.0))
    expected = stats.false_discovery_control(table["p"], method="bh")
    np.testing.assert_allclose(table["q"], expected)


def test_one_recording_states_effects_and_that_it_is_exploratory(scenes: Callable) -> None:
    table = detect_sinks(scenes(1, 5.0)[0])
    assert table["exploratory"].all()
    assert table[["p", "q", "low", "high"]].isna().all(axis=None)
    assert called(table) == {(1, "</s>")}
    assert len(table) == 2 * KEYS
    assert not detect_sinks(scenes(2, 5.0))["exploratory"].any()


def test_few_scenes_do_not_suffice(scenes: Callable) -> None:
    assert called(detect_sinks(scenes(4, 10.0))) == set()


def test_rows_follow_blocks_and_the_sequence(scenes: Callable) -> None:
    table = detect_sinks(scenes(1)[0])
    assert table["block"].tolist() == [0] * KEYS + [1] * KEYS
    assert table["position"].tolist() == list(range(KEYS)) * 2
    assert table["role"].tolist()[:5] == ["the", "red", "ring", "</s>", "padding 0"]


def test_a_model_without_text_queries_has_one_sided_sinks(scenes: Callable) -> None:
    absent = ["received_from_text", "uniformity_from_text"]
    table = detect_sinks(scenes(16, 5.0, keep=REDUCTIONS[1::2], absent=absent))
    assert table["one_sided"].all()
    assert table["mass_from_text"].isna().all() and table["effect_from_text"].isna().all()
    assert called(table) == {(1, "</s>")}


def test_without_evenness_the_rule_does_without(scenes: Callable) -> None:
    table = detect_sinks(scenes(16, 5.0, keep=REDUCTIONS[:2]))
    assert table["uniformity_from_text"].isna().all()
    assert called(table) == {(1, "</s>")}


def test_a_side_that_was_not_kept_is_asked_for(scenes: Callable) -> None:
    with pytest.raises(QuantityMissingError, match="received_from_text"):
        detect_sinks(scenes(2, keep=["received_from_image"]))


def test_no_recording_is_refused() -> None:
    with pytest.raises(NoRecordingsError):
        detect_sinks([])


def test_the_arguments_stand_in_the_tables_attributes(scenes: Callable) -> None:
    attributes = detect_sinks(scenes(1), minimum_effect=3.0, reference="all").attrs
    assert attributes["minimum_effect"] == 3.0
    assert attributes["reference"] == "median over all keys"


def test_the_level_holds_where_keys_have_a_mild_bias(
    make_recording: Make, make_tokens: Callable, random_attention: Callable
) -> None:
    """A bias that is the same in every scene: a null that shuffles keys within rows would flag many of them."""
    bias = np.exp(np.random.default_rng(0).normal(0.0, 0.25, size=KEYS))
    recordings = []
    for seed in range(20):
        attention = random_attention(seed) * bias
        attention /= attention.sum(-1, keepdims=True)
        recordings.append(make_recording(attention, make_tokens(["the", "red", "ring"])))
    assert called(detect_sinks(recordings)) == set()


# The row of a sink


def plain_evenness(attention: np.ndarray, query: int) -> float:
    """Entropy of a row over log(keys), mean over heads, of (head, query, key)."""
    return float(np.mean([stats.entropy(head[query]) / np.log(head.shape[-1]) for head in attention]))


@pytest.mark.parametrize("keep", [("full",), (*REDUCTIONS, "entropy")], ids=["full", "reductions"])
def test_the_evenness_of_a_row_equals_plain_loops(scenes: Callable, keep: tuple[str, ...]) -> None:
    table = detect_sinks(scenes(5, 4.0, keep=keep)).set_index(["block", "role"])
    full = [recording["full"].values[0, 0, 1] for recording in scenes(5, 4.0)]
    for role, query, side in (("</s>", 3, range(TEXT)), ("image 0,1", TEXT + 1, range(TEXT, KEYS))):
        own = [plain_evenness(attention, query) for attention in full]
        mean = [np.mean([plain_evenness(attention, other) for other in side]) for attention in full]
        row = table.loc[(1, role)]
        assert row["row_evenness"] == pytest.approx(np.mean(own))
        assert row["row_excess"] == pytest.approx(np.mean(np.subtract(own, mean)), abs=1e-12)
        assert row["row_excess_low"] <= row["row_excess"] <= row["row_excess_high"]


def test_a_token_that_attends_evenly_stands_out_by_its_row_alone(
    make_recording: Make, make_tokens: Callable, random_attention: Callable
) -> None:
    recordings = []
    for seed in range(16):
        attention = random_attention(seed, spread=1.0)
        attention[:, :, 1, :, 3] = 1.0 / KEYS
        recordings.append(make_recording(attention, make_tokens(["the", "red", "ring"])))
    table = detect_sinks(recordings)
    row = table.set_index(["block", "role"]).loc[(1, "</s>")]
    assert row["row_evenness"] == pytest.approx(1.0)
    assert row["row_excess_low"] > 0.05
    assert called(table) == set()


def test_without_entropy_nothing_is_said_of_rows(scenes: Callable) -> None:
    table = detect_sinks(scenes(3, 5.0, keep=REDUCTIONS))
    assert table[["row_evenness", "row_excess", "row_excess_low", "row_excess_high"]].isna().all(axis=None)


def test_scenes_that_are_reduced_already_give_the_same_table(scenes: Callable) -> None:
    reduced = [key_effects(recording, reference="all") for recording in scenes(6, 5.0)]
    pd.testing.assert_frame_equal(call_sinks(reduced), detect_sinks(scenes(6, 5.0), reference="all"))


def test_reduced_scenes_state_the_effect_of_the_weaker_side(scenes: Callable) -> None:
    (recording,) = scenes(1, 5.0)
    table = detect_sinks(recording)
    np.testing.assert_allclose(np.exp(key_effects(recording).log_effect()).ravel(), table["effect"])


# The strongest of a scene


def test_the_strength_equals_plain_loops(scenes: Callable) -> None:
    for factor in (1.0, 4.0):
        (recording,) = scenes(1, factor)
        strength = sink_strength(recording)
        for block in (0, 1):
            attention = recording["full"].values[0, 0, block]
            best, found = -np.inf, -1
            for key in range(KEYS):
                own = range(TEXT) if key < TEXT else range(TEXT, KEYS)
                smaller = np.inf
                for queries in (range(TEXT), range(TEXT, KEYS)):
                    mass = [KEYS * np.mean([head[i, j] for head in attention for i in queries]) for j in range(KEYS)]
                    median = np.median([mass[j] for j in own])
                    smaller = min(smaller, np.log(mass[key] / max(median, 0.5)))
                best, found = max((best, found), (smaller, key))
            assert strength["log_effect"].values[block] == pytest.approx(best)
            assert strength["key"].values[block] == found
            evenness = plain_evenness(attention, found)
            assert strength["row_evenness"].values[block] == pytest.approx(evenness)


def test_the_strength_names_the_key_and_how_evenly_it_draws(scenes: Callable) -> None:
    (recording,) = scenes(1, 6.0)
    table = detect_sinks(recording).set_index(["block", "role"]).loc[(1, "</s>")]
    strongest = sink_strength(recording).sel(block=1)
    assert (strongest["role"].item(), strongest["kind"].item(), strongest["side"].item()) == ("</s>", "special", "text")
    assert strongest["uniformity"] == pytest.approx(table[["uniformity_from_text", "uniformity_from_image"]].min())
    assert strongest["row_excess"] == pytest.approx(table["row_excess"])
    assert strongest["mass_from_text"] == pytest.approx(table["mass_from_text"])


@pytest.mark.parametrize("reference", ["side", "all"])
@pytest.mark.parametrize("seed", range(5))
def test_the_strength_reaches_the_bar_where_a_key_clears_the_bars(
    make_recording: Make, make_tokens: Callable, random_attention: Callable, seed: int, reference: str
) -> None:
    attention = random_attention(seed, blocks=40, spread=0.5) * np.linspace(1.0, 4.0, 40)[:, None, None, None] ** (
        np.arange(KEYS) == seed
    )
    attention /= attention.sum(-1, keepdims=True)
    recording = make_recording(attention, make_tokens(["the", "red", "ring"]))
    table = detect_sinks(recording, reference=reference, minimum_uniformity=0.0)
    cleared = table.groupby("block")["is_sink"].any().to_numpy()
    assert 0 < cleared.sum() < 40
    strength = sink_strength(recording, reference=reference)
    np.testing.assert_array_equal(strength["log_effect"] >= np.log(2.0), cleared)


def test_the_largest_of_an_ignored_side_is_not_strong(scenes: Callable) -> None:
    others = [key for key in range(TEXT) if key != 3]
    (ignored,) = scenes(1, 0.1, columns=others * 4 + [3] * 3)
    assert detect_sinks(ignored).query("block == 1")["effect"].max() > 5
    assert np.exp(sink_strength(ignored)["log_effect"].values[1]) < 2
    assert np.exp(sink_strength(ignored, minimum_mass=0.0)["log_effect"].values[1]) > 5


def test_one_side_is_enough_for_the_strength_of_a_model_without_text_queries(scenes: Callable) -> None:
    (recording,) = scenes(1, 5.0, keep=REDUCTIONS[1::2], absent=["received_from_text", "uniformity_from_text"])
    strength = sink_strength(recording)
    assert strength["role"].values[1] == "</s>"
    assert np.isnan(strength["mass_from_text"]).all() and np.isnan(strength["row_evenness"]).all()
