"""MeViS: sentences about motion, each about one object or several, from the release of its authors.

On disk, below the root, for train, valid_u and valid:

    valid_u/meta_expressions.json       Ref-YouTube-VOS's format; an expression has exp, and lists obj_id and anno_id
    valid_u/mask_dict.json              {"0": [run lengths of frame 0 or null, of frame 1, ...], ...} by anno_id
    valid_u/JPEGImages/0ab4afe7fb46/00000.jpg

The truth of an expression in a frame is the union of the masks of its anno_ids; null means out of sight, and every
frame is annotated. ``valid`` has no mask_dict.json: its masks are scored by the authors' server. The second version of
the release has expressions without any target; that they come with empty lists is our reading of its description, not
checked on the files. Kinds are "one target", "several targets", "no target", and "" where the truth is held back;
``targets`` among the facts is their number.

Source: README, ``ReferFormer_dataset.py`` and ``tools/eval_mevis.py`` of github.com/henghuiding/MeViS.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from itertools import islice
from typing import Any

from refam_analysis.evaluation.datasets.base import ClipExpression, Fact, ReferringClip
from refam_analysis.evaluation.datasets.clips import (
    RleTruth,
    Sentence,
    Video,
    checked_masks,
    clip,
    clip_expression,
    find_frames,
    read_meta,
)
from refam_analysis.evaluation.datasets.files import FileFrames, join, read_json
from refam_analysis.evaluation.datasets.problems import DatasetFileError, DatasetItemError, Tally
from refam_analysis.evaluation.datasets.rle import Rle

WITHOUT_TRUTH = ("valid",)


def read_mevis(root: str, split: str, tally: Tally, limit: int | None = None) -> tuple[ReferringClip, ...]:
    """The clips of a split, in the order of its file.

    Args and errors are those of :func:`refam_analysis.evaluation.datasets.refcoco.read_refcoco`.
    """
    path = join(root, split, "meta_expressions.json")
    videos = read_meta(path, tally)
    masks = None
    if split not in WITHOUT_TRUTH:
        place = join(root, split, "mask_dict.json")
        masks = _Masks(place, read_json(place))
    return tuple(islice(_clips(join(root, split, "JPEGImages"), path, videos, masks, tally), limit))


class _Masks:
    """The masks of ``mask_dict.json``, checked when they are first asked for."""

    def __init__(self, path: str, entries: Any) -> None:
        if not isinstance(entries, dict):
            raise DatasetFileError(path, f"it holds a {type(entries).__name__}, not masks by anno_id")
        self.path = path
        self._entries: Mapping[str, Any] = entries
        self._checked: dict[tuple[str, int], tuple[Rle | None, ...]] = {}

    def of(self, number: str, frames: int, item: str) -> tuple[Rle | None, ...]:
        """Masks of an annotation, one a frame."""
        if (number, frames) not in self._checked:
            try:
                self._checked[number, frames] = checked_masks(self._entries[number], frames)
            except KeyError as error:
                raise DatasetItemError(self.path, f"{item}, annotation {number}", f"there is no {error}") from error
            except (ValueError, TypeError) as error:
                raise DatasetItemError(self.path, f"{item}, annotation {number}", str(error)) from error
        return self._checked[number, frames]


def _clips(
    folder: str, path: str, videos: tuple[Video, ...], masks: _Masks | None, tally: Tally
) -> Iterator[ReferringClip]:
    for video in videos:
        with tally.item(path, f"video {video.name}"):
            frames = find_frames(folder, video)
            expressions: list[ClipExpression] = []
            for sentence in video.sentences:
                with tally.item(path, f"video {video.name}, expression {sentence.number}"):
                    expressions.append(_expression(video, sentence, frames, masks))
            made = clip(video, frames, expressions)
            if made is not None:
                yield made


def _expression(video: Video, sentence: Sentence, frames: FileFrames, masks: _Masks | None) -> ClipExpression:
    if masks is None:
        return clip_expression(video, sentence, None, "", {})
    numbers = sentence.entry["anno_id"]
    if not isinstance(numbers, list):
        raise ValueError("its anno_id is no list")
    item = f"video {video.name}, expression {sentence.number}"
    objects = tuple(masks.of(str(number), len(frames), item) for number in numbers)
    truth = RleTruth(masks.path, item, frames, objects)
    facts: dict[str, Fact] = {"targets": len(objects), "target_area": float(truth.load(0).mean())}
    kind = {0: "no target", 1: "one target"}.get(len(objects), "several targets")
    return clip_expression(video, sentence, truth, kind, facts)
