"""Batches of rows: each is answered once, as ``segment`` answers it, whatever happens in between."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.segmentation import HeatmapSettings, segment
from refam_analysis.segmentation.batch import (
    LOG,
    MASKS,
    RESULTS,
    SKIPPED,
    BatchOptions,
    BatchReport,
    OtherBatchError,
    segment_rows,
)
from refam_analysis.segmentation.batch_table import BatchRow, BatchRowError, read_rows

SENTENCES = ("the red circle", "a ring on the left", "the small square")


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    folder, rng = tmp_path_factory.mktemp("pictures"), np.random.default_rng(1)
    paths = [folder / f"picture {number}.png" for number in range(2)]
    for path in paths:
        Image.fromarray(rng.integers(0, 256, (40, 50, 3), dtype=np.uint8)).save(path)
    return paths


@pytest.fixture
def options(tiny_sam: Path) -> BatchOptions:
    return BatchOptions(HeatmapSettings(spatial_bias=0.5), (".",), str(tiny_sam), seed=3)


@pytest.fixture
def rows(pictures: list[Path]) -> list[BatchRow]:
    """Two pictures in turn, one row twice, one with its own magnets."""
    asked = [(picture, sentence) for sentence in SENTENCES for picture in pictures]
    made = [BatchRow(number, picture, sentence) for number, (picture, sentence) in enumerate(asked, 1)]
    return [*made, BatchRow(7, pictures[0], SENTENCES[0]), BatchRow(8, pictures[0], SENTENCES[0], ("blue",))]


def log_of(folder: Path) -> list[str]:
    return (folder / LOG).read_text().splitlines()


def assert_answered(report: BatchReport, rows: list[BatchRow], folder: Path) -> None:
    """Every row once, in order, with its mask."""
    assert report.results["row"].tolist() == [row.row for row in rows]
    written = pd.read_csv(folder / RESULTS)
    assert written["expression"].tolist() == [row.expression for row in rows]
    assert {path.as_posix() for path in (folder / MASKS).iterdir()} == {
        (folder / mask).as_posix() for mask in report.results["mask"]
    }


def test_rows_are_answered_as_segment_answers_them(
    model: DiffusionModel, rows: list[BatchRow], options: BatchOptions, tmp_path: Path
) -> None:
    report = segment_rows(model, rows, tmp_path, options)
    assert_answered(report, rows, tmp_path)
    for row, found in zip(rows, report.results.to_dict("records"), strict=True):
        magnets = options.magnets if row.magnets is None else row.magnets
        alone = segment(
            model, row.image, row.expression, magnets=magnets, segmenter=options.segmenter,
            settings=options.settings, seed=3,
        )  # fmt: skip
        assert (found["x"], found["y"]) == alone.point and found["magnets"] == " ".join(magnets)
        with Image.open(tmp_path / found["mask"]) as mask:
            np.testing.assert_array_equal(np.asarray(mask), alone.mask)
        assert found["pixels"] == alone.mask.sum()
        assert found["score"] == pytest.approx(alone.stages["scores"].max(), abs=1e-5)


def test_equal_rows_are_computed_once(
    model: DiffusionModel, rows: list[BatchRow], options: BatchOptions, tmp_path: Path
) -> None:
    report = segment_rows(model, rows, tmp_path, options)
    assert len(log_of(tmp_path)) == 7
    assert report.results["mask"][0] == report.results["mask"][6] != report.results["mask"][7]


def test_a_second_call_computes_nothing_again(
    model: DiffusionModel, rows: list[BatchRow], options: BatchOptions, tmp_path: Path
) -> None:
    first = segment_rows(model, rows, tmp_path, options)
    times = {path: path.stat().st_mtime_ns for path in (tmp_path / MASKS).iterdir()}
    second = segment_rows(model, rows, tmp_path, options)
    pd.testing.assert_frame_equal(first.results, second.results)
    assert {path: path.stat().st_mtime_ns for path in times} == times and len(log_of(tmp_path)) == 7


@pytest.mark.parametrize("cut", [0, 1, 20], ids=["between lines", "at the end of a line", "within a line"])
def test_a_log_that_was_cut_goes_on_where_it_is_whole(
    model: DiffusionModel, rows: list[BatchRow], options: BatchOptions, tmp_path: Path, cut: int
) -> None:
    whole = segment_rows(model, rows, tmp_path, options)
    lines = (tmp_path / LOG).read_bytes().splitlines(keepends=True)
    kept = b"".join(lines[:4])
    (tmp_path / LOG).write_bytes(kept[: len(kept) - cut])
    again = segment_rows(model, rows, tmp_path, options)
    pd.testing.assert_frame_equal(whole.results, again.results)
    keys = [json.loads(line)["key"] for line in log_of(tmp_path)]
    assert len(set(keys)) == len(keys) == 7


def test_rows_may_be_added_and_moved(
    model: DiffusionModel, rows: list[BatchRow], options: BatchOptions, pictures: list[Path], tmp_path: Path
) -> None:
    segment_rows(model, rows, tmp_path, options)
    more = [BatchRow(1, pictures[1], "one"), *[BatchRow(row.row + 1, *list(vars(row).values())[1:]) for row in rows]]
    report = segment_rows(model, more, tmp_path, options)
    assert_answered(report, more, tmp_path)
    assert len(log_of(tmp_path)) == 8


def test_a_picture_that_changed_is_asked_anew(
    model: DiffusionModel, options: BatchOptions, pictures: list[Path], tmp_path: Path
) -> None:
    own = tmp_path / "own.png"
    shutil.copy(pictures[0], own)
    rows = [BatchRow(1, own, "the ring")]
    first = segment_rows(model, rows, tmp_path / "out", options)
    shutil.copy(pictures[1], own)
    second = segment_rows(model, rows, tmp_path / "out", options)
    assert first.results["mask"][0] != second.results["mask"][0]


def test_other_options_do_not_mix_in_one_folder(
    model: DiffusionModel, rows: list[BatchRow], options: BatchOptions, tiny_sam: Path, tmp_path: Path
) -> None:
    segment_rows(model, rows[:1], tmp_path, options)
    others = BatchOptions(HeatmapSettings(), (".",), str(tiny_sam), seed=4)
    with pytest.raises(OtherBatchError, match="seed, settings"):
        segment_rows(model, rows, tmp_path, others)


@pytest.fixture
def with_bad(rows: list[BatchRow], pictures: list[Path], tmp_path: Path) -> list[BatchRow]:
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"no picture")
    bad = [
        BatchRow(9, pictures[0], "  "),
        BatchRow(10, pictures[0], "the"),
        BatchRow(11, tmp_path / "none.png", "the ring"),
        BatchRow(12, broken, "the ring"),
        BatchRow(13, pictures[0], "the red circle " * 9),
        BatchRow(14, tmp_path, "the ring"),
    ]
    return [bad[0], *rows, *bad[1:]]


def test_bad_rows_are_skipped_and_listed(
    model: DiffusionModel, with_bad: list[BatchRow], options: BatchOptions, tmp_path: Path
) -> None:
    report = segment_rows(model, with_bad, tmp_path / "out", options, on_error="skip")
    assert sorted(report.results["row"]) == list(range(1, 9))
    written = pd.read_csv(tmp_path / "out" / SKIPPED)
    assert written["row"].tolist() == [9, 10, 11, 12, 13, 14]
    reasons = ["empty", "stop words", "no such file", "no picture", "would be cut", "directory"]
    for reason, says in zip(written["reason"], reasons, strict=True):
        assert says in reason
    mended = [row for row in with_bad if row.row < 9]
    assert not len(segment_rows(model, mended, tmp_path / "out", options, on_error="skip").skipped)
    assert not (tmp_path / "out" / SKIPPED).exists()


def test_a_bad_row_stops_the_batch_before_anything_is_computed(
    model: DiffusionModel, with_bad: list[BatchRow], options: BatchOptions, tmp_path: Path
) -> None:
    with pytest.raises(BatchRowError, match="Row 9 .*empty.* 4 more rows") as raised:
        segment_rows(model, with_bad, tmp_path / "out", options)
    assert [one.row.row for one in raised.value.bad] == [9, 10, 11, 13, 14]
    assert not (tmp_path / "out" / LOG).exists()


def test_a_picture_that_turns_out_to_be_none_stops_the_batch_and_finished_rows_stay(
    model: DiffusionModel, with_bad: list[BatchRow], options: BatchOptions, tmp_path: Path
) -> None:
    good_but_one = [row for row in with_bad if row.row < 9 or row.row == 12]
    with pytest.raises(BatchRowError, match=r"Row 12 \('broken.png', 'the ring'\)"):
        segment_rows(model, good_but_one, tmp_path / "out", options)
    report = segment_rows(model, good_but_one, tmp_path / "out", options, on_error="skip")
    assert report.skipped["row"].tolist() == [12] and len(report.results) == 8


def test_redirecting_without_magnets_is_a_bad_row(
    model: DiffusionModel, pictures: list[Path], tiny_sam: Path, tmp_path: Path
) -> None:
    options = BatchOptions(HeatmapSettings(gas="redirect"), ("red",), str(tiny_sam))
    rows = [BatchRow(1, pictures[0], "the ring"), BatchRow(2, pictures[0], "the red ring")]
    report = segment_rows(model, rows, tmp_path, options, on_error="skip")
    assert report.results["row"].tolist() == [1] and "has none" in report.skipped["reason"][0]


RUN = """
import sys, time
from pathlib import Path
from refam_analysis.models import load_model
from refam_analysis.segmentation import HeatmapSettings
from refam_analysis.segmentation.batch import BatchOptions, segment_rows
from refam_analysis.segmentation.batch_table import read_rows
model, sam, table, out = sys.argv[1:]
options = BatchOptions(HeatmapSettings(), (), sam)
segment_rows(load_model(model), read_rows(table), out, options, batch_size=1)
"""


def test_a_killed_batch_goes_on_with_no_row_lost_or_doubled(
    model: DiffusionModel, pictures: list[Path], tiny_flux_folder: Path, tiny_sam: Path, tmp_path: Path
) -> None:
    table, out = tmp_path / "table.csv", tmp_path / "out"
    things = [f"{colour} {shape}" for colour in ("red", "blue") for shape in ("circle", "ring", "square")]
    lines = [f"{picture},{thing}" for picture in pictures for thing in things]
    table.write_text("image,expression\n" + "\n".join(lines) + "\n")
    command = [sys.executable, "-c", RUN, str(tiny_flux_folder), str(tiny_sam), str(table), str(out)]
    killed = subprocess.Popen(command)
    while killed.poll() is None and (not (out / LOG).exists() or len(log_of(out)) < 3):
        time.sleep(0.02)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    done = len(log_of(out))
    assert 3 <= done < len(lines) and not (out / RESULTS).exists()
    rows = read_rows(table)
    again = load_model(tiny_flux_folder)
    report = segment_rows(again, rows, out, BatchOptions(HeatmapSettings(), (), str(tiny_sam)), batch_size=1)
    assert_answered(report, rows, out)
    keys = [json.loads(line)["key"] for line in log_of(out)]
    assert len(keys) == len(set(keys)) == len(lines)
