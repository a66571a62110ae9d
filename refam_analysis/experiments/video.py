"""How well the embedded models follow an object through moving scenes, from a sentence about the first frame.

First the settings of following are chosen on validation clips, from a point inside the target; then, with these, the
test clips are followed from the model's point and from a point inside the target, beside controls that keep the first
frame's mask (:mod:`refam_analysis.evaluation.moving`).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import pandas as pd

from refam_analysis.analysis.statistics import bootstrap_interval
from refam_analysis.evaluation.items import moving_options
from refam_analysis.evaluation.moving import MOVING_SOURCES, SPEEDS, MovingReport, moving_accuracy, settings_accuracy
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.experiments.styles import model_option, segmenter_of, style_in, style_option
from refam_analysis.models import load_model
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import DEFAULT_MAGNETS
from refam_analysis.scenes import MOVING_KINDS, MovingSample, MovingScenes
from refam_analysis.scenes.dataset import Split
from refam_analysis.scenes.motion import EVENTS
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation import HeatmapSettings, Segmenter, default_settings, load_segmenter
from refam_analysis.segmentation.segmenters import embedded_segmenter
from refam_analysis.segmentation.video.reprompting import FollowSettings
from refam_analysis.weights import embedded_folder

NAME = "video"
LEAST_JF = 0.60
"""The verdict's rule: J&F of the clips whose first point is on the target."""

CANDIDATES: dict[str, FollowSettings] = {
    "default": FollowSettings(),
    **{
        f"{name}={value:g}": replace(FollowSettings(), **{name: value})  # type: ignore[arg-type]
        for name, values in {
            "place": (0.25, 1.0),
            "guess": (0.25, 0.5),
            "lost": (0.05, 0.3),
            "found": (0.5, 0.7),
            "outline": (0.5, 2.0),
            "reach": (0.3, 0.7),
            "momentum": (0.0, 0.5),
            "growth": (1.2, 1.7),
            "patience": (0, 12),
        }.items()
        for value in values
    },
}
"""The defaults, and each setting changed up and down."""

_PART = 20
_GROUPS: dict[str, tuple[str, ...]] = {"event": EVENTS, "speed": tuple(SPEEDS), "kind": MOVING_KINDS}
"""Columns that the summary has rows by, and their values in order."""
_HEADLINE = ["source", "condition", "scenes", "jf", "jf_low", "jf_high", "j", "f", "on_target", "passed"]


@dataclass(frozen=True)
class VideoTest:
    """What is measured.

    Attributes:
        clips: of the test split.
        validation: clips of the validation split that settings are chosen on.
        magnets: appended to every expression.
        seed: of the noise.
        style: of the scenes; None for those that the model knows.
    """

    clips: int = 300
    validation: int = 48
    magnets: tuple[str, ...] = DEFAULT_MAGNETS
    seed: int = 0
    style: Style | None = None

    @property
    def command(self) -> str:
        """Makes the result again, with the magnets that are the default."""
        return (
            f"refam experiment {NAME} --items {self.clips} --validation {self.validation} --seed {self.seed}"
            f"{style_option(self.style)}"
        )


def run(
    test: VideoTest | None = None, *, folder: Path | None = None, results: Path = RESULTS, progress: bool = False
) -> Result:
    """Choose on validation clips, measure on test clips, and write the result.

    Args:
        test: None for the one that is reported.
        folder: of the model; None for the embedded one. The segmenter is the one that ships for the scenes.
        results: the folder of all results.
        progress: show bars.

    Returns:
        The tables ``choice`` (see :func:`choice_table`), ``outcomes`` (see
        :class:`~refam_analysis.evaluation.moving.MovingReport`), ``summary``, whose rows are those of
        ``MovingReport.summary`` for all clips and by event, speed and kind (columns ``by`` and ``group``), with
        ``passed``, the verdict by the rule; and ``headline``, its rows for all clips.
    """
    test, folder = test or VideoTest(), folder or embedded_folder("embedded-dit")
    watch = Stopwatch()
    model = load_model(folder)
    style = test.style or model.scene_style
    segmenter, weights = segmenter_of(style)
    weights |= weights_sha256(folder, also=["refam.json"])
    about = {**dataclasses.asdict(test), "style": style}
    parts = Parts(results.parent / ".cache", NAME, {**about, **weights})
    settings = default_settings(model)
    choice = parts.keep("choice", partial(_choose, segmenter, test.validation, style, progress))
    follow = CANDIDATES[str(choice.loc[choice["chosen"], "candidate"].item())]
    clips = _clips("test", test.clips, style)

    def measure(first: int) -> pd.DataFrame:
        some = [clips[i] for i in range(first, min(first + _PART, test.clips))]
        return _measured(model, segmenter, some, settings, follow, test, first, progress)

    measured = [parts.keep(f"clips-{first}", partial(measure, first)) for first in range(0, test.clips, _PART)]
    outcomes = _in_order(pd.concat(measured, ignore_index=True))
    configuration = {
        **about,
        "settings": settings.to_dict(),
        "follow": dataclasses.asdict(follow),
        "rule": f"J&F of the clips whose first point is on the target >= {LEAST_JF:.2f}",
    }
    whole = summary(outcomes)
    headline = whole.loc[whole["by"] == "all", _HEADLINE].reset_index(drop=True)
    tables = {"choice": choice, "outcomes": outcomes, "summary": whole, "headline": headline}
    result = write_result(
        NAME, tables, watch.provenance(test.command + model_option(folder), configuration, weights), results=results
    )
    parts.forget()
    return result


