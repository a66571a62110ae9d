"""Which settings heatmaps are read with: the search on validation scenes, and what it writes into ``refam.json``.

Four stages, none of which sees a test scene. The grid: one noise level, every direction, normalisation, aggregation
and run of blocks. Its winner is refined: heads, added one by one; pairs of noise levels; several noise draws. Then the
switches of the method are thrown in every combination: what is done to sinks, noun phrase, spatial bias, upsampling,
informative blocks, each without and with magnets. The best few of all stages are compared on other validation scenes
than those that they were found on, and the winner there is chosen: the best of hundreds is flattered by the scenes that
it was the best on.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import pandas as pd

from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.evaluation.refinement import (
    add_heads,
    more_draws,
    passes,
    score_settings,
    settings_columns,
    switched,
)
from refam_analysis.evaluation.search import SearchSpace, choose_settings
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.experiments.styles import hard_items_for, model_option, style_option
from refam_analysis.files import written_whole
from refam_analysis.models import load_model
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import DEFAULT_MAGNETS
from refam_analysis.scenes import ExpressionKind
from refam_analysis.scenes.expressions import KINDS
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.settings import GAS, HeatmapSettings
from refam_analysis.weights import embedded_folder

NAME = "settings"
NOISE_LEVELS = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
MAGNETS: dict[str, tuple[str, ...]] = {"none": (), "default": DEFAULT_MAGNETS}
"""What the column ``magnets`` says -> what was appended."""


@dataclass(frozen=True)
class SettingsSearch:
    """What is searched.

    Attributes:
        items: validation items that candidates are found on; as many others decide between the finalists.
        seed: of the noise.
        noise_levels: of the grid.
        longest_run: of consecutive blocks, as in ``SearchSpace``.
        refined_levels: so many of the noise levels, the best of the grid, are combined and drawn again.
        seeds: numbers of noise draws to try.
        heads: at most so many are read together.
        kinds: of expressions, in equal shares, on which switches and finalists are compared. The stages before have
            attributes and locations, which the attention alone can tell.
        strengths: of the spatial bias, beside none.
        finalists: of each stage.
        batch_size: items a forward pass.
        style: of the scenes; None for those that the model knows.
    """

    items: int = 300
    seed: int = 0
    noise_levels: tuple[float, ...] = NOISE_LEVELS
    longest_run: int | None = None
    refined_levels: int = 3
    seeds: tuple[int, ...] = (1, 2, 4)
    heads: int = 6
    kinds: tuple[ExpressionKind, ...] = KINDS
    strengths: tuple[float, ...] = (0.25, 0.5, 0.75, 1.0)
    finalists: int = 2
    batch_size: int = 32
    style: Style | None = None

    @property
    def command(self) -> str:
        """Makes the result again."""
        return f"refam experiment {NAME} --items {self.items} --seed {self.seed}{style_option(self.style)}"


def run(
    search: SettingsSearch | None = None, *, folder: Path | None = None, results: Path = RESULTS, progress: bool = False
) -> Result:
    """Search, write the table, and write the winner into the model's ``refam.json``.

    Args:
        search: None for the one that is reported.
        folder: of the model; None for the embedded one.
        results: the folder of all results.
        progress: show bars.

    Returns:
        The table ``candidates``, a row a setting and ``stage`` (``grid``, ``heads``, ``draws``, ``switches``), and
        ``finalists``: ``target`` and ``likelier_distractor``, shares of points on the first and on the second items,
        ``margin``, the difference that decides, ``magnets`` ("none" or "default"), and the settings. The first finalist
        is the chosen one. Magnets are no setting of a heatmap, so they are reported and not written; settings that
        cannot do without them ("redirect") are candidates, but no finalists.
    """
    search, folder = search or SettingsSearch(), folder or embedded_folder("embedded-dit")
    watch, weights = Stopwatch(), weights_sha256(folder)
    model = load_model(folder)
    style = search.style or model.scene_style
    about = {**dataclasses.asdict(search), "style": style}
    parts = Parts(results.parent / ".cache", NAME, {**about, **weights})
    stages = _Stages(model, search, style, parts, progress)
    candidates = stages.candidates()
    finalists = stages.finalists(candidates)
    chosen = _first(finalists, 1)[0]
    _write_grounding(folder, chosen)
    found = {"chosen": chosen.to_dict(), "chosen_magnets": finalists["magnets"].iloc[0]}
    configuration = {**about, **found}
    result = write_result(
        NAME,
        {"candidates": candidates, "finalists": finalists},
        watch.provenance(search.command + model_option(folder), configuration, weights),
        results=results,
    )
    parts.forget()
    return result


@dataclass(frozen=True)
class _Stages:
    model: DiffusionModel
    search: SettingsSearch
    style: Style
    parts: Parts
    progress: bool

    def candidates(self) -> pd.DataFrame:
        """Everything that was tried on the first items, stage after stage."""
        search = self.search
        items = self._items()
        grid = self._grid(items)
        (base,) = _first(grid, 1)
        heads = self.parts.keep(
            "heads", lambda: add_heads(self.model, items, base, most=search.heads, **self._options())
        )
        (base,) = _first(pd.concat([grid, heads]), 1)
        varied = more_draws(base, _best_levels(grid, search.refined_levels), search.seeds)
        draws = self.parts.keep("draws", lambda: self._score(items, varied))
        (start,) = _first(pd.concat([grid, heads, draws]), 1)
        named = {"grid": grid, "heads": heads, "draws": draws}
        told = [part.assign(stage=stage, magnets="none") for stage, part in named.items()]
        return pd.concat([*told, self._switches(start).assign(stage="switches")], ignore_index=True)

    def finalists(self, candidates: pd.DataFrame) -> pd.DataFrame:
        """The best of each stage on the second items, best first; of equals the one with fewer forward passes."""
        able = candidates[candidates["gas"] != "redirect"]
        stages = [rows for _, rows in able.groupby("stage", sort=False)]
        items = self._items(kinds=self.search.kinds, skip=self.search.items)
        tables = []
        for magnets in MAGNETS:
            best = [one for rows in stages for one in _first(rows, self.search.finalists, magnets=magnets)]
            if best:
                part = partial(self._score, items, list(dict.fromkeys(best)), magnets=magnets)
                tables.append(self.parts.keep(f"finalists-{magnets}", part))
        table = pd.concat(tables, ignore_index=True)
        cost = [passes(HeatmapSettings.from_dict(json.loads(text))) for text in table["settings"]]
        order = ["margin", "passes"]
        return table.assign(passes=cost).sort_values(order, ascending=[False, True], kind="stable", ignore_index=True)

    def _items(self, **further: Any) -> list[GroundingItem]:
        return hard_items_for(self.model, "validation", self.search.items, style=self.style, **further)

    def _switches(self, start: HeatmapSettings) -> pd.DataFrame:
        """Every combination of switches, without and with magnets."""
        items = self._items(kinds=self.search.kinds)
        tables = []
        for magnets, gas in product(MAGNETS, GAS):
            if gas == "redirect" and not MAGNETS[magnets]:
                continue
            variants = switched(start, gas=gas, strengths=self.search.strengths)
            part = partial(self._score, items, variants, magnets=magnets)
            tables.append(self.parts.keep(f"switches-{magnets}-{gas}", part))
        return pd.concat(tables, ignore_index=True)

    def _grid(self, items: Sequence[GroundingItem]) -> pd.DataFrame:
        """Every combination at single noise levels, with the columns of the later stages."""
        search = self.search
        found = choose_settings(
            self.model,
            items,
            SearchSpace(noise_levels=search.noise_levels, longest_run=search.longest_run, head_counts=()),
            folder=self.parts.folder / "grid",
            batch_size=search.batch_size,
            seed=search.seed,
            progress=self.progress,
        )
        shares = found.table[["target", "likelier_distractor"]]
        shares = shares.assign(margin=shares["target"] - shares["likelier_distractor"])
        rows = [settings_columns(HeatmapSettings.from_dict(json.loads(text))) for text in found.table["settings"]]
        return shares.join(pd.DataFrame(rows))

    def _score(
        self, items: Sequence[GroundingItem], settings: Sequence[HeatmapSettings], *, magnets: str = "none"
    ) -> pd.DataFrame:
        table = score_settings(self.model, items, settings, magnets=MAGNETS[magnets], **self._options())
        return table.assign(magnets=magnets)

    def _options(self) -> dict[str, Any]:
        return {"batch_size": self.search.batch_size, "seed": self.search.seed, "progress": self.progress}


def _first(table: pd.DataFrame, number: int, *, magnets: str | None = None) -> list[HeatmapSettings]:
    """The rows of the largest margin, of equals the first; of those with these magnets alone, where they are told."""
    rows = table if magnets is None else table[table["magnets"] == magnets]
    best = rows.sort_values("margin", ascending=False, kind="stable")["settings"].head(number)
    return [HeatmapSettings.from_dict(json.loads(text)) for text in best]


def _best_levels(grid: pd.DataFrame, number: int) -> list[float]:
    """The noise levels whose best settings are best."""
    by_level = grid.groupby("noise_levels")["margin"].max().sort_values(ascending=False, kind="stable")
    return [json.loads(levels)[0] for levels in by_level.index[:number]]


def _write_grounding(folder: Path, settings: HeatmapSettings) -> None:
    path = folder / "refam.json"
    entries = json.loads(path.read_text(encoding="utf-8")) | {"grounding": settings.to_dict()}
    with written_whole(path) as place:
        place.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
