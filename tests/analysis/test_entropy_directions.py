"""Entropy within each side and mass on it: against sums by hand, from whatever was kept, and on tiny real models."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from families.pixart import CASE as PIXART

from refam_analysis.analysis import (
    DirectionMissingError,
    NoRecordingsError,
    RecordingsDifferError,
    direction_entropy_of,
    entropy_by_direction,
    entropy_profile_of,
)
from refam_analysis.models import ModelDefaults, load_model
from refam_analysis.models.layout import TokenLayout
from refam_analysis.models.pixart import PixArtModel
from refam_analysis.recording import QUANTITIES, QuantityMissingError, Recording, record
from refam_analysis.recording.labels import build_dataset, make_axes

FOUR = ["text_to_text", "text_to_image", "image_to_text", "image_to_image"]
REDUCED = ["entropy_over_text", "entropy_over_image", "mass_on_text"]
STILL = TokenLayout(slice(0, 4), slice(4, 10), (2, 3))
IMAGE_FIRST = TokenLayout(slice(6, 10), slice(0, 6), (2, 3))
CLIP = TokenLayout(slice(0, 4), slice(4, 16), (2, 2, 3))


def within(row: Sequence[float]) -> tuple[float, float]:
    """Entropy of a part of a row, and its mass."""
    mass = math.fsum(row)
    return -math.fsum(p / mass * math.log(p / mass) for p in row if p > 0), mass


def by_hand(attention: np.ndarray, layout: TokenLayout, direction: str) -> np.ndarray:
    """(step, block, head, 2): mean entropy within the side, and mean mass on it, over the queries of a direction."""
    sides = {"text": layout.text, "image": layout.image}
    rows, columns = direction.split("_to_")
    part = attention[:, 0, ..., sides[rows], sides[columns]]
    found = np.empty((*part.shape[:3], 2))
    for place in np.ndindex(part.shape[:3]):
        found[place] = np.mean([within(row) for row in part[place]], axis=0)
    return found


def kept(attention: np.ndarray, layout: TokenLayout, name: str) -> np.ndarray:
    """A quantity, computed a row at a time."""
    sides = {"text": layout.text, "image": layout.image}
    if name == "full":
        return attention
    if "_to_" in name:
        rows, columns = name.split("_to_")
        return attention[..., sides[rows], sides[columns]]
    side, place = name.rsplit("_", 1)[1], 0 if name.startswith("entropy") else 1
    return np.apply_along_axis(lambda row: within(row)[place], -1, attention[..., sides[side]])


def make(
    attention: np.ndarray, keep: Sequence[str], layout: TokenLayout = STILL, *, averaged: bool = False
) -> Recording:
    if averaged:
        attention = attention.mean(axis=3, keepdims=True)
    steps, _, blocks, heads = attention.shape[:4]
    axes = make_axes(
        keep, layout, blocks=range(blocks), branches=["conditional"], noise_levels=np.linspace(0.9, 0.1, steps),
        heads=None if averaged else range(heads),
    )  # fmt: skip
    values = {name: kept(attention, layout, name) for name in keep}
    attributes = {"model": "made by hand"}
    return Recording(
        build_dataset(values, axes, layout, tokens=(), block_types=dict.fromkeys(range(blocks), "double"),
                      attributes=attributes)
    )  # fmt: skip


def draw(seed: int, layout: TokenLayout = STILL, *, steps: int = 2, blocks: int = 3, heads: int = 2) -> np.ndarray:
    shape = (steps, 1, blocks, heads, layout.length, layout.length)
    weights = np.exp(np.random.default_rng(seed).normal(0.0, 1.5, size=shape))
    return weights / weights.sum(-1, keepdims=True)


# --- one scene ---


@pytest.mark.parametrize("keep", [["full"], FOUR, REDUCED], ids=["full", "maps", "reductions"])
@pytest.mark.parametrize("layout", [STILL, IMAGE_FIRST, CLIP], ids=["text-first", "image-first", "clip"])
def test_every_source_gives_what_sums_by_hand_give(keep: list[str], layout: TokenLayout) -> None:
    attention = draw(3, layout)
    found = direction_entropy_of(make(attention, keep, layout))
    assert found.dims == ("direction", "measure", "step", "block", "head")
    assert found["direction"].values.tolist() == FOUR
    assert found["noise_level"].values.tolist() == [0.9, 0.1]
    for direction in FOUR:
        expected = by_hand(attention, layout, direction)
        keys = layout.text_length if direction.endswith("text") else layout.image_length
        nats, normalised, mass = (found.sel(direction=direction, measure=m).values for m in found["measure"].values)
        np.testing.assert_allclose(nats, expected[..., 0], rtol=1e-9)
        np.testing.assert_allclose(normalised, expected[..., 0] / math.log(keys), rtol=1e-9)
        np.testing.assert_allclose(mass, expected[..., 1], rtol=1e-9)


def test_entropy_of_a_row_is_that_of_its_masses_plus_that_within_the_sides() -> None:
    attention = draw(5)
    attention[..., 1:4, :] = attention[..., :1, :]  # alike for all text queries, so that means are single rows
    found = direction_entropy_of(make(attention, ["full"]))
    nats, mass = (found.sel(measure=name) for name in ("entropy", "mass"))
    parts = [mass.sel(direction=d) * (nats.sel(direction=d) - np.log(mass.sel(direction=d))) for d in FOUR[:2]]
    row = attention[:, 0, :, :, 0, :]
    np.testing.assert_allclose(parts[0] + parts[1], -(row * np.log(row)).sum(-1))


def test_uniform_attention_is_one_within_each_side_and_its_mass_the_share_of_keys() -> None:
    found = direction_entropy_of(make(np.full((1, 1, 1, 1, 10, 10), 0.1), ["full"])).squeeze()
    np.testing.assert_allclose(found.sel(measure="normalised"), 1.0)
    np.testing.assert_allclose(found.sel(measure="mass"), [0.4, 0.6, 0.4, 0.6])


def test_only_the_conditional_branch_counts() -> None:
    left, right = draw(0), draw(1)
    attention = np.concatenate([left, right], axis=1)
    axes = make_axes(["full"], STILL, blocks=range(3), branches=["c", "u"], noise_levels=[0.9, 0.1], heads=range(2))
    both = build_dataset({"full": attention}, axes, STILL, tokens=(), block_types=dict.fromkeys(range(3), "double"),
                         attributes={})  # fmt: skip
    np.testing.assert_array_equal(direction_entropy_of(Recording(both)), direction_entropy_of(make(left, ["full"])))


@pytest.mark.parametrize(
    ("keep", "shown"),
    [(["text_to_image"], ["text_to_image"]), (["entropy_over_text"], ["text_to_text", "image_to_text"]),
     (["image_to_text", "entropy_over_image"], ["text_to_image", "image_to_text", "image_to_image"])],
    ids=["one-map", "one-side", "a-map-and-a-side"],
)  # fmt: skip
def test_directions_that_were_not_kept_are_left_out(keep: list[str], shown: list[str]) -> None:
    assert direction_entropy_of(make(draw(0), keep))["direction"].values.tolist() == shown


def test_mass_that_nothing_tells_is_nan() -> None:
    found = direction_entropy_of(make(draw(0), ["entropy_over_text"]))
    assert np.isnan(found.sel(measure="mass")).all()
    assert np.isfinite(found.sel(measure="normalised")).all()


def test_keys_behind_a_mask_do_not_count_where_a_map_shows_them() -> None:
    attention = np.full((1, 1, 2, 1, 10, 10), 1 / 8)
    attention[..., 2:4] = 0.0  # half of the text is padding that nothing attends to
    for keep in (["full"], FOUR, [*REDUCED, "image_to_text", "text_to_text"]):
        found = direction_entropy_of(make(attention, keep)).sel(measure="normalised")
        np.testing.assert_allclose(found.sel(direction=["text_to_text", "image_to_text"]), 1.0, err_msg=str(keep))
    unseen = direction_entropy_of(make(attention, REDUCED)).sel(measure="normalised", direction="image_to_text")
    np.testing.assert_allclose(unseen, 0.5)


def test_a_single_key_has_no_normalised_entropy() -> None:
    attention = draw(0)
    attention[..., 1:4] = 0.0
    found = direction_entropy_of(make(attention, ["full"])).sel(direction="image_to_text")
    assert np.isnan(found.sel(measure="normalised")).all()
    np.testing.assert_allclose(found.sel(measure="entropy"), 0.0, atol=1e-12)


def test_a_selection_of_words_is_not_taken_for_the_whole_text() -> None:
    recording = make(draw(0), ["image_to_text", "text_to_image"])
    narrowed = Recording(recording.dataset.isel(token=[0, 2]))
    assert direction_entropy_of(narrowed)["direction"].values.tolist() == ["text_to_image"]


def test_the_entropy_of_a_mean_over_heads_is_not_taken_for_the_mean_of_entropies() -> None:
    with pytest.raises(DirectionMissingError, match="heads='each'"):
        direction_entropy_of(make(draw(0), FOUR, averaged=True))


def test_entropies_that_were_averaged_over_heads_are_used() -> None:
    attention = draw(2)
    each = make(attention, REDUCED)
    dataset = each.dataset.mean("head").expand_dims(head=1, axis=3).assign_attrs({**each.attrs, "heads": "mean"})
    found = direction_entropy_of(Recording(dataset.drop_vars("head", errors="ignore")))
    np.testing.assert_allclose(found.squeeze("head"), direction_entropy_of(each).mean("head"))


def test_a_recording_that_shows_no_direction_says_what_to_keep() -> None:
    recording = Recording(make(draw(0), ["full"]).dataset.rename(full="entropy"))
    with pytest.raises(DirectionMissingError, match=r"Kept were entropy; record again with keep=\['entropy_over_text'"):
        direction_entropy_of(recording)


# --- over scenes ---


def test_the_table_holds_means_over_scenes_heads_and_steps() -> None:
    every = [draw(seed) for seed in range(6)]
    table = entropy_by_direction(make(attention, REDUCED) for attention in every)
    assert table.columns.tolist() == ["block", "direction", "measure", "value", "low", "high", "scenes"]
    rows = table.set_index(["block", "direction", "measure"])
    assert len(rows) == 3 * 4 * 3
    for direction in FOUR:
        expected = np.mean([by_hand(attention, STILL, direction) for attention in every], axis=(0, 1, 3))
        for block in range(3):
            assert rows.loc[(block, direction, "entropy"), "value"] == pytest.approx(expected[block, 0])
            assert rows.loc[(block, direction, "mass"), "value"] == pytest.approx(expected[block, 1])
    assert (table["low"] < table["value"]).all() and (table["value"] < table["high"]).all()
    assert set(table["scenes"]) == {6} and table.attrs["confidence"] == 0.95


def test_measures_that_no_scene_has_are_left_out_of_the_table() -> None:
    table = entropy_by_direction(make(draw(0), ["entropy_over_image"]))
    assert set(table["measure"]) == {"entropy", "normalised"}
    assert set(table["direction"]) == {"text_to_image", "image_to_image"}


def test_recordings_that_show_other_directions_are_refused() -> None:
    pair = [make(draw(0), keep) for keep in (["full"], ["image_to_text"])]
    with pytest.raises(RecordingsDifferError, match="along direction"):
        entropy_by_direction(pair)


def test_no_recording_has_no_table() -> None:
    with pytest.raises(NoRecordingsError):
        entropy_by_direction([])


# --- profiles ---


@pytest.mark.parametrize("curve", FOUR)
def test_the_profile_of_a_direction_is_its_mean_over_heads_and_steps(curve: str) -> None:
    attention = draw(7)
    profile = entropy_profile_of(make(attention, ["full"]), curve)
    keys = 4 if curve.endswith("text") else 6
    assert profile.dims == ("block",) and profile["block"].values.tolist() == [0, 1, 2]
    np.testing.assert_allclose(profile, by_hand(attention, STILL, curve)[..., 0].mean(axis=(0, 2)) / math.log(keys))


@pytest.mark.parametrize(("side", "queries"), [("text", slice(0, 4)), ("image", slice(4, 10))], ids=["text", "image"])
def test_the_profile_of_a_side_is_that_of_whole_rows(side: str, queries: slice) -> None:
    attention = draw(7)
    rows = -(attention * np.log(attention)).sum(-1)[:, 0, ..., queries]
    profile = entropy_profile_of(make(attention, ["full"]), side)
    np.testing.assert_allclose(profile, rows.mean(axis=(0, 2, 3)) / math.log(10))


def test_a_profile_that_is_not_there_names_those_that_are() -> None:
    with pytest.raises(DirectionMissingError, match="text_to_text is not in this recording. It shows: image_to_text"):
        entropy_profile_of(make(draw(0), ["image_to_text"]), "text_to_text")


def test_the_profile_of_a_side_asks_for_whole_rows() -> None:
    with pytest.raises(QuantityMissingError, match="entropy"):
        entropy_profile_of(make(draw(0), REDUCED), "image")


# --- real models ---


def test_a_tiny_flux_shows_the_same_by_reductions_maps_and_full(tiny_flux_folder: Path) -> None:
    image = np.random.default_rng(0).integers(0, 256, size=(32, 40, 3), dtype=np.uint8)
    recording = record(load_model(tiny_flux_folder), image, "the red circle", keep=list(QUANTITIES))
    found = [direction_entropy_of(Recording(recording.dataset[names])) for names in (REDUCED, FOUR, ["full"])]
    for other in found[1:]:
        np.testing.assert_allclose(found[0], other, atol=1e-5)
    full = recording["full"].values.astype(np.float64)
    expected = by_hand(full, recording.layout, "image_to_text")
    np.testing.assert_allclose(found[0].sel(direction="image_to_text", measure="entropy"), expected[..., 0], atol=1e-5)


def test_separate_attentions_show_image_queries_only_with_all_mass_on_each_side() -> None:
    model = PixArtModel(PIXART.build(), ModelDefaults(**PIXART.settings), name="random")
    image = np.random.default_rng(0).integers(0, 256, size=(32, 40, 3), dtype=np.uint8)
    recording = record(model, image, "the red circle")
    found = direction_entropy_of(recording)
    assert found["direction"].values.tolist() == ["image_to_text", "image_to_image"]
    np.testing.assert_array_equal(found.sel(measure="mass"), 1.0)
    words = recording["image_to_text"].values.astype(np.float64)[0, 0]
    attended = int((words > 0).any(axis=(0, 1, 2, 3)).sum())
    assert 1 < attended < 24  # padding is masked
    nats = -(words * np.log(np.where(words > 0, words, 1.0))).sum(-1).mean(axis=(2, 3))
    text = found.sel(direction="image_to_text").isel(step=0)
    np.testing.assert_allclose(text.sel(measure="entropy"), nats, atol=1e-5)
    np.testing.assert_allclose(text.sel(measure="normalised"), nats / math.log(attended), atol=1e-5)
