"""The learning curves of the embedded models: what their training logged, as one table."""

from __future__ import annotations

import json
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from refam_analysis.errors import RefamError
from refam_analysis.experiments.provenance import RESULTS, ROOT, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.experiments.styles import model_option
from refam_analysis.weights import embedded_folder

NAME = "learning"
RUN = ROOT / "runs" / "embedded"
"""The working folder of the training."""
WEIGHTS = {
    "embedded": ("embedded-dit", "embedded-sam"),
    "embedded-rich": ("embedded-rich", "embedded-rich-sam"),
    "embedded-video": ("embedded-video",),
}
"""What came out of the trainings, by the model's name."""

FURTHER = "dit_further"
"""What a log calls the steps of the transformer's training after those that ship."""

EARLIER = "dit_earlier"
"""What it calls those of the runs before it: the transformer of the last one is what the training began with."""

_COUNTED = ("step", "samples")
_POSITION = ("model", *_COUNTED)


class NoLogError(RefamError, FileNotFoundError):
    """A training run has logged nothing."""

    def __init__(self, folder: Path) -> None:
        super().__init__(
            f"There is no log.jsonl in {folder}: give the working folder of a training run of "
            "refam_analysis.training with --run."
        )


def run(
    log: Path = RUN,
    *,
    earlier: Sequence[Path] = (),
    further: Path | None = None,
    weights: Sequence[str] = WEIGHTS["embedded"],
    results: Path = RESULTS,
) -> Result:
    """Write the learning curves of a training run.

    Args:
        log: its working folder.
        earlier: those of the runs before it, each of which began with the transformer of the one before; see
            :func:`with_earlier`.
        further: that of a run that began with the weights that ship, and does not; see :func:`with_further`.
        weights: the embedded models that came out of it.
        results: the folder of all results.

    Returns:
        The tables ``log`` (the lines as they were logged, those of the other runs renamed) and ``curves``
        (:func:`curves`).

    Raises:
        NoLogError: a folder holds no log.
        MissingWeightsError: a model does not ship.
    """
    watch, logged = Stopwatch(), with_earlier(read_log(log), *map(read_log, earlier))
    if further is not None:
        logged = with_further(logged, read_log(further))
    digests = {file: value for name in weights for file, value in weights_sha256(embedded_folder(name)).items()}
    command = f"refam experiment {NAME}" + model_option(Path(weights[0]))
    provenance = watch.provenance(command, {"weights": list(weights)}, digests)
    return write_result(NAME, {"log": logged, "curves": curves(logged)}, provenance, results=results)


def read_log(run: Path) -> pd.DataFrame:
    """The lines that a training logged, as they are: the column ``line``.

    Args:
        run: its working folder.

    Raises:
        NoLogError: it holds no log.
    """
    path = run / "log.jsonl"
    if not path.is_file():
        raise NoLogError(run)
    return pd.DataFrame({"line": path.read_text(encoding="utf-8").splitlines()})


def with_further(log: pd.DataFrame, further: pd.DataFrame) -> pd.DataFrame:
    """A log, and after it that of a run whose transformer began with its weights, as ``FURTHER``.

    Args:
        log: its column ``line`` holds JSON.
        further: likewise; its steps and samples are counted on from the last ones of ``log``.

    >>> line = '{"model": "dit", "step": %d, "samples": %d}'
    >>> first, second = (pd.DataFrame({"line": [line % (step, 2 * step)]}) for step in (900, 100))
    >>> with_further(first, second)["line"].to_list()[1]
    '{"model": "dit_further", "step": 1000, "samples": 2000}'
    """
    return pd.DataFrame({"line": [*log["line"], *_moved(further, _taken(log), FURTHER)]})


def with_earlier(log: pd.DataFrame, *earlier: pd.DataFrame) -> pd.DataFrame:
    """A log, and before it those of the runs that led to the transformer which this one began with, as ``EARLIER``.

    Args:
        log: its column ``line`` holds JSON; the transformer's steps and samples are counted on from the last ones of
            the runs before.
        earlier: likewise, in their order.

    >>> line = '{"model": "dit", "step": %d, "samples": %d}'
    >>> runs = [pd.DataFrame({"line": [line % (step, 2 * step)]}) for step in (900, 70, 100)]
    >>> first, second, last = with_earlier(runs[2], *runs[:2])["line"]
    >>> second, last
    ('{"model": "dit_earlier", "step": 970, "samples": 1940}', '{"model": "dit", "step": 1070, "samples": 2140}')
    """
    lines: list[str] = []
    before = dict.fromkeys(_COUNTED, 0)
    for run in earlier:
        lines += _moved(run, before, EARLIER)
        before = {name: before[name] + count for name, count in _taken(run).items()}
    return pd.DataFrame({"line": [*lines, *_moved(log, before, "dit")]})


