"""Which settings ground best: a search over noise levels, blocks, heads, directions, normalisations, aggregations, GAS.

Meant for validation scenes; what it finds is reported on others, by :mod:`refam_analysis.evaluation.grounding`. Each
noise level is recorded once, and everything else is read from that recording. Finished noise levels are kept in a
folder, so that a search that was stopped goes on where it was.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm.auto import tqdm

from refam_analysis.errors import RefamError
from refam_analysis.evaluation.grounding import Hits, NoItemsError, hits
from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.files import kept_table, read_json, told_when_refused, write_json
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import make_prompt
from refam_analysis.recording import Recording
from refam_analysis.segmentation.pipeline import record_for_heatmaps
from refam_analysis.segmentation.points import sentence_points
from refam_analysis.segmentation.settings import (
    AGGREGATIONS,
    DIRECTIONS,
    NORMALISATIONS,
    Aggregation,
    Direction,
    Gas,
    HeatmapSettings,
    Normalisation,
)


class SearchFolderError(RefamError, ValueError):
    """A folder holds another search than the one that is to go on."""

    def __init__(self, folder: Path, entries: Sequence[str]) -> None:
        super().__init__(
            f"The folder {str(folder)!r} holds a search that differs in {', '.join(entries)}: give another "
            f"folder, or delete this one."
        )


@dataclass(frozen=True)
class SearchSpace:
    """What is tried, in every combination.

    Attributes:
        noise_levels: each on its own; a forward pass each.
        gas: what is done to sinks, each on its own; two forward passes more each, for "none" one.
        directions: of the attention.
        normalisations: of each block and head.
        aggregations: over words.
        longest_run: blocks are tried one by one, in runs of up to this many consecutive ones, and all together; None
            for runs of every length.
        head_counts: with the best of all these, the heads that ground best each by itself are averaged, so many of
            them; () leaves heads out.
        seeds: noise draws averaged over.
    """

    noise_levels: tuple[float, ...] = (0.2, 0.4, 0.5, 0.6, 0.7, 0.8)
    directions: tuple[Direction, ...] = DIRECTIONS
    normalisations: tuple[Normalisation, ...] = NORMALISATIONS
    aggregations: tuple[Aggregation, ...] = AGGREGATIONS
    longest_run: int | None = None
    head_counts: tuple[int, ...] = (1, 2, 4, 8)
    seeds: int = 1
    gas: tuple[Gas, ...] = ("none",)

    def block_choices(self, blocks: Sequence[int]) -> list[tuple[int, ...] | None]:
        """All blocks (None), then every run of consecutive blocks that is not all of them.

        >>> SearchSpace(longest_run=2).block_choices([0, 1, 2])
        [None, (0,), (1,), (2,), (0, 1), (1, 2)]
        """
        longest = min(self.longest_run or len(blocks), len(blocks) - 1)
        runs = [tuple(blocks[i : i + n]) for n in range(1, longest + 1) for i in range(len(blocks) - n + 1)]
        return [None, *runs]


@dataclass(frozen=True)
class SearchResult:
    """What a search found.

    Attributes:
        settings: the best: most points on their targets; of equals the one tried first.
        table: a row a combination, best first: the fields of the settings (``settings`` as JSON), ``target``, the
            share of points on the target, and ``likelier_distractor``.
    """

    settings: HeatmapSettings
    table: pd.DataFrame


def choose_settings(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    space: SearchSpace | None = None,
    *,
    magnets: Sequence[str] = (),
    folder: str | Path | None = None,
    batch_size: int = 16,
    seed: int = 0,
    progress: bool = False,
) -> SearchResult:
    """Find how heatmaps are best read from a model.

    Args:
        model: from ``load_model``.
        items: of the validation split, such as ``hard_items("validation", 300)``. The best of many is flattered by
            these items; report it on others.
        space: what to try; None for the default.
        magnets: appended to every expression.
        folder: keeps each finished noise level and way to handle sinks, and a second call with the same arguments goes
            on from there.
        batch_size: items a forward pass.
        seed: of the noise, as in :func:`~refam_analysis.evaluation.grounding.grounding_accuracy`.
        progress: show a bar.

    Returns:
        The best settings, with every candidate and its share of points on the target.

    Raises:
        NoItemsError: there is no item.
        NoMagnetsError: the space has "redirect", and there are no magnets.
        SearchFolderError: the folder holds another search.
    """
    if not items:
        raise NoItemsError
    space = space or SearchSpace()
    search = _Search(model, items, space, tuple(magnets), batch_size, seed, progress)
    store = _Store(None if folder is None else Path(folder), search.description())
    tables = [
        store.keep(_part(level, gas), partial(search.noise_level, level, gas))
        for gas, level in product(space.gas, space.noise_levels)
    ]
    if space.head_counts:
        best = _best(_ranked(tables))
        name = hashlib.sha256(json.dumps(best.to_dict()).encode()).hexdigest()[:8]
        tables.append(store.keep(f"heads-{name}", partial(search.heads, best)))
    table = _ranked(tables)
    return SearchResult(_best(table), table)


@dataclass(frozen=True)
class _Search:
    model: DiffusionModel
    items: Sequence[GroundingItem]
    space: SearchSpace
    magnets: tuple[str, ...]
    batch_size: int
    seed: int
    progress: bool

    def noise_level(self, noise_level: float, gas: Gas) -> pd.DataFrame:
        """Every combination at one noise level, with sinks handled in one way."""
        base = HeatmapSettings(noise_levels=(noise_level,), seeds=self.space.seeds, gas=gas)
        return self._score(base, partial(_combinations, self.space, base))

    def heads(self, best: HeatmapSettings) -> pd.DataFrame:
        """The best settings with single heads, then with the best heads together: two more passes."""
        base = dataclasses.replace(best, blocks=None, heads=None)
        single = self._score(base, partial(_single_heads, base))
        pairs = [pair for text in _ranked([single])["settings"] for pair in json.loads(text)["heads"]]
        groups = [pairs[:count] for count in self.space.head_counts if 1 < count <= len(pairs)]
        if not groups:
            return single
        together = self._score(base, lambda _: [dataclasses.replace(base, heads=tuple(group)) for group in groups])
        return pd.concat([single, together], ignore_index=True)

    def description(self) -> dict[str, Any]:
        """What a finished part depends on; the weights by their first numbers, for large models' sake."""
        pictures, weights = hashlib.sha256(), hashlib.sha256()
        for item in self.items:
            pictures.update(repr((item.expression, item.target, item.distractors)).encode())
            pictures.update(np.asarray(item.shown).tobytes())
        for name, tensor in self.model.transformer.state_dict().items():
            start = tensor.detach().flatten()[:64].float().cpu().numpy()
            weights.update(name.encode() + start.tobytes())
        by_part = ("noise_levels", "gas")
        space = {name: value for name, value in dataclasses.asdict(self.space).items() if name not in by_part}
        described = {
            "model": self.model.name,
            "weights": weights.hexdigest(),
            "items": pictures.hexdigest(),
            "magnets": self.magnets,
            "seed": self.seed,
            **space,
        }
        return dict(json.loads(json.dumps(described)))

    def _score(self, base: HeatmapSettings, choices: Callable[[Recording], list[HeatmapSettings]]) -> pd.DataFrame:
        """A row a setting. ``base`` says what to record; ``choices`` makes the settings when that is known."""
        tried: list[HeatmapSettings] = []
        found: list[Hits] = []
        starts = range(0, len(self.items), self.batch_size)
        for i in tqdm(starts, desc=f"noise level {base.noise_levels[0]:g}", disable=not self.progress):
            batch = self.items[i : i + self.batch_size]
            groups = record_for_heatmaps(
                self.model,
                [item.shown for item in batch],
                [make_prompt(item.expression, self.magnets) for item in batch],
                base,
                seeds=[self.seed + (i + k) * base.seeds for k in range(len(batch))],
                keep=self.space.directions,
            )
            tried = tried or choices(groups[0][0])
            points = sentence_points(groups, tried, [item.image.shape[:2] for item in batch])
            found.append(hits(batch, points, distractors=max(len(item.distractors) for item in self.items)).sum(axis=0))
        return _table(tried, np.sum(found, axis=0) / len(self.items))


