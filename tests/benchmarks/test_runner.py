"""The benchmark of the runner compares like with like: the bare loop finds what the runner writes."""

from __future__ import annotations

from benchmarks.runner import bare_loop
from refam_analysis.evaluation.datasets import load_dataset
from refam_analysis.evaluation.runner import RunConfiguration, evaluate, load_models


def test_both_find_the_same_points_and_pixels(tmp_path) -> None:
    configuration = RunConfiguration("scenes", "test", limit=2, settings={"seeds": 1})
    loaded, dataset = load_models(configuration), load_dataset("scenes", "test", limit=2)
    table = evaluate(configuration, tmp_path, loaded=loaded).table
    found = bare_loop(configuration, dataset, loaded)
    assert [point for point, *_ in found] == list(zip(table["x"], table["y"], strict=True))
    assert [both for *_, both, _ in found] == table["intersection"].tolist()
    assert [either for *_, either in found] == table["union"].tolist()
