"""Where the mass moves: accounts against plain sums, balances, and the flow between donors and receivers."""

from __future__ import annotations

from collections.abc import Callable
from itertools import product

import numpy as np
import pandas as pd
import pytest
import xarray as xr
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from refam_analysis.analysis.localisation import MaskError
from refam_analysis.analysis.query_shares import query_shares
from refam_analysis.analysis.redistribution import (
    flow,
    flow_of,
    places_of,
    proportional_flow,
    redistribution,
    redistribution_of,
)
from refam_analysis.analysis.regions import REGIONS, region_shares
from refam_analysis.analysis.units import RecordingsDifferError
from refam_analysis.errors import RefamError
from refam_analysis.models.layout import TokenLayout
from refam_analysis.recording.labels import build_dataset, make_axes
from refam_analysis.recording.quantities import QuantityMissingError
from refam_analysis.recording.recording import Recording

TEXT, GRID = 10, (3, 4)
GROUPS = ("text", "image", *REGIONS)
EVERY = ("text", "image", "target", "distractors", "background", "content")


@pytest.fixture(name="scene")
def _scene(make_recording: Callable, make_tokens: Callable, random_attention: Callable) -> Callable:
    """(attention, recording) of a scene without magnets or with two, whose attention is unrelated."""

    def build(seed: int, magnets: tuple[str, ...] = (), **options: object) -> tuple[np.ndarray, Recording]:
        attention = random_attention(2 * seed + bool(magnets), spread=2.0)
        return attention, make_recording(attention, make_tokens(["the", "ring"], magnets), **options)

    return build


def regions_of(seed: int, *, distractors: int = 1) -> xr.DataArray:
    masks = np.zeros((2, 12, 16), bool)
    masks[0, 1:6, 2:9] = masks[1, 7:11, 3 + seed % 5 : 12] = True
    return region_shares(masks[0], masks[1 : 1 + distractors], GRID)


def plain_account(attention: np.ndarray, queries: dict[int, float], keys: dict[int, float], block: int) -> float:
    """Weighted mean over queries of the weighted sum over keys, by loops over heads, queries and keys."""
    total, weight = 0.0, sum(queries.values())
    heads = attention.shape[3]
    for head, (i, w), (j, v) in product(range(heads), queries.items(), keys.items()):
        total += w * v * attention[0, 0, block, head, i, j] / heads / weight
    return total


KINDS_WITHOUT = {"stop": [0], "content": [1], "special": [2], "padding": list(range(3, 10))}
KINDS_WITH = {"stop": [0], "content": [1], "magnet": [2, 3], "special": [4], "padding": list(range(5, 10))}


def queries_named(name: str, regions: xr.DataArray) -> dict[int, float]:
    if name in ("text", "content"):
        return dict.fromkeys(range(TEXT) if name == "text" else [1], 1.0)
    weights = np.ones(12) if name == "image" else regions.sel(region=name).values.ravel()
    return {TEXT + place: float(weight) for place, weight in enumerate(weights)}


@pytest.mark.parametrize("queries", EVERY)
@pytest.mark.parametrize("kept", ["full", "maps"])
def test_an_account_is_the_mean_over_its_queries_of_the_sum_over_its_keys(
    scene: Callable, queries: str, kept: str
) -> None:
    keep = ("full",)
    if kept == "maps":
        keep = ("image_to_text", "text_to_image", "received_from_text", "received_from_image")
    regions = regions_of(0)
    pair = [scene(1, keep=keep), scene(1, (".", "a"), keep=keep)]
    if kept == "maps":
        pair = [(attention, with_squares(recording, attention)) for attention, recording in pair]
    table = redistribution_of(pair[0][1], pair[1][1], queries=[queries], regions=regions)
    rows = table[table["block"] == 1].set_index("account")
    for (attention, _), kinds, column in zip(
        pair, (KINDS_WITHOUT, KINDS_WITH), ("without", "with_magnets"), strict=True
    ):
        accounts = {kind: dict.fromkeys(places, 1.0) for kind, places in kinds.items()}
        accounts |= {name: queries_named(name, regions) for name in REGIONS}
        for name, keys in accounts.items():
            expected = plain_account(attention, queries_named(queries, regions), keys, 1)
            assert rows.loc[name, column] == pytest.approx(expected, rel=1e-5), name
    assert rows.loc["magnet", "without"] == 0.0
    assert set(rows.index) == {*KINDS_WITH, *REGIONS}


def with_squares(recording: Recording, attention: np.ndarray) -> Recording:
    """The same with the two maps of one side as well, as a run that does not keep ``full`` has them."""
    layout = recording.layout
    names = ("text_to_text", "image_to_image")
    sides = {"text": layout.text, "image": layout.image}
    values = {name: attention[..., sides[name.split("_")[0]], sides[name.split("_")[0]]] for name in names}
    axes = make_axes(names, layout, blocks=[0, 1], branches=["0"], noise_levels=[0.6], heads=range(2))
    squares = build_dataset(
        values, axes, layout, tokens=recording.tokens, block_types=dict.fromkeys([0, 1], "double"), attributes={}
    )
    return Recording(recording.dataset.merge(squares, compat="override", combine_attrs="override"))


