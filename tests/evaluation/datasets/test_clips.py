"""Ref-DAVIS17, Ref-YouTube-VOS and MeViS: small releases in the original formats, whole and broken."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.small_datasets import (
    FRAME,
    YOUTUBE_FRAMES,
    Made,
    compressed,
    make_davis,
    make_davis_texts,
    make_mevis,
    make_youtube_vos,
    write_clip,
    write_json,
)

from refam_analysis.evaluation.datasets import ReferringClip, ReferringDataset, load_dataset

RELEASES: dict[str, tuple[Callable[[Path], Made], str, str]] = {
    "ref-davis17": (make_davis, "ref-davis17", "valid"),
    "ref-davis17 as downloaded": (make_davis_texts, "ref-davis17", "valid"),
    "ref-youtube-vos": (make_youtube_vos, "ref-youtube-vos", "train"),
    "mevis": (make_mevis, "mevis", "valid_u"),
}


@pytest.fixture(scope="module", params=RELEASES.values(), ids=RELEASES.keys())
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[Made, ReferringDataset]:
    make, name, split = request.param
    made = make(tmp_path_factory.mktemp("release"))
    return made, load_dataset(name, split, made.root)


@pytest.fixture(scope="module")
def davis(tmp_path_factory: pytest.TempPathFactory) -> ReferringDataset:
    return load_dataset("ref-davis17", "valid", make_davis(tmp_path_factory.mktemp("davis")).root)


def expressions(dataset: ReferringDataset) -> dict[str, Any]:
    return {one.key: one for item in dataset for one in item.expressions}


class TestRelease:
    def test_every_sentence_is_there_once(self, release: tuple[Made, ReferringDataset]) -> None:
        made, dataset = release
        assert {key: one.text for key, one in expressions(dataset).items()} == made.texts
        assert dataset.expressions == len(made.texts) and dataset.problems == ()
        assert dataset.video and dataset.has_truth and dataset.empty == "right"

    def test_every_frame_has_its_mask(self, release: tuple[Made, ReferringDataset]) -> None:
        made, dataset = release
        for key, one in expressions(dataset).items():
            known = [i for i, mask in enumerate(made.masks[key]) if mask is not None]
            assert one.annotated == tuple(known)
            for i, mask in enumerate(made.masks[key]):
                if mask is None:
                    assert one.load_masks(i) is None
                else:
                    np.testing.assert_array_equal(one.load_masks(i), mask)

    def test_frames_are_loaded_one_at_a_time(self, release: tuple[Made, ReferringDataset]) -> None:
        for clip in release[1]:
            assert isinstance(clip, ReferringClip)
            assert clip.size == FRAME and len(clip) == len(clip.frame_names) in (3, 4)
            frame = clip.load_frame(len(clip) - 1)
            assert frame.shape == (*FRAME, 3) and frame.dtype == np.uint8

    def test_items_survive_pickling(self, release: tuple[Made, ReferringDataset]) -> None:
        clip = release[1][0]
        again = pickle.loads(pickle.dumps(clip))
        assert again == clip
        np.testing.assert_array_equal(again.expressions[0].load_masks(0), clip.expressions[0].load_masks(0))  # type: ignore[union-attr]

    def test_target_area_is_the_share_in_the_first_frame(self, release: tuple[Made, ReferringDataset]) -> None:
        made, dataset = release
        for key, one in expressions(dataset).items():
            assert one.facts["target_area"] == pytest.approx(made.masks[key][0].mean())


def test_an_object_out_of_sight_has_an_empty_mask(davis: ReferringDataset) -> None:
    leash = expressions(davis)["dogs-scale/8"]
    assert leash.load_masks(0).any() and not leash.load_masks(1).any()


def test_both_layouts_of_davis_have_the_same_keys_and_sentences(tmp_path: Path, davis: ReferringDataset) -> None:
    downloaded = load_dataset("ref-davis17", "valid", make_davis_texts(tmp_path).root)
    assert {k: (e.text, e.kind, e.facts) for k, e in expressions(downloaded).items()} == {
        k: (e.text, e.kind, e.facts) for k, e in expressions(davis).items()
    }


def test_davis_knows_annotators_and_what_they_saw(davis: ReferringDataset) -> None:
    found = [expressions(davis)[f"dogs-scale/{number}"] for number in range(4, 8)]
    assert [(one.facts["annotator"], one.kind) for one in found] == [
        (1, "first frame"), (1, "full video"), (2, "first frame"), (2, "full video"),
    ]  # fmt: skip
    assert {one.facts["object"] for one in found} == {2}
    assert (found[0].facts["category"], found[0].facts["distractors"]) == ("dog", 1)


def test_texts_beside_davis_are_found_too(tmp_path: Path) -> None:
    made = make_davis_texts(tmp_path)
    assert load_dataset("ref-davis17", "valid", tmp_path / "DAVIS").expressions == len(made.texts)


def test_the_unsupervised_masks_do_where_there_are_no_others(tmp_path: Path) -> None:
    made = make_davis_texts(tmp_path)
    (tmp_path / "DAVIS/Annotations").rename(tmp_path / "DAVIS/Annotations_unsupervised")
    one = expressions(load_dataset("ref-davis17", "valid", tmp_path))["blackswan/0"]
    np.testing.assert_array_equal(one.load_masks(0), made.masks["blackswan/0"][0])


def test_valid_of_youtube_vos_is_without_the_test_videos_and_without_truth(tmp_path: Path) -> None:
    make_youtube_vos(tmp_path)
    for split, name in (("valid", "0062f687f1"), ("test", "00917dcfc4")):
        dataset = load_dataset("ref-youtube-vos", split, tmp_path)
        assert [clip.key for clip in dataset] == [name] and not dataset.has_truth
        (one,) = dataset[0].expressions
        assert one.annotated == () and one.load_masks(0) is None  # type: ignore[union-attr]


def test_categories_of_youtube_vos_give_distractors(tmp_path: Path) -> None:
    make_youtube_vos(tmp_path)
    found = expressions(load_dataset("ref-youtube-vos", "train", tmp_path))
    assert [found[f"0043f083b5/{n}"].facts["distractors"] for n in (0, 1)] == [1, 0]
    assert (found["0043f083b5/0"].kind, found["0043f083b5/1"].kind) == ("no place", "place")


def test_without_categories_there_are_no_distractors(tmp_path: Path) -> None:
    make_youtube_vos(tmp_path)
    (tmp_path / "train/meta.json").unlink()
    facts = expressions(load_dataset("ref-youtube-vos", "train", tmp_path))["0043f083b5/0"].facts
    assert "distractors" not in facts and "category" not in facts


def test_mevis_counts_targets(tmp_path: Path) -> None:
    make_mevis(tmp_path)
    found = expressions(load_dataset("mevis", "valid_u", tmp_path))
    assert [found[f"0ab4afe7fb46/{n}"].kind for n in range(4)] == [
        "one target", "several targets", "one target", "no target",
    ]  # fmt: skip


def test_valid_of_mevis_is_without_truth(tmp_path: Path) -> None:
    make_mevis(tmp_path)
    dataset = load_dataset("mevis", "valid", tmp_path)
    assert not dataset.has_truth and dataset.expressions == 1


def test_a_limit_takes_the_first_clips(tmp_path: Path) -> None:
    make_davis(tmp_path)
    assert [clip.key for clip in load_dataset("ref-davis17", "valid", tmp_path, limit=1)] == ["blackswan"]


# Any release

names = st.text("abcdef0123456789-", min_size=1, max_size=8).filter(lambda name: name.strip("-"))
words = st.text("abcdefghij éß中", min_size=1, max_size=12).filter(str.strip)


@st.composite
def releases(draw: st.DrawFn) -> dict[str, tuple[int, dict[str, tuple[str, list[int]]]]]:
    """By video: its number of objects; by expression: the text and the objects that it means."""
    found = {}
    for video in draw(st.lists(names, min_size=1, max_size=3, unique=True)):
        objects = draw(st.integers(1, 3))
        meant = st.lists(st.integers(1, objects), max_size=objects, unique=True)
        texts = draw(st.lists(st.tuples(words, meant), min_size=1, max_size=4))
        found[video] = objects, {str(number): sentence for number, sentence in enumerate(texts)}
    return found


@given(releases())
@settings(max_examples=20)
def test_any_release_of_mevis_is_read_whole(tmp_path_factory: pytest.TempPathFactory, release: Any) -> None:
    root = tmp_path_factory.mktemp("any")
    videos, masks, labels = {}, {}, {}
    for video, (objects, sentences) in release.items():
        labels[video] = write_clip(root / "valid_u/JPEGImages" / video, None, objects, YOUTUBE_FRAMES)
        for n in range(1, objects + 1):
            frames = [frame == n for frame in labels[video]]
            masks[f"{video}-{n}"] = [compressed(mask) if mask.any() else None for mask in frames]
        entries = {
            number: {"exp": text, "obj_id": meant, "anno_id": [f"{video}-{n}" for n in meant]}
            for number, (text, meant) in sentences.items()
        }
        videos[video] = {"frames": list(YOUTUBE_FRAMES), "expressions": entries}
    write_json(root / "valid_u/meta_expressions.json", {"videos": videos})
    write_json(root / "valid_u/mask_dict.json", masks)
    found = expressions(load_dataset("mevis", "valid_u", root))
    wanted = {f"{video}/{n}": (video, *one) for video, (_, texts) in release.items() for n, one in texts.items()}
    assert {key: one.text for key, one in found.items()} == {key: text for key, (_, text, _) in wanted.items()}
    for key, (video, _, meant) in wanted.items():
        for i in range(len(YOUTUBE_FRAMES)):
            np.testing.assert_array_equal(found[key].load_masks(i), np.isin(labels[video][i], meant))
