"""Causal tests of sinks (C3, C4): act on them, act on as many random tokens of the same kinds, and compare.

Scenes of the test split, paired: the same text, picture and noise with the sinks acted on and with random tokens. How a
scene is measured is in :mod:`refam_analysis.experiments.sink_changes`; here scenes become a table with tests. Captions
are drawn too, and the same scenes run through the pipeline's own handling of sinks, ``gas``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from refam_analysis.analysis.localisation import average_precision
from refam_analysis.analysis.paired import two_sided_p
from refam_analysis.analysis.statistics import benjamini_hochberg, bootstrap_interval, scene_mean
from refam_analysis.evaluation.colour_judge import judge_colour
from refam_analysis.evaluation.items import GroundingItem, hard_items
from refam_analysis.evaluation.metrics import points_on
from refam_analysis.experiments.generation import Caption, captions
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.experiments.sink_changes import SceneChanges, changes_of, picture_changes_of
from refam_analysis.experiments.styles import items_in, model_option, style_option
from refam_analysis.models import load_model
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import DEFAULT_MAGNETS, make_prompt
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.heatmap import heatmaps
from refam_analysis.segmentation.pipeline import default_settings, record_for_heatmaps
from refam_analysis.segmentation.point import peak
from refam_analysis.segmentation.settings import GAS, Gas, HeatmapSettings
from refam_analysis.weights import embedded_folder

NAME = "causal"

Floats = NDArray[np.float64]
_Subject = TypeVar("_Subject", GroundingItem, Caption)


@dataclass(frozen=True)
class CausalTest:
    """What is tested.

    Attributes:
        scenes: items of the test split, attribute and location expressions in turn.
        pictures: captions that are drawn, by full denoisings; see :mod:`refam_analysis.experiments.generation`.
        numbers: of tokens acted on at once.
        draws: of random tokens, for predictions and maps; pictures have one.
        blocks: that are acted on; None for all.
        magnets: of the prompts in which mass is redirected.
        steps: of a denoising; None for the model's own.
        seed: of the noise and of the random tokens.
        batch_size: scenes or pictures a part that is kept. Scenes run one by one, since their sinks differ; the noise
            draws of a scene are a batch.
        style: of the scenes; None for those that the model knows.
    """

    scenes: int = 200
    pictures: int = 20
    numbers: tuple[int, ...] = (1, 3, 5)
    draws: int = 2
    blocks: tuple[int, ...] | None = None
    magnets: tuple[str, ...] = DEFAULT_MAGNETS
    steps: int | None = None
    seed: int = 0
    batch_size: int = 10
    style: Style | None = None

    @property
    def command(self) -> str:
        """Makes the result again."""
        blocks = "".join(f" --block {block}" for block in self.blocks or ())
        return (
            f"refam experiment {NAME} --items {self.scenes} --pictures {self.pictures} --seed {self.seed}{blocks}"
            f"{style_option(self.style)}"
        )


def run(
    test: CausalTest | None = None, *, folder: Path | None = None, results: Path = RESULTS, progress: bool = False
) -> Result:
    """Act, measure, and write the result.

    Args:
        test: None for the one that is reported.
        folder: of the model; None for the embedded one.
        results: the folder of all results.
        progress: show a bar over scenes.

    Returns:
        The tables ``changes`` (a row a (scene, path, number, measure), those of
        :class:`~refam_analysis.experiments.sink_changes.SceneChanges` with the columns ``item``, counted from 0 for
        scenes and for captions, and ``scene``; captions have the measures ``picture_rms``, ``picture_structure`` and
        ``named_colour``, the share of the drawn object's pixels that have the caption's colour), ``sinks`` (the same
        for what was acted on; ``run``: of "reading" or "drawing"), ``summary`` (:func:`summary`), ``handling`` (a row
        a (scene, gas), see :func:`handled`) and ``handling_summary`` (:func:`handling_summary`).
    """
    test, folder = test or CausalTest(), folder or embedded_folder("embedded-dit")
    watch, weights = Stopwatch(), weights_sha256(folder, also=["refam.json"])
    model = load_model(folder)
    model.pipeline.set_progress_bar_config(disable=True)
    settings = default_settings(model).attention_alone
    style = test.style or model.scene_style
    configuration = {**dataclasses.asdict(test), "style": style, "settings": settings.to_dict()}
    parts = Parts(results.parent / ".cache", NAME, {**configuration, **weights})
    items = hard_items("test", test.scenes, style=style)
    drawn = captions(0, test.pictures, seed=test.seed, style=style)
    measured = [
        *_parts("reading", items, partial(_read, model, test, settings), test.batch_size, parts, progress=progress),
        *_parts("drawing", drawn, partial(_drawn, model, test, style), test.batch_size, parts, progress=progress),
    ]
    changed = pd.concat(measured, ignore_index=True)
    handling = pd.concat(
        [parts.keep(f"gas-{gas}", partial(handled, model, items, settings, gas, test=test)) for gas in GAS],
        ignore_index=True,
    )
    is_sink = changed["rank"].notna()
    tables = {
        "changes": changed.loc[~is_sink, _CHANGES].astype({"number": int}).reset_index(drop=True),
        "sinks": changed.loc[is_sink, _SINKS]
        .astype({"rank": int, "position": int, "block": int})
        .reset_index(drop=True),
        "handling": handling,
        "handling_summary": handling_summary(handling, seed=test.seed),
    }
    tables["summary"] = summary(tables["changes"], seed=test.seed)
    result = write_result(
        NAME, tables, watch.provenance(test.command + model_option(folder), configuration, weights), results=results
    )
    parts.forget()
    return result


_OF_SCENE = ["item", "scene"]
_CHANGES = [*_OF_SCENE, "path", "number", "measure", "undisturbed", "sink", "random", "other_kind"]
_SINKS = [*_OF_SCENE, "run", "prompt", "rank", "position", "side", "kind", "role", "word", "strength", "block"]


def summary(
    changes: pd.DataFrame, *, confidence: float = 0.95, resamples: int = 2000, flips: int = 20_000, seed: int = 0
) -> pd.DataFrame:
    """What acting on sinks changes, beside random tokens, paired over scenes.

    Args:
        changes: a row a (item, path, number, measure): ``undisturbed``, ``sink``, ``random``, ``other_kind``. What is
            not finite (a background ratio whose object is cold) leaves the scene out of that row.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        flips: random sign flips of scenes.
        seed: of draws and flips.

    Returns:
        A row a (path, number, measure), in their order: ``undisturbed`` (mean over scenes); ``sink`` and ``random``,
        the mean changes from it, each with ``_low`` and ``_high``; ``difference`` (sink minus random, scene by scene)
        with its interval; ``p`` (two-sided, by sign flips), ``q`` (over all rows); ``other_kind`` (share of the random
        tokens that had to be of another kind than the sinks); ``scenes``. p and q are NaN for one scene.
    """
    keys = ["path", "number", "measure"]
    values = changes.assign(sink=changes["sink"] - changes["undisturbed"],
                            random=changes["random"] - changes["undisturbed"])  # fmt: skip
    values["difference"] = values["sink"] - values["random"]
    order = list(dict.fromkeys(changes[keys].itertuples(index=False, name=None)))
    wide = values.pivot(index="item", columns=keys)
    table = pd.DataFrame(order, columns=keys)
    names = ("undisturbed", "sink", "random", "difference", "other_kind")
    column = {name: _columns(wide[name], order) for name in names}
    finite = np.isfinite(column["difference"])
    column = {name: np.where(finite, each, np.nan) for name, each in column.items()}
    table["undisturbed"] = scene_mean(column["undisturbed"])
    for name in ("sink", "random", "difference"):
        table[name] = scene_mean(column[name])
        ends = bootstrap_interval(column[name], confidence=confidence, resamples=resamples, seed=seed)
        table[f"{name}_low"], table[f"{name}_high"] = ends
    table["p"] = two_sided_p(column["difference"], flips=flips, seed=seed)
    table["q"] = benjamini_hochberg(table["p"].to_numpy(dtype=np.float64))
    table["other_kind"] = scene_mean(column["other_kind"])
    table["scenes"] = finite.sum(axis=0)
    table.attrs["confidence"] = confidence
    return table


def handled(
    model: DiffusionModel, items: Sequence[GroundingItem], settings: HeatmapSettings, gas: Gas, *, test: CausalTest
) -> pd.DataFrame:
    """Run items through the pipeline up to the point, with one handling of sinks.

    Args:
        model: from ``load_model``.
        items: to point at.
        settings: how heatmaps are read; by their attention alone.
        gas: what is done to sinks.
        test: magnets, seed and batch size.

    Returns:
        A row an item: ``item``, ``scene``, ``gas``, ``average_precision``, ``point_accuracy`` (0 or 1), ``tokens``
        (how many were acted on).
    """
    chosen = dataclasses.replace(settings.attention_alone, gas=gas)
    rows: list[dict[str, Any]] = []
    for start in range(0, len(items), test.batch_size):
        part = items[start : start + test.batch_size]
        prompts = [make_prompt(item.expression, test.magnets) for item in part]
        seeds = [test.seed + (start + i) * settings.seeds for i in range(len(part))]
        groups = record_for_heatmaps(model, [item.image for item in part], prompts, chosen, seeds=seeds)
        maps = heatmaps(groups, [chosen])[:, 0].reshape(len(part), *groups[0][0].layout.grid).numpy()
        for place, (item, group, heat) in enumerate(zip(part, groups, maps, strict=True)):
            mask = item.masks[item.target]
            rows.append({
                "item": start + place, "scene": item.scene, "gas": gas,
                "average_precision": average_precision(heat, mask),
                "point_accuracy": float(points_on([peak(heat, item.image.shape[:2])], [mask])[0]),
                "tokens": len(group[0].attrs.get("intervention", {}).get("keys", ())),
            })  # fmt: skip
    return pd.DataFrame(rows)


def handling_summary(handling: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """What the pipeline gains or loses by handling sinks, paired over scenes.

    Args:
        handling: rows of :func:`handled`, of the same items under every ``gas``, "none" among them.
        confidence: of the intervals.
        seed: of bootstrap and sign flips.

    Returns:
        A row a (gas, measure): ``value`` (mean over scenes), ``change`` from "none" with ``change_low``,
        ``change_high``, ``p`` (two-sided; NaN for "none" itself); ``handled`` (share of scenes in which there was a
        sink to act on), ``scenes``.
    """
    rows = []
    wide = handling.pivot(index="item", columns="gas")
    for gas in dict.fromkeys(handling["gas"]):
        for measure in ("average_precision", "point_accuracy"):
            change = (wide[measure][gas] - wide[measure]["none"]).to_numpy(dtype=np.float64)[:, None]
            low, high = bootstrap_interval(change, confidence=confidence, seed=seed)
            p = np.nan if gas == "none" else two_sided_p(change, flips=20_000, seed=seed)[0]
            rows.append({"gas": gas, "measure": measure, "value": wide[measure][gas].mean(),
                         "change": float(change.mean()), "change_low": low[0], "change_high": high[0], "p": p,
                         "handled": float((wide["tokens"][gas] > 0).mean()), "scenes": len(change)})  # fmt: skip
    table = pd.DataFrame(rows)
    table.attrs["confidence"] = confidence
    return table


def repeat(result: Result, model: DiffusionModel, *, first: int, number: int) -> pd.DataFrame:
    """Measure some of the scenes again, as the result's configuration says; pictures are not drawn.

    Args:
        result: from :func:`run`.
        model: the one that it was made with.
        first: number of the first scene.
        number: of scenes.

    Returns:
        Rows as in ``result["changes"]``, of predictions and maps.
    """
    configuration = result.provenance.configuration
    names = {one.name for one in dataclasses.fields(CausalTest)}
    fields: dict[str, Any] = {name: value for name, value in configuration.items() if name in names}
    fields = {name: tuple(value) if isinstance(value, list) else value for name, value in fields.items()}
    test = CausalTest(**fields)
    settings = HeatmapSettings.from_dict(configuration["settings"])
    items = items_in(configuration, number, first=first)
    tables = [_read(model, test, settings, item, first + place).changes for place, item in enumerate(items)]
    return pd.concat(tables, ignore_index=True)[_CHANGES]


def _parts(
    run: str,
    subjects: Sequence[_Subject],
    measure: Callable[[_Subject, int], SceneChanges],
    batch_size: int,
    parts: Parts,
    *,
    progress: bool,
) -> Iterator[pd.DataFrame]:
    """Changes and sinks of all scenes, or of all captions, under one another, a part a batch."""
    with tqdm(total=len(subjects), desc=run, disable=not progress) as bar:
        for start in range(0, len(subjects), batch_size):
            batch = range(start, min(start + batch_size, len(subjects)))
            yield parts.keep(f"{run}-{start:06d}", partial(_measured, run, subjects, measure, batch, bar))
            bar.update(batch.stop - bar.n)  # where the part was there already


def _measured(
    run: str,
    subjects: Sequence[_Subject],
    measure: Callable[[_Subject, int], SceneChanges],
    batch: range,
    bar: tqdm,
) -> pd.DataFrame:
    tables = []
    for number in batch:
        found = measure(subjects[number], number)
        tables += [found.changes, found.sinks.assign(run=run)]
        bar.update()
    return pd.concat(tables, ignore_index=True)


def _read(
    model: DiffusionModel, test: CausalTest, settings: HeatmapSettings, item: GroundingItem, number: int
) -> SceneChanges:
    found = changes_of(
        model, item, settings, magnets=test.magnets, numbers=test.numbers, draws=test.draws, blocks=test.blocks,
        seed=test.seed + number * settings.seeds,
    )  # fmt: skip
    return _numbered(found, number, item.scene)


def _drawn(model: DiffusionModel, test: CausalTest, style: Style, caption: Caption, number: int) -> SceneChanges:
    def named_colour(picture: NDArray[np.uint8]) -> float:
        return judge_colour(picture, style=style).shares[caption.colour]

    found = picture_changes_of(
        model, caption.text, judges={"named_colour": named_colour},
        magnets=test.magnets, numbers=test.numbers, blocks=test.blocks, steps=test.steps, seed=test.seed + number,
    )  # fmt: skip
    return _numbered(found, number, caption.item)


def _numbered(found: SceneChanges, number: int, scene: int) -> SceneChanges:
    """With the columns that say which scene it is."""
    return SceneChanges(*(table.assign(item=number, scene=scene) for table in (found.changes, found.sinks)))


def _columns(wide: pd.DataFrame, order: Sequence[tuple[str, int, str]]) -> Floats:
    """(scene, row of the summary)."""
    return np.stack([wide[key].to_numpy(dtype=np.float64) for key in order], axis=1)
