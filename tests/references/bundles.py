"""A bundle of a small random model of the real FLUX classes, as ``refam bundle`` makes it of a large one."""

from __future__ import annotations

import json
from pathlib import Path

from families.parts import TINY_IMAGE_SIZE, make_tiny_flux

import refam_analysis as ra
from refam_analysis.experiments.bundle import write_bundle
from refam_analysis.experiments.claims import ledger

TEXT_LENGTH = 160
"""The tiny tokenizer takes a token a letter, and magnets must fit."""


def make_tiny_bundle(root: Path, *, scenes: int, ledger_scenes: int) -> Path:
    """The folder of the bundle, ``root / "bundles" / "tiny"``.

    Args:
        root: an empty folder; the model and the ledger lie beside the bundle.
        scenes: of the tables.
        ledger_scenes: of the ledger, which asks much more of each.
    """
    folder = root / "models" / "tiny-flux"
    make_tiny_flux().save_pretrained(folder)
    defaults = {"image_size": TINY_IMAGE_SIZE, "text_length": TEXT_LENGTH, "steps": 2, "guidance": 1.0}
    (folder / "refam.json").write_text(json.dumps(defaults))
    measured = root / "results" / "claims"
    ledger.run(ledger.LedgerRun(model=str(folder), scenes=ledger_scenes, control=False), out=measured)
    (root / "bundles").mkdir()
    model = ra.load_model(folder)
    return write_bundle(measured, root / "bundles" / "tiny", model=model, scenes=scenes, recordings=1).folder
