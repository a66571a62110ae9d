"""Makers of small data sets on disk, in exactly the formats of the releases, with every oddity that those have.

Objects are rectangles with whole corners, of which the mask is known without any library. Each maker returns what must
be read from what it wrote. The runner's tests use them too.
"""

from __future__ import annotations

import json
import pickle
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Box = tuple[int, int, int, int]
"""Left, top, right and bottom; the last two are the first pixels outside."""

PERSON, DOG, CAT = 1, 18, 17
CATEGORIES = [{"id": PERSON, "name": "person"}, {"id": DOG, "name": "dog"}, {"id": CAT, "name": "cat"}]


@dataclass
class Made:
    """What was written.

    Attributes:
        root: what to give to the reader.
        masks: the truth by key of the expression: (height, width), one a frame for clips; None for no target, or where
            a frame is not annotated.
        texts: the sentence by key.
        folder: of the annotations.
    """

    root: Path
    masks: dict[str, Any] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    folder: Path = Path()


def box_mask(size: tuple[int, int], *boxes: Box) -> NDArray[np.bool_]:
    """The union of rectangles in a picture of (height, width)."""
    mask = np.zeros(size, dtype=np.bool_)
    for left, top, right, bottom in boxes:
        mask[top:bottom, left:right] = True
    return mask


def polygon(box: Box) -> list[float]:
    left, top, right, bottom = box
    return [float(value) for value in (left, top, right, top, right, bottom, left, bottom)]


def runs(mask: NDArray[np.bool_]) -> list[int]:
    """Run lengths down the columns, 0 first: COCO's uncompressed form, as its crowds have it."""
    flat = mask.T.ravel()
    edges = np.flatnonzero(np.diff(flat.astype(int))) + 1
    counts = np.diff(np.concatenate([[0], edges, [len(flat)]])).tolist()
    return [0, *counts] if flat[0] else counts


def compressed(mask: NDArray[np.bool_]) -> dict[str, Any]:
    """COCO's compressed form with counts as text, as JSON has it; written from the description of the format."""
    text, counts = "", runs(mask)
    for i, count in enumerate(counts):
        value = count - counts[i - 2] if i > 2 else count
        while True:
            bits, value = value & 31, value >> 5
            more = value != (-1 if bits & 16 else 0)
            text += chr((bits | 32 if more else bits) + 48)
            if not more:
                break
    return {"size": list(mask.shape), "counts": text}


def python2_pickle(value: Any) -> bytes:
    """As cPickle of Python 2 wrote it: protocol 0, plain strings between quotes."""

    def write(part: Any) -> str:
        if part is None:
            return "N"
        if isinstance(part, bool):
            return f"I0{int(part)}\n"
        if isinstance(part, int):
            return f"I{part}\n" if abs(part) < 1 << 31 else f"L{part}L\n"
        if isinstance(part, float):
            return f"F{part!r}\n"
        if isinstance(part, str):
            quoted = repr(part) if part.isascii() else repr(part.encode())[1:]
            return f"S{quoted}\n"
        if isinstance(part, dict):
            return "(d" + "".join(f"{write(key)}{write(item)}s" for key, item in part.items())
        if isinstance(part, tuple):
            return "(" + "".join(map(write, part)) + "t"
        return "(l" + "".join(f"{write(item)}a" for item in part)

    return (write(value) + ".").encode("ascii")


def write_json(path: Path, value: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value), encoding="utf-8")


def write_picture(path: Path, size: tuple[int, int], *, mode: str = "RGB") -> None:
    """A picture with a gradient, so that a JPEG of it is a real one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rows, columns = np.mgrid[: size[0], : size[1]]
    pixels = np.stack([rows * 6 % 256, columns * 6 % 256, (rows + columns) * 3 % 256], -1).astype(np.uint8)
    Image.fromarray(pixels).convert(mode).save(path)


def write_labels(path: Path, labels: NDArray[np.uint8]) -> None:
    """A PNG with a palette, whose indices are numbers of objects."""
    path.parent.mkdir(parents=True, exist_ok=True)
    picture = Image.fromarray(labels)
    picture.putpalette([value * 37 % 256 for value in range(768)])
    picture.save(path)


# RefCOCO


def annotation(number: int, image: int, category: int, segmentation: Any, crowd: int = 0) -> dict[str, Any]:
    return {"id": number, "image_id": image, "category_id": category, "segmentation": segmentation, "iscrowd": crowd,
            "bbox": [0.0, 0.0, 1.0, 1.0], "area": 1.0}  # fmt: skip


def image_entry(number: int, size: tuple[int, int]) -> dict[str, Any]:
    name = f"COCO_train2014_{number:012d}.jpg"
    return {"id": number, "file_name": name, "height": size[0], "width": size[1], "license": 1}


def reference(number: int, target: Any, image: int, split: str, sentences: Sequence[tuple[int, str]]) -> dict[str, Any]:
    """A reference; its file_name carries the annotation's number, as in the release, and names no file."""
    made = [
        {"sent_id": key, "sent": text, "raw": text.title() + ".", "tokens": text.split()} for key, text in sentences
    ]
    return {"ref_id": number, "ann_id": target, "image_id": image, "category_id": PERSON, "split": split,
            "file_name": f"COCO_train2014_{image:012d}_{number}.jpg", "sent_ids": [key for key, _ in sentences],
            "sentences": made}  # fmt: skip


