"""The whole room on recordings of a real, tiny FLUX: its tables against explicit sums over the full attention."""

from pathlib import Path

import numpy as np
import pytest

from refam_analysis.analysis import (
    detect_sinks,
    entropy_by_block,
    localisation_by_block,
    mass_by_kind,
    mass_moved,
)
from refam_analysis.models import load_model
from refam_analysis.recording import QUANTITIES, Recording, load_recording, record


@pytest.fixture(name="pair", scope="module")
def _pair(tiny_flux_folder: Path) -> tuple[Recording, Recording]:
    model = load_model(tiny_flux_folder)
    image = np.random.default_rng(0).integers(0, 256, size=(32, 40, 3), dtype=np.uint8)
    keep = list(QUANTITIES)
    return tuple(record(model, image, "the red circle", magnets=m, keep=keep) for m in ((), (".", "with")))


def test_tables_equal_sums_over_the_full_attention(pair: tuple[Recording, Recording]) -> None:
    plain, _ = pair
    full = plain["full"].values.astype(np.float64)[0, 0]
    text = plain.layout.text_length
    sinks = detect_sinks(plain)
    received = full[:, :, :text].mean(axis=(1, 2)) * full.shape[-1]
    np.testing.assert_allclose(sinks["mass_from_text"], received.ravel(), rtol=1e-4)
    entropy = entropy_by_block(plain).set_index(["from_queries", "measure"]).loc[("image", "entropy"), "value"]
    rows = -(full * np.log(full)).sum(-1)
    np.testing.assert_allclose(entropy, rows[:, :, text:].mean(axis=(1, 2)), rtol=1e-4)
    account = mass_by_kind(plain).set_index(["from_queries", "kind"]).loc[("image", "image"), "value"]
    np.testing.assert_allclose(account, full[:, :, text:, text:].sum(-1).mean(axis=(1, 2)), rtol=1e-4)


def test_reductions_and_full_attention_lead_to_the_same_sinks(pair: tuple[Recording, Recording]) -> None:
    plain, _ = pair
    only_full = Recording(plain.dataset[["full"]])
    left, right = detect_sinks(plain), detect_sinks(only_full)
    assert left["role"].tolist() == right["role"].tolist()
    for column in ("mass_from_text", "uniformity_from_image", "effect"):
        np.testing.assert_allclose(left[column], right[column], rtol=1e-4)


def test_a_saved_recording_leads_to_the_same_table(pair: tuple[Recording, Recording], tmp_path: Path) -> None:
    plain, _ = pair
    plain.save(tmp_path / "run.zarr")
    opened = load_recording(tmp_path / "run.zarr")
    assert detect_sinks(opened).equals(detect_sinks(plain))


def test_magnets_appear_in_the_account(pair: tuple[Recording, Recording]) -> None:
    table = mass_moved(*pair).set_index(["block", "from_queries", "kind"])
    assert table.loc[(0, "image", "magnet"), "keys_with_magnets"] >= 2
    np.testing.assert_allclose(table.groupby(level=["block", "from_queries"])["change"].sum(), 0.0, atol=1e-5)


def test_every_block_has_its_localisation(pair: tuple[Recording, Recording]) -> None:
    mask = np.zeros((32, 40), dtype=bool)
    mask[8:20, 8:20] = True
    table = localisation_by_block(pair[0], [mask], direction="text_to_image")
    assert table["block"].unique().tolist() == [0, 1, 2, 3]
    assert table["value"].notna().all()
