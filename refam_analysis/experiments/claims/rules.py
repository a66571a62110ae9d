"""What would support each claim of the paper: measures, margins and verdicts, fixed before anything was measured.

A claim is cut into criteria. A criterion is one number a scene, turned so that larger is what the claim says, and the
margin that its mean over scenes has to clear. Where the architecture alone, other words or other tokens could give the
same number, the criterion has a control, measured on the same scenes, which has to be exceeded too. Nothing here knows
how the numbers come about: that is in `measures`.

These rules were committed before the first run of the ledger. A change of one is a change of the question: it is
written in CHANGELOG.md, and the ledger is run again on scenes that were not used before.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import pandas as pd

from refam_analysis.analysis.statistics import benjamini_hochberg, bootstrap_interval, sign_flip_p

Verdict = Literal["supported", "not supported", "not testable here"]

LEAST_SCENES = 20
"""With fewer scenes a criterion is not tested: the bootstrap over scenes is too coarse to be believed."""

FALSE_DISCOVERY_RATE = 0.05
"""Of all criteria of the ledger together."""


@dataclass(frozen=True)
class Claim:
    """A claim of the paper.

    Attributes:
        name: C1 to C12.
        text: what is claimed, in one sentence.
        where: in the paper.
    """

    name: str
    text: str
    where: str


@dataclass(frozen=True)
class Criterion:
    """One number a scene that has to be large for a claim to hold.

    Attributes:
        name: of the column of scene values; begins with the claim's.
        measure: what is measured, in one sentence; larger is what the claim says.
        unit: of the value.
        margin: what the lower end of the interval has to exceed.
        control: what else is measured in the same way, and has to be exceeded; None where nothing could stand in.
    """

    name: str
    measure: str
    unit: str
    margin: float = 0.0
    control: str | None = None

    @property
    def claim(self) -> str:
        """The name of the claim that it belongs to."""
        return self.name.partition("_")[0].upper()


CLAIMS: Sequence[Claim] = (
    Claim("C1", "Sinks are absent in early blocks and appear consistently in deep ones.", "Fig. 1"),
    Claim("C2", "A sink has high, nearly uniform attention over all text and image tokens, given and drawn.", "Fig. 1"),
    Claim("C3", "A sink carries no information itself; suppressing it is safe.", "abstract"),
    Claim("C4", "Redirecting a sink that falls on a meaningful token onto auxiliary tokens helps.", "Fig. 1"),
    Claim("C5", "Stop words attract surplus attention; filtering them reduces background noise.", "abstract, Fig. 5"),
    Claim("C6", "Magnets split background activation into smaller clusters; content maps get sharper.", "Fig. 5"),
    Claim("C7", "Text-to-text attention is diffuse early and block-diagonal by phrases later.", "Fig. 3"),
    Claim("C8", "Text-to-image attention is spread in early blocks and sharp in late ones.", "Fig. 3"),
    Claim("C9", "Early blocks contain no specific information: their rows are nearly uniform.", "Fig. 4"),
    Claim("C10", "Magnets, noun phrase and spatial bias each raise the quality of the masks.", "ablation"),
    Claim("C11", "Where sinks emerge, semantic structure emerges.", "Fig. 1"),
    Claim("C12", "Noun-phrase and magnet filtering make the argmax more often right.", "ablation"),
)

_LOG, _SHARE = "log ratio", "share of log N"
_UNTRAINED = "the same transformer with random weights"
_RANDOM_TOKENS = "as many random tokens of the same kind"
_OTHER_WORDS = "as many random content words appended"

CRITERIA: Sequence[Criterion] = (
    Criterion("c1_rise", "log of the strongest sink's effect, last third of the blocks minus first third", _LOG,
         control=_UNTRAINED),
    Criterion("c1_early_absent", "log(2) minus the log of the strongest sink's effect, mean of the first third", _LOG),
    Criterion("c1_late_present", "log of the strongest sink's effect minus log(2), mean of the last third", _LOG),
    Criterion("c2_draws", "log of the weaker side's effect of the strongest key, last third, minus log(2)", _LOG),
    Criterion("c2_draws_evenly", "evenness of that key's column, weaker side, minus 0.5", "share of queries"),
    Criterion("c2_gives_evenly", "normalised entropy of that token's own row minus the mean over its side", _SHARE),
    Criterion("c3_prediction_score",
         "log of the change of the prediction by random tokens over that by the top sink, masked", _LOG,
         margin=-math.log(1.25)),
    Criterion("c3_prediction_value", "the same with values taken out instead of keys masked", _LOG,
         margin=-math.log(1.25)),
    Criterion("c3_point", "point accuracy with the top sink masked minus without", "share of scenes", margin=-0.05),
    Criterion("c4_maps", "average precision of the heatmap with a content word's sink redirected, minus without", "AP",
         control=_RANDOM_TOKENS),
    Criterion("c5_surplus", "log of a stop word token's mass from background patches over a content token's", _LOG),
    Criterion("c5_filtering", "average precision of the heatmap without the stop words minus with them", "AP"),
    Criterion("c6_clusters", "mean size of a cluster of background activation without magnets minus with them",
         "image tokens", control=_OTHER_WORDS),
    Criterion("c6_sharper", "average precision of the heatmap with magnets minus without", "AP", control=_OTHER_WORDS),
    Criterion("c7_late", "share of text attention within phrases minus that of random groupings, last third", "share"),
    Criterion("c7_rise", "the same, last third of the blocks minus first third", "share", control=_UNTRAINED),
    Criterion("c8_concentrates", "normalised spatial entropy of content words' maps, first third minus last third",
         _SHARE, control=_UNTRAINED),
    Criterion("c8_finds", "average precision of content words' text-to-image maps, last third minus first third", "AP",
         control=_UNTRAINED),
    Criterion("c9_early_even", "normalised row entropy, mean of the first third of the blocks, minus 0.95",
         _SHARE),
    Criterion("c9_falls", "normalised row entropy, first third of the blocks minus the rest", _SHARE,
         control=_UNTRAINED),
    Criterion("c10_magnets", "IoU of the mask with magnets minus without", "IoU"),
    Criterion("c10_noun_phrase", "IoU of the mask with the noun phrase alone minus the whole sentence", "IoU"),
    Criterion("c10_spatial_bias", "IoU of the mask with the spatial bias minus without", "IoU"),
    Criterion("c11_together", "rank correlation over blocks of sink strength and average precision of content maps",
         "Spearman's rho", control=_UNTRAINED),
    Criterion("c12_magnets", "point on the target: magnets appended and filtered, minus no magnets", "share of scenes"),
    Criterion("c12_noun_phrase", "point on the target: noun phrase alone, minus the whole sentence", "share of scenes"),
)  # fmt: skip


def judge(
    values: pd.DataFrame,
    *,
    criteria: Sequence[Criterion] = CRITERIA,
    untestable: Mapping[str, str] | None = None,
    confidence: float = 0.95,
    resamples: int = 2000,
    flips: int = 20_000,
    seed: int = 0,
) -> pd.DataFrame:
    """Every criterion's effect, evidence and verdict.

    A criterion is supported when the lower end of the interval of its mean exceeds the margin, the sign-flip p of
    exceeding it has q <= 0.05 over all criteria of the ledger, and, where there is a control, the interval of the
    paired difference to the control lies above zero.

    Args:
        values: a row a scene: a column a criterion, turned as the rules say, and ``<criterion>_control`` where the
            control was measured; NaN where a scene cannot say. A criterion without a column was not measured.
        criteria: the rules.
        untestable: criterion -> why it cannot be tested with this model.
        confidence: of the intervals.
        resamples: bootstrap draws over scenes.
        flips: random sign flips of scenes.
        seed: of draws and flips.

    Returns:
        A row a criterion: ``claim``, ``criterion``, ``measure``, ``unit``, ``effect``, ``low``, ``high``, ``deviation``
        (standard deviation over scenes), ``margin``, ``scenes``, ``p``, ``q``, ``control`` (what it is),
        ``control_effect``, ``difference``, ``difference_low``, ``difference_high``, ``verdict``, ``note``.

    Source: the percentile bootstrap and the sign-flip test of :mod:`refam_analysis.analysis.statistics`; Benjamini and
    Hochberg, 1995.
    """
    reasons = untestable or {}
    drawn: dict[str, Any] = {"confidence": confidence, "resamples": resamples, "seed": seed}
    rows = []
    for criterion in criteria:
        scenes = values[criterion.name].to_numpy(dtype=np.float64) if criterion.name in values else np.empty(0)
        row: dict[str, Any] = {
            "claim": criterion.claim,
            "criterion": criterion.name,
            "measure": criterion.measure,
            "unit": criterion.unit,
            "margin": criterion.margin,
            "scenes": int(np.isfinite(scenes).sum()),
            "control": criterion.control or "",
        }
        note = reasons.get(criterion.name, "")
        if not note and row["scenes"] < LEAST_SCENES:
            note = f"{row['scenes']} scenes can say; the rules ask for {LEAST_SCENES}"
        if not note and criterion.control and f"{criterion.name}_control" not in values:
            note = f"its control was not measured: {criterion.control}"
        if note:
            rows.append({**row, "note": note})
            continue
        row |= _interval("", scenes, **drawn)
        row["deviation"] = float(np.nanstd(scenes, ddof=1))
        row["p"] = float(sign_flip_p(scenes[:, None] - criterion.margin, flips=flips, seed=seed)[0])
        if criterion.control:
            beside = values[f"{criterion.name}_control"].to_numpy(dtype=np.float64)
            row["control_effect"] = float(np.nanmean(beside))
            row |= _interval("difference", scenes - beside, **drawn)
        rows.append({**row, "note": ""})
    table = pd.DataFrame(rows, columns=list(_COLUMNS))
    table["q"] = benjamini_hochberg(table["p"].to_numpy(dtype=np.float64))
    table["verdict"] = [_verdict(row) for row in table.to_dict("records")]
    table.attrs["confidence"] = confidence
    return table


_COLUMNS = (
    "claim", "criterion", "measure", "unit", "effect", "low", "high", "deviation", "margin", "scenes", "p", "q",
    "control", "control_effect", "difference", "difference_low", "difference_high", "verdict", "note",
)  # fmt: skip


def verdicts(table: pd.DataFrame, claims: Sequence[Claim] = CLAIMS) -> pd.DataFrame:
    """The verdict on every claim: supported when all its criteria are, not testable when none could be tested.

    Args:
        table: from :func:`judge`.
        claims: in the order of the result.

    Returns:
        A row a claim: ``claim``, ``text``, ``where``, ``verdict``, ``tested``, ``passed``, ``untested``.
    """
    rows = []
    for claim in claims:
        of = table[table["claim"] == claim.name]["verdict"]
        made, passed = int((of != "not testable here").sum()), int((of == "supported").sum())
        verdict: Verdict = "supported" if passed == made else "not supported"
        rows.append({"claim": claim.name, "text": claim.text, "where": claim.where,
                     "verdict": verdict if made else "not testable here", "tested": made, "passed": passed,
                     "untested": len(of) - made})  # fmt: skip
    return pd.DataFrame(rows)


def _interval(name: str, scenes: np.ndarray, **drawn: Any) -> dict[str, float]:
    """Mean over scenes and its interval."""
    low, high = bootstrap_interval(scenes[:, None], **drawn)
    prefix = f"{name}_" if name else ""
    return {name or "effect": float(np.nanmean(scenes)), f"{prefix}low": float(low[0]), f"{prefix}high": float(high[0])}


def _verdict(row: Mapping[str, object]) -> Verdict:
    if row["note"]:
        return "not testable here"
    number = {name: float(str(row[name])) for name in ("low", "margin", "q", "difference_low")}
    clears = number["low"] > number["margin"] and number["q"] <= FALSE_DISCOVERY_RATE
    beats = not row["control"] or number["difference_low"] > 0
    return "supported" if clears and beats else "not supported"
