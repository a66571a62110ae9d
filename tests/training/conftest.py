"""A working folder with the shipped tokenizers and autoencoder, so that a training can start in seconds."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from refam_analysis.weights import embedded_folder


@pytest.fixture
def run_folder(tmp_path: Path) -> Path:
    for part in ("tokenizer", "tokenizer_2", "vae"):
        shutil.copytree(embedded_folder("embedded-dit") / part, tmp_path / part)
    return tmp_path
