"""Releases with any value in any place: what can be read is read, the rest is one of our sentences, in either case."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from references.small_datasets import make_davis, make_davis_texts, make_mevis, make_refcoco, make_youtube_vos

from fuzz.mutating import changes, examples, junk, mutate, put
from refam_analysis.errors import RefamError
from refam_analysis.evaluation.datasets import ReferringClip, ReferringDataset, ReferringImage, load_dataset
from refam_analysis.evaluation.datasets.pickles import read_plain_pickle
from refam_analysis.evaluation.datasets.rle import from_segmentation

DATA: dict[str, tuple[Callable[[Path], Any], str, str]] = {
    "refcoco": (make_refcoco, "refcoco", "val"),
    "ref-davis17": (make_davis, "ref-davis17", "valid"),
    "ref-davis17 texts": (make_davis_texts, "ref-davis17", "valid"),
    "ref-youtube-vos": (make_youtube_vos, "ref-youtube-vos", "train"),
    "mevis": (make_mevis, "mevis", "valid_u"),
}


@pytest.fixture(scope="module", params=DATA.values(), ids=DATA.keys())
def release(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str, Path]:
    make, name, split = request.param
    root = tmp_path_factory.mktemp("release") / "root"
    root.mkdir()
    make(root)
    return name, split, root


def files_of(root: Path, *suffixes: str) -> list[Path]:
    return sorted(path for path in root.rglob("*") if path.suffix in suffixes)


def read(name: str, split: str, root: Path) -> None:
    """Read a release in both ways, and every pixel and mask of what is there."""
    for on_error in ("raise", "skip"):
        try:
            dataset = load_dataset(name, split, root, on_error=on_error)  # type: ignore[arg-type]
        except RefamError as error:
            assert str(error).endswith(".")
            continue
        for load in loads(dataset):
            try:
                load()
            except RefamError as error:
                assert str(error).endswith(".")


def loads(dataset: ReferringDataset) -> Iterator[Callable[[], object]]:
    for item in dataset:
        assert all(isinstance(one.text, str) and one.text.strip() for one in item.expressions)
        if isinstance(item, ReferringImage):
            yield item.load
        elif isinstance(item, ReferringClip):
            yield lambda item=item: item.load_frame(0)  # type: ignore[misc]
            yield from (lambda one=one: one.load_masks(0) for one in item.expressions)  # type: ignore[misc]


def with_file(path: Path, content: bytes, check: Callable[[], object]) -> None:
    before = path.read_bytes()
    try:
        path.write_bytes(content)
        check()
    finally:
        path.write_bytes(before)


@given(number=st.integers(0, 20), place=st.integers(0, 300), value=junk)
@examples(100)
def test_any_value_in_any_place_of_the_annotations(
    release: tuple[str, str, Path], number: int, place: int, value: Any
) -> None:
    name, split, root = release
    files = files_of(root, ".json", ".p", ".txt")
    path = files[number % len(files)]
    data = path.read_bytes()
    if path.suffix == ".json":
        data = json.dumps(put(json.loads(data), place, value)).encode()
    elif path.suffix == ".p":
        data = pickle.dumps(put(read_plain_pickle(data, path.name), place, value))
    else:
        lines = data.split(b"\n")
        lines[place % len(lines)] = str(value).encode("utf-8", "surrogatepass")
        data = b"\n".join(lines)
    with_file(path, data, lambda: read(name, split, root))


@given(number=st.integers(0, 60), changed=changes)
@examples(60)
def test_any_bytes_in_any_file(
    release: tuple[str, str, Path], number: int, changed: list[tuple[str, float, bytes]]
) -> None:
    name, split, root = release
    files = files_of(root, ".json", ".p", ".txt", ".png", ".jpg")
    path = files[number % len(files)]
    with_file(path, mutate(path.read_bytes(), changed), lambda: read(name, split, root))


@given(segmentation=junk | st.lists(st.lists(st.floats(-50, 50) | st.integers(-3, 30), max_size=9), max_size=3))
@examples(300)
def test_any_segmentation_is_a_mask_or_a_sentence(segmentation: Any) -> None:
    for given_ in (segmentation, {"size": [9, 11], "counts": segmentation}, {"size": segmentation, "counts": "22"}):
        try:
            from_segmentation(given_, 9, 11)
        except RefamError:
            pass


# Pickles

_ALL = bytes(range(256))
_ARGUMENT = st.one_of(st.just(b""), st.binary(max_size=5), st.integers(-9, 300).map(lambda n: b"%d\n" % n),
                      st.sampled_from([b"'val'\n", b"\x03val", b"\x01\0\0\0a", b"os\nsystem\n"]))  # fmt: skip
programs = st.lists(st.tuples(st.sampled_from(_ALL), _ARGUMENT), max_size=40).map(
    lambda steps: b"".join(bytes([code]) + argument for code, argument in steps) + b"."
)
"""Instructions one after the other, each with something that may be its argument."""


def doubling(kind: type, times: int = 60) -> Any:
    """A list, or tuple, that holds another twice, which holds another twice: short in a pickle, endless to print."""
    value: Any = kind(("x",))
    for _ in range(times):
        value = kind((value, value))
    return value


@pytest.mark.parametrize("kind", [list, tuple])
@pytest.mark.parametrize(
    "key", ["ref_id", "ann_id", "image_id", "category_id", "split", "sentences", "sent", "sent_id"]
)
def test_what_is_endless_to_print_is_not_printed(key: str, kind: type, tmp_path: Path) -> None:
    make_refcoco(tmp_path)
    (path,) = files_of(tmp_path, ".p")
    refs: Any = read_plain_pickle(path.read_bytes(), path.name)
    (refs[0]["sentences"][0] if key.startswith("sent_") or key == "sent" else refs[0])[key] = doubling(kind)
    path.write_bytes(pickle.dumps(refs))
    read("refcoco", "val", tmp_path)


@pytest.mark.parametrize("name", ["a\0b", "../..", "x" * 300], ids=["nul", "elsewhere", "long"])
def test_a_list_of_videos_names_folders_only(name: str, tmp_path: Path) -> None:
    make_davis_texts(tmp_path)
    (path,) = [file for file in files_of(tmp_path, ".txt") if file.name == "val.txt"]
    with_file(path, name.encode(), lambda: read("ref-davis17", "valid", tmp_path))


@pytest.mark.parametrize("start", [b"[", b'{"a":'], ids=["lists", "dictionaries"])
def test_json_deeper_than_can_be_read_is_a_sentence(start: bytes, tmp_path: Path) -> None:
    make_mevis(tmp_path)
    for path in files_of(tmp_path, ".json"):
        with_file(path, start * 100_000, lambda: read("mevis", "valid_u", tmp_path))


@given(program=programs)
@example(program=b"(" + b")" + b"\x85" * 300_000 + b"Nd.")  # tuples in tuples as the key of a dictionary
@examples(400)
def test_any_programme_gives_plain_data_or_our_error_and_runs_nothing(program: bytes) -> None:
    try:
        value = read_plain_pickle(program, "refs.p")
    except RefamError as error:
        assert str(error).endswith(".")
    else:
        assert type(value) in (dict, list, tuple, str, int, float, bool, type(None))
