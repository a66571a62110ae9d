"""The page of recipes: its own code, run from top to bottom in one session, and what each recipe promises.

The blocks of code are taken from the page. Only what this machine does not have is replaced: the released weights by
small models of the same classes with random weights, and the photograph by a picture that is drawn here.
"""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import flux, mochi
from PIL import Image
from typer.testing import CliRunner

import refam_analysis as ra
from refam_analysis.cli import app

PAGE = (Path(__file__).parents[2] / "book" / "recipes.md").read_text(encoding="utf-8")
PYTHON = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
SHELL = [line for block in re.findall(r"```bash\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the recipes run: a picture, and small models in place of the released ones."""
    place = tmp_path_factory.mktemp("recipes")
    pixels = np.random.default_rng(0).integers(0, 256, (96, 96, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(place / "photo.jpg")
    flux.build().save_pretrained(place / "flux")
    mochi.build().save_pretrained(place / "mochi")
    (place / "mochi" / "refam.json").write_text(json.dumps(mochi.CASE.settings))
    return place


@pytest.fixture(scope="module")
def ran(folder: Path) -> Iterator[dict[str, Any]]:
    """All names that the page has defined at its end."""
    here = {
        '"black-forest-labs/FLUX.1-dev"': repr(str(folder / "flux")),
        '"genmo/mochi-1-preview"': repr(str(folder / "mochi")),
        '"the dog on the left", heads="mean"': '"the dog on the left", heads="mean", size=(32, 48)',
    }
    defined: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        for number, code in enumerate(PYTHON):
            for there, replacement in here.items():
                code = code.replace(there, replacement)
            exec(compile(code, f"recipes.md, block {number}", "exec"), defined)
        yield defined
    torch.compiler.reset()


def test_an_array_has_the_axes_that_the_page_says(ran: dict[str, Any]) -> None:
    assert ran["array"].shape == (*ran["recording"].layout.grid, len(ran["recording"].tokens))
    assert ran["heat"].shape == ran["recording"].layout.grid


def test_a_table_has_a_row_a_key(ran: dict[str, Any]) -> None:
    assert len(ran["table"]) == ran["recording"]["entropy"].sizes["block"] * ran["recording"].layout.length
    assert [kind for _, text, kind in ran["tokens"] if text == "</s>"] == ["special"]


def test_less_is_kept_when_less_is_asked_for(ran: dict[str, Any]) -> None:
    assert ran["small"].kept == ("image_to_text", "entropy")
    assert ran["small"]["entropy"].dtype == np.float16
    assert ran["small"]["entropy"]["block"].values.tolist() == [0, 3]
    assert ran["part"]["full"].sizes["query"] == 9 + 1


def test_levels_and_steps_are_steps(ran: dict[str, Any]) -> None:
    assert ran["levels"].noise_levels == (0.9, 0.6, 0.3)
    assert ran["at_half"].sizes["step"] == 1
    assert ran["drawn"]["entropy"].sizes["step"] == 4
    assert ran["drawn"]["entropy"].sizes["branch"] == 2


def test_what_was_estimated_was_written(ran: dict[str, Any]) -> None:
    assert ran["expected"].quantities["full"] == 4 * ran["stored"]["full"].nbytes
    np.testing.assert_array_equal(ran["block"], ran["recording"]["full"].sel(block=2).values)


def test_what_was_saved_is_read_back(ran: dict[str, Any]) -> None:
    assert ran["same"].kept == ran["recording"].kept
    np.testing.assert_array_equal(ran["same"]["entropy"].values, ran["recording"]["entropy"].values)


def test_a_batch_gives_one_recording_an_item(ran: dict[str, Any]) -> None:
    plain, magnets = ran["batch"]
    assert plain.attrs["magnets"] == []
    assert magnets.attrs["magnets"] == [word for word in ra.DEFAULT_MAGNETS if word != "blue"]  # it is in the sentence


def test_a_live_pipeline_is_recorded_with_its_own_parts(ran: dict[str, Any]) -> None:
    assert ran["live"].pipeline is ran["pipeline"]
    assert ran["seen"]["entropy"].sizes["head"] == 1


def test_an_own_transformer_is_recorded_plain_and_compiled(ran: dict[str, Any]) -> None:
    own = ran["own"]["full"]
    assert own.shape == (1, 1, 2, 2, 31, 31)
    np.testing.assert_allclose(own.values.sum(-1), 1.0, atol=1e-5)
    np.testing.assert_allclose(ran["compiled"]["full"].values, own.values, atol=1e-6)


def test_a_clip_has_frames(ran: dict[str, Any]) -> None:
    assert ran["clip"]["image_to_text"].dims[4:] == ("frame", "y", "x", "token")
    assert "frame" not in ran["first_frame"].dims


def test_an_intervention_takes_its_key_away(ran: dict[str, Any]) -> None:
    assert float(ran["changed"]["full"].sel(key=ran["without"].keys[0]).max()) == 0.0
    assert float(ran["recording"]["full"].sel(key=ran["without"].keys[0]).max()) > 0.0


@pytest.mark.parametrize("line", SHELL)
def test_a_command_of_the_page_runs(line: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    program, *arguments = shlex.split(line)
    assert program == "refam"
    finished = CliRunner().invoke(app, arguments)
    assert finished.exit_code == 0, finished.output
