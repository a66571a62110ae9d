"""What the video benchmarks share: ``meta_expressions.json``, frames in folders, masks in files or in run lengths.

The format is Ref-YouTube-VOS's, which MeViS took over and to which Ref-DAVIS17 is usually converted:

    {"videos": {"0043f083b5": {"frames": ["00000", "00005", ...],
                               "expressions": {"0": {"exp": "a white dog", "obj_id": "1"}, ...}}}}

Facts of a sentence about a clip: the usual ones; ``frames`` of the clip; ``target_area``, the share of the picture that
the target covers in the first annotated frame (0 where it is out of sight there); where the release names categories,
``category`` and ``distractors``, how many other annotated objects of the clip have the same one.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refam_analysis.evaluation.datasets.base import ClipExpression, Fact, ReferringClip, Truth
from refam_analysis.evaluation.datasets.facts import sentence_facts
from refam_analysis.evaluation.datasets.files import (
    FileFrames,
    exists,
    is_plain_name,
    join,
    names_in,
    read_json,
    read_labels,
)
from refam_analysis.evaluation.datasets.problems import DatasetFileError, DatasetItemError, Tally
from refam_analysis.evaluation.datasets.rle import BadMaskError, Rle, checked_rle, decode_mask

Categories = Mapping[str, Mapping[str, str]]
"""By video and number of the object."""


@dataclass(frozen=True)
class LabelTruth:
    """Masks in files whose pixels are numbers of objects, as DAVIS and YouTube-VOS store them.

    Attributes:
        folder: of the files.
        frames: that they belong to.
        number: of the object.
        annotated: the frames that have a file.
    """

    folder: str
    frames: FileFrames
    number: int
    annotated: tuple[int, ...]

    def load(self, i: int) -> NDArray[np.bool_]:
        """The mask in frame ``i``; errors as in :func:`~refam_analysis.evaluation.datasets.files.read_labels`."""
        path = join(self.folder, self.frames.names[i] + ".png")
        return read_labels(path, self.frames.label(i), self.frames.size) == self.number


@dataclass(frozen=True)
class RleTruth:
    """Masks in run lengths, of several objects at once, as MeViS stores them.

    Attributes:
        path: of the file that they come from, for errors.
        item: the expression, for errors.
        frames: that they belong to.
        objects: for each object, its mask in every frame; None where it is out of sight.
    """

    path: str
    item: str
    frames: FileFrames
    objects: tuple[tuple[Rle | None, ...], ...]

    @property
    def annotated(self) -> tuple[int, ...]:
        """Every frame."""
        return tuple(range(len(self.frames)))

    def load(self, i: int) -> NDArray[np.bool_]:
        """The union of the objects' masks in frame ``i``.

        Raises:
            DatasetItemError: the run lengths are broken, or of another size than the frame.
        """
        merged = np.zeros(self.frames.size, dtype=np.bool_)
        for rle in (masks[i] for masks in self.objects):
            if rle is None:
                continue
            try:
                mask = decode_mask(rle)
            except BadMaskError as error:
                raise DatasetItemError(self.path, f"{self.item}, frame {self.frames.names[i]}", str(error)) from error
            if mask.shape != merged.shape:
                sizes = f"the mask is {mask.shape} pixels (height, width), the frame {merged.shape}"
                raise DatasetItemError(self.path, f"{self.item}, frame {self.frames.names[i]}", sizes)
            merged |= mask
        return merged


@dataclass(frozen=True)
class Sentence:
    """An expression as the file has it.

    Attributes:
        number: its key among the video's expressions.
        text: the sentence.
        entry: everything that the file says of it.
    """

    number: str
    text: str
    entry: Mapping[str, Any]


@dataclass(frozen=True)
class Video:
    """A video as the file has it: its name, frames and sentences."""

    name: str
    frames: tuple[str, ...]
    sentences: tuple[Sentence, ...]


def read_meta(path: str, tally: Tally) -> tuple[Video, ...]:
    """The videos of a ``meta_expressions.json``, in its order.

    Raises:
        DatasetFileError: it is missing, cut, or of another format.
        DatasetItemError: an entry is broken, where ``tally`` raises.
    """
    data = read_json(path)
    if not isinstance(data, dict) or not isinstance(data.get("videos"), dict):
        raise DatasetFileError(path, "it has no dictionary of videos")
    videos = []
    for name, entry in data["videos"].items():
        with tally.item(path, f"video {name}"):
            frames = tuple(entry["frames"])
            if not frames or not all(is_plain_name(frame) for frame in (*frames, name)):
                raise ValueError("its frames are not a list of names")
            if list(frames) != sorted(set(frames)):
                raise ValueError("its frames are not in order, or one is there twice")
            sentences = tuple(_sentences(path, name, entry["expressions"], tally))
            videos.append(Video(name, frames, sentences))
    return tuple(videos)


def _sentences(path: str, video: str, entries: Mapping[str, Any], tally: Tally) -> Iterable[Sentence]:
    found = []
    for number, entry in entries.items():
        with tally.item(path, f"video {video}, expression {number}"):
            if not isinstance(entry["exp"], str):
                raise ValueError("its text is no string")
            sentence_facts(entry["exp"])
            found.append(Sentence(number, entry["exp"], entry))
    return found


def find_frames(folder: str, video: Video) -> FileFrames:
    """The frames of a video, all of which must be there.

    Raises:
        DatasetItemError: some are missing.
    """
    place = join(folder, video.name)
    files = names_in(place)
    missing = [frame for frame in video.frames if frame + ".jpg" not in files]
    if missing:
        reason = f"{len(missing)} of {len(video.frames)} frames are missing, the first is {missing[0]}.jpg"
        raise DatasetItemError(place, f"video {video.name}", reason)
    return FileFrames(place, video.frames, f"video {video.name}")


@dataclass(frozen=True)
class Labels:
    """The masks of a video in files, by object; the first annotated frame is read once for all of them."""

    folder: str
    frames: FileFrames
    annotated: tuple[int, ...]
    first: NDArray[np.uint8]

    def truth(self, number: int) -> LabelTruth:
        """Of one object."""
        return LabelTruth(self.folder, self.frames, number, self.annotated)

    def area(self, number: int) -> float:
        """Share of the picture that an object covers in the first annotated frame."""
        return float((self.first == number).mean())


def find_labels(folder: str, frames: FileFrames) -> Labels:
    """The mask files of a clip; not every frame needs one.

    Raises:
        DatasetItemError: there is none, or the first is broken or of another size than the frames.
    """
    files = names_in(folder)
    annotated = tuple(i for i, name in enumerate(frames.names) if name + ".png" in files)
    if not annotated:
        raise DatasetItemError(folder, frames.item, "no frame has a mask file")
    first = annotated[0]
    labels = read_labels(join(folder, frames.names[first] + ".png"), frames.label(first), frames.size)
    return Labels(folder, frames, annotated, labels)


def read_categories(path: str, tally: Tally) -> Categories:
    """Categories of the objects from a ``meta.json`` of YouTube-VOS's format; none where there is no such file."""
    if not exists(path):
        return {}
    data = read_json(path)
    videos = data.get("videos") if isinstance(data, dict) else None
    found: dict[str, dict[str, str]] = {}
    for video, entry in videos.items() if isinstance(videos, dict) else ():
        with tally.item(path, f"video {video}"):
            found[video] = {number: str(thing["category"]) for number, thing in entry["objects"].items()}
    return found