def summary(outcomes: pd.DataFrame) -> pd.DataFrame:
    """Means of all clips, then by event, by speed and by kind of expression, with the verdict on every row.

    Args:
        outcomes: of all sources.
    """
    report = MovingReport(outcomes)
    tables = [report.summary().assign(by="all", group="all")]
    for by, names in _GROUPS.items():
        rows = report.summary(by).rename(columns={by: "group"}).assign(by=by)
        for column, order in (("group", names), ("source", MOVING_SOURCES)):
            rows = rows.sort_values(column, key=lambda values, order=order: values.map(order.index), kind="stable")
        tables.append(rows.sort_values("condition", kind="stable"))
    table = pd.concat(tables, ignore_index=True)
    table["passed"] = table["jf"] >= LEAST_JF
    front = ["source", "condition", "by", "group"]
    return table[front + [name for name in table if name not in front]]


def followed_clips(result: Result) -> MovingScenes:
    """The clips that a result was measured on.

    Args:
        result: from :func:`run`.
    """
    about = result.provenance.configuration
    return _clips("test", about["clips"], style_in(about))


def repeat(result: Result, model: DiffusionModel, *, first: int, number: int) -> pd.DataFrame:
    """Compute some of the outcomes again, as the result's configuration says.

    Args:
        result: from :func:`run`.
        model: the one that it was made with.
        first: number of the first clip.
        number: of clips.

    Returns:
        Rows as in ``result["outcomes"]``.
    """
    about = result.provenance.configuration
    test = VideoTest(about["clips"], about["validation"], tuple(about["magnets"]), about["seed"])
    clips = followed_clips(result)
    return _measured(
        model, load_segmenter(embedded_segmenter(style_in(about))), [clips[i] for i in range(first, first + number)],
        HeatmapSettings.from_dict(about["settings"]), FollowSettings(**about["follow"]), test, first, progress=False,
    )  # fmt: skip


def choice_table(accuracies: pd.DataFrame, *, seed: int = 0) -> pd.DataFrame:
    """The candidates beside the default, clip by clip, and which one is taken.

    The default stays unless others are better with an interval of the gain above zero; then the best of these.

    Args:
        accuracies: from :func:`~refam_analysis.evaluation.moving.settings_accuracy`.
        seed: of the bootstrap.

    Returns:
        A row a candidate, in the order of :data:`CANDIDATES`: ``candidate``, ``jf``, ``gain`` over the default, both
        with ``_low`` and ``_high`` over clips, ``scenes`` and ``chosen``.
    """
    wide = accuracies.pivot(index="clip", columns="candidate", values="jf")
    wide = wide[[name for name in CANDIDATES if name in wide]]
    gains = wide.sub(wide["default"], axis=0)
    table = pd.DataFrame({"candidate": wide.columns})
    for name, values in (("jf", wide), ("gain", gains)):
        low, high = bootstrap_interval(values.to_numpy(float), seed=seed)
        table[name], table[f"{name}_low"], table[f"{name}_high"] = values.mean().to_numpy(), low, high
    table["scenes"] = len(wide)
    better = table[table["gain_low"] > 0]
    taken = better["gain"].idxmax() if len(better) else table.index[table["candidate"] == "default"][0]
    table["chosen"] = table.index == taken
    return table


def _clips(split: Split, number: int, style: Style) -> MovingScenes:
    return MovingScenes(split, length=number, options=moving_options(style))


def _choose(segmenter: Segmenter, number: int, style: Style, progress: bool) -> pd.DataFrame:
    clips = _clips("validation", number, style)
    return choice_table(settings_accuracy(clips, CANDIDATES, segmenter=segmenter, progress=progress))


def _measured(
    model: DiffusionModel, segmenter: Segmenter, clips: Sequence[MovingSample], settings: HeatmapSettings,
    follow: FollowSettings, test: VideoTest, first: int, progress: bool,
) -> pd.DataFrame:  # fmt: skip
    return moving_accuracy(
        model, clips, segmenter=segmenter, settings=settings, follow=follow, magnets=test.magnets, seed=test.seed,
        first=first, progress=progress,
    ).outcomes  # fmt: skip


def _in_order(outcomes: pd.DataFrame) -> pd.DataFrame:
    """By source, then by clip, as one call over all clips would have it."""
    places = {source: place for place, source in enumerate(MOVING_SOURCES)}
    return outcomes.sort_values("source", key=lambda names: names.map(places), kind="stable", ignore_index=True)