@dataclass(frozen=True)
class _Store:
    """Finished parts of a search, in a folder or nowhere."""

    folder: Path | None
    description: dict[str, Any]

    def __post_init__(self) -> None:
        if self.folder is None:
            return
        about = self.folder / "search.json"
        if about.is_file():
            there = read_json(about)
            names = {*there, *self.description}
            if differing := sorted(name for name in names if there.get(name) != self.description.get(name)):
                raise SearchFolderError(self.folder, differing)
        with told_when_refused(self.folder):
            self.folder.mkdir(parents=True, exist_ok=True)
        write_json(about, self.description)

    def keep(self, name: str, make: Callable[[], pd.DataFrame]) -> pd.DataFrame:
        """The part with this name: read if it is finished and whole, otherwise made and written, all or nothing."""
        return make() if self.folder is None else kept_table(self.folder / f"{name}.parquet", make)


def _part(noise_level: float, gas: Gas) -> str:
    return f"noise-{noise_level:g}" + ("" if gas == "none" else f"-{gas}")


def _combinations(space: SearchSpace, base: HeatmapSettings, recording: Recording) -> list[HeatmapSettings]:
    recorded = recording[space.directions[0]]["block"].values
    blocks = space.block_choices([int(block) for block in recorded])
    return [
        dataclasses.replace(base, direction=d, normalisation=n, aggregation=a, blocks=b)
        for d, n, a, b in product(space.directions, space.normalisations, space.aggregations, blocks)
    ]


def _single_heads(base: HeatmapSettings, recording: Recording) -> list[HeatmapSettings]:
    attention = recording[base.direction]
    pairs = product(attention["block"].values, attention["head"].values)
    return [dataclasses.replace(base, heads=((int(block), int(head)),)) for block, head in pairs]


def _table(settings: Sequence[HeatmapSettings], shares: NDArray[np.float64]) -> pd.DataFrame:
    """A row a setting; ``shares`` is (setting, place)."""
    table = pd.DataFrame({"target": shares[:, 0], "likelier_distractor": shares[:, 1:-1].max(axis=1, initial=0.0)})
    table["noise_level"] = [one.noise_levels[0] for one in settings]
    for name in ("direction", "normalisation", "aggregation", "gas"):
        table[name] = [getattr(one, name) for one in settings]
    for name in ("blocks", "heads"):
        table[name] = ["all" if getattr(one, name) is None else json.dumps(getattr(one, name)) for one in settings]
    table["settings"] = [json.dumps(one.to_dict()) for one in settings]
    return table


def _ranked(tables: Sequence[pd.DataFrame]) -> pd.DataFrame:
    joined = pd.concat(tables, ignore_index=True)
    return joined.sort_values("target", ascending=False, kind="stable", ignore_index=True)


def _best(ranked: pd.DataFrame) -> HeatmapSettings:
    return HeatmapSettings.from_dict(json.loads(ranked["settings"].iloc[0]))
