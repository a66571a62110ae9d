"""The tables of the phenomena: those of the functions in analysis, on the recordings that a bundle is made from."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pandas as pd
import pytest

import refam_analysis as ra
from refam_analysis import analysis
from refam_analysis.evaluation.items import GroundingItem, hard_items
from refam_analysis.experiments.phenomena import ROLES_A_KIND, TABLES, phenomena
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import DEFAULT_MAGNETS
from refam_analysis.recording import Recording

SCENES = 3


@pytest.fixture(scope="module")
def model(tiny_flux_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> DiffusionModel:
    """The tiny FLUX with room for magnets: its tokenizer takes a token a letter."""
    folder = tmp_path_factory.mktemp("models") / "tiny-flux"
    shutil.copytree(tiny_flux_folder, folder)
    defaults = json.loads((folder / "refam.json").read_text())
    (folder / "refam.json").write_text(json.dumps({**defaults, "text_length": 160}))
    return ra.load_model(folder)


@pytest.fixture(scope="module")
def items() -> list[GroundingItem]:
    return hard_items("test", SCENES, kinds=("location", "relation"))


@pytest.fixture(scope="module")
def tables(model: DiffusionModel, items: list[GroundingItem]) -> dict[str, pd.DataFrame]:
    return phenomena(model, items, seed=5)


def recorded(model: DiffusionModel, items: list[GroundingItem], magnets: tuple[str, ...] = ()) -> list[Recording]:
    options = {"heads": "mean", "magnets": magnets, "keep": ["entropy", "received_from_text", "received_from_image"]}
    return [ra.record(model, item.image, item.expression, seed=5 + i, **options) for i, item in enumerate(items)]


def test_a_joint_model_has_every_table_with_all_its_scenes(tables: dict[str, pd.DataFrame]) -> None:
    assert list(tables) == list(TABLES)
    counted = {name: table["scenes"].max() for name, table in tables.items() if name != "phrases"}
    assert set(counted.values()) == {SCENES}
    assert tables["phrases"][["scenes", "left_out"]].sum(axis=1).unique().tolist() == [SCENES]


@pytest.mark.parametrize("name", ["entropy", "mass", "mass_with_magnets", "moved"])
def test_tables_are_those_of_whole_recordings(
    name: str, tables: dict[str, pd.DataFrame], model: DiffusionModel, items: list[GroundingItem]
) -> None:
    plain, appended = recorded(model, items), recorded(model, items, DEFAULT_MAGNETS)
    whole = {
        "entropy": lambda: analysis.entropy_by_block(plain),
        "mass": lambda: analysis.mass_by_kind(plain),
        "mass_with_magnets": lambda: analysis.mass_by_kind(appended),
        "moved": lambda: analysis.mass_moved(plain, appended),
    }
    pd.testing.assert_frame_equal(tables[name], whole[name](), rtol=1e-4, atol=1e-6)


def test_sinks_are_the_strongest_roles_of_each_kind(tables: dict[str, pd.DataFrame]) -> None:
    sinks = tables["sinks"]
    assert "first token" in set(sinks["role"])
    roles = sinks[sinks["role"] != "first token"].drop_duplicates("role")
    assert roles["kind"].value_counts().max() <= ROLES_A_KIND + 1  # the first token may be a role of its own besides
    assert sinks.attrs["minimum_effect"] == 2.0


def test_tables_keep_what_figures_need_when_they_are_written(tables: dict[str, pd.DataFrame], tmp_path: Path) -> None:
    for name, table in tables.items():
        table.to_parquet(tmp_path / f"{name}.parquet", index=False)
        read = pd.read_parquet(tmp_path / f"{name}.parquet")
        assert read.attrs == table.attrs and read.attrs["confidence"] == 0.95
