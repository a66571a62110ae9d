"""What the ablation says: conditions with their intervals, switches paired over scenes, points that moved.

Every measure is a ratio of sums over scenes: mean IoU and point accuracy over the number of scenes, overall IoU over
the pixels of the unions. So all of them have the same bootstrap of scenes and the same test.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refam_analysis.analysis.statistics import (
    benjamini_hochberg,
    bootstrap_ratio_interval,
    bootstrap_ratios,
    percentile_interval,
    ratios_of,
    swap_p,
)
from refam_analysis.evaluation.metrics import ious_of
from refam_analysis.evaluation.published import MARK, published_rows
from refam_analysis.experiments.ablation_conditions import (
    EMBEDDED,
    FIELDS,
    PAPER_ROWS,
    PAPER_STEPS,
    SWITCHES,
    Condition,
    paper_name,
    segmenter_switch,
)
from refam_analysis.scenes import KINDS

MEASURES = ("mean_iou", "overall_iou", "point_accuracy")
ALL = "all"
"""Stands for every kind of expression, and for every scene."""

MOVED = 0.5
"""Pixels from which on a point counts as moved."""

Floats = NDArray[np.float64]
Fraction = tuple[Floats, Floats]
"""Numerators and denominators, each (scenes, columns)."""
Compared = tuple[Mapping[str, str], Sequence[tuple[Condition, Condition]], NDArray[np.bool_]]
"""Labels, pairs of conditions that are averaged, and the scenes that take part."""


def condition_table(
    scenes: pd.DataFrame, *, confidence: float = 0.95, resamples: int = 2000, seed: int = 0
) -> pd.DataFrame:
    """Every condition, over all scenes and by kind of expression.

    Args:
        scenes: rows of :func:`refam_analysis.experiments.ablation.measure`.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        seed: of the draws.

    Returns:
        A row a (sample, condition, kind): ``sample``, "all" or "with <segmenter>", the scenes that a second segmenter
        was given as well, on which both have rows; the fields of the condition; ``kind``, "all" or one of them; each
        measure with ``_low`` and ``_high``; ``scenes``.
    """
    cells = _Cells.of(scenes)
    parts = [
        _values(cells, ALL, [one for one in cells.conditions if one.segmenter == EMBEDDED], resamples, seed, confidence)
    ]
    for second in cells.others:
        both = cells.among(second)
        parts.append(_values(both, f"with {second}", both.conditions, resamples, seed, confidence))
    table = pd.concat(parts, ignore_index=True)
    table.attrs["confidence"] = confidence
    return table


def effect_table(
    scenes: pd.DataFrame,
    *,
    by_kind: bool = False,
    confidence: float = 0.95,
    resamples: int = 2000,
    flips: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """What every switch changes, paired over scenes.

    ``main`` averages over all conditions in which the other switches may stand (those of the control left out), each
    with and without this one; overall IoU then pools their pixels. ``simple`` has every other switch off, or as few on
    as this one needs: sinks are redirected where magnets are.

    Args:
        scenes: rows of :func:`refam_analysis.experiments.ablation.measure`.
        by_kind: a row for each kind of expression, instead of all together.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes, the same for both sides.
        flips: random exchanges of both sides, scene by scene.
        seed: of draws and exchanges.

    Returns:
        A row a (segmenter, switch, effect, kind, measure): ``segmenter``, "both" for the change from one to the other;
        ``switch``, ``effect`` ("main" or "simple"), ``kind``, ``measure``; ``without`` and ``with``; ``change`` with
        ``change_low`` and ``change_high``, ``p`` (two-sided, by exchanges), ``q`` (over all rows of the table);
        ``conditions``, how many pairs of them were averaged; ``scenes``.
    """
    cells = _Cells.of(scenes)
    kinds = [kind for kind in KINDS if kind in set(cells.kinds)] if by_kind else [ALL]
    compared = [
        ({**labels, "kind": kind}, pairs, cells.of_kind(kind)) for labels, pairs in _compared(cells) for kind in kinds
    ]
    return _tested(cells, compared, confidence, resamples, flips, seed)


def pair_table(
    scenes: pd.DataFrame,
    pairs: Mapping[str, tuple[Condition, Condition]],
    *,
    confidence: float = 0.95,
    resamples: int = 2000,
    flips: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Some conditions against others, paired over scenes.

    Args:
        scenes: rows of :func:`refam_analysis.experiments.ablation.measure`.
        pairs: name -> two conditions, of which the first is taken from the second.
        confidence, resamples, flips, seed: as for :func:`effect_table`.

    Returns:
        A row a (pair, measure): ``pair`` and the columns of :func:`effect_table` from ``measure`` on.
    """
    cells = _Cells.of(scenes)
    compared = [({"pair": name}, [pair], cells.of_kind(ALL)) for name, pair in pairs.items()]
    return _tested(cells, compared, confidence, resamples, flips, seed)


