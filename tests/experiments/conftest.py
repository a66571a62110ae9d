"""A copy of the embedded model that an experiment may be told to measure."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from refam_analysis.weights import embedded_folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("experiment") / "weights" / "embedded-dit"
    shutil.copytree(embedded_folder("embedded-dit"), folder)
    return folder
