"""``load_dataset`` itself: names, splits, scenes and moving scenes as data sets."""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from references.small_datasets import make_davis, make_refcoco

from refam_analysis.evaluation.datasets import (
    DatasetError,
    UnknownDatasetError,
    decode_mask,
    load_dataset,
)
from refam_analysis.evaluation.datasets.catalogue import BENCHMARKS
from refam_analysis.evaluation.datasets.facts import sentence_facts
from refam_analysis.scenes import Scenes
from refam_analysis.scenes.moving import MovingScenes


def test_scenes_are_those_of_the_split() -> None:
    dataset = load_dataset("scenes", "test", limit=3)
    assert (len(dataset), dataset.video, dataset.has_truth) == (3, False, True)
    for item, sample in zip(dataset, Scenes("test", length=3), strict=True):
        np.testing.assert_array_equal(item.load(), sample.image)  # type: ignore[union-attr]
        assert [one.text for one in item.expressions] == [one.text for one in sample.expressions]
        for one, expression in zip(item.expressions, sample.expressions, strict=True):
            np.testing.assert_array_equal(decode_mask(one.mask), sample.masks[expression.target])  # type: ignore[union-attr, arg-type]
            assert one.kind == expression.kind and one.facts["objects"] == len(sample.scene.objects)


def test_scenes_are_counted_without_drawing() -> None:
    dataset = load_dataset("scenes", "validation", limit=5)
    assert dataset.expressions == sum(len(item.expressions) for item in dataset)


def test_distractors_of_a_scene_share_the_targets_shape() -> None:
    dataset, samples = load_dataset("scenes", "test", limit=4), Scenes("test", length=4)
    for item, sample in zip(dataset, samples, strict=True):
        for one, expression in zip(item.expressions, sample.expressions, strict=True):
            target = sample.scene.objects[expression.target]
            others = [thing for i, thing in enumerate(sample.scene.objects) if i != expression.target]
            assert one.facts["distractors"] == sum(thing.shape == target.shape for thing in others)
            alike = sum(thing.shape == target.shape or thing.colour == target.colour for thing in others)
            assert one.facts["rivals"] == alike


def test_moving_scenes_are_those_of_the_split() -> None:
    dataset = load_dataset("moving-scenes", "test", limit=2)
    assert (len(dataset), dataset.video, dataset.expressions) == (2, True, 2)
    for clip, sample in zip(dataset, MovingScenes("test", length=2), strict=True):
        (one,) = clip.expressions
        assert one.text == sample.expression.text and one.facts["event"] == sample.event
        for i in (0, 7, len(clip) - 1):  # type: ignore[arg-type]
            np.testing.assert_array_equal(clip.load_frame(i), sample.frames[i])  # type: ignore[union-attr]
            np.testing.assert_array_equal(one.load_masks(i), sample.truth[i])  # type: ignore[union-attr]


@pytest.mark.parametrize("name", ["scenes", "moving-scenes"])
def test_drawn_items_survive_pickling(name: str) -> None:
    item = load_dataset(name, "test", limit=2)[1]
    again = pickle.loads(pickle.dumps(item))
    load = (lambda one: one.load_frame(3)) if name == "moving-scenes" else (lambda one: one.load())
    assert again.key == item.key
    np.testing.assert_array_equal(load(again), load(item))


def test_drawn_items_are_reached_from_the_end_and_not_beyond() -> None:
    dataset = load_dataset("scenes", "test", limit=2)
    assert dataset[-1].key == "scene-000001"
    with pytest.raises(IndexError):
        dataset[2]


def nothing(root: Path) -> None:
    """Drawn data sets need no files."""


@pytest.mark.parametrize(
    ("name", "split", "make"),
    [
        ("refcoco", "val", make_refcoco),
        ("ref-davis17", "valid", make_davis),
        ("scenes", "test", nothing),
        ("moving-scenes", "test", nothing),
    ],
    ids=["refcoco", "ref-davis17", "scenes", "moving-scenes"],
)
def test_keys_are_unique(name: str, split: str, make: Any, tmp_path: Path) -> None:
    make(tmp_path)
    dataset = load_dataset(name, split, tmp_path, limit=4)
    keys = [one.key for item in dataset for one in item.expressions]
    assert len(keys) == len(set(keys)) == dataset.expressions
    assert len({item.key for item in dataset}) == len(dataset)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("refcocoa", "val", "."), "There is no data set 'refcocoa': choose one of refcoco, "),
        (("refcoco", "test", "."), "There is no split of refcoco 'test': choose one of train, val, testA, testB"),
    ],
    ids=["name", "split"],
)
def test_an_unknown_name_is_answered_with_the_known_ones(arguments: tuple[str, str, str], message: str) -> None:
    with pytest.raises(UnknownDatasetError, match=message):
        load_dataset(*arguments)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "refcoco", "split": "val"}, "RefCOCO needs root="),
        ({"name": "scenes", "split": "test", "limit": 0}, "limit=0 leaves nothing to read"),
        ({"name": "scenes", "split": "test", "on_error": "ignore"}, "on_error='ignore' is unknown"),
    ],
    ids=["no root", "no items", "on_error"],
)
def test_a_wrong_call_says_what_to_give(options: dict[str, Any], message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load_dataset(**options)


@pytest.mark.parametrize(
    ("text", "words", "place"),
    [("left", 1, 1), ("the man's dog, asleep!", 4, 0), ("woman in the top right corner", 6, 1), ("café ☕ cup", 2, 0)],
    ids=["one word", "punctuation", "corner", "signs"],
)
def test_facts_of_a_sentence(text: str, words: int, place: int) -> None:
    assert sentence_facts(text) == {"words": words, "place": place}


def test_published_counts_are_consistent_with_the_papers_totals() -> None:
    """Sums over the splits, against totals that the papers give: written down apart from the table."""
    totals = {"refcoco": 142_209 + 1, "refcoco+": 141_564, "refcocog-umd": 95_010, "refcocog-google": 95_010}
    for name, total in totals.items():
        assert sum(count.expressions[0] for count in BENCHMARKS[name].published.values()) == total
    images = {"refcoco": 19_994, "refcoco+": 19_992, "refcocog-umd": 25_799}
    for name, total in images.items():
        assert sum(count.items or 0 for count in BENCHMARKS[name].published.values()) == total


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_says_where_it_is_and_who_counted(name: str) -> None:
    benchmark = BENCHMARKS[name]
    assert benchmark.get and benchmark.empty_source
    assert set(benchmark.published) <= set(benchmark.splits)
    assert benchmark.drawn or benchmark.counted_by
