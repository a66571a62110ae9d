"""The table of sinks: planted ones are found, everything else is not, and its numbers equal plain loops."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest
from scipy import stats

from refam_analysis.analysis.sinks import detect_sinks
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
