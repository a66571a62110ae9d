"""RefCOCO, RefCOCO+, RefCOCOg and gRefCOCO, from their releases, with COCO's pictures of 2014.

On disk, below the root (or with the root inside the first folder):

    refcoco/instances.json          COCO's format: images, annotations, categories
    refcoco/refs(unc).p             a pickled list of references; see `pickles`
    images/mscoco/images/train2014/ or images/train2014/, or train2014/

A reference is a dictionary with ref_id, ann_id, image_id, category_id, split, sent_ids, and sentences: each with
sent_id, sent (cleaned: lower case, no punctuation), raw and tokens. The text of an expression is its ``sent``, as the
refer API shows it; some published code reads ``raw`` instead, which differs in case and punctuation. The file_name of
a reference carries the annotation's number and names no file; that of the image does.

gRefCOCO (``grefs(unc).json``) writes ann_id and category_id as lists; [-1] means that nothing in the picture is meant.
Its reader leaves crowds out of a target of several objects, as that of its authors does.

Kinds are "place" and "no place" (see :func:`~refam_analysis.evaluation.datasets.facts.place_kind`); in gRefCOCO "one
target", "several targets" and "no target". Facts beside the usual ones: ``category`` of the target; ``distractors``,
how many other objects of that category are annotated in the picture, crowds not counted; ``crowd``, 1 where the target
is one; ``targets`` in gRefCOCO.

Sources: ``refer.py`` of github.com/lichengunc/refer; ``grefer.py`` and ``grefcoco.py`` of github.com/henghuiding/ReLA;
"Data format" of the COCO web site. Where polygons of one object overlap, ``refer.py`` gives 2 and some training code
takes "== 1" for the mask; here, as in pycocotools, the mask is their union.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from refam_analysis.evaluation.datasets.base import Fact, ReferringExpression, ReferringImage
from refam_analysis.evaluation.datasets.facts import area_share, place_kind, sentence_facts
from refam_analysis.evaluation.datasets.files import (
    FilePicture,
    above,
    first_existing,
    is_plain_name,
    join,
    names_in,
    no_collection,
    read_bytes,
    read_json,
)
from refam_analysis.evaluation.datasets.pickles import read_plain_pickle
from refam_analysis.evaluation.datasets.problems import DatasetFileError, DatasetItemError, Tally
from refam_analysis.evaluation.datasets.rle import Rle, from_segmentation, union

IMAGE_FOLDERS = ("images/mscoco/images/train2014", "images/train2014", "train2014", "coco/train2014")
"""Where people have COCO's pictures, below the root or beside the folder of the annotations."""

NOTHING = -1
"""The ann_id of an expression that refers to nothing in the picture."""


@dataclass(frozen=True)
class RefRelease:
    """One release in the format of the refer API.

    Attributes:
        folder: of its annotations.
        refs: names that its list of references may have.
        several: whether an expression may refer to several objects, or to none.
    """

    folder: str
    refs: tuple[str, ...]
    several: bool = False


@dataclass(frozen=True)
class RefFiles:
    """Where a release was found: paths, of which None is missing."""

    refs: str | None
    instances: str | None
    images: str | None


def locate(release: RefRelease, root: str) -> RefFiles:
    """Find the files of a release below a root, or at the root itself."""
    wanted = ("instances.json", *release.refs)
    inside = first_existing(root, *(f"{release.folder}/{name}" for name in wanted)) is not None
    folder = join(root, release.folder) if inside else root
    refs = first_existing(folder, *release.refs)
    instances = first_existing(folder, "instances.json")
    images = first_existing(root, *IMAGE_FOLDERS)
    if images is None and not inside:
        images = first_existing(above(root), *IMAGE_FOLDERS)
    return RefFiles(refs, instances, images)