@pytest.mark.parametrize("by", ["kind", "role", "position", "place"])
def test_every_account_balances(scene: Callable, by: str) -> None:
    without, with_magnets = [scene(s)[1] for s in range(5)], [scene(s, (".", "a"))[1] for s in range(5)]
    table = redistribution(without, with_magnets, [regions_of(s) for s in range(5)], by=by)
    sums = table.groupby(["block", "queries"])[["without", "with_magnets", "change"]].sum()
    assert list(dict.fromkeys(table["queries"])) == list(GROUPS)
    np.testing.assert_allclose(sums["change"], 0.0, atol=1e-14)
    np.testing.assert_allclose(sums[["without", "with_magnets"]], 1.0)


def test_accounts_by_position_and_place_are_other_sums_of_the_same_keys(scene: Callable) -> None:
    (before, first), (after, second) = scene(3), scene(3, (".", "a"))
    tables = {}
    for by in ("position", "place", "role"):
        table = redistribution_of(first, second, queries=["image"], by=by)
        tables[by] = table[table["block"] == 0].set_index("account")["change"]
    change = after[0, 0, 0, :, TEXT:].mean((0, 1)) - before[0, 0, 0, :, TEXT:].mean((0, 1))
    for place in range(TEXT):
        assert tables["position"][f"text {place}"] == pytest.approx(change[place])
    places = {"stop": [0], "content": [1], "special → magnet": [2], "padding → magnet": [3], "padding → special": [4],
              "padding": range(5, 10), "image": range(10, 22)}  # fmt: skip
    assert tables["place"].to_dict() == pytest.approx({name: change[list(keys)].sum() for name, keys in places.items()})
    mass = after[0, 0, 0, :, TEXT:].mean((0, 1))
    assert tables["role"]["magnet a"] == pytest.approx(mass[3])
    held = after[0, 0, 0, :, TEXT:, 5].mean() - before[0, 0, 0, :, TEXT:, 3].mean()
    assert tables["role"]["padding 0"] == pytest.approx(held)  # the first padding token stands elsewhere
    gone = tables["role"][["padding 5", "padding 6"]]
    assert gone.sum() == pytest.approx(-before[0, 0, 0, :, TEXT:, 8:10].mean((0, 1)).sum())


def test_what_stands_at_each_position_is_told(scene: Callable) -> None:
    table = places_of(scene(0)[1], scene(0, (".", "a"))[1])
    assert table.loc[2].tolist() == [2, "</s>", "special", "magnet .", "magnet"]
    assert table.loc[5, ["role", "role_with_magnets"]].tolist() == ["padding 2", "padding 0"]


def test_prompts_of_two_lengths_have_no_positions(
    scene: Callable, make_recording: Callable, make_tokens: Callable, random_attention: Callable
) -> None:
    longer = make_recording(random_attention(0, keys=24), make_tokens(["the", "ring"], [".", "a"], length=12))
    assert redistribution_of(scene(0)[1], longer)["change"].sum() == pytest.approx(0.0)
    for by in ("position", "place"):
        with pytest.raises(RecordingsDifferError, match="10 tokens without magnets and 12"):
            redistribution_of(scene(0)[1], longer, by=by)
    with pytest.raises(RecordingsDifferError, match="12"):
        places_of(scene(0)[1], longer)


def test_scenes_are_paired_in_the_table(scene: Callable) -> None:
    without, with_magnets = [scene(s)[1] for s in range(6)], [scene(s, (".", "a"))[1] for s in range(6)]
    regions = [regions_of(s) for s in range(6)]
    row = redistribution(iter(without), iter(with_magnets), iter(regions)).set_index(["block", "queries", "account"])
    each = [
        redistribution_of(a, b, regions=r).set_index(["block", "queries", "account"])["change"]
        for a, b, r in zip(without, with_magnets, regions, strict=True)
    ]
    changes = np.array([one[(1, "target", "padding")] for one in each])
    found = row.loc[(1, "target", "padding")]
    assert found["change"] == pytest.approx(changes.mean())
    signs = np.array(list(product((1, -1), repeat=6)))
    extreme = np.mean(signs @ changes >= abs(changes.sum()) - 1e-12)
    assert found["p"] == pytest.approx(min(1.0, 2 * extreme))
    assert changes.min() <= found["low"] < found["high"] <= changes.max() and found["scenes"] == 6


def test_a_scene_without_distractors_takes_no_part_in_their_queries(scene: Callable) -> None:
    without, with_magnets = [scene(s)[1] for s in range(3)], [scene(s, (".", "a"))[1] for s in range(3)]
    regions = [regions_of(0, distractors=0), regions_of(1), regions_of(2)]
    table = redistribution(without, with_magnets, regions).set_index(["block", "queries"])
    assert set(table.loc[(0, "distractors"), "scenes"]) == {2}
    assert set(table.loc[(0, "target"), "scenes"]) == {3}
    flows = flow(without, with_magnets, regions).set_index(["block", "queries"])
    assert set(flows.loc[(0, "distractors"), "scenes"]) == {2}