LARGE, TALL, SMALL = (30, 40), (36, 24), (20, 20)


def refcoco_parts() -> tuple[list[dict[str, Any]], dict[str, Any], dict[str, Any]]:
    """References, instances, and the truth by key of the expression."""
    left, right, hole = (2, 3, 12, 25), (20, 4, 30, 20), (25, 15, 38, 28)
    crowd, dog = box_mask(LARGE, (0, 26, 40, 30)), box_mask(LARGE, (13, 1, 19, 9))
    annotations = [
        annotation(11, 581857, PERSON, [polygon(left)]),
        annotation(12, 581857, PERSON, [polygon(right), polygon(hole)]),
        annotation(13, 581857, PERSON, {"size": list(LARGE), "counts": runs(crowd)}, crowd=1),
        annotation(14, 581857, DOG, compressed(dog)),
        annotation(21, 98304, CAT, [polygon((3, 3, 20, 30))]),
        annotation(31, 7, PERSON, [polygon((0, 0, 20, 20))]),
    ]
    refs = [
        reference(1, 11, 581857, "val", [(1, "man on left"), (2, "niño con café ☕"), (3, "tall man")]),
        reference(2, 21, 98304, "val", [(4, "cat")]),
        reference(3, 12, 581857, "val", [(5, "the lady, far right")]),
        reference(4, 13, 581857, "val", [(6, "crowd at the bottom")]),
        reference(5, 14, 581857, "val", [(7, "dog")]),
        reference(6, 31, 7, "testA", [(8, "person")]),
    ]
    images = [image_entry(581857, LARGE), image_entry(98304, TALL), image_entry(7, SMALL)]
    man = box_mask(LARGE, left)
    masks = {"1": man, "2": man, "3": man, "4": box_mask(TALL, (3, 3, 20, 30)), "5": box_mask(LARGE, right, hole),
             "6": crowd, "7": dog, "8": box_mask(SMALL, (0, 0, 20, 20))}  # fmt: skip
    return refs, {"images": images, "annotations": annotations, "categories": CATEGORIES, "info": {}}, masks


def write_refcoco(
    root: Path,
    refs: Any,
    instances: Any,
    *,
    folder: str = "refcoco",
    name: str = "refs(unc).p",
    pictures: str = "train2014",
    protocol: int | None = None,
) -> Path:
    """Write a release of the refer API; without a protocol, its pickle is one of Python 2. Returns its folder."""
    here = root / folder
    here.mkdir(parents=True, exist_ok=True)
    if name.endswith(".json"):
        write_json(here / name, refs)
    else:
        (here / name).write_bytes(python2_pickle(refs) if protocol is None else pickle.dumps(refs, protocol))
    write_json(here / "instances.json", instances)
    for number, entry in enumerate(instances["images"]):
        size = int(entry["height"]), int(entry["width"])
        write_picture(root / pictures / entry["file_name"], size, mode="L" if number == 1 else "RGB")
    return here


def make_refcoco(root: Path, **options: Any) -> Made:
    """RefCOCO: polygons, several polygons, a crowd in run lengths, compressed run lengths, a gray picture."""
    refs, instances, masks = refcoco_parts()
    folder = write_refcoco(root, refs, instances, **options)
    texts = {str(sentence["sent_id"]): sentence["sent"] for ref in refs for sentence in ref["sentences"]}
    return Made(root, masks, texts, folder)


def make_grefcoco(root: Path, **options: Any) -> Made:
    """gRefCOCO: one target, several, none, and several of which one is a crowd."""
    _, instances, masks = refcoco_parts()
    refs = [
        reference(1, [11], 581857, "val", [(1, "man on left")]),
        reference(2, [11, 12], 581857, "val", [(2, "both people"), (3, "everyone")]),
        reference(3, [-1], 581857, "val", [(4, "the elephant")]),
        reference(4, [14, 13], 581857, "val", [(5, "the dog and the crowd")]),
        reference(5, [-1], 98304, "val", [(6, "a second cat")]),
    ]
    options = {"folder": "grefcoco", "name": "grefs(unc).json", "pictures": "images/train2014", **options}
    folder = write_refcoco(root, refs, instances, **options)
    both = masks["1"] | masks["5"]
    truth = {"1": masks["1"], "2": both, "3": both, "4": None, "5": masks["7"], "6": None}
    texts = {str(sentence["sent_id"]): sentence["sent"] for ref in refs for sentence in ref["sentences"]}
    return Made(root, truth, texts, folder)


