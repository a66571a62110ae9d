"""The worst and the best answers of a run, as one page that needs nothing beside it.

Pictures are inside the page, nothing is fetched and no script runs (the page's own policy forbids both); what data sets
and errors say is text there, never markup.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refam_analysis.evaluation.datasets import load_dataset
from refam_analysis.evaluation.datasets.base import ReferringClip
from refam_analysis.evaluation.datasets.rle import decode_mask
from refam_analysis.evaluation.report.overlays import PREDICTED, TRUE, data_address, draw_answer
from refam_analysis.evaluation.report.scores import MAIN_METRICS, score_table
from refam_analysis.evaluation.runner.store import RunResults
from refam_analysis.files import written_whole

_SECTIONS = (
    ("worst", "Worst", "The lowest {measure} first; of equal ones, those in which the segmenter was surest."),
    ("best", "Best", "The highest {measure} first."),
)
_STYLE = """
:root { color-scheme: light dark; --paper: #f7f6f3; --ink: #2b2b2b; --faint: #6f6f6b; --line: #d9d7d0; }
@media (prefers-color-scheme: dark) { :root { --paper: #1d1d1b; --ink: #eceae4; --faint: #a3a19a; --line: #44433f; } }
body { background: var(--paper); color: var(--ink); font: 15px/1.45 system-ui, sans-serif; margin: 0 auto;
  max-width: 74rem; padding: 1rem 1.5rem 4rem; }
h1 { font-size: 1.5rem; } h2 { font-size: 1.15rem; margin-top: 2rem; } .faint, figcaption small { color: var(--faint); }
nav a, fieldset label { margin-right: 1rem; } fieldset { border: 1px solid var(--line); margin: 1rem 0; }
table { border-collapse: collapse; } td, th { border-bottom: 1px solid var(--line); padding: .2rem .8rem .2rem 0;
  text-align: left; font-weight: normal; } td { font-variant-numeric: tabular-nums; }
.grid { display: grid; gap: 1.2rem; grid-template-columns: repeat(auto-fill, minmax(15rem, 1fr)); }
figure { margin: 0; } img { max-width: 100%; height: auto; display: block; }
figcaption { margin-top: .3rem; overflow-wrap: anywhere; } .key { border-left: 1rem solid; padding-left: .4rem; }
"""


@dataclass(frozen=True)
class _Shown:
    """One answer of the page."""

    row: Any
    picture: NDArray[np.uint8]


def write_gallery(
    run: RunResults, path: str | Path, *, number: int = 24, root: str | os.PathLike[str] | None = None
) -> Path:
    """Write the page.

    Args:
        run: from ``load_results``.
        path: of the page, ending in .html.
        number: of answers of each sort.
        root: folder of the data set; None for the one that the run was started with last.

    Returns:
        ``path``.

    Raises:
        DatasetError: the data set, whose pictures are needed, cannot be read.
    """
    place = Path(path)
    place.parent.mkdir(parents=True, exist_ok=True)
    with written_whole(place) as partial:
        partial.write_text("".join(_page(run, number, root)), encoding="utf-8")
    return place


def worst_and_best(run: RunResults, number: int) -> dict[str, pd.DataFrame]:
    """The rows of each section of the page.

    Args:
        run: from ``load_results``.
        number: at most so many of each.

    Returns:
        ``worst`` and ``best``: by IoU, of clips by J&F; an expression is in one of them only, one without a score (it
        failed, or its truth is not known) in neither.
    """
    table = run.table[run.table["error"].isna()].copy()
    table["measure"] = (table["j"] + table["f"]) / 2 if run.video else table["iou"]
    table = table[table["measure"].notna()]
    order = table.sort_values(["measure", "score"], ascending=[True, False], kind="stable")
    each = min(number, (len(order) + 1) // 2)
    return {"worst": order.head(each), "best": order.iloc[each:].tail(each).iloc[::-1]}


def _page(run: RunResults, number: int, root: str | os.PathLike[str] | None) -> Iterator[str]:
    about = run.about["configuration"]
    chosen = worst_and_best(run, number)
    kinds = list(dict.fromkeys(kind for rows in chosen.values() for kind in rows["kind"]))
    title = f"{run.name}: {about['dataset']} {about['split']}"
    yield (
        '<!doctype html>\n<html lang="en">\n<meta charset="utf-8">\n'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\'; img-src data:; '
        "style-src 'unsafe-inline'\">\n"
        '<meta name="viewport" content="width=device-width">\n'
        f"<title>{escape(title)}</title>\n<style>{_STYLE}{_filters(kinds)}</style>\n<h1>{escape(title)}</h1>\n"
    )
    yield _header(run)
    yield _kind_choice(kinds)
    measure = "J&F" if run.video else "IoU"
    pictures = _pictures(run, pd.concat(list(chosen.values())), root)
    for name, heading, explained in _SECTIONS:
        figures = [_figure(_Shown(row, pictures[row.Index]), kinds, measure) for row in chosen[name].itertuples()]
        yield (
            f'<section id="{name}"><h2>{heading}</h2><p class="faint">{escape(explained.format(measure=measure))}</p>'
            f'<div class="grid">{"".join(figures)}</div></section>\n'
        )
    yield _failures(run)
    yield "</html>\n"


def _header(run: RunResults) -> str:
    about = run.about
    scores = score_table([run])
    rows = "".join(
        f"<tr><th>{escape(row.metric)}</th><td>{row.value:.3f}</td><td>{row.low:.3f} to {row.high:.3f}</td></tr>"
        for row in scores.itertuples()
        if row.metric in MAIN_METRICS
    )
    magnets = " ".join(about["configuration"]["magnets"]) or "(none)"
    count = f"{run.table['item'].nunique()} of {about['data']['items']} {'clips' if run.video else 'images'}"
    return (
        f'<p class="faint">{len(run.table)} expressions of {count}; model {escape(str(about["model"]["model"]))}, '
        f"segmenter {escape(str(about['configuration']['segmenter']))}, magnets {escape(magnets)}; 95 % intervals over "
        f"{'clips' if run.video else 'images'}</p>\n<table>{rows}</table>\n"
        f'<p><span class="key" style="border-color:rgb{PREDICTED}">answer, with its point</span> '
        f'<span class="key" style="border-color:rgb{TRUE}">truth</span></p>\n'
        '<nav><a href="#worst">Worst</a><a href="#best">Best</a><a href="#failed">Failed</a></nav>\n'
    )


def _kind_choice(kinds: Sequence[str]) -> str:
    """Radio buttons that leave one kind of expression on the page; they work by the style sheet alone."""
    choices = [("kind-all", "all", " checked"), *((f"kind-{i}", kind, "") for i, kind in enumerate(kinds))]
    labels = "".join(
        f'<label><input type="radio" name="kind" id="{key}"{checked}> {escape(name or "(none)")}</label>'
        for key, name, checked in choices
    )
    return f"<fieldset><legend>Kind of expression</legend>{labels}</fieldset>\n"


def _filters(kinds: Sequence[str]) -> str:
    return "".join(
        f"body:has(#kind-{i}:checked) figure:not(.kind-{i}) {{ display: none; }}\n" for i in range(len(kinds))
    )


def _figure(shown: _Shown, kinds: Sequence[str], measure: str) -> str:
    row = shown.row
    point = "" if pd.isna(row.on_target) else f", point {'on' if row.on_target else 'off'} the target"
    text = escape(str(row.text))
    return (
        f'<figure class="kind-{kinds.index(row.kind)}"><img src="{data_address(shown.picture)}" alt="{text}" '
        f'loading="lazy"><figcaption>{text}<br><small>{escape(measure)} {row.measure:.3f}, predicted '
        f"{row.score:.3f}{point}; {escape(str(row.expression))}</small></figcaption></figure>\n"
    )


def _failures(run: RunResults) -> str:
    failed = run.table[run.table["error"].notna()]
    left_out = [str(problem) for problem in run.about.get("problems", [])]
    lines = [f"{row.expression}: “{row.text}”: {row.error}" for row in failed.itertuples()]
    items = "".join(f"<li>{escape(line)}</li>" for line in [*lines, *(f"left out: {line}" for line in left_out)])
    return f'<section id="failed"><h2>Failed</h2>{f"<ul>{items}</ul>" if items else "<p>None.</p>"}</section>\n'


def _pictures(run: RunResults, rows: pd.DataFrame, root: str | os.PathLike[str] | None) -> dict[Any, NDArray[np.uint8]]:
    """The drawn answer of every row, by its index: each picture is read once."""
    about = run.about["configuration"]
    place = root if root is not None else run.about["starts"][-1]["root"]
    dataset = load_dataset(about["dataset"], about["split"], place, limit=about["limit"], on_error="skip")
    drawn: dict[Any, NDArray[np.uint8]] = {}
    for group, members in rows.groupby("group", sort=False):
        item = dataset[int(str(group))]
        by_key: dict[str, Any] = {expression.key: expression for expression in item.expressions}
        pixels = None if isinstance(item, ReferringClip) else item.load()
        for row in members.itertuples():
            expression, point = by_key[row.expression], (row.x, row.y)
            if isinstance(item, ReferringClip):
                frame = int(row.frames[len(row.frames) // 2])
                image, counts, true = item.load_frame(frame), row.masks[frame], expression.load_masks(frame)
            else:
                image, counts = np.asarray(pixels), row.mask
                true = None if expression.mask is None else decode_mask(expression.mask)
            predicted = decode_mask({"size": [row.height, row.width], "counts": counts})
            seen = None if isinstance(item, ReferringClip) and frame else point
            drawn[row.Index] = draw_answer(image, predicted=predicted, true=true, point=seen)
    return drawn
