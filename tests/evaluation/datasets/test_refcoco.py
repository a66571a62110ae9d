"""RefCOCO and its relatives: small releases in the original formats are read whole; what is broken is named."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import fsspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.small_datasets import (
    CATEGORIES,
    LARGE,
    PERSON,
    Made,
    annotation,
    box_mask,
    image_entry,
    make_grefcoco,
    make_refcoco,
    polygon,
    reference,
    write_refcoco,
)

from refam_analysis.evaluation.datasets import DatasetError, ReferringDataset, decode_mask, load_dataset


@pytest.fixture(scope="module")
def refcoco(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_refcoco(tmp_path_factory.mktemp("refcoco"))


@pytest.fixture(scope="module")
def grefcoco(tmp_path_factory: pytest.TempPathFactory) -> Made:
    return make_grefcoco(tmp_path_factory.mktemp("grefcoco"))


def expressions(dataset: ReferringDataset) -> dict[str, Any]:
    return {one.key: one for item in dataset for one in item.expressions}


def check_truth(dataset: ReferringDataset, made: Made, keys: set[str]) -> None:
    found = expressions(dataset)
    assert set(found) == keys
    for key, one in found.items():
        assert one.text == made.texts[key]
        if made.masks[key] is None:
            assert one.mask is None
        else:
            np.testing.assert_array_equal(decode_mask(one.mask), made.masks[key])


def test_every_sentence_has_its_text_and_its_mask(refcoco: Made) -> None:
    dataset = load_dataset("refcoco", "val", refcoco.root)
    check_truth(dataset, refcoco, set("1234567"))
    assert (len(dataset), dataset.expressions, dataset.video, dataset.has_truth) == (2, 7, False, True)
    assert dataset.problems == () and dataset.empty == "wrong"


def test_sentences_of_one_picture_are_together(refcoco: Made) -> None:
    dataset = load_dataset("refcoco", "val", refcoco.root)
    assert [item.key for item in dataset] == ["581857", "98304"]
    assert [one.key for one in dataset[0].expressions] == ["1", "2", "3", "5", "6", "7"]


def test_pictures_are_rgb_of_the_annotated_size(refcoco: Made) -> None:
    for item in load_dataset("refcoco", "val", refcoco.root):
        pixels = item.load()  # type: ignore[union-attr]
        assert pixels.shape == (*item.size, 3) and pixels.dtype == np.uint8


def test_another_split_is_another_set(refcoco: Made) -> None:
    check_truth(load_dataset("refcoco", "testA", refcoco.root), refcoco, {"8"})


def test_facts_are_those_of_picture_and_sentence(refcoco: Made) -> None:
    found = expressions(load_dataset("refcoco", "val", refcoco.root))
    assert found["1"].facts == {"words": 3, "place": 1, "category": "person", "distractors": 1, "crowd": 0,
                                "target_area": 10 * 22 / 1200}  # fmt: skip
    assert (found["1"].kind, found["7"].kind) == ("place", "no place")
    assert found["5"].facts["words"] == 4
    assert (found["7"].facts["category"], found["7"].facts["distractors"]) == ("dog", 0)
    # The crowd is one of three people, and does not count as a rival of the others.
    assert (found["6"].facts["crowd"], found["6"].facts["distractors"]) == (1, 2)


@pytest.mark.parametrize("protocol", [None, 0, 1, 2, 4], ids=lambda p: "Python 2" if p is None else f"protocol {p}")
def test_references_of_every_pickle_are_read(protocol: int | None, tmp_path: Path) -> None:
    made = make_refcoco(tmp_path, protocol=protocol)
    check_truth(load_dataset("refcoco", "val", tmp_path), made, set("1234567"))


@pytest.mark.parametrize(
    ("name", "options"),
    [
        ("refcoco+", {"folder": "refcoco+"}),
        ("refcocog-umd", {"folder": "refcocog", "name": "refs(umd).p"}),
        ("refcocog-google", {"folder": "refcocog", "name": "refs(google).p"}),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_relatives_are_read_from_their_files(name: str, options: dict[str, str], tmp_path: Path) -> None:
    made = make_refcoco(tmp_path, **options)
    check_truth(load_dataset(name, "val", tmp_path), made, set("1234567"))


@pytest.mark.parametrize("place", ["images/mscoco/images/train2014", "images/train2014", "train2014", "coco/train2014"])
def test_pictures_are_found_where_people_have_them(place: str, tmp_path: Path) -> None:
    made = make_refcoco(tmp_path, pictures=place)
    check_truth(load_dataset("refcoco", "val", tmp_path), made, set("1234567"))


def test_the_root_may_be_the_folder_of_the_annotations(refcoco: Made) -> None:
    check_truth(load_dataset("refcoco", "val", refcoco.folder), refcoco, set("1234567"))


def test_a_release_in_object_storage_is_read(refcoco: Made) -> None:
    system = fsspec.filesystem("memory")
    for path in refcoco.root.rglob("*"):
        if path.is_file():
            system.pipe(f"/bucket/{path.relative_to(refcoco.root)}", path.read_bytes())
    dataset = load_dataset("refcoco", "val", "memory://bucket")
    check_truth(dataset, refcoco, set("1234567"))
    local = load_dataset("refcoco", "val", refcoco.root)
    np.testing.assert_array_equal(dataset[0].load(), local[0].load())  # type: ignore[union-attr]


def test_a_limit_takes_the_first_pictures(refcoco: Made) -> None:
    dataset = load_dataset("refcoco", "val", refcoco.root, limit=1)
    assert [item.key for item in dataset] == ["581857"] and dataset.expressions == 6


def test_items_survive_pickling(refcoco: Made) -> None:
    dataset = load_dataset("refcoco", "val", refcoco.root)
    again = pickle.loads(pickle.dumps(dataset))
    assert again == dataset
    np.testing.assert_array_equal(again[0].load(), dataset[0].load())


# gRefCOCO


def test_expressions_of_several_targets_and_of_none(grefcoco: Made) -> None:
    dataset = load_dataset("grefcoco", "val", grefcoco.root)
    check_truth(dataset, grefcoco, set("123456"))
    assert dataset.empty == "right"


def test_kinds_say_how_many_targets_there_are(grefcoco: Made) -> None:
    found = expressions(load_dataset("grefcoco", "val", grefcoco.root))
    assert {key: one.kind for key, one in found.items()} == {
        "1": "one target", "2": "several targets", "3": "several targets", "4": "no target", "5": "one target",
        "6": "no target",
    }  # fmt: skip
    assert found["2"].facts["distractors"] == 0 and found["1"].facts["distractors"] == 1
    assert found["4"].facts == {"words": 2, "place": 0, "targets": 0}


def test_references_may_be_pickled_too(tmp_path: Path) -> None:
    made = make_grefcoco(tmp_path, name="grefs(unc).p")
    check_truth(load_dataset("grefcoco", "val", tmp_path), made, set("123456"))


# Any release

boxes = st.tuples(st.integers(0, 30), st.integers(0, 20), st.integers(1, 9), st.integers(1, 9)).map(
    lambda b: (b[0], b[1], b[0] + b[2], b[1] + b[3])
)
words = st.text("abcdefghij éß中", min_size=1, max_size=12).filter(str.strip)


@st.composite
def releases(draw: st.DrawFn) -> tuple[list[Any], dict[str, Any], dict[str, tuple[str, Any, int]]]:
    """References, instances, and by sentence of val: the text, the box, how many others are of the category."""
    images = draw(st.lists(st.integers(1, 10**6), min_size=1, max_size=3, unique=True))
    annotations, refs, truth = [], [], {}
    key = 0
    for image in images:
        placed = draw(st.lists(st.tuples(boxes, st.sampled_from([PERSON, 18])), min_size=1, max_size=4))
        for box, category in placed:
            number = len(annotations) + 1
            annotations.append(annotation(number, image, category, [polygon(box)]))
            texts = draw(st.lists(words, max_size=3))
            split = draw(st.sampled_from(["val", "testA"]))
            if texts:
                sentences = [(key + i, text) for i, text in enumerate(texts)]
                key += len(texts)
                refs.append(reference(number, number, image, split, sentences))
                others = sum(kind == category for _, kind in placed) - 1
                truth |= {str(k): (text, box, others) for k, text in sentences if split == "val"}
    instances = {"images": [image_entry(image, LARGE) for image in images], "annotations": annotations,
                 "categories": CATEGORIES}  # fmt: skip
    return draw(st.permutations(refs)), instances, truth


@given(releases())
@settings(max_examples=40)
def test_any_release_is_read_whole(tmp_path_factory: pytest.TempPathFactory, release: Any) -> None:
    refs, instances, truth = release
    root = tmp_path_factory.mktemp("any")
    write_refcoco(root, refs, instances)
    if not truth:
        with pytest.raises(DatasetError, match="no items"):
            load_dataset("refcoco", "val", root)
        return
    found = expressions(load_dataset("refcoco", "val", root))
    assert {key: (one.text, one.facts["distractors"]) for key, one in found.items()} == {
        key: (text, others) for key, (text, _, others) in truth.items()
    }
    for key, (_, box, _) in truth.items():
        np.testing.assert_array_equal(decode_mask(found[key].mask), box_mask(LARGE, box))
