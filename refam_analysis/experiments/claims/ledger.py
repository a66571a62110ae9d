"""The ledger of claims: scenes in, verdicts out. ``refam claims`` runs it on any model that can be recorded.

Scenes are measured in parts that are kept until the result is written, so that a stopped run goes on. The scenes are of
the test split and were used by nothing else: what chose a default or a threshold was chosen on others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from tqdm.auto import tqdm

from refam_analysis.evaluation.grounding import untrained
from refam_analysis.evaluation.items import GroundingItem, hard_items
from refam_analysis.experiments.claims.measures import Asked, measure_batch, untestable
from refam_analysis.experiments.claims.rules import CRITERIA, judge, verdicts
from refam_analysis.experiments.provenance import (
    RESULTS,
    Parts,
    Result,
    Stopwatch,
    named_place,
    weights_sha256,
    write_result,
)
from refam_analysis.experiments.styles import items_in, segmenter_sha256, style_option
from refam_analysis.models import load_model, usual_device
from refam_analysis.models.base import DiffusionModel
from refam_analysis.models.loading import EMBEDDED_MODELS
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.pipeline import default_settings
from refam_analysis.segmentation.segmenters import embedded_segmenter, load_segmenter
from refam_analysis.weights import embedded_folder

NAME = "claims"
FIRST_SCENE = 1000
"""The test items before this one were seen while the embedded model and its reading were chosen."""


@dataclass(frozen=True)
class LedgerRun:
    """What is measured.

    Attributes:
        model: one of those that ship, a hub id, or a folder.
        scenes: items of the test split, attribute and location expressions in turn.
        noise_level: of the recordings from which blocks are compared.
        control: whether the same transformer with random weights is measured beside; it needs its memory once more.
        seed: of noise, untrained weights and random tokens.
        batch_size: scenes a part, and a forward pass.
        style: of the scenes; None for those that the model knows.
    """

    model: str = "embedded"
    scenes: int = 500
    noise_level: float = 0.6
    control: bool = True
    seed: int = 0
    batch_size: int = 20
    style: Style | None = None

    def command(self, out: Path) -> str:
        """Makes the result again, from the root of the checkout."""
        control = "" if self.control else " --no-control"
        return (
            f"refam claims --model {self.model} --scenes {self.scenes} --seed {self.seed}{control}"
            f"{style_option(self.style)} --out {named_place(out)}"
        )


def run(test: LedgerRun | None = None, *, out: Path = RESULTS / NAME, progress: bool = False) -> Result:
    """Measure every criterion on every scene, judge the claims, and write the result.

    Args:
        test: None for the one that is reported.
        out: folder of the result; beside it lie the parts of an unfinished run, in ``.cache``.
        progress: show a bar over scenes.

    Returns:
        The tables ``ledger`` (a row a criterion, see :func:`~refam_analysis.experiments.claims.rules.judge`),
        ``verdicts`` (a row a claim), ``scenes`` (a row a scene, a column a criterion or its control) and ``profiles``
        (a row a (scene, source, block, measure): what the figures of the phenomena are drawn from).
    """
    test, watch = test or LedgerRun(), Stopwatch()
    model = load_model(test.model, device=usual_device(test.model))
    style = test.style or model.scene_style
    shipped = shipped_sha256(test.model)
    weights = shipped | segmenter_sha256(embedded_segmenter(style))
    settings = default_settings(model)
    configuration = {
        **dataclasses.asdict(test),
        "style": style,
        "first_scene": FIRST_SCENE,
        "settings": settings.to_dict(),
        "model_name": model.name,
        "revision": model.revision,
        "folder": {} if shipped else _of_folder(test.model),
        "rules": [dataclasses.asdict(criterion) for criterion in CRITERIA],
    }
    parts = Parts(out.parent.parent / ".cache", out.name, {**configuration, **weights})
    long = pd.concat(_measured(model, test, parts, progress=progress), ignore_index=True)
    tables = summarise(long, untestable(model), seed=test.seed)
    result = write_result(
        out.name, tables, watch.provenance(test.command(out), configuration, weights), results=out.parent
    )
    parts.forget()
    return result


def summarise(long: pd.DataFrame, reasons: dict[str, str], *, seed: int = 0) -> dict[str, pd.DataFrame]:
    """From what was measured to the tables of the result.

    Args:
        long: rows of :func:`~refam_analysis.experiments.claims.measures.measure_batch`.
        reasons: criterion -> why the model cannot be tested by it.
        seed: of the statistics.
    """
    of_scene = long[long["block"].isna()]
    scenes = of_scene.pivot(index=["item", "scene", "kind"], columns="measure", values="value").reset_index()
    profiles = long[long["block"].notna()].astype({"block": int}).reset_index(drop=True)
    return {**judged(scenes, reasons, seed=seed), "scenes": scenes.rename_axis(columns=None), "profiles": profiles}


def judged(scenes: pd.DataFrame, reasons: dict[str, str], *, seed: int = 0) -> dict[str, pd.DataFrame]:
    """The tables ``ledger`` and ``verdicts``, from a row a scene.

    Args:
        scenes: a column a criterion or its control.
        reasons: criterion -> why the model cannot be tested by it.
        seed: of the statistics.
    """
    ledger = judge(scenes, untestable=reasons, seed=seed)
    return {"ledger": ledger, "verdicts": verdicts(ledger)}


def repeat(result: Result, model: DiffusionModel, *, first: int, number: int) -> pd.DataFrame:
    """Measure some of the scenes again, as the result's configuration says.

    Args:
        result: from :func:`run`.
        model: the one that it was made with.
        first: number of the first scene of the result.
        number: of scenes.

    Returns:
        Rows as in ``result["scenes"]``, without the controls that need another transformer.
    """
    fields = {field.name for field in dataclasses.fields(LedgerRun)}
    configuration = result.provenance.configuration
    test = LedgerRun(**{name: value for name, value in configuration.items() if name in fields})
    items = items_in(configuration, number, first=first)
    asked = _asked(model, dataclasses.replace(test, control=False))
    return summarise(measure_batch(asked, items, first=first, seed=test.seed), {})["scenes"]


def _measured(model: DiffusionModel, test: LedgerRun, parts: Parts, *, progress: bool) -> Iterator[pd.DataFrame]:
    """The long table, a part a batch of scenes."""
    items = hard_items("test", test.scenes, skip=FIRST_SCENE, style=test.style or model.scene_style)
    asked = _asked(model, test)
    with tqdm(total=len(items), desc="scenes", disable=not progress) as bar:
        for start in range(0, len(items), test.batch_size):
            batch: Sequence[GroundingItem] = items[start : start + test.batch_size]
            yield parts.keep(f"{start:06d}", partial(measure_batch, asked, batch, first=start, seed=test.seed))
            bar.update(len(batch))


def shipped_sha256(model: str) -> dict[str, str]:
    """The sha256 of the weights and of the reading of one of the models that ship; of another, nothing.

    Args:
        model: its name, as :func:`refam_analysis.load_model` takes it.

    >>> len(shipped_sha256("embedded")), shipped_sha256("black-forest-labs/FLUX.1-dev")
    (5, {})
    """
    if model not in EMBEDDED_MODELS:
        return {}
    return weights_sha256(embedded_folder(EMBEDDED_MODELS[model]), also=["refam.json"])


def _of_folder(source: str) -> dict[str, str]:
    """The sha256 of a local model's weights and reading, which have no revision."""
    folder = Path(source).expanduser()
    if not folder.is_dir():
        return {}
    return weights_sha256(folder, also=["refam.json"] if (folder / "refam.json").is_file() else [])


