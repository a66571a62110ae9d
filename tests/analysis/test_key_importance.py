"""Key importance: the strongest key against others, in numbers that plain loops give."""

from collections.abc import Callable

import numpy as np
import pandas as pd
import pytest

from refam_analysis.analysis.key_importance import key_importance, key_importance_of, peak_importance
from refam_analysis.analysis.positions import MissingSideError
from refam_analysis.analysis.statistics import NoRecordingsError
from refam_analysis.analysis.units import RecordingsDifferError
from refam_analysis.models.layout import TokenLayout
from refam_analysis.recording.labels import build_dataset, make_axes
from refam_analysis.recording.quantities import QuantityMissingError
from refam_analysis.recording.recording import Recording

TEXT, KEYS = 10, 22
Make = Callable[..., Recording]


@pytest.fixture(name="scene")
def _scene(make_recording: Make, make_tokens: Callable, random_attention: Callable) -> Callable[..., Recording]:
    """A scene in which every query attends so many times as much to some keys of block 1."""

    def build(seed: int = 0, boost: dict[int, float] | None = None, **options: object) -> Recording:
        attention = random_attention(seed)
        for key, factor in (boost or {}).items():
            attention[:, :, 1, :, :, key] *= factor
        attention /= attention.sum(-1, keepdims=True)
        return make_recording(attention, make_tokens(["the", "red", "ring"]), **options)

    return build


def received(recording: Recording, block: int, queries: range) -> list[float]:
    heads = recording["full"].values[0, 0, block]
    return [KEYS * float(np.mean([head[i, j] for head in heads for i in queries])) for j in range(KEYS)]


@pytest.mark.parametrize(
    ("from_queries", "queries"),
    [("all", range(KEYS)), ("text", range(TEXT)), ("image", range(TEXT, KEYS))],
    ids=["all", "text", "image"],
)
@pytest.mark.parametrize("keep", [("full",), ("received_from_text", "received_from_image")], ids=["full", "received"])
def test_ratios_equal_plain_loops(scene: Callable, from_queries: str, queries: range, keep: tuple[str, ...]) -> None:
    of_all, padding = received(scene(3, {6: 9.0}), 1, queries), [4, 5, 7, 8, 9]
    found = key_importance_of(scene(3, {6: 9.0}, keep=keep), from_queries=from_queries).sel(block=1)
    assert (found["key"].item(), found["role"].item(), found["kind"].item()) == (6, "padding 2", "padding")
    assert found["importance"].item() == pytest.approx(of_all[6])
    assert found["ratio"].item() == pytest.approx(of_all[6] / np.mean([of_all[key] for key in padding]))
    others = [of_all[key] for key in range(KEYS) if key != 6]
    assert found["ratio_to_all"].item() == pytest.approx(of_all[6] / np.mean(others))


def test_a_key_that_is_alone_of_its_kind_is_compared_with_its_side(scene: Callable) -> None:
    of_all = received(scene(0, {3: 9.0}), 1, range(KEYS))
    found = key_importance_of(scene(0, {3: 9.0})).sel(block=1)
    assert found["kind"].item() == "special"
    expected = of_all[3] / np.mean([of_all[key] for key in range(TEXT) if key != 3])
    assert found["ratio"].item() == pytest.approx(expected)


def test_padding_that_is_all_sinks_stands_out_against_all_alone(scene: Callable) -> None:
    found = key_importance_of(scene(0, dict.fromkeys(range(4, 10), 20.0))).sel(block=1)
    assert found["ratio"].item() < 1.5 < 3 < found["ratio_to_all"].item()


def test_uniform_attention_has_the_ratio_one(make_recording: Make, make_tokens: Callable) -> None:
    uniform = np.full((1, 1, 2, 2, KEYS, KEYS), 1.0 / KEYS)
    found = key_importance_of(make_recording(uniform, make_tokens(["red", "ring"])))
    for name in ("importance", "ratio", "ratio_to_all"):
        np.testing.assert_allclose(found[name], 1.0)


def test_the_table_is_the_geometric_mean_over_scenes(scene: Callable) -> None:
    recordings = [scene(seed, {6 if seed < 4 else KEYS - 1: 5.0 + seed}) for seed in range(6)]
    table = key_importance(iter(recordings)).set_index("block")
    each = [key_importance_of(recording).sel(block=1)["ratio"].item() for recording in recordings]
    row = table.loc[1]
    assert row["ratio"] == pytest.approx(np.prod(each) ** (1 / 6))
    assert min(each) <= row["low"] < row["ratio"] < row["high"] <= max(each)
    assert (row["kind"], row["role"], row["scenes"]) == ("padding", "padding 2", 6)
    assert row["kind_share"] == row["role_share"] == pytest.approx(4 / 6)


def test_the_peak_is_the_block_with_the_largest_ratio(scene: Callable) -> None:
    table = key_importance([scene(seed, {6: 8.0}) for seed in range(3)])
    peak = peak_importance(table)
    assert peak["block"] == 1
    assert peak["ratio"] == table["ratio"].max() > 4


def test_from_one_scene_there_is_no_interval(scene: Callable) -> None:
    assert key_importance(scene())[["low", "high", "ratio_to_all_low"]].isna().all(axis=None)


def test_queries_that_were_kept_are_weighed_by_their_number(
    make_recording: Make, make_tokens: Callable, random_attention: Callable
) -> None:
    recording = make_recording(
        random_attention(0), make_tokens(["red"]), keep=("received_from_text", "received_from_image")
    )
    sides = [recording[f"received_from_{side}"].values[0, 0, 0].mean(axis=0) for side in ("text", "image")]
    recording.dataset.attrs["queries"] = [0, *range(TEXT, KEYS)]
    found = key_importance_of(recording).isel(block=0)
    assert found["importance"].item() == pytest.approx(np.max((sides[0] + 12 * sides[1]) / 13))


def test_keys_of_another_softmax_are_no_others() -> None:
    """Separate cross-attention: image keys are far below the one text key that draws everything."""
    layout = TokenLayout(slice(0, 4), slice(4, 10), (2, 3), attention="separate")
    mass = np.array([3.4, 0.2, 0.2, 0.2, 1.0, 1.0, 1.0, 1.0, 1.0, 1.0])[None, None, None, None]
    name = "received_from_image"
    axes = make_axes([name], layout, blocks=[0], branches=["conditional"], noise_levels=[0.6], heads=[0])
    absent = {"received_from_text": "there are no text queries."}
    dataset = build_dataset(
        {name: mass}, axes, layout, tokens=(), block_types={0: "single"}, attributes={"absent": absent}
    )
    found = key_importance_of(Recording(dataset)).isel(block=0)
    assert found["ratio"].item() == found["ratio_to_all"].item() == pytest.approx(17.0)
    with pytest.raises((QuantityMissingError, MissingSideError)):
        key_importance_of(Recording(dataset), from_queries="text")


def test_what_does_not_belong_together_is_refused(scene: Callable) -> None:
    with pytest.raises(NoRecordingsError):
        key_importance([])
    with pytest.raises(RecordingsDifferError):
        key_importance([scene(), scene(blocks=[3, 4])])


def test_rows_are_blocks_in_order(scene: Callable) -> None:
    table = key_importance([scene(blocks=[3, 7])])
    pd.testing.assert_series_equal(table["block"], pd.Series([3, 7], name="block"))
