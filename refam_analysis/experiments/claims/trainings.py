"""What holds in every training: the ledgers of several models that differ in the seed of their training alone.

The interval of one ledger is about other scenes. Over trainings each model counts once, whatever its scenes say: with
three of them a t-interval has two degrees of freedom, and is wide because three are few.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
from scipy import stats

_ABOUT = ["claim", "criterion", "measure", "unit", "margin"]


def over_trainings(ledger: pd.DataFrame, *, confidence: float = 0.95) -> pd.DataFrame:
    """Every criterion over trainings: in how many it is supported, and its mean with an interval over trainings.

    Args:
        ledger: of :func:`refam_analysis.training.seeds.run`: the rows of
            :func:`~refam_analysis.experiments.claims.rules.judge` of every ``run``.
        confidence: of the intervals.

    Returns:
        A row a criterion, in the ledger's order: ``claim``, ``criterion``, ``measure``, ``unit``, ``margin``,
        ``trainings`` (in which it could be tested), ``supported`` (in how many), ``against`` (in how many the whole
        interval over scenes lies below the margin), ``mean`` with ``low`` and ``high`` (Student's t, NaN with fewer
        than two), ``between`` (standard deviation over trainings) and ``within`` (root mean square of the standard
        errors over scenes). Where ``between`` is much more than ``within``, an interval over scenes says little about
        another training.

    >>> row = {"claim": "C1", "criterion": "c1_rise", "measure": "rise", "unit": "log", "margin": 0.0, "scenes": 100}
    >>> effects = {"seed-0": 0.1, "seed-1": 0.3}
    >>> ledger = pd.DataFrame([
    ...     row | {"run": run, "effect": effect, "low": effect - 0.2, "high": effect + 0.2, "deviation": 1.0,
    ...            "verdict": "supported" if effect > 0.2 else "not supported"}
    ...     for run, effect in effects.items()])
    >>> over_trainings(ledger).loc[0, ["trainings", "supported", "mean", "between", "within"]].tolist()
    [2.0, 1.0, 0.2, 0.1414213562373095, 0.1]
    """
    rows = []
    for about, of in ledger.groupby(_ABOUT, sort=False, dropna=False):
        tested = of[of["verdict"] != "not testable here"]
        effects = tested["effect"].astype(float)
        mean = effects.mean()
        reach = stats.t.ppf((1 + confidence) / 2, len(effects) - 1) * effects.sem()
        rows.append(
            dict(zip(_ABOUT, about, strict=True))
            | {
                "trainings": len(tested),
                "supported": int((tested["verdict"] == "supported").sum()),
                "against": int((tested["high"] < tested["margin"]).sum()),
                "mean": mean,
                "low": mean - reach,
                "high": mean + reach,
                "between": effects.std(),
                "within": np.sqrt((tested["deviation"] ** 2 / tested["scenes"]).mean()),
            }
        )
    return pd.DataFrame(rows)
