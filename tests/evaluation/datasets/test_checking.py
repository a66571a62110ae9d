"""``refam datasets``: what is there, what is missing, counts beside the published ones, and the exit status."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from references.small_datasets import make_davis, make_grefcoco, make_mevis, make_refcoco, make_youtube_vos
from typer.testing import CliRunner, Result

from refam_analysis.cli import app
from refam_analysis.evaluation.datasets.catalogue import BENCHMARKS, Count
from refam_analysis.evaluation.datasets.checking import SplitCheck, check_dataset
from refam_analysis.evaluation.datasets.problems import Problem, UnknownDatasetError


def refam(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["datasets", *(str(argument) for argument in arguments)])


def test_list_names_every_data_set_and_its_splits() -> None:
    result = refam("list")
    assert result.exit_code == 0
    for name, benchmark in BENCHMARKS.items():
        assert re.search(rf"^{re.escape(name)}: .*{benchmark.splits[-1]}$", result.output, re.MULTILINE)


def test_a_small_release_is_read_and_counted_beside_the_published_numbers(tmp_path: Path) -> None:
    make_refcoco(tmp_path)
    result = refam("check", "--name", "refcoco", "--root", tmp_path)
    assert result.exit_code == 1
    rows = {line.split()[0]: line for line in result.output.splitlines() if line.startswith(("val", "testA", "testB"))}
    assert re.search(r"2\s+1,500\s+7\s+10,834\s+there\s+other counts", rows["val"])
    assert re.search(r"1\s+750\s+1\s+5,657", rows["testA"])
    assert "Where to get it:" in result.output and "Yu et al." in result.output
    assert result.output.rstrip().endswith("Not complete.")


def test_a_whole_release_is_complete(tmp_path: Path) -> None:
    """Of gRefCOCO, whose makers publish no counts by split, a small one is whole."""
    make_grefcoco(tmp_path)
    result = refam("check", "--name", "grefcoco", "--root", tmp_path, "--split", "val", "--pixels")
    assert result.exit_code == 0, result.output
    assert re.search(r"^val\s+2\s+\?\s+6\s+\?\s+there\s+complete$", result.output, re.MULTILINE)
    assert result.output.rstrip().endswith("Complete.") and "Where to get it" not in result.output


def test_a_missing_release_says_which_files(tmp_path: Path) -> None:
    result = refam("check", "--name", "refcoco+", "--root", tmp_path)
    assert result.exit_code == 1
    assert re.search(r"refcoco\+/refs\(unc\)\.p: there is no such file", result.output)
    assert "refcoco+.zip" in result.output


def test_missing_pictures_are_counted_and_listed(tmp_path: Path) -> None:
    make_refcoco(tmp_path)
    for path in (tmp_path / "train2014").glob("*.jpg"):
        path.unlink()
    found = check_dataset("refcoco", tmp_path, splits=["val"])
    (split,) = found.splits
    assert (split.items, split.expressions, len(split.problems)) == (0, 0, 2)
    result = refam("check", "--name", "refcoco", "--root", tmp_path, "--split", "val", "--most", "1")
    assert "there is no such file" in result.output and "... and 1 more" in result.output


@pytest.mark.parametrize("pixels", [False, True], ids=["annotations", "pixels"])
def test_a_cut_picture_is_found_when_pixels_are_read(pixels: bool, tmp_path: Path) -> None:
    make_refcoco(tmp_path)
    path = tmp_path / "train2014" / "COCO_train2014_000000098304.jpg"
    path.write_bytes(path.read_bytes()[:-60])
    (split,) = check_dataset("refcoco", tmp_path, splits=["val"], pixels=pixels).splits
    assert [problem.item for problem in split.problems] == (["image 98304"] if pixels else [])


def test_a_cut_frame_and_a_cut_mask_are_found_when_pixels_are_read(tmp_path: Path) -> None:
    make_davis(tmp_path)
    for place in ("JPEGImages/dogs-scale/00001.jpg", "Annotations/blackswan/00002.png"):
        path = tmp_path / "valid" / place
        path.write_bytes(path.read_bytes()[:-40])
    (split,) = check_dataset("ref-davis17", tmp_path, splits=["valid"], pixels=True).splits
    assert {problem.item for problem in split.problems} == {
        "video dogs-scale, frame 00001", "video blackswan, frame 00002",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "make", "split"),
    [("mevis", make_mevis, "valid"), ("ref-youtube-vos", make_youtube_vos, "test")],
    ids=["mevis", "ref-youtube-vos"],
)
def test_truth_that_is_held_back_is_said(name: str, make: object, split: str, tmp_path: Path) -> None:
    make(tmp_path)  # type: ignore[operator]
    result = refam("check", "--name", name, "--root", tmp_path, "--split", split, "--pixels")
    assert re.search(rf"^{split} .*held back", result.output, re.MULTILINE)


def test_an_unknown_split_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(UnknownDatasetError, match="testC"):
        check_dataset("refcoco", tmp_path, splits=["testC"])


def test_an_unknown_name_is_one_sentence(tmp_path: Path) -> None:
    result = refam("check", "--name", "refcocoa", "--root", tmp_path)
    assert result.exit_code == 1 and "There is no data set 'refcocoa'" in result.stderr


@pytest.mark.parametrize(
    ("found", "complete"),
    [
        (SplitCheck("val", 2, 7, Count(2, (7,)), (), True), True),
        (SplitCheck("val", 2, 9, Count(2, (7, 9)), (), True), True),
        (SplitCheck("val", 2, 7, Count(), (), True), True),
        (SplitCheck("val", 1, 7, Count(2, (7,)), (), True), False),
        (SplitCheck("val", 2, 6, Count(2, (7,)), (), True), False),
        (SplitCheck("val", 2, 7, Count(2, (7,)), (Problem("a", "b", "c"),), True), False),
        (SplitCheck("val", 0, 0, Count(), (), True), False),
    ],
    ids=[
        "as published",
        "second version",
        "not published",
        "fewer pictures",
        "fewer sentences",
        "a problem",
        "nothing",
    ],
)
def test_complete_is_what_is_published_without_problems(found: SplitCheck, complete: bool) -> None:
    assert found.complete is complete


def test_problems_of_other_splits_do_not_count(tmp_path: Path) -> None:
    make_refcoco(tmp_path)
    (tmp_path / "train2014" / "COCO_train2014_000000000007.jpg").unlink()
    val, other = check_dataset("refcoco", tmp_path, splits=["val", "testA"]).splits
    assert val.problems == () and [problem.item for problem in other.problems] == ["image 7"]


def test_a_split_without_items_is_a_problem(tmp_path: Path) -> None:
    make_refcoco(tmp_path)
    (split,) = check_dataset("refcoco", tmp_path, splits=["testB"]).splits
    assert [(problem.item, problem.reason) for problem in split.problems] == [("split testB", "it has no items")]