def beside_the_paper(conditions: pd.DataFrame) -> pd.DataFrame:
    """The paper's ablation, as published, beside the same conditions on the scenes.

    Args:
        conditions: from :func:`condition_table`.

    Returns:
        A row a condition of :data:`~refam_analysis.experiments.ablation_conditions.PAPER_ROWS`, by the names of its
        switches. Columns (origin, measure): ``published`` on Ref-DAVIS17, a video data set, with another model and
        another segmenter; and ``measured``, with intervals, as text.
    """
    theirs = published_rows("ref-davis17", "valid").query("note == 'ablation'")
    rows = {}
    for condition in PAPER_ROWS:
        name = paper_name(condition)
        values = theirs[theirs["method"].str.endswith(f"ablation: {name}")].set_index("metric")["value"]
        ours = conditions[(conditions["sample"] == ALL) & (conditions["kind"] == ALL)]
        for field, value in vars(condition).items():
            ours = ours[ours[field] == value]
        row = {(MARK, metric): f"{value:.3f}" for metric, value in values.items()}
        for measure in MEASURES:
            value, low, high = ours[[measure, f"{measure}_low", f"{measure}_high"]].iloc[0]
            row["measured", measure.replace("_iou", " IoU").replace("_", " ")] = (
                f"{value:.3f} ({low:.3f} to {high:.3f})"
            )
        rows[name] = row
    table = pd.DataFrame.from_dict(rows, orient="index")
    return table.set_axis(pd.MultiIndex.from_tuples(table.columns, names=["origin", "measure"]), axis=1)


def paper_steps(scenes: pd.DataFrame, **options: Any) -> pd.DataFrame:
    """Every step between two rows of the paper's table that turns one switch, or all three, as published and measured.

    Args:
        scenes: rows of :func:`refam_analysis.experiments.ablation.measure`.
        options: of :func:`pair_table`.

    Returns:
        A row a (pair, measure) of :func:`pair_table`, for mean IoU and point accuracy, with ``published``: the change
        of J&F, or of PA, in the paper.
    """
    theirs = published_rows("ref-davis17", "valid").query("note == 'ablation'").set_index(["method", "metric"])["value"]
    table = pair_table(scenes, PAPER_STEPS, **options)
    table = table[table["measure"] != "overall_iou"].reset_index(drop=True)
    changes = []
    for step, measure in zip(table["pair"], table["measure"], strict=True):
        metric = "PA" if measure == "point_accuracy" else "J&F"
        values = [theirs[f"RefAM + SAM 2, ablation: {paper_name(one)}", metric] for one in PAPER_STEPS[step]]
        changes.append(values[1] - values[0])
    return table.assign(published=changes)