def _asked(model: DiffusionModel, test: LedgerRun) -> Asked:
    return Asked(
        model=model,
        untrained=untrained(model, test.seed) if test.control else None,
        settings=default_settings(model),
        segmenter=load_segmenter(embedded_segmenter(test.style or model.scene_style)),
        noise_level=test.noise_level,
    )


def as_markdown(result: Result) -> str:
    """The ledger as a table in Markdown, a line a criterion, under a line a claim.

    Args:
        result: from :func:`run`.
    """
    lines = [
        "| | criterion | effect [95 % interval] | margin | control | n | q | verdict |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for claim in result["verdicts"].to_dict("records"):
        lines.append(f"| **{claim['claim']}** | **{claim['text']}** | | | | | | **{claim['verdict']}** |")
        for row in result["ledger"].query("claim == @claim['claim']").to_dict("records"):
            lines.append(_line(row))
    return "\n".join(lines) + "\n"


_NUMBERS = (
    "effect", "low", "high", "margin", "q", "control_effect", "difference", "difference_low", "difference_high",
)  # fmt: skip


def _line(row: dict[str, object]) -> str:
    number = {name: float(str(row[name])) for name in _NUMBERS}
    measured = np.isfinite(number["effect"])
    effect = f"{number['effect']:.3f} [{number['low']:.3f}, {number['high']:.3f}] {row['unit']}" if measured else ""
    control = ""
    if np.isfinite(number["control_effect"]):
        beside = f"{number['difference']:.3f} [{number['difference_low']:.3f}, {number['difference_high']:.3f}]"
        control = f"{number['control_effect']:.3f} ({row['control']}); more than it: {beside}"
    q = f"{number['q']:.2g}" if np.isfinite(number["q"]) else ""
    verdict = f"{row['verdict']}: {row['note']}" if row["note"] else row["verdict"]
    margin = f"{number['margin']:.3g}"
    return f"| | {row['measure']} | {effect} | {margin} | {control} | {row['scenes']} | {q} | {verdict} |"
