"""Which settings heatmaps are read with: the search on validation scenes, and what it writes into ``refam.json``.

Three stages, none of which sees a test scene. The grid: one noise level, every direction, normalisation, aggregation
and run of blocks. Its winner is refined: heads, added one by one; pairs of noise levels; several noise draws. The best
few of all stages are compared on other validation scenes than those that they were found on, and the winner there is
chosen: the best of hundreds is flattered by the scenes that it was the best on.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from refam_analysis.evaluation.items import GroundingItem, hard_items
from refam_analysis.evaluation.refinement import add_heads, more_draws, passes, score_settings, settings_columns
from refam_analysis.evaluation.search import SearchSpace, choose_settings
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.models import load_model
from refam_analysis.models.base import DiffusionModel
from refam_analysis.segmentation.settings import HeatmapSettings
from refam_analysis.weights import embedded_folder

NAME = "settings"
NOISE_LEVELS = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)


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
        finalists: of each stage.
        batch_size: items a forward pass.
    """

    items: int = 300
    seed: int = 0
    noise_levels: tuple[float, ...] = NOISE_LEVELS
    longest_run: int | None = None
    refined_levels: int = 3
    seeds: tuple[int, ...] = (1, 2, 4)
    heads: int = 6
    finalists: int = 2
    batch_size: int = 32

    @property
    def command(self) -> str:
        """Makes the result again."""
        return f"refam experiment {NAME} --items {self.items} --seed {self.seed}"


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
        The table ``candidates``, a row a setting and ``stage`` (``grid``, ``heads``, ``draws``), and ``finalists``:
        ``target`` and ``likelier_distractor``, shares of points on the first and on the second items, ``margin``, the
        difference that decides, and the settings. The first finalist is the chosen one.
    """
    search, folder = search or SettingsSearch(), folder or embedded_folder("embedded-dit")
    watch, weights = Stopwatch(), weights_sha256(folder)
    parts = Parts(results.parent / ".cache", NAME, {**dataclasses.asdict(search), **weights})
    stages = _Stages(load_model(folder), search, parts, progress)
    candidates = stages.candidates()
    finalists = stages.finalists(candidates)
    chosen = _first(finalists, 1)[0]
    _write_grounding(folder, chosen)
    configuration = {**dataclasses.asdict(search), "chosen": chosen.to_dict()}
    result = write_result(
        NAME,
        {"candidates": candidates, "finalists": finalists},
        watch.provenance(search.command, configuration, weights),
        results=results,
    )
    parts.forget()
    return result


@dataclass(frozen=True)
class _Stages:
    model: DiffusionModel
    search: SettingsSearch
    parts: Parts
    progress: bool

    def candidates(self) -> pd.DataFrame:
        """Everything that was tried on the first items, stage after stage."""
        search = self.search
        items = hard_items("validation", search.items)
        grid = self._grid(items)
        heads = self.parts.keep(
            "heads", lambda: add_heads(self.model, items, _first(grid, 1)[0], most=search.heads, **self._options())
        )
        (base,) = _first(pd.concat([grid, heads]), 1)
        varied = more_draws(base, _best_levels(grid, search.refined_levels), search.seeds)
        draws = self.parts.keep("draws", lambda: self._score(items, varied))
        named = {"grid": grid, "heads": heads, "draws": draws}
        return pd.concat([part.assign(stage=stage) for stage, part in named.items()], ignore_index=True)

    def finalists(self, candidates: pd.DataFrame) -> pd.DataFrame:
        """The best of each stage on the second items, best first; of equals the one with fewer forward passes."""
        stages = [rows for _, rows in candidates.groupby("stage", sort=False)]
        best = list(dict.fromkeys(one for rows in stages for one in _first(rows, self.search.finalists)))
        items = hard_items("validation", self.search.items, skip=self.search.items)
        table = self.parts.keep("finalists", lambda: self._score(items, sorted(best, key=passes)))
        return table.sort_values("margin", ascending=False, kind="stable", ignore_index=True)

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

    def _score(self, items: Sequence[GroundingItem], settings: Sequence[HeatmapSettings]) -> pd.DataFrame:
        return score_settings(self.model, items, settings, **self._options())

    def _options(self) -> dict[str, Any]:
        return {"batch_size": self.search.batch_size, "seed": self.search.seed, "progress": self.progress}


def _first(table: pd.DataFrame, number: int) -> list[HeatmapSettings]:
    """The rows of the largest margin, of equals the first."""
    best = table.sort_values("margin", ascending=False, kind="stable")["settings"].head(number)
    return [HeatmapSettings.from_dict(json.loads(text)) for text in best]


def _best_levels(grid: pd.DataFrame, number: int) -> list[float]:
    """The noise levels whose best settings are best."""
    by_level = grid.groupby("noise_levels")["margin"].max().sort_values(ascending=False, kind="stable")
    return [json.loads(levels)[0] for levels in by_level.index[:number]]


def _write_grounding(folder: Path, settings: HeatmapSettings) -> None:
    path = folder / "refam.json"
    entries = json.loads(path.read_text(encoding="utf-8")) | {"grounding": settings.to_dict()}
    partial = path.with_suffix(".partial")
    partial.write_text(json.dumps(entries, indent=2) + "\n", encoding="utf-8")
    partial.replace(path)