def moved_points(scenes: pd.DataFrame) -> pd.DataFrame:
    """Where the points go when one switch is turned, from the plainest condition that has it.

    Args:
        scenes: rows of :func:`refam_analysis.experiments.ablation.measure`.

    Returns:
        A row a (switch, kind), without the switches that come after the point: ``moved``, the share of scenes whose
        point moves; ``gained``, the share where it comes onto the target, and ``lost``, where it leaves it; ``scenes``.
    """
    wide = {
        _condition(names): rows.set_index("item")
        for names, rows in scenes[scenes["segmenter"] == EMBEDDED].groupby(list(FIELDS), sort=False)
    }
    found = []
    for switch in SWITCHES:
        pairs = switch.pairs(wide) if "mask_choice" not in switch.on else []
        for one, other in pairs[:1]:
            both = wide[one].join(wide[other][["x", "y", "on_target"]].add_suffix("_with"), how="inner")
            step = np.hypot(both["x_with"] - both["x"], both["y_with"] - both["y"])
            both["moved"] = step > MOVED
            both["gained"] = both["on_target_with"] & ~both["on_target"]
            both["lost"] = both["on_target"] & ~both["on_target_with"]
            for kind in (ALL, *(kind for kind in KINDS if kind in set(both["kind"]))):
                some = both if kind == ALL else both[both["kind"] == kind]
                shares = some[["moved", "gained", "lost"]].astype(float).mean()
                found.append({"switch": switch.name, "kind": kind, **shares, "scenes": len(some)})
    return pd.DataFrame(found)


@dataclass(frozen=True)
class _Cells:
    """The scenes' values as arrays.

    Attributes:
        conditions: the columns.
        kinds: (scenes,), of their expressions.
        fractions: of each measure.
    """

    conditions: Sequence[Condition]
    kinds: NDArray[np.object_]
    fractions: dict[str, Fraction]

    @classmethod
    def of(cls, scenes: pd.DataFrame) -> _Cells:
        items, row = np.unique(scenes["item"].to_numpy(), return_inverse=True)
        labels = scenes.groupby(list(FIELDS), sort=False).ngroup().to_numpy()
        firsts = scenes.iloc[np.unique(labels, return_index=True)[1]]
        names = [_condition(values) for values in firsts[list(FIELDS)].itertuples(index=False)]
        kinds = np.empty(len(items), dtype=object)
        kinds[row] = scenes["kind"].to_numpy()

        def spread(values: NDArray[np.generic]) -> Floats:
            cells = np.zeros((len(items), len(names)))
            cells[row, labels] = values
            return cells

        intersection, union = (scenes[name].to_numpy(dtype=np.float64) for name in ("intersection", "union"))
        there = spread(np.ones(len(scenes)))
        ious = ious_of(intersection, union, empty="wrong")
        fractions = {
            "mean_iou": (spread(ious), there),
            "overall_iou": (spread(intersection), spread(union)),
            "point_accuracy": (spread(scenes["on_target"].to_numpy(dtype=np.float64)), there),
        }
        return cls(names, kinds, fractions)

    @cached_property
    def place(self) -> dict[Condition, int]:
        """The column of each condition."""
        return {one: column for column, one in enumerate(self.conditions)}

    @property
    def others(self) -> list[str]:
        """Segmenters beside the embedded one."""
        return [name for name in dict.fromkeys(one.segmenter for one in self.conditions) if name != EMBEDDED]

    def among(self, segmenter: str) -> _Cells:
        """The scenes that a segmenter was given, and its conditions beside the embedded segmenter's."""
        names = [one for one in self.conditions if one.segmenter in (EMBEDDED, segmenter)]
        columns = [self.place[one] for one in names]
        given = self.complete([one for one in names if one.segmenter == segmenter])
        fractions = {
            measure: (top[given][:, columns], below[given][:, columns])
            for measure, (top, below) in self.fractions.items()
        }
        return _Cells(names, self.kinds[given], fractions)

    def complete(self, conditions: Sequence[Condition]) -> NDArray[np.bool_]:
        """(scenes,): which have all of these conditions."""
        columns = [self.place[one] for one in conditions]
        return np.asarray((self.fractions["mean_iou"][1][:, columns] > 0).all(axis=1), dtype=bool)

    def of_kind(self, kind: str) -> NDArray[np.bool_]:
        """(scenes,): which have an expression of this kind."""
        return np.array([kind in (ALL, one) for one in self.kinds], dtype=bool)

    def pooled(self, measure: str, conditions: Sequence[Condition], taken: NDArray[np.bool_]) -> Fraction:
        """(scenes, 1) each: summed over conditions; zeros in the scenes that are not taken."""
        columns = [self.place[one] for one in conditions]
        top, below = (
            np.where(taken[:, None], part[:, columns].sum(axis=1, keepdims=True), 0.0)
            for part in self.fractions[measure]
        )
        return top, below


