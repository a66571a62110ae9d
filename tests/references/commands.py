"""The ``refam`` command, run in this process."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from refam_analysis.cli import app


def refam(*arguments: object) -> Result:
    """What the command does with these arguments."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])
