"""Ref-DAVIS17: the videos of DAVIS 2017, each object described by two people, from the first frame and from the video.

Two layouts are read, below the root. As converted to Ref-YouTube-VOS's format by ReferFormer's script:

    meta_expressions/valid/meta_expressions.json    also train/
    valid/JPEGImages/blackswan/00000.jpg
    valid/Annotations/blackswan/00000.png           palette; indices are numbers of objects
    valid/meta.json                                 categories, where it is there

or as it is downloaded:

    davis_text_annotations/Davis17_annot1.txt       a line an object: blackswan 1 "a black swan"
    davis_text_annotations/Davis17_annot1_full_video.txt, Davis17_annot2.txt, Davis17_annot2_full_video.txt
    DAVIS/ImageSets/2017/val.txt, DAVIS/JPEGImages/480p/, DAVIS/Annotations/480p/ (or Annotations_unsupervised/480p/)
    DAVIS/davis_semantics.json                      categories, where it is there

Expression 4 n + a of a video is about its n-th object and from annotator a: 0 and 1 are the first person's from the
first frame and from the whole video, 2 and 3 the second person's. So keys agree between the layouts. Scores are means
over the four. Kinds are "first frame" and "full video"; facts beside those of `clips` are ``annotator`` (1 or 2) and
``object``.

Three video names are misspelt in the text files and are put right; those of the second person are in Latin-1. The
sentences were written for DAVIS 2017's own annotations; the converted layout usually holds those of the unsupervised
track, which mark more objects in some videos. We take the former where both are there; whether their numbers agree for
every object is not checked. Pixels of 255 (void) belong to no object.

Source: Khoreva et al., "Video Object Segmentation with Language Referring Expressions", ACCV 2018;
``tools/data/convert_davis_to_ytvos.py`` and ``inference_davis.py`` of github.com/wjn922/ReferFormer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice

from refam_analysis.evaluation.datasets.base import ClipExpression, ReferringClip
from refam_analysis.evaluation.datasets.clips import (
    Categories,
    Sentence,
    Video,
    category_facts,
    clip,
    clip_expression,
    find_frames,
    find_labels,
    object_number,
    read_categories,
    read_meta,
)
from refam_analysis.evaluation.datasets.facts import sentence_facts
from refam_analysis.evaluation.datasets.files import (
    above,
    exists,
    first_existing,
    is_plain_name,
    join,
    names_in,
    read_json,
    read_text,
)
from refam_analysis.evaluation.datasets.problems import DatasetFileError, DatasetItemError, Tally

TEXTS = (
    "Davis17_annot1.txt", "Davis17_annot1_full_video.txt", "Davis17_annot2.txt", "Davis17_annot2_full_video.txt",
)  # fmt: skip
"""In the order of the annotators 0 to 3."""

MISSPELT = {"clasic-car": "classic-car", "dog-scale": "dogs-scale", "motor-bike": "motorbike"}

_SETS = {"train": "train", "valid": "val"}


@dataclass(frozen=True)
class DavisFiles:
    """Where a split was found.

    Attributes:
        expressions: ``meta_expressions.json``, or the folder of the text files.
        frames: folder with a folder a video.
        labels: likewise, of the masks.
        videos: the list of the split's videos; None where ``meta_expressions.json`` has it.
        categories: ``meta.json`` or ``davis_semantics.json``.
    """

    expressions: str
    frames: str
    labels: str
    videos: str | None
    categories: str


def locate(root: str, split: str) -> DavisFiles:
    """Find a split in either layout; the converted one first."""
    meta = join(root, "meta_expressions", split, "meta_expressions.json")
    texts = first_existing(root, "davis_text_annotations") or first_existing(above(root), "davis_text_annotations")
    if exists(meta) or texts is None:
        here = join(root, split)
        return DavisFiles(meta, join(here, "JPEGImages"), join(here, "Annotations"), None, join(here, "meta.json"))
    davis = first_existing(root, "DAVIS") or root
    labels = first_existing(davis, "Annotations/480p", "Annotations_unsupervised/480p")
    return DavisFiles(
        texts,
        join(davis, "JPEGImages/480p"),
        labels or join(davis, "Annotations/480p"),
        join(davis, "ImageSets/2017", _SETS[split] + ".txt"),
        join(davis, "davis_semantics.json"),
    )


def read_davis(root: str, split: str, tally: Tally, limit: int | None = None) -> tuple[ReferringClip, ...]:
    """The clips of a split, "train" or "valid".

    Args and errors are those of :func:`refam_analysis.evaluation.datasets.refcoco.read_refcoco`.
    """
    files = locate(root, split)
    if files.videos is None:
        videos, categories = read_meta(files.expressions, tally), read_categories(files.categories, tally)
    else:
        videos, categories = read_texts(files, tally), _semantics(files.categories)
    return tuple(islice(_clips(files, videos, categories, tally), limit))


def read_texts(files: DavisFiles, tally: Tally) -> tuple[Video, ...]:
    """The videos of the downloaded layout, numbered as the converted one numbers them.

    Raises:
        DatasetFileError: a text file or the list of videos is missing.
        DatasetItemError: a line is broken, or an object lacks a sentence, where ``tally`` raises.
    """
    described = [_lines(join(files.expressions, name), tally) for name in TEXTS]
    videos = []
    for name in _names(str(files.videos), tally):
        frames = tuple(sorted(file[:-4] for file in names_in(join(files.frames, name)) if file.endswith(".jpg")))
        numbers = sorted({number for texts in described for number in texts[name]})
        sentences = []
        for n, number in enumerate(numbers):
            for a, texts in enumerate(described):
                path = join(files.expressions, TEXTS[a])
                with tally.item(path, f"video {name}, object {number}"):
                    if number not in texts[name]:
                        raise DatasetItemError(path, f"video {name}, object {number}", "there is no line about it")
                    text = texts[name][number]
                    sentence_facts(text)
                    sentences.append(Sentence(str(4 * n + a), text, {"obj_id": number}))
        videos.append(Video(name, frames, tuple(sentences)))
    return tuple(videos)


def _names(path: str, tally: Tally) -> list[str]:
    """The videos of a list, each the name of a folder."""
    names = []
    for name in read_text(path).split():
        with tally.item(path, f"video {name}"):
            if not is_plain_name(name):
                raise ValueError(f"{name!r} is no name of a folder")
            names.append(name)
    return names


def _lines(path: str, tally: Tally) -> Mapping[str, dict[str, str]]:
    """Sentences by video and number of the object; a line is: blackswan 1 "a black swan"."""
    found: dict[str, dict[str, str]] = defaultdict(dict)
    for position, line in enumerate(read_text(path).splitlines(), start=1):
        if not line.strip():
            continue
        with tally.item(path, f"line {position}"):
            video, number, *words = line.split()
            video = MISSPELT.get(video, video)
            if not number.isdecimal():
                raise ValueError(f"{number!r} is no number of an object")
            if number in found[video]:
                raise ValueError(f"object {number} of {video} is there twice")
            found[video][number] = " ".join(words).removeprefix('"').removesuffix('"')
    return found


def _semantics(path: str) -> Categories:
    """``davis_semantics.json``: {"blackswan": {"1": "swan"}}; nothing where it is not there."""
    data = read_json(path) if exists(path) else {}
    if not isinstance(data, dict) or not all(isinstance(objects, dict) for objects in data.values()):
        raise DatasetFileError(path, "it is not categories by video and object")
    return data


def _clips(
    files: DavisFiles, videos: tuple[Video, ...], categories: Categories, tally: Tally
) -> Iterator[ReferringClip]:
    for video in videos:
        with tally.item(files.expressions, f"video {video.name}"):
            if not video.frames:
                raise DatasetItemError(join(files.frames, video.name), f"video {video.name}", "it has no frames")
            frames = find_frames(files.frames, video)
            labels = find_labels(join(files.labels, video.name), frames)
            expressions: list[ClipExpression] = []
            for sentence in video.sentences:
                with tally.item(files.expressions, f"video {video.name}, expression {sentence.number}"):
                    number, annotator = object_number(sentence), int(sentence.number) % 4
                    facts = {
                        "annotator": 1 + annotator // 2,
                        "object": number,
                        "target_area": labels.area(number),
                        **category_facts(categories, video.name, number),
                    }
                    kind = ("first frame", "full video")[annotator % 2]
                    expressions.append(clip_expression(video, sentence, labels.truth(number), kind, facts))
            made = clip(video, frames, expressions)
            if made is not None:
                yield made