# Clips


FRAME = (24, 32)


def object_boxes(number: int, frames: int) -> list[Box | None]:
    """Where an object is in each frame: it moves, and the third is out of sight in every other frame."""
    boxes: list[Box | None] = [(2 + 8 * (number - 1) + i, 3, 8 + 8 * (number - 1) + i, 12) for i in range(frames)]
    return [None if number == 3 and i % 2 else box for i, box in enumerate(boxes)]


def frame_labels(objects: int, frames: int, i: int) -> NDArray[np.uint8]:
    """Numbers of the objects in frame ``i``, later ones in front, with a void pixel in the corner."""
    labels = np.zeros(FRAME, dtype=np.uint8)
    for number in range(1, objects + 1):
        box = object_boxes(number, frames)[i]
        if box is not None:
            labels[box_mask(FRAME, box)] = number
    labels[-1, -1] = 255
    return labels


def write_clip(
    frames_folder: Path, labels_folder: Path | None, objects: int, names: Sequence[str], without: Sequence[str] = ()
) -> list[NDArray[np.uint8]]:
    """Frames and mask files of one clip; some frames may have no mask file."""
    every = [frame_labels(objects, len(names), i) for i in range(len(names))]
    for name, labels in zip(names, every, strict=True):
        write_picture(frames_folder / f"{name}.jpg", FRAME)
        if labels_folder is not None and name not in without:
            write_labels(labels_folder / f"{name}.png", labels)
    return every


DAVIS = {"blackswan": 1, "dogs-scale": 3}
DAVIS_FRAMES = ("00000", "00001", "00002")


def davis_text(video: str, number: int, annotator: int) -> str:
    who = ("a swan", "the café dog", "the leash")[number - 1] if video != "blackswan" else "a black swan"
    return f"{who} on the left" if annotator == 0 else f"{who} seen by {annotator}"


def _davis_truth(made: Made, video: str, labels: Sequence[NDArray[np.uint8]]) -> None:
    for n in range(DAVIS[video]):
        for annotator in range(4):
            key = f"{video}/{4 * n + annotator}"
            made.texts[key] = davis_text(video, n + 1, annotator)
            made.masks[key] = [frame == n + 1 for frame in labels]


def make_davis(root: Path) -> Made:
    """Ref-DAVIS17 as ReferFormer's script converts it; an object out of sight, and void pixels."""
    made, videos, objects = Made(root), {}, {}
    for video, count in DAVIS.items():
        here = root / "valid"
        labels = write_clip(here / "JPEGImages" / video, here / "Annotations" / video, count, DAVIS_FRAMES)
        _davis_truth(made, video, labels)
        sentences = {
            str(4 * n + a): {"exp": davis_text(video, n + 1, a), "obj_id": str(n + 1)}
            for n in range(count)
            for a in range(4)
        }
        videos[video] = {"expressions": sentences, "frames": list(DAVIS_FRAMES)}
        objects[video] = {"objects": {str(n + 1): {"category": "dog" if n < 2 else "leash"} for n in range(count)}}
    made.folder = root / "meta_expressions" / "valid"
    write_json(made.folder / "meta_expressions.json", {"videos": videos})
    write_json(root / "valid" / "meta.json", {"videos": objects})
    return made


def make_davis_texts(root: Path) -> Made:
    """Ref-DAVIS17 as it is downloaded: text files, one in Latin-1, one with a misspelt video; DAVIS beside them."""
    made, davis = Made(root, folder=root / "davis_text_annotations"), root / "DAVIS"
    made.folder.mkdir(parents=True)
    for video, count in DAVIS.items():
        frames, labels = davis / "JPEGImages/480p" / video, davis / "Annotations/480p" / video
        _davis_truth(made, video, write_clip(frames, labels, count, DAVIS_FRAMES))
    names = ("annot1", "annot1_full_video", "annot2", "annot2_full_video")
    for annotator, name in enumerate(names):
        lines = []
        for video, count in reversed(DAVIS.items()):
            written = "dog-scale" if annotator == 1 and video == "dogs-scale" else video
            lines += [f'{written} {n} "{davis_text(video, n, annotator)}"' for n in range(count, 0, -1)]
        lines += ["", 'test-only 1 "of no split"']
        encoding = "utf-8" if annotator < 2 else "latin-1"
        (made.folder / f"Davis17_{name}.txt").write_text("\n".join(lines) + "\n", encoding=encoding)
    lists = davis / "ImageSets/2017"
    lists.mkdir(parents=True)
    (lists / "val.txt").write_text("\n".join(DAVIS) + "\n")
    (lists / "train.txt").write_text("")
    categories = {v: {str(n): "dog" if n < 3 else "leash" for n in range(1, c + 1)} for v, c in DAVIS.items()}
    write_json(davis / "davis_semantics.json", categories)
    return made


