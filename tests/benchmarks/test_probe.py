"""The benchmark of the probe: every change is made and answered, and those that should run no pass run none."""

from __future__ import annotations

from benchmarks.probe import GOALS, changes, speed
from refam_analysis.models import load_model
from refam_analysis.segmentation import load_segmenter


def test_every_change_is_timed_and_runs_passes_only_where_it_must() -> None:
    table = speed(load_model("embedded"), load_segmenter("embedded"), rounds=2)
    assert list(table["name"]) == list(changes())
    assert (table["rounds"] == 2).all() and (table["seconds"] <= table["slowest"]).all()
    assert ((table["passes"] > 0) == table["needs_passes"]).all()
    assert (table["goal"] == table["needs_passes"].map(GOALS)).all()