def _compared(cells: _Cells) -> Iterator[tuple[dict[str, str], list[tuple[Condition, Condition]]]]:
    """Labels and pairs of every effect."""
    groups = [(EMBEDDED, switch) for switch in SWITCHES]
    groups += [(second, switch) for second in cells.others for switch in SWITCHES]
    groups += [("both", segmenter_switch(second)) for second in cells.others]
    for segmenter, switch in groups:
        there = [one for one in cells.conditions if segmenter in (one.segmenter, "both")]
        pairs = switch.pairs(there)
        for effect, some in (("main", pairs), ("simple", pairs[:1])):
            if some:
                yield {"segmenter": segmenter, "switch": switch.name, "effect": effect}, some


def _tested(
    cells: _Cells, compared: Sequence[Compared], confidence: float, resamples: int, flips: int, seed: int
) -> pd.DataFrame:
    """Rows with values, change, interval and test, of every comparison and measure."""
    rows, before, after = [], [], []
    for labels, pairs, scenes in compared:
        sides = [[pair[side] for pair in pairs] for side in (0, 1)]
        taken = scenes & cells.complete([one for side in sides for one in side])
        for measure in MEASURES:
            rows.append({**labels, "measure": measure, "conditions": len(pairs), "scenes": int(taken.sum())})
            before.append(cells.pooled(measure, sides[0], taken))
            after.append(cells.pooled(measure, sides[1], taken))
    table, both = pd.DataFrame(rows), (_side_by_side(before), _side_by_side(after))
    without, with_switch = (ratios_of(top.sum(axis=0), below.sum(axis=0)) for top, below in both)
    table["without"], table["with"], table["change"] = without, with_switch, with_switch - without
    draws = [bootstrap_ratios(*side, resamples=resamples, seed=seed) for side in both]
    ends = percentile_interval(draws[1] - draws[0], confidence=confidence)
    enough = (table["scenes"] > 1).to_numpy()
    table["change_low"], table["change_high"] = (np.where(enough, end, np.nan) for end in ends)
    table["p"] = np.where(enough, swap_p(*both, flips=flips, seed=seed), np.nan)
    table["q"] = benjamini_hochberg(table["p"].to_numpy(dtype=np.float64))
    table.attrs["confidence"] = confidence
    return table


def _values(
    cells: _Cells, sample: str, conditions: Sequence[Condition], resamples: int, seed: int, confidence: float
) -> pd.DataFrame:
    """The rows of one sample."""
    columns = [cells.place[one] for one in conditions]
    parts = []
    for kind in (ALL, *(kind for kind in KINDS if kind in set(cells.kinds))):
        taken = cells.of_kind(kind)[:, None]
        table = pd.DataFrame([{"sample": sample, **vars(one), "kind": kind} for one in conditions])
        for measure in MEASURES:
            top, below = (np.where(taken, part[:, columns], 0.0) for part in cells.fractions[measure])
            ends = bootstrap_ratio_interval(top, below, confidence=confidence, resamples=resamples, seed=seed)
            table[measure] = ratios_of(top.sum(axis=0), below.sum(axis=0))
            table[f"{measure}_low"], table[f"{measure}_high"] = ends
        table["scenes"] = (taken & (cells.fractions["mean_iou"][1][:, columns] > 0)).sum(axis=0)
        parts.append(table)
    return pd.concat(parts, ignore_index=True)


def _side_by_side(parts: Sequence[Fraction]) -> Fraction:
    """Fractions of single columns as one of many: (scenes, columns) each."""
    tops, belows = zip(*parts, strict=True)
    return np.concatenate(tops, axis=1), np.concatenate(belows, axis=1)


def _condition(values: Iterable[Any]) -> Condition:
    """From the fields of a row: truth values come out of a table as numpy's."""
    return Condition(*(value.item() if isinstance(value, np.generic) else value for value in values))