def _taken(log: pd.DataFrame) -> dict[str, int]:
    """Steps and samples of the transformer at the end of a log."""
    steps = [entry for entry in map(json.loads, log["line"]) if entry["model"] == "dit" and "step" in entry]
    return {name: max(entry[name] for entry in steps) for name in _COUNTED}


def _moved(log: pd.DataFrame, before: dict[str, int], name: str) -> list[str]:
    """The lines of a log, in which the transformer has another name and took so many steps and samples before."""

    def moved(entry: dict[str, Any]) -> dict[str, Any]:
        if entry["model"] != "dit":
            return entry
        return (
            entry | {"model": name} | {count: entry[count] + past for count, past in before.items() if count in entry}
        )

    return [json.dumps(moved(entry)) for entry in map(json.loads, log["line"])]


def curves(log: pd.DataFrame) -> pd.DataFrame:
    """One row a number that was logged at a step.

    Args:
        log: its column ``line`` holds JSON.

    Returns:
        ``model`` (such as dit or sam), ``quantity`` (such as loss), ``step``, ``samples`` (NaN where not logged) and
        ``value``, by model, quantity and step. A step that was repeated after a stop counts once, as it was last.

    >>> line = '{"model": "dit", "step": 100, "samples": 3200, "loss": 0.5}'
    >>> curves(pd.DataFrame({"line": [line]})).values.tolist()
    [['dit', 'loss', 100, 3200.0, 0.5]]
    """
    rows: dict[tuple[str, str, int], dict[str, Any]] = {}
    for entry in map(json.loads, log["line"]):
        if "step" not in entry:
            continue
        for quantity, value in entry.items():
            if quantity not in _POSITION and isinstance(value, int | float):
                key = (entry["model"], quantity, int(entry["step"]))
                rows[key] = {"samples": float(entry.get("samples", "nan")), "value": float(value)}
    table = [
        {"model": model, "quantity": quantity, "step": step, **row}
        for (model, quantity, step), row in sorted(rows.items())
    ]
    return pd.DataFrame(table, columns=["model", "quantity", "step", "samples", "value"])


def logged_numbers(log: pd.DataFrame, model: str) -> dict[str, Any]:
    """What a training logged at its end rather than at a step, each number as it was last.

    >>> logged_numbers(pd.DataFrame({"line": ['{"model": "autoencoder", "psnr": 31.5}']}), "autoencoder")
    {'psnr': 31.5}
    """
    entries = [entry for entry in map(json.loads, log["line"]) if entry["model"] == model]
    final = [entry for entry in entries if not {"step", "command"} & set(entry)]
    return {name: value for entry in final for name, value in entry.items() if name != "model"}


def training_hours(table: pd.DataFrame, model: str) -> float:
    """How long a model trained; NaN where that was not logged.

    Args:
        table: from :func:`curves`. Lines with ``seconds`` count what they say; lines without it, which come first, say
            by their last ``rate`` how long all samples until then took.
        model: such as "dit".
    """
    rows = table[table["model"] == model]
    seconds, rates = (rows[rows["quantity"] == name] for name in ("seconds", "rate"))
    untimed = rates[~rates["step"].isin(seconds["step"])]
    if seconds.empty and untimed.empty:
        return float("nan")
    before = untimed.iloc[-1]["samples"] / untimed.iloc[-1]["value"] if len(untimed) else 0.0
    return float((seconds["value"].sum() + before) / 3600)


def training_commands(log: pd.DataFrame, models: Collection[str] | None = None) -> list[str]:
    """The commands that the training was started with, in the order of their first use.

    Args:
        log: its column ``line`` holds JSON.
        models: whose, such as ``["dit"]``; None for all.

    >>> training_commands(pd.DataFrame({"line": ['{"model": "dit", "command": "python -m cats"}']}))
    ['python -m cats']
    """
    entries = [json.loads(line) for line in log["line"]]
    named = (entry.get("command") for entry in entries if models is None or entry["model"] in models)
    return list(dict.fromkeys(command for command in named if command))
