"""The benchmark of the pipeline: every way is timed, stages sum to the whole, and nothing stays watched."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from PIL import Image

from benchmarks.pipeline import CALLS, LOADED, ONE, TOGETHER, Subject, speed, stages
from benchmarks.stages import STAGES, by_stage
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.segmentation import load_segmenter, pipeline, segment


@pytest.fixture(scope="module")
def model(tiny_flux_folder: Path) -> DiffusionModel:
    return load_model(tiny_flux_folder)


@pytest.fixture(scope="module")
def subject(model: DiffusionModel, tiny_sam: Path, tmp_path_factory: pytest.TempPathFactory) -> Subject:
    folder = tmp_path_factory.mktemp("benchmark")
    pictures = [folder / f"{number}.png" for number in range(3)]
    for number, path in enumerate(pictures):
        Image.new("RGB", (40, 32), (number, 50, 100)).save(path)
    return Subject(model, str(tiny_sam), (".",), pictures, ["the ring", "the red circle", "left"])


def test_every_way_is_timed_beside_the_shared_one(subject: Subject) -> None:
    table = speed(subject, rounds=2).set_index("name")
    assert set(table.index) == {ONE, CALLS, LOADED, TOGETHER}
    assert table.loc[TOGETHER, "ratio"] == 1.0 and (table["rounds"] == 2).all()
    assert (table["low"] <= table["seconds"]).all() and (table["seconds"] <= table["high"]).all()
    assert table.loc[ONE, "seconds_an_expression"] == table.loc[ONE, "seconds"]


def test_stages_are_told_in_order_for_one_and_for_several(subject: Subject) -> None:
    table = stages(subject, rounds=2)
    for name in (ONE, TOGETHER):
        rows = table[table["name"] == name]
        assert tuple(rows["stage"]) == STAGES
        assert rows["share"].sum() == pytest.approx(1.0)
        assert (rows["seconds"] > 0).all()


def test_stages_sum_to_the_whole(subject: Subject) -> None:
    segmenter = load_segmenter(subject.segmenter)
    start = time.perf_counter()
    with by_stage(subject.model, segmenter) as seconds:
        segment(subject.model, subject.pictures[0], "the ring", magnets=(), segmenter=segmenter)
    whole = time.perf_counter() - start
    assert sum(seconds.values()) == pytest.approx(whole, rel=0.05)


def test_nothing_stays_watched(subject: Subject, model: DiffusionModel) -> None:
    segmenter = load_segmenter(subject.segmenter)
    before = [dict(vars(owner)) for owner in (model, model.transformer, segmenter, pipeline)]
    with pytest.raises(RuntimeError, match="stop"), by_stage(model, segmenter):
        raise RuntimeError("stop")
    assert [dict(vars(owner)) for owner in (model, model.transformer, segmenter, pipeline)] == before
