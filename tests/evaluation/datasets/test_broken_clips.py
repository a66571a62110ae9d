"""Releases of clips in which something is broken: an error names file and item, or it is left out and listed."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from references.small_datasets import (
    FRAME,
    Made,
    box_mask,
    compressed,
    make_davis,
    make_davis_texts,
    make_mevis,
    make_youtube_vos,
    write_json,
    write_labels,
    write_picture,
)

from refam_analysis.evaluation.datasets import ReferringDataset, load_dataset
from refam_analysis.evaluation.datasets.problems import DatasetFileError, DatasetItemError


def expressions(dataset: ReferringDataset) -> dict[str, Any]:
    return {one.key: one for item in dataset for one in item.expressions}


def edit(path: Path, change: Callable[[Any], object]) -> None:
    data = json.loads(path.read_text())
    change(data)
    write_json(path, data)


def in_meta(change: Callable[[Any], object]) -> Callable[[Made], None]:
    """A change to the video dogs-scale of Ref-DAVIS17."""
    return lambda made: edit(made.folder / "meta_expressions.json", lambda data: change(data["videos"]["dogs-scale"]))


def cut(*place: str) -> Callable[[Made], None]:
    def do(made: Made) -> None:
        path = made.root.joinpath(*place)
        path.write_bytes(path.read_bytes()[:20])

    return do


def remove(*place: str) -> Callable[[Made], None]:
    return lambda made: made.root.joinpath(*place).unlink()


DOGS = {f"dogs-scale/{number}" for number in range(12)}
BROKEN_DAVIS: dict[str, tuple[Callable[[Made], None], str, set[str]]] = {
    "a missing frame": (
        remove("valid/JPEGImages/dogs-scale/00001.jpg"),
        r"JPEGImages/dogs-scale, video dogs-scale: 1 of 3 frames are missing, the first is 00001\.jpg", DOGS),
    "no masks": (
        lambda made: (made.root / "valid/Annotations/dogs-scale").rename(made.root / "elsewhere"),
        r"Annotations/dogs-scale, video dogs-scale: no frame has a mask file", DOGS),
    "a cut mask": (
        cut("valid/Annotations/dogs-scale/00000.png"), r"00000\.png, video dogs-scale, frame 00000: it is no", DOGS),
    "a mask of another size": (
        lambda made: write_labels(made.root / "valid/Annotations/dogs-scale/00000.png", np.zeros((9, 9), np.uint8)),
        r"00000\.png, video dogs-scale, frame 00000: it is 9 x 9 pixels", DOGS),
    "a mask in colour": (
        lambda made: write_picture(made.root / "valid/Annotations/dogs-scale/00000.png", FRAME),
        r"00000\.png, video dogs-scale, frame 00000: its mode is RGB", DOGS),
    "a first frame that is cut": (
        cut("valid/JPEGImages/dogs-scale/00000.jpg"), r"00000\.jpg, video dogs-scale, frame 00000: it is no", DOGS),
    "no frames": (in_meta(lambda video: video.pop("frames")), r"video dogs-scale: it has no 'frames'", DOGS),
    "frames out of order": (
        in_meta(lambda video: video["frames"].reverse()), r"video dogs-scale: .*not in order", DOGS),
    "a frame that leads elsewhere": (
        in_meta(lambda video: video.update(frames=["../blackswan/00000"])), r"video dogs-scale: .*list of names", DOGS),
    "no expressions": (
        in_meta(lambda video: video.update(expressions=None)), r"video dogs-scale: it is not of the format", DOGS),
    "a sentence without text": (
        in_meta(lambda video: video["expressions"]["5"].pop("exp")),
        r"video dogs-scale, expression 5: it has no 'exp'", {"dogs-scale/5"}),
    "an empty sentence": (
        in_meta(lambda video: video["expressions"]["5"].update(exp="")),
        r"video dogs-scale, expression 5: The expression '' is empty", {"dogs-scale/5"}),
    "a number for a text": (
        in_meta(lambda video: video["expressions"]["5"].update(exp=5)),
        r"video dogs-scale, expression 5: .*its text is no string", {"dogs-scale/5"}),
    "an object of no number": (
        in_meta(lambda video: video["expressions"]["5"].update(obj_id="dog")),
        r"video dogs-scale, expression 5: it is not of the format", {"dogs-scale/5"}),
    "the void as object": (
        in_meta(lambda video: video["expressions"]["5"].update(obj_id=255)),
        r"video dogs-scale, expression 5: .*its obj_id is 255", {"dogs-scale/5"}),
}  # fmt: skip


def check_broken(made: Made, name: str, split: str, message: str, lost: set[str]) -> None:
    """An error that names file and item; or left out, counted and listed, and all else as it was."""
    with pytest.raises(DatasetItemError, match=message):
        load_dataset(name, split, made.root)
    dataset = load_dataset(name, split, made.root, on_error="skip")
    assert set(expressions(dataset)) == set(made.texts) - lost
    assert dataset.expressions == len(made.texts) - len(lost)
    assert any(re.search(message, str(problem)) for problem in dataset.problems)


@pytest.mark.parametrize("case", BROKEN_DAVIS.values(), ids=BROKEN_DAVIS.keys())
def test_what_is_broken_in_davis_is_named_or_left_out(case: Any, tmp_path: Path) -> None:
    spoil, message, lost = case
    made = make_davis(tmp_path)
    spoil(made)
    check_broken(made, "ref-davis17", "valid", message, lost)


def in_text(old: str, new: str) -> Callable[[Made], None]:
    def do(made: Made) -> None:
        path = made.folder / "Davis17_annot1.txt"
        text = path.read_text(encoding="utf-8")
        assert old in text
        path.write_text(text.replace(old, new), encoding="utf-8")

    return do


BROKEN_TEXTS = {
    "a missing line": (
        in_text('dogs-scale 2 "the café dog on the left"\n', ""),
        r"Davis17_annot1\.txt, video dogs-scale, object 2: there is no line"),
    "no number": (in_text("dogs-scale 2", "dogs-scale two"), r"Davis17_annot1\.txt, line 2: .*'two' is no number"),
    "a line of one word": (
        in_text('dogs-scale 2 "the café dog on the left"', "dogs-scale"), r"Davis17_annot1\.txt, line 2: it is not"),
    "an object twice": (in_text("dogs-scale 2", "dogs-scale 3"), r"Davis17_annot1\.txt, line 2: .*is there twice"),
    "no text": (in_text('"the café dog on the left"', '""'), r"Davis17_annot1\.txt, video dogs-scale, object 2: The"),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_TEXTS.values(), ids=BROKEN_TEXTS.keys())
def test_what_is_broken_in_the_texts_of_davis_is_named_or_left_out(case: Any, tmp_path: Path) -> None:
    spoil, message = case
    made = make_davis_texts(tmp_path)
    spoil(made)
    check_broken(made, "ref-davis17", "valid", message, {"dogs-scale/4"})


def in_masks(change: Callable[[Any], object]) -> Callable[[Made], None]:
    return lambda made: edit(made.folder / "mask_dict.json", change)


BIRD = "0ab4afe7fb46"
BROKEN_MEVIS: dict[str, tuple[Callable[[Made], None], str, set[str]]] = {
    "bad run lengths": (
        in_masks(lambda data: data["103"][2].update(counts="55")),
        r"mask_dict\.json, video 0ab4afe7fb46, expression 1, annotation 103: the run lengths",
        {f"{BIRD}/1", f"{BIRD}/2"}),
    "a mask of another size": (
        in_masks(lambda data: data["103"].__setitem__(0, compressed(box_mask((9, 9), (1, 1, 4, 4))))),
        r"mask_dict\.json, video 0ab4afe7fb46, expression 1, frame 00000: the mask is \(9, 9\)",
        {f"{BIRD}/1", f"{BIRD}/2"}),
    "too few frames": (
        in_masks(lambda data: data["101"].pop()),
        r"mask_dict\.json, video 0ab4afe7fb46, expression 0, annotation 101: it has 3 masks for 4 frames",
        {f"{BIRD}/0", f"{BIRD}/1"}),
    "a missing annotation": (
        in_masks(lambda data: data.pop("103")),
        r"mask_dict\.json, video 0ab4afe7fb46, expression 1, annotation 103: there is no", {f"{BIRD}/1", f"{BIRD}/2"}),
    "no annotations": (
        lambda made: edit(made.folder / "meta_expressions.json",
                          lambda data: data["videos"][BIRD]["expressions"]["0"].pop("anno_id")),
        r"meta_expressions\.json, video 0ab4afe7fb46, expression 0: it has no 'anno_id'", {f"{BIRD}/0"}),
}  # fmt: skip


@pytest.mark.parametrize("case", BROKEN_MEVIS.values(), ids=BROKEN_MEVIS.keys())
def test_what_is_broken_in_mevis_is_named_or_left_out(case: Any, tmp_path: Path) -> None:
    spoil, message, lost = case
    made = make_mevis(tmp_path)
    spoil(made)
    check_broken(made, "mevis", "valid_u", message, lost)


def test_a_later_mask_of_another_size_is_found_when_it_is_read(tmp_path: Path) -> None:
    make_davis(tmp_path)
    write_labels(tmp_path / "valid/Annotations/dogs-scale/00002.png", np.zeros((9, 9), np.uint8))
    one = expressions(load_dataset("ref-davis17", "valid", tmp_path))["dogs-scale/0"]
    with pytest.raises(DatasetItemError, match=r"00002\.png, video dogs-scale, frame 00002: it is 9 x 9 pixels"):
        one.load_masks(2)


FILES = {
    "ref-davis17": (make_davis, "valid", "meta_expressions/valid/meta_expressions.json"),
    "ref-youtube-vos": (make_youtube_vos, "train", "meta_expressions/train/meta_expressions.json"),
    "mevis": (make_mevis, "valid_u", "valid_u/meta_expressions.json"),
    "mevis masks": (make_mevis, "valid_u", "valid_u/mask_dict.json"),
}


@pytest.mark.parametrize("share", [0.0, 0.4, 0.99], ids=str)
@pytest.mark.parametrize("case", FILES.items(), ids=FILES.keys())
def test_a_cut_file_is_an_error_in_either_case(case: Any, share: float, tmp_path: Path) -> None:
    name, (make, split, place) = case
    make(tmp_path)
    path = tmp_path / place
    data = path.read_bytes()
    path.write_bytes(data[: int(len(data) * share)])
    for on_error in ("raise", "skip"):
        with pytest.raises(DatasetFileError, match="cut") as error:
            load_dataset(name.split()[0], split, tmp_path, on_error=on_error)  # type: ignore[arg-type]
        assert error.value.problem.file == str(path)


@pytest.mark.parametrize("case", FILES.items(), ids=FILES.keys())
def test_a_missing_file_is_an_error_in_either_case(case: Any, tmp_path: Path) -> None:
    name, (make, split, place) = case
    make(tmp_path)
    (tmp_path / place).unlink()
    with pytest.raises(DatasetFileError, match="there is no such file"):
        load_dataset(name.split()[0], split, tmp_path, on_error="skip")


@pytest.mark.parametrize("content", ["[]", "{}", '{"videos": []}', "3"])
def test_json_of_another_format_is_said_so(content: str, tmp_path: Path) -> None:
    made = make_davis(tmp_path)
    (made.folder / "meta_expressions.json").write_text(content)
    with pytest.raises(DatasetFileError, match="it has no dictionary of videos"):
        load_dataset("ref-davis17", "valid", tmp_path)


junk = st.none() | st.integers(-5, 300) | st.text(max_size=4) | st.lists(st.integers(), max_size=2) | st.just({})


@given(key=st.sampled_from(["exp", "obj_id"]), number=st.integers(0, 11), value=junk)
@settings(max_examples=80)
def test_whatever_is_in_an_expression_the_others_are_read(
    key: str, number: int, value: Any, tmp_path_factory: pytest.TempPathFactory
) -> None:
    made = make_davis(tmp_path_factory.mktemp("junk"))
    in_meta(lambda video: video["expressions"][str(number)].__setitem__(key, value))(made)
    dataset = load_dataset("ref-davis17", "valid", made.root, on_error="skip")
    lost = set(made.texts) - set(expressions(dataset))
    assert lost <= {f"dogs-scale/{number}"}
    assert len(dataset.problems) == len(lost)
