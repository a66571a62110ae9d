"""Working folders of trainings: one that can start in seconds, and two short ones that differ in their seed."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from refam_analysis.training import dit
from refam_analysis.training.export import export
from refam_analysis.weights import embedded_folder


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    for part in ("tokenizer", "tokenizer_2", "vae"):
        shutil.copytree(embedded_folder("embedded-dit") / part, tmp_path / part)
    return tmp_path


@pytest.fixture(scope="package")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two trainings of three steps on pictures of 48 pixels, with the first two steps put aside."""
    folders = [tmp_path_factory.mktemp("runs") / f"seed-{seed}" for seed in (0, 1)]
    for seed, folder in enumerate(folders):
        dit.main(
            out=folder, configuration="small", size=48, scenes=4, batch=2, steps=3, minutes=5, peak=0.01, seed=seed,
            probe_every=0, keep=[1, 2], parts=embedded_folder("embedded-dit"),
        )  # fmt: skip
    return folders


@pytest.fixture(scope="package")
def six_blocks(runs: list[Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an exported model of the small configuration."""
    folder = tmp_path_factory.mktemp("exported") / "six"
    export(runs[0], folder, configuration="small")
    return folder