def read_refcoco(
    release: RefRelease, root: str, split: str, tally: Tally, limit: int | None = None
) -> tuple[ReferringImage, ...]:
    """The pictures of a split, in the order in which the references name them first.

    Args:
        release: which of them.
        root: folder of the data.
        split: such as "val"; compared with the split of each reference.
        tally: raises or collects what is wrong with single items.
        limit: number of pictures at most.

    Raises:
        DatasetFileError: a file is missing or cut.
        DatasetItemError: an item is broken, where ``tally`` raises.
    """
    files = locate(release, root)
    missing = {"refs": release.refs[0], "instances": "instances.json", "images": "train2014"}
    for name, usual in missing.items():
        if getattr(files, name) is None:
            raise DatasetFileError(join(root, release.folder, usual), "there is no such file", "Check the root.")
    refs = read_refs(str(files.refs))
    reader = _Reader(release, str(files.refs), str(files.images), tally, _index(str(files.instances), tally))
    return tuple(islice(reader.images(refs, split), limit))


def read_refs(path: str) -> list[Any]:
    """The list of references, from a pickle or from JSON.

    Raises:
        ForbiddenPickleError: the pickle asks for more than plain data.
        DatasetFileError: the file is missing, cut, or holds something else.
    """
    refs = read_plain_pickle(read_bytes(path), path) if path.endswith(".p") else read_json(path)
    if not isinstance(refs, list):
        raise DatasetFileError(path, f"it holds a {type(refs).__name__}, not a list of references")
    return refs


@dataclass
class _Instances:
    """What ``instances.json`` says, by id."""

    path: str
    images: dict[int, dict[str, Any]] = field(default_factory=dict)
    annotations: dict[int, dict[str, Any]] = field(default_factory=dict)
    categories: dict[int, str] = field(default_factory=dict)
    alike: Mapping[tuple[int, int], int] = field(default_factory=dict)
    """How many objects of a category are in an image, crowds not counted, by (image, category)."""


_PARTS = ("images", "annotations", "categories")


def _index(path: str, tally: Tally) -> _Instances:
    data = read_json(path)
    if not isinstance(data, dict) or not all(isinstance(data.get(part), list) for part in _PARTS):
        raise DatasetFileError(path, f"it is not of COCO's format, with the lists {', '.join(_PARTS)}")
    alike: dict[tuple[int, int], int] = defaultdict(int)
    found = _Instances(path, alike=alike)

    def add_image(entry: Any) -> None:
        found.images[entry["id"]] = entry

    def add_annotation(entry: Any) -> None:
        found.annotations[entry["id"]] = entry
        alike[entry["image_id"], entry["category_id"]] += not entry.get("iscrowd", 0)

    def add_category(entry: Any) -> None:
        found.categories[entry["id"]] = str(entry["name"])

    adding = (("image", add_image), ("annotation", add_annotation), ("category", add_category))
    with no_collection():
        for part, (what, add) in zip(_PARTS, adding, strict=True):
            tally.each(path, what, data[part], add)
    return found