@given(
    arrays(np.float64, st.integers(2, 9), elements=st.floats(-1.0, 1.0, allow_subnormal=False)).map(
        lambda values: values - values.mean()
    )
)
def test_rows_of_the_flow_sum_to_losses_and_columns_to_gains(change: np.ndarray) -> None:
    moved = proportional_flow(change)
    assert (moved >= 0).all()
    np.testing.assert_allclose(moved.sum(axis=1), [max(-value, 0.0) for value in change], atol=1e-12)
    np.testing.assert_allclose(moved.sum(axis=0), [max(value, 0.0) for value in change], atol=1e-12)
    assert moved.sum() == pytest.approx(np.abs(change).sum() / 2, abs=1e-12)  # no account both gives and takes


def test_a_loss_goes_to_receivers_in_proportion_to_their_gains() -> None:
    change = np.array([[-0.3, -0.1, 0.0, 0.1, 0.3], [0.0] * 5])
    moved = proportional_flow(change)
    assert moved[0, 0, 3:].tolist() == pytest.approx([0.075, 0.225])
    assert moved[0, 1, 3:].tolist() == pytest.approx([0.025, 0.075])
    assert not moved[1].any()


def test_an_unknown_change_is_an_unknown_flow() -> None:
    assert np.isnan(proportional_flow(np.array([np.nan, np.nan]))).all()


def test_the_flow_of_scenes_is_the_mean_of_their_flows(scene: Callable) -> None:
    without, with_magnets = [scene(s)[1] for s in range(4)], [scene(s, (".", "a"))[1] for s in range(4)]
    table = flow(without, with_magnets).set_index(["block", "queries", "donor", "receiver"])
    each = [
        flow_of(redistribution_of(a, b)).set_index(["block", "queries", "donor", "receiver"])["amount"]
        for a, b in zip(without, with_magnets, strict=True)
    ]
    mean = pd.concat(each, axis=1).mean(axis=1)
    pd.testing.assert_series_equal(table["amount"], mean[mean > 0].loc[table.index], check_names=False)
    assert mean[mean > 0].sum() == pytest.approx(table["amount"].sum())
    changes = redistribution(without, with_magnets).set_index(["block", "queries", "account"])["change"]
    taken = table["amount"].groupby(["block", "queries", "receiver"]).sum()
    given_away = table["amount"].groupby(["block", "queries", "donor"]).sum()
    net = taken.rename_axis(changes.index.names).sub(given_away.rename_axis(changes.index.names), fill_value=0.0)
    pd.testing.assert_series_equal(net.loc[changes.index], changes, check_names=False)
    assert (table["low"] <= table["amount"] + 1e-15).all() and (table["amount"] <= table["high"] + 1e-15).all()


def test_what_is_missing_is_said(scene: Callable) -> None:
    pair = [scene(0, magnets, keep=("image_to_text", "received_from_image"))[1] for magnets in ((), (".", "a"))]
    with pytest.raises(MaskError, match="regions="):
        query_shares(pair[0], "target")
    with pytest.raises(QuantityMissingError, match="image_to_image"):
        redistribution_of(*pair, queries=["target"], regions=regions_of(0))
    with pytest.raises(RecordingsDifferError, match="as many"):
        redistribution([pair[0]] * 2, [pair[1]], queries=["image"])
    with pytest.raises(RefamError, match="'word'.*'kind', 'role', 'position', 'place'"):
        redistribution(*pair, by="word")


def test_text_keys_with_a_softmax_of_their_own_are_the_whole_account(
    make_tokens: Callable, random_attention: Callable
) -> None:
    onto_text = random_attention(5, keys=12)[..., :TEXT]
    onto_text /= onto_text.sum(-1, keepdims=True)
    layout = TokenLayout(slice(0, TEXT), slice(TEXT, TEXT + 12), GRID, attention="separate")
    received = np.concatenate([onto_text.mean(-2) * TEXT, np.full((*onto_text.shape[:4], 12), 1.0)], axis=-1)
    names = ("image_to_text", "received_from_image")
    axes = make_axes(names, layout, blocks=[0, 1], branches=["0"], noise_levels=[0.6], heads=range(2))
    recording = Recording(
        build_dataset(
            dict(zip(names, (onto_text, received), strict=True)), axes, layout, tokens=make_tokens(["the", "ring"]),
            block_types=dict.fromkeys([0, 1], "cross"), attributes={"absent": {"received_from_text": "none."}},
        )
    )  # fmt: skip
    for queries in ("image", "background"):
        shares = query_shares(recording, queries, regions_of(0))
        assert shares.image.shape == (2, 0)
        np.testing.assert_allclose(shares.text.sum(axis=1), 1.0)
    whole = query_shares(recording, "image")
    np.testing.assert_allclose(whole.text, onto_text[0, 0].mean((1, 2)), rtol=1e-6)
    table = redistribution_of(recording, recording, regions=regions_of(0))
    assert list(dict.fromkeys(table["queries"])) == ["image", *REGIONS]
    assert set(table["account"]) == {"content", "stop", "special", "padding"}
