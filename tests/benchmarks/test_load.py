"""The benchmark of load: slopes that are there are found, those that are not are not, and every item is sampled."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.load import STRETCHES, WARM_UP, evaluation, recordings, sampled, trend, trends


def test_a_line_has_its_slope_and_no_doubt() -> None:
    found = trend(3.0 + 0.002 * np.arange(400), every=5)
    assert found["per_thousand"] == pytest.approx(0.4)
    assert found["low"] == pytest.approx(found["high"])


def test_what_is_noise_has_an_interval_around_zero_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    found = [trend(rng.normal(size=1000)) for _ in range(200)]
    assert 0.9 < np.mean([one["low"] < 0 < one["high"] for one in found]) < 0.99


def test_what_is_near_in_time_does_not_count_twice() -> None:
    """Each value three times over is no more evidence than once."""
    values = np.random.default_rng(0).normal(size=400)
    once, thrice = trend(values, every=3), trend(np.repeat(values, 3))
    assert thrice["high"] - thrice["low"] == pytest.approx(once["high"] - once["low"])


def test_the_warm_up_does_not_count() -> None:
    values = np.concatenate([np.linspace(100, 0, 40), np.zeros(360)])
    assert trend(values)["per_thousand"] == 0.0 and 40 == WARM_UP * len(values)


def test_it_says_how_many_items_it_is_from() -> None:
    assert trend(np.arange(105.0), every=50)["counted"] == 50 * STRETCHES * (round(0.9 * 105) // STRETCHES)


def way(tasks: Any) -> Iterator[list[Any]]:
    for task in tasks:
        yield [task] * 3


def test_every_so_many_tasks_are_noted_with_their_expressions() -> None:
    kept: list[dict[str, float]] = []
    rows = list(sampled(way, 4, kept.append)(range(10)))  # type: ignore[arg-type]
    assert [row[0] for row in rows] == list(range(10))
    assert [(one["scenes"], one["expressions"]) for one in kept] == [(4, 12), (8, 24)]


def test_what_happens_between_two_tasks_counts() -> None:
    kept: list[dict[str, float]] = []
    for _ in sampled(way, 1, kept.append)(range(3)):  # type: ignore[arg-type]
        time.sleep(0.02)
    assert all(one["seconds"] >= 0.02 for one in kept)


def test_it_ends_when_it_should_after_a_whole_task() -> None:
    endless = sampled(way, 1, lambda _: None, until=time.monotonic() - 1)
    assert len(list(endless(itertools.count()))) == 1  # type: ignore[arg-type]


def test_loads_are_measured_and_told() -> None:
    recorded, evaluated = recordings(2), evaluation(4, 2)
    assert len(recorded) == 2 and evaluated["scenes"].tolist() == [2, 4]
    assert (recorded > 0).all(axis=None) and (evaluated > 0).all(axis=None)
    many = trends(pd.concat([recorded] * 20), pd.concat([evaluated] * 20), every=2)
    assert many["quantity"].tolist()[-1] == "ms of a processor a scene"
    assert many["counted"].tolist() == [20, 20, 40, 40, 40]