YOUTUBE_FRAMES = ("00000", "00005", "00010", "00015")


def make_youtube_vos(root: Path) -> Made:
    """Ref-YouTube-VOS: a frame without mask file in train; valid names the test videos too, without truth."""
    made, train = Made(root, folder=root / "meta_expressions"), root / "train"
    sentences = {"0": {"exp": "a person", "obj_id": "1"}, "1": {"exp": "the dog on the right", "obj_id": "3"},
                 "2": {"exp": "une personne à gauche", "obj_id": "1"}}  # fmt: skip
    labels = write_clip(
        train / "JPEGImages/0043f083b5", train / "Annotations/0043f083b5", 3, YOUTUBE_FRAMES, without=["00005"]
    )
    for number, sentence in sentences.items():
        made.texts[f"0043f083b5/{number}"] = sentence["exp"]
        wanted = int(sentence["obj_id"])
        made.masks[f"0043f083b5/{number}"] = [None if i == 1 else frame == wanted for i, frame in enumerate(labels)]
    write_json(made.folder / "train/meta_expressions.json", _videos("0043f083b5", sentences))
    objects = {"1": {"category": "person"}, "2": {"category": "person"}, "3": {"category": "dog"}}
    write_json(train / "meta.json", {"videos": {"0043f083b5": {"objects": objects}}})
    valid = _videos("0062f687f1", {"0": {"exp": "a cat"}})
    test = _videos("00917dcfc4", {"0": {"exp": "a horse"}})
    write_json(made.folder / "valid/meta_expressions.json", {"videos": valid["videos"] | test["videos"]})
    write_json(made.folder / "test/meta_expressions.json", test)
    write_clip(root / "valid/JPEGImages/0062f687f1", None, 1, YOUTUBE_FRAMES)
    write_clip(root / "test/JPEGImages/00917dcfc4", None, 1, YOUTUBE_FRAMES)
    return made


def _videos(name: str, sentences: dict[str, Any]) -> dict[str, Any]:
    return {"videos": {name: {"expressions": sentences, "frames": list(YOUTUBE_FRAMES)}}}


def make_mevis(root: Path) -> Made:
    """MeViS: one target, several, none; null where an object is out of sight; valid without masks."""
    made, here = Made(root, folder=root / "valid_u"), root / "valid_u"
    count, video = len(YOUTUBE_FRAMES), "0ab4afe7fb46"
    write_clip(here / "JPEGImages" / video, None, 3, YOUTUBE_FRAMES)
    boxes = {number: object_boxes(number, count) for number in (1, 2, 3)}
    masks = {n: [None if box is None else box_mask(FRAME, box) for box in boxes[n]] for n in boxes}
    entries = {str(100 + n): [None if mask is None else compressed(mask) for mask in masks[n]] for n in masks}
    sentences = {
        "0": {"exp": "the bird flying away", "obj_id": [0], "anno_id": [101]},
        "1": {"exp": "birds moving to the right", "obj_id": [0, 2], "anno_id": [101, 103]},
        "2": {"exp": "the bird that hides", "obj_id": [2], "anno_id": [103]},
        "3": {"exp": "the elephant dancing", "obj_id": [], "anno_id": []},
    }
    for number, sentence in sentences.items():
        made.texts[f"{video}/{number}"] = str(sentence["exp"])
        frames = [[masks[key - 100][i] for key in sentence["anno_id"]] for i in range(count)]  # type: ignore[union-attr]
        made.masks[f"{video}/{number}"] = [
            np.any([np.zeros(FRAME, dtype=np.bool_)] + [mask for mask in frame if mask is not None], axis=0)
            for frame in frames
        ]
    write_json(here / "meta_expressions.json", _videos(video, sentences))
    write_json(here / "mask_dict.json", entries)
    write_clip(root / "valid/JPEGImages/0fea0cb75a25", None, 1, YOUTUBE_FRAMES)
    write_json(root / "valid/meta_expressions.json", _videos("0fea0cb75a25", {"0": {"exp": "a moving cat"}}))
    return made
