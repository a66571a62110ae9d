"""``refam weights``: what it prints, and how it ends."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from refam_analysis.cli import app
from refam_analysis.weights import WEIGHTS

runner = CliRunner()


def test_the_list_names_all_with_licence_and_size(tmp_path: Path) -> None:
    (tmp_path / "mobile_sam.pt").write_bytes(b"half")
    shown = runner.invoke(app, ["weights", "list", "--folder", str(tmp_path)])
    lines = {line.split()[0]: line for line in shown.output.splitlines()}
    assert shown.exit_code == 0 and WEIGHTS.keys() <= lines.keys()
    assert "41 MB" in lines["mobile-sam"] and "Apache-2.0" in lines["mobile-sam"]
    assert "in the cache" in lines["mobile-sam"] and "in the cache" not in lines["sam-vit-b"]


def test_a_broken_file_ends_with_status_1(tmp_path: Path) -> None:
    (tmp_path / "mobile_sam.pt").write_bytes(b"half")
    shown = runner.invoke(app, ["weights", "verify", "--folder", str(tmp_path)])
    assert shown.exit_code == 1 and "4 bytes, not 40,728,226" in shown.stderr


def test_an_empty_cache_is_said(tmp_path: Path) -> None:
    shown = runner.invoke(app, ["weights", "verify", "--folder", str(tmp_path)])
    assert shown.exit_code == 0 and "Nothing is in the cache" in shown.output


@pytest.mark.parametrize("command", ["fetch", "verify"])
def test_an_unknown_name_is_told_in_a_sentence(tmp_path: Path, command: str) -> None:
    shown = runner.invoke(app, ["weights", command, "mobile-cat", "--folder", str(tmp_path)])
    assert shown.exit_code == 1 and "no weights named 'mobile-cat'" in shown.stderr
    assert "Traceback" not in shown.output
