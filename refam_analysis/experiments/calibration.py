"""How far the detector of sinks can be trusted: its false alarms on attention without sinks, its power on planted ones.

The attention is made by hand (`planted`), so it is known what is there. Beside the detector stands the null model that
suggests itself and is not good enough: keys permuted within rows. No model runs here.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import norm
from statsmodels.stats.proportion import proportion_confint
from tqdm.auto import tqdm

from refam_analysis.analysis.key_effects import key_effects
from refam_analysis.analysis.positions import SIDES, side_indices
from refam_analysis.analysis.sinks import call_sinks
from refam_analysis.analysis.statistics import benjamini_hochberg, bootstrap_interval
from refam_analysis.experiments.planted import BLOCKS, PATTERNS, Planted, as_recordings, planted_attention
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, write_result
from refam_analysis.recording import Recording

Floats = NDArray[np.float64]

NAME = "calibration"
DETECTOR = "over scenes, against the bars"
NAIVE = "keys permuted within rows"

ROLES = {"special": "</s>", "padding": "padding 1", "image": "image 0,0"}
"""What a sink is planted on, in turn, by kind."""

LEVEL = 0.05
_NO_SINK = "none"


@dataclass(frozen=True)
class CalibrationTest:
    """What is simulated.

    Attributes:
        level_sets: data sets without sinks, of each pattern.
        power_sets: data sets with a planted sink, of each factor; its kind changes from one to the next.
        scenes: how many scenes of a data set the detectors are given.
        factors: how many times as much every query attends to a planted sink; 2 is the bar that a sink has to exceed.
        seed: of everything.
    """

    level_sets: int = 120
    power_sets: int = 90
    scenes: tuple[int, ...] = (5, 10, 20, 40)
    factors: tuple[float, ...] = (2.0, 3.0, 5.0, 10.0)
    seed: int = 0

    @property
    def command(self) -> str:
        """Makes the result again."""
        return (
            f"refam experiment {NAME} --level-sets {self.level_sets} --power-sets {self.power_sets} --seed {self.seed}"
        )


def run(test: CalibrationTest | None = None, *, results: Path = RESULTS, progress: bool = False) -> Result:
    """Simulate, detect, count, and write the result.

    Args:
        test: None for the one that is reported.
        results: the folder of all results.
        progress: show a bar over data sets.

    Returns:
        The tables ``level`` and ``power`` (see :func:`level_table` and :func:`power_table`), and ``datasets``, from
        which they are made (see :func:`examine`).
    """
    test, watch = test or CalibrationTest(), Stopwatch()
    parts = Parts(results.parent / ".cache", NAME, dataclasses.asdict(test))
    datasets = pd.concat(_examined(test, parts, progress=progress), ignore_index=True)
    tables = {"level": level_table(datasets), "power": power_table(datasets, seed=test.seed), "datasets": datasets}
    configuration = {
        **dataclasses.asdict(test),
        "patterns": {name: dataclasses.asdict(pattern) for name, pattern in PATTERNS.items()},
        "roles": ROLES,
        "level": LEVEL,
    }
    result = write_result(NAME, tables, watch.provenance(test.command, configuration, weights={}), results=results)
    parts.forget()
    return result


def repeat(result: Result, *, pattern: str, factor: float, first: int, number: int) -> pd.DataFrame:
    """Examine some of the data sets again, as the result's configuration says.

    Args:
        result: from :func:`run`.
        pattern: of the attention.
        factor: of the planted sink; 1 for none.
        first: number of the first data set.
        number: of data sets.

    Returns:
        Rows as in ``result["datasets"]``.
    """
    configuration = result.provenance.configuration
    datasets = range(first, first + number)
    return examine(pattern, factor, datasets, scenes=configuration["scenes"], seed=configuration["seed"])


def examine(
    pattern: str, factor: float, datasets: Sequence[int], *, scenes: Sequence[int], seed: int = 0
) -> pd.DataFrame:
    """Make data sets and give each to both detectors, a growing number of its scenes at a time.

    Args:
        pattern: a name of :data:`~refam_analysis.experiments.planted.PATTERNS`.
        factor: of the planted sink; 1 for none.
        datasets: their numbers, each of which decides on the kind of its sink, and with the seed on its random numbers.
        scenes: how many scenes of it.
        seed: of everything.

    Returns:
        A row a (data set, number of scenes, detector): ``pattern``, ``factor``, ``kind`` (of the planted key, or
        "none"), ``dataset``, ``scenes``, ``detector``, ``rows`` (tests that were made), ``called`` (sinks), ``false``
        (of them those that were not planted), ``found`` (whether the planted one is among them).
    """
    kinds = [_NO_SINK if factor == 1.0 else list(ROLES)[number % len(ROLES)] for number in datasets]
    sinks = [None if kind == _NO_SINK else Planted(ROLES[kind], factor) for kind in kinds]
    each = [
        planted_attention(PATTERNS[pattern], max(scenes), sink=sink, seed=[seed, number])
        for number, sink in zip(datasets, sinks, strict=True)
    ]
    # Nothing is shared between blocks until sinks are called, so the data sets stand in the same recordings as blocks
    # one after the other: labels are then read once for all of them.
    recordings = as_recordings(np.concatenate(each, axis=1))
    effects = [key_effects(recording) for recording in recordings]
    masses, variances = (np.stack(moments) for moments in zip(*map(masses_and_variances, recordings), strict=True))
    rows = []
    for place, (number, kind, sink) in enumerate(zip(datasets, kinds, sinks, strict=True)):
        blocks = slice(place * BLOCKS, (place + 1) * BLOCKS)
        own = [scene.at_blocks(blocks) for scene in effects]
        for count in scenes:
            named = {"pattern": pattern, "factor": factor, "kind": kind, "dataset": number, "scenes": count}
            ours = call_sinks(own[:count], false_discovery_rate=LEVEL, resamples=2, seed=seed)  # intervals are unused
            naive = permuted_within_rows(masses[:count, :, blocks], variances[:count, :, blocks])
            rows.append({**named, "detector": DETECTOR, **_counts(ours, sink, place * BLOCKS, "role")})
            rows.append({**named, "detector": NAIVE, **_counts(naive, sink, 0, "position")})
    return pd.DataFrame(rows)


def _counts(table: pd.DataFrame, sink: Planted | None, first_block: int, by: str) -> dict[str, Any]:
    """What was called, and whether it was planted."""
    planted = pd.Series(False, index=table.index)
    if sink is not None:
        planted = (table["block"] == first_block + sink.block) & (table[by] == getattr(sink, by))
    called = table["is_sink"]
    return {
        "rows": int(table["p"].notna().sum()),
        "called": int(called.sum()),
        "false": int((called & ~planted).sum()),
        "found": bool((called & planted).any()),
    }


def masses_and_variances(recording: Recording) -> tuple[Floats, Floats]:
    """What a key receives in one scene, and how much that would vary if the keys of every row changed places.

    Where the weights a_ik of row i are dealt out among the N_k keys at random, a key's share of row i has the mean
    1 / N_k and the variance v_i = mean_k (a_ik - 1 / N_k)^2. Over the independent rows of a side, N_q queries times
    N_h heads, the received mass therefore has the mean 1 and the variance N_k^2 sum_i v_i / (N_q N_h)^2.

    Args:
        recording: with ``full`` kept.

    Returns:
        Masses (side, block, key) and variances (side, block).
    """
    full = recording["full"]
    masses, variances = [], []
    for side in SIDES:
        rows = full.isel(step=0, branch=0, query=side_indices(full, "query", side)).values
        keys = rows.shape[-1]
        masses.append(rows.mean(axis=(1, 2)) * keys)
        variances.append(keys**2 * rows.var(axis=-1).sum(axis=(1, 2)) / (rows.shape[1] * rows.shape[2]) ** 2)
    return np.stack(masses), np.stack(variances)


def permuted_within_rows(masses: Floats, variances: Floats) -> pd.DataFrame:
    """The null model that suggests itself, as a baseline: whether a key draws more than if keys of rows changed places.

    It is not good enough, and nothing else of the library uses it. Rows are not independent of each other: whatever
    many queries have in common, an object that they look at or a mild preference for a key, is impossible under this
    null, and the more scenes there are, the surer it is to be called. The sum over so many rows is taken to be normal,
    with the moments of :func:`masses_and_variances`; both sides have to be significant, corrected over all blocks and
    keys.

    Args:
        masses: (scene, side, block, key).
        variances: (scene, side, block).

    Returns:
        A row a (block, key): ``block``, ``position``, ``p``, ``q``, ``is_sink``.
    """
    deviation = np.sqrt(variances.sum(axis=0)) / len(variances)
    p = norm.sf((masses.mean(axis=0) - 1.0) / deviation[..., None]).max(axis=0)
    blocks, keys = p.shape
    table = pd.DataFrame(
        {"block": np.repeat(range(blocks), keys), "position": np.tile(range(keys), blocks), "p": p.ravel()}
    )
    table["q"] = benjamini_hochberg(table["p"].to_numpy())
    table["is_sink"] = table["q"] <= LEVEL
    return table


def level_table(datasets: pd.DataFrame) -> pd.DataFrame:
    """How often something is called where there is nothing.

    Args:
        datasets: rows of :func:`examine`.

    Returns:
        A row a (pattern, detector, number of scenes): ``pattern``, ``detector``, ``scenes``; ``datasets``, ``alarms``
        (those in which anything was called); ``value``, ``low``, ``high`` (their share and its Clopper-Pearson
        interval; where nothing is to be found, every call is false, so this is the false discovery rate as well);
        ``called`` (per data set, mean), ``rows`` (tests that were made, mean).

    Source: Clopper and Pearson, The use of confidence or fiducial limits, 1934.
    """
    rows = []
    nothing = datasets[datasets["kind"] == _NO_SINK]
    for (pattern, detector, scenes), group in nothing.groupby(["pattern", "detector", "scenes"], sort=False):
        named = {"pattern": pattern, "detector": detector, "scenes": scenes, "datasets": len(group)}
        shares = _share("alarms", int((group["called"] > 0).sum()), len(group))
        rows.append({**named, **shares, "called": group["called"].mean(), "rows": group["rows"].mean()})
    return _table(rows)


def power_table(datasets: pd.DataFrame, *, resamples: int = 2000, seed: int = 0) -> pd.DataFrame:
    """How often a planted sink is found, and how much else is called with it.

    Args:
        datasets: rows of :func:`examine`.
        resamples: bootstrap draws over data sets.
        seed: of the draws.

    Returns:
        A row a (factor, kind, detector, number of scenes), with ``kind`` "all" for all kinds together: ``factor``,
        ``kind``, ``detector``, ``scenes``; ``datasets``, ``found`` (those in which the planted one was called);
        ``value``, ``low``, ``high`` (their share and its Clopper-Pearson interval); ``false_share``,
        ``false_share_low``, ``false_share_high`` (mean share of what was called that was not planted, 0 where nothing
        was, with its bootstrap interval over data sets).
    """
    rows = []
    planted = datasets[datasets["kind"] != _NO_SINK]
    both = pd.concat([planted.assign(kind="all"), planted])
    for (factor, kind, detector, scenes), group in both.groupby(["factor", "kind", "detector", "scenes"], sort=False):
        named = {"factor": factor, "kind": kind, "detector": detector, "scenes": scenes, "datasets": len(group)}
        false = (group["false"] / group["called"].clip(lower=1)).to_numpy(dtype=np.float64)
        (low,), (high,) = bootstrap_interval(false[:, None], resamples=resamples, seed=seed)
        shares = _share("found", int(group["found"].sum()), len(group))
        rows.append({**named, **shares, "false_share": false.mean(), "false_share_low": low, "false_share_high": high})
    return _table(rows)


def _share(name: str, count: int, of: int) -> dict[str, Any]:
    low, high = proportion_confint(count, of, alpha=0.05, method="beta")
    return {name: count, "value": count / of, "low": low, "high": high}


def _table(rows: Sequence[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows)
    table.attrs["confidence"] = 0.95
    return table


def _examined(test: CalibrationTest, parts: Parts, *, progress: bool) -> Iterator[pd.DataFrame]:
    """The data sets, some at a time: what is written goes on from there."""
    planned = [(pattern, 1.0, test.level_sets) for pattern in PATTERNS]
    planned += [(list(PATTERNS)[-1], factor, test.power_sets) for factor in test.factors]
    with tqdm(total=sum(number for _, _, number in planned), desc="data sets", disable=not progress) as bar:
        for pattern, factor, number in planned:
            for first in range(0, number, 10):
                datasets = range(first, min(first + 10, number))
                part = f"{pattern.replace(' ', '-')}-{factor:g}-{first:04d}"
                yield parts.keep(part, partial(examine, pattern, factor, datasets, scenes=test.scenes, seed=test.seed))
                bar.update(len(datasets))