class _Reader:
    """Turns references into images with expressions, one image at a time."""

    def __init__(self, release: RefRelease, refs: str, folder: str, tally: Tally, instances: _Instances) -> None:
        self._release, self._refs, self._folder, self._tally = release, refs, folder, tally
        self._instances = instances
        self._files = names_in(folder)
        self._masks: dict[int, Rle] = {}
        self._keys: set[str] = set()

    def images(self, refs: Sequence[Any], split: str) -> Iterator[ReferringImage]:
        groups: dict[Any, list[tuple[str, dict[str, Any]]]] = defaultdict(list)

        def add(ref: Any) -> None:
            if ref["split"] == split:
                groups[_plain(ref["image_id"])].append((f"ref {_plain(ref['ref_id'])}", ref))

        self._tally.each(self._refs, "reference", refs, add)
        for image_id, members in groups.items():
            with self._tally.item(self._instances.path, f"image {image_id}"):
                picture = self._picture(image_id)
                expressions = [e for label, ref in members for e in self._expressions(label, ref, picture)]
                if expressions:
                    yield ReferringImage(str(image_id), tuple(expressions), picture)

    def _picture(self, image_id: Any) -> FilePicture:
        path, item = self._instances.path, f"image {image_id}"
        if image_id not in self._instances.images:
            raise DatasetItemError(path, item, "a reference names it, but it is not there")
        entry = self._instances.images[image_id]
        name, size = entry["file_name"], (entry["height"], entry["width"])
        if not is_plain_name(name):
            raise DatasetItemError(path, item, f"its file_name is {name!r}, no plain name")
        if not all(type(side) is int and side > 0 for side in size):
            raise DatasetItemError(path, item, f"its height and width are {size}")
        if name not in self._files:
            raise DatasetItemError(join(self._folder, name), item, "there is no such file")
        return FilePicture(join(self._folder, name), item, size)

    def _expressions(self, label: str, ref: dict[str, Any], picture: FilePicture) -> Iterator[ReferringExpression]:
        with self._tally.item(self._refs, label):
            targets = self._targets(label, ref)
            mask = self._mask(targets, picture)
            known = self._target_facts(targets, mask)
            if not ref["sentences"]:
                raise DatasetItemError(self._refs, label, "it has no sentences")
            for sentence in ref["sentences"]:
                with self._tally.item(self._refs, f"{label}, sentence {_plain(sentence.get('sent_id'))}"):
                    yield self._expression(sentence, mask, known)

    def _expression(self, sentence: dict[str, Any], mask: Rle | None, known: dict[str, Fact]) -> ReferringExpression:
        key, text = str(_plain(sentence["sent_id"])), str(_plain(sentence["sent"]))
        if key in self._keys:
            raise ValueError(f"sentence {key} is there twice")
        facts = sentence_facts(text) | known
        self._keys.add(key)
        kind = _target_kind(known) if self._release.several else place_kind(facts)
        return ReferringExpression(key, text, mask, kind, facts)

    def _targets(self, label: str, ref: dict[str, Any]) -> list[dict[str, Any]]:
        """The annotations that are meant; none where nothing is."""
        ids = ref["ann_id"] if isinstance(ref["ann_id"], list) else [ref["ann_id"]]
        if len(ids) != 1 and not (self._release.several and ids):
            raise DatasetItemError(self._refs, label, f"it has {len(ids)} annotations, not one")
        if ids == [NOTHING] and self._release.several:
            return []
        found = []
        for number in ids:
            annotation = self._instances.annotations.get(_plain(number))
            if annotation is None:
                raise DatasetItemError(self._instances.path, f"{label}, annotation {number}", "it is not there")
            if annotation["image_id"] != ref["image_id"]:
                reason = f"it belongs to image {annotation['image_id']}, not {ref['image_id']}"
                raise DatasetItemError(self._instances.path, f"{label}, annotation {number}", reason)
            found.append(annotation)
        single = [annotation for annotation in found if not annotation.get("iscrowd", 0)]
        return (single or found) if self._release.several else found

    def _mask(self, targets: list[dict[str, Any]], picture: FilePicture) -> Rle | None:
        masks = []
        for annotation in targets:
            number = annotation["id"]
            if number not in self._masks:
                try:
                    self._masks[number] = from_segmentation(annotation["segmentation"], *picture.size)
                except (ValueError, TypeError) as error:
                    raise DatasetItemError(self._instances.path, f"annotation {number}", str(error)) from error
            masks.append(self._masks[number])
        return union(masks) if len(masks) > 1 else masks[0] if masks else None

    def _target_facts(self, targets: list[dict[str, Any]], mask: Rle | None) -> dict[str, Fact]:
        several: dict[str, Fact] = {"targets": len(targets)} if self._release.several else {}
        if not targets or mask is None:
            return several
        same = {(annotation["image_id"], annotation["category_id"]) for annotation in targets}
        meant = sum(not annotation.get("iscrowd", 0) for annotation in targets)
        first = targets[0]["category_id"]
        return several | {
            "category": self._instances.categories.get(first, str(first)),
            "distractors": sum(self._instances.alike.get(pair, 0) for pair in same) - meant,
            "crowd": int(meant < len(targets)),
            "target_area": area_share(mask),
        }


def _plain(value: Any) -> Any:
    """A number or a text; lists and tuples within each other, as a pickle can hold them, may be endless to print."""
    if value is not None and not isinstance(value, (str, int, float)):
        raise ValueError(f"a {type(value).__name__} stands where a number or a text should")
    return value


def _target_kind(known: Mapping[str, Fact]) -> str:
    return {0: "no target", 1: "one target"}.get(int(known["targets"]), "several targets")