def category_facts(categories: Categories, video: str, number: int) -> dict[str, Fact]:
    """``category`` and ``distractors`` of an object, as far as they are known.

    >>> category_facts({"dogs": {"1": "dog", "2": "dog", "3": "leash"}}, "dogs", 1)
    {'category': 'dog', 'distractors': 1}
    """
    named = categories.get(video, {})
    mine = named.get(str(number))
    return {} if mine is None else {"category": mine, "distractors": list(named.values()).count(mine) - 1}


def clip_expression(
    video: Video, sentence: Sentence, truth: Truth | None, kind: str, facts: Mapping[str, Fact]
) -> ClipExpression:
    """A sentence with its truth and its facts."""
    every = {**sentence_facts(sentence.text), "frames": len(video.frames), **facts}
    return ClipExpression(f"{video.name}/{sentence.number}", sentence.text, truth, kind, every)


def clip(video: Video, frames: FileFrames, expressions: Iterable[ClipExpression]) -> ReferringClip | None:
    """A clip, or None where no expression is left."""
    kept = tuple(expressions)
    return ReferringClip(video.name, kept, frames, video.frames) if kept else None


def object_number(sentence: Sentence) -> int:
    """The number of the object that a sentence means."""
    number = int(sentence.entry["obj_id"])
    if not 0 < number < 255:
        raise ValueError(f"its obj_id is {number}, not from 1 to 254")
    return number


def checked_masks(entries: Any, frames: int) -> tuple[Rle | None, ...]:
    """The masks of one object, a frame each.

    Raises:
        ValueError: their number is not that of the frames, or one is no mask.
    """
    if not isinstance(entries, list) or len(entries) != frames:
        count = len(entries) if isinstance(entries, list) else "no"
        raise ValueError(f"it has {count} masks for {frames} frames")
    return tuple(None if entry is None else checked_rle(entry) for entry in entries)
