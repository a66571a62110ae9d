"""RefCOCO releases in which something is broken: an error names file and item, or it is left out and listed."""

from __future__ import annotations

import json
import pickle
import re
from collections.abc import Callable
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.small_datasets import (
    Made,
    make_refcoco,
    refcoco_parts,
    write_json,
    write_refcoco,
)

from refam_analysis.evaluation.datasets import DatasetError, ReferringDataset, load_dataset
from refam_analysis.evaluation.datasets.pickles import ForbiddenPickleError
from refam_analysis.evaluation.datasets.problems import DatasetFileError, DatasetItemError


@pytest.fixture(scope="module")
def refcoco(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_refcoco(tmp_path_factory.mktemp("refcoco"))


def expressions(dataset: ReferringDataset) -> dict[str, Any]:
    return {one.key: one for item in dataset for one in item.expressions}


def changed(part: str, change: Callable[[Any], object]) -> Callable[[Path], Path]:
    """Writes a release after a change to its references or its instances."""

    def write(root: Path) -> Path:
        refs, instances, _ = deepcopy(refcoco_parts())
        change(refs if part == "refs" else instances)
        return write_refcoco(root, refs, instances)

    return write


def other_size(root: Path) -> Path:
    folder = make_refcoco(root).folder
    data = json.loads((folder / "instances.json").read_text())
    data["annotations"][3]["segmentation"]["size"] = [20, 60]
    write_json(folder / "instances.json", data)
    return folder


def without_picture(root: Path) -> Path:
    folder = make_refcoco(root).folder
    (root / "train2014" / "COCO_train2014_000000098304.jpg").unlink()
    return folder


BROKEN: dict[str, tuple[Callable[[Path], Path], str, set[str]]] = {
    "bad run lengths": (
        changed("instances", lambda data: data["annotations"][3]["segmentation"].update(counts="55")),
        r"instances\.json, annotation 14: the run lengths", set("123456")),
    "a mask of another size": (other_size, r"instances\.json, annotation 14: the mask is 20 x 60", set("123456")),
    "a polygon of two corners": (
        changed("instances", lambda data: data["annotations"][4].update(segmentation=[[0, 0, 1, 1]])),
        r"instances\.json, annotation 21: its segmentation has no polygon of three", set("123567")),
    "no segmentation": (
        changed("instances", lambda data: data["annotations"][4].pop("segmentation")),
        r"refs\(unc\)\.p, ref 2: it has no 'segmentation'", set("123567")),
    "an annotation that is not there": (
        changed("refs", lambda refs: refs[1].update(ann_id=999)),
        r"instances\.json, ref 2, annotation 999: it is not there", set("123567")),
    "an annotation of another picture": (
        changed("refs", lambda refs: refs[1].update(ann_id=11)),
        r"ref 2, annotation 11: it belongs to image 581857, not 98304", set("123567")),
    "a picture that no entry describes": (
        changed("instances", lambda data: data["images"].pop(1)),
        r"instances\.json, image 98304: a reference names it", set("123567")),
    "a picture that is not on the disk": (
        without_picture, r"COCO_train2014_000000098304\.jpg, image 98304: there is no such file", set("123567")),
    "a file name that leads elsewhere": (
        changed("instances", lambda data: data["images"][1].update(file_name="../train2014/secret.jpg")),
        r"image 98304: its file_name is '\.\./train2014/secret\.jpg'", set("123567")),
    "a size of text": (
        changed("instances", lambda data: data["images"][1].update(height="36")),
        r"image 98304: its height and width", set("123567")),
    "no sentences": (
        changed("refs", lambda refs: refs[1].update(sentences=[])), r"ref 2: it has no sentences", set("123567")),
    "a sentence without text": (
        changed("refs", lambda refs: refs[0]["sentences"][1].pop("sent")),
        r"ref 1, sentence 2: it has no 'sent'", set("134567")),
    "an empty sentence": (
        changed("refs", lambda refs: refs[0]["sentences"][1].update(sent=" ")),
        r"ref 1, sentence 2: The expression '' is empty", set("134567")),
    "a sentence that is there twice": (
        changed("refs", lambda refs: refs[2]["sentences"][0].update(sent_id=1)),
        r"ref 3, sentence 1: .*sentence 1 is there twice", set("123467")),
    "a reference without a split": (
        changed("refs", lambda refs: refs[1].pop("split")), r"reference number 1: it has no 'split'", set("123567")),
    "a reference that is none": (
        changed("refs", lambda refs: refs.insert(0, "text")), r"reference number 0: ", set("1234567")),
    "several annotations": (
        changed("refs", lambda refs: refs[1].update(ann_id=[21, 31])), r"ref 2: it has 2 annotations", set("123567")),
    "an image without number": (
        changed("instances", lambda data: data["images"][1].pop("id")), r"image number 1: it has no 'id'",
        set("123567")),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN.values(), ids=BROKEN.keys())
class TestBrokenItem:
    def test_is_an_error_that_names_file_and_item(self, case: Any, tmp_path: Path) -> None:
        write, message, _ = case
        write(tmp_path)
        with pytest.raises(DatasetItemError, match=message):
            load_dataset("refcoco", "val", tmp_path)

    def test_is_left_out_and_listed(self, case: Any, tmp_path: Path) -> None:
        write, message, rest = case
        write(tmp_path)
        dataset = load_dataset("refcoco", "val", tmp_path, on_error="skip")
        assert set(expressions(dataset)) == rest and dataset.expressions == len(rest)
        assert dataset.problems and any(re.search(message, str(problem)) for problem in dataset.problems)


@pytest.mark.parametrize("name", ["refs(unc).p", "instances.json", "train2014"])
def test_a_missing_file_is_an_error_in_either_case(name: str, tmp_path: Path) -> None:
    folder = make_refcoco(tmp_path).folder
    path = tmp_path / name if name == "train2014" else folder / name
    path.rename(path.with_name("elsewhere"))
    for on_error in ("raise", "skip"):
        with pytest.raises(DatasetFileError, match="there is no such file") as error:
            load_dataset("refcoco", "val", tmp_path, on_error=on_error)  # type: ignore[arg-type]
        assert name.split("(")[0] in error.value.problem.file


@pytest.mark.parametrize("name", ["refs(unc).p", "instances.json"])
@given(share=st.floats(0, 1, exclude_max=True))
@settings(max_examples=25)
def test_a_cut_file_is_named(name: str, share: float, tmp_path_factory: pytest.TempPathFactory) -> None:
    root = tmp_path_factory.mktemp("cut")
    refs, instances, _ = refcoco_parts()
    path = write_refcoco(root, refs, {**instances, "images": []}) / name
    (root / "train2014").mkdir()
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    with pytest.raises(DatasetFileError, match="cut") as error:
        load_dataset("refcoco", "val", root, on_error="skip")
    assert error.value.problem.file == str(path)


@pytest.mark.parametrize("content", ["[]", "{}", '{"images": [], "annotations": 3, "categories": []}', "null"])
def test_json_of_another_format_is_said_so(content: str, tmp_path: Path) -> None:
    folder = make_refcoco(tmp_path).folder
    (folder / "instances.json").write_text(content)
    with pytest.raises(DatasetFileError, match=r"instances\.json: it is not of COCO's format"):
        load_dataset("refcoco", "val", tmp_path)


def test_references_that_are_no_list_are_said_so(tmp_path: Path) -> None:
    refs, instances, _ = refcoco_parts()
    write_refcoco(tmp_path, {"refs": refs}, instances)
    with pytest.raises(DatasetFileError, match="holds a dict, not a list of references"):
        load_dataset("refcoco", "val", tmp_path)


def test_a_hostile_list_of_references_is_refused_in_either_case(tmp_path: Path) -> None:
    folder = make_refcoco(tmp_path).folder
    (folder / "refs(unc).p").write_bytes(b"(lp0\ncos\nmkdir\n(S'" + str(tmp_path / "ran").encode() + b"'\ntRa.")
    for on_error in ("raise", "skip"):
        with pytest.raises(ForbiddenPickleError, match=r"refs\(unc\)\.p"):
            load_dataset("refcoco", "val", tmp_path, on_error=on_error)  # type: ignore[arg-type]
    assert not (tmp_path / "ran").exists()


def test_a_split_without_items_is_an_error(refcoco: Made) -> None:
    with pytest.raises(DatasetError, match="split testB: it has no items"):
        load_dataset("refcoco", "testB", refcoco.root)


def test_a_cut_picture_is_found_when_it_is_read(tmp_path: Path) -> None:
    make_refcoco(tmp_path)
    path = tmp_path / "train2014" / "COCO_train2014_000000098304.jpg"
    path.write_bytes(path.read_bytes()[:-60])
    cat = load_dataset("refcoco", "val", tmp_path)[1]
    with pytest.raises(DatasetItemError, match=r"000000098304\.jpg, image 98304: its pixels are cut"):
        cat.load()  # type: ignore[union-attr]


junk = st.none() | st.integers(-5, 5) | st.text(max_size=4) | st.lists(st.integers(), max_size=2) | st.just({})
KEYS = ("ref_id", "ann_id", "image_id", "category_id", "split", "sentences", "sent_ids")


@given(number=st.integers(0, 5), key=st.sampled_from(KEYS), value=junk)
@settings(max_examples=120)
def test_whatever_is_in_a_reference_the_others_are_read(
    number: int, key: str, value: Any, tmp_path_factory: pytest.TempPathFactory, refcoco: Made
) -> None:
    refs, _, _ = deepcopy(refcoco_parts())
    touched = {str(sentence["sent_id"]) for sentence in refs[number]["sentences"]}
    refs[number][key] = value
    (refcoco.folder / "refs(unc).p").write_bytes(pickle.dumps(refs))
    try:
        dataset = load_dataset("refcoco", "val", refcoco.root, on_error="skip")
    finally:
        (refcoco.folder / "refs(unc).p").write_bytes(pickle.dumps(refcoco_parts()[0]))
    found = set(expressions(dataset))
    assert set("1234567") - touched <= found
    lost = (set("1234567") & touched) - found
    # A changed split only moves the reference; everything else that is lost is listed.
    assert not lost or dataset.problems or key == "split"
