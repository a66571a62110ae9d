"""The ``refam`` command, run in this process, and what it says about bad input."""

from __future__ import annotations

from typer.testing import CliRunner, Result

from refam_analysis.cli import app


def refam(*arguments: object) -> Result:
    """What the command does with these arguments."""
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


def one_sentence(result: Result) -> str:
    """What was said about bad input: exit code 1, one line, no traceback."""
    assert result.exit_code == 1, result.output
    assert result.stdout == ""
    assert result.exception is None or isinstance(result.exception, SystemExit)
    (line,) = result.stderr.strip().splitlines()
    assert line.startswith("Error: ") and line.endswith(".")
    return line
