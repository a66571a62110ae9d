"""The benchmark of workers: speed-ups are taken round by round, so that a slow minute does not count against either."""

from __future__ import annotations

import pandas as pd
import pytest

from benchmarks.scaling import ONE, TWO, _speedups


def test_speedup_is_the_median_of_the_rounds_ratios() -> None:
    seconds = {ONE: (10.0, 40.0, 9.0), TWO: (5.0, 25.0, 6.0)}
    rows = [
        {"name": name, "round": number, "seconds": value}
        for name, values in seconds.items()
        for number, value in enumerate(values)
    ]
    (row,) = _speedups(pd.DataFrame(rows)).to_dict("records")
    assert (row["name"], row["speedup"]) == (TWO, pytest.approx(1.6))
    assert row["speedup_low"] >= 1.5 - 1e-9 and row["speedup_high"] <= 2.0 + 1e-9
