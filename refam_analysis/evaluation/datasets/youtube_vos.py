"""Ref-YouTube-VOS, from the release of the YouTube-VOS challenge.

On disk, below the root:

    meta_expressions/train/meta_expressions.json    also valid/ and test/
    train/JPEGImages/0043f083b5/00000.jpg           every fifth frame of the video
    train/Annotations/0043f083b5/00000.png          palette; indices are numbers of objects
    train/meta.json                                 categories, where it is there
    valid/JPEGImages/..., test/JPEGImages/...

The file of the split ``valid`` names 507 videos, and 305 of them are those of ``test``; the challenge's validation set
is the other 202. Only ``train`` has truth: masks of ``valid`` are scored by the challenge's server. Kinds are "place"
and "no place"; facts are those of :mod:`refam_analysis.evaluation.datasets.clips`.

Source: ``ytvos.py`` and ``inference_ytvos.py`` of github.com/wjn922/ReferFormer, and its notes on the two sets; Seo et
al., "URVOS", ECCV 2020. Where the test videos' frames are is not said there; they are looked for in ``test`` and then
in ``valid``.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from refam_analysis.evaluation.datasets.base import ClipExpression, ReferringClip
from refam_analysis.evaluation.datasets.clips import (
    Categories,
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
from refam_analysis.evaluation.datasets.facts import place_kind, sentence_facts
from refam_analysis.evaluation.datasets.files import exists, join
from refam_analysis.evaluation.datasets.problems import Tally


def meta_path(root: str, split: str) -> str:
    """Where the expressions of a split are."""
    return join(root, "meta_expressions", split, "meta_expressions.json")


def read_youtube_vos(root: str, split: str, tally: Tally, limit: int | None = None) -> tuple[ReferringClip, ...]:
    """The clips of a split, in the order of its file.

    Args and errors are those of :func:`refam_analysis.evaluation.datasets.refcoco.read_refcoco`.
    """
    path = meta_path(root, split)
    videos = read_meta(path, tally)
    test = meta_path(root, "test")
    if split == "valid" and exists(test):
        others = {video.name for video in read_meta(test, tally)}
        videos = tuple(video for video in videos if video.name not in others)
    categories = read_categories(join(root, split, "meta.json"), tally)
    return tuple(islice(_clips(root, split, path, videos, categories, tally), limit))


def _clips(
    root: str, split: str, path: str, videos: tuple[Video, ...], categories: Categories, tally: Tally
) -> Iterator[ReferringClip]:
    for video in videos:
        with tally.item(path, f"video {video.name}"):
            here = exists(join(root, split, "JPEGImages", video.name))
            frames = find_frames(join(root, split if here or split != "test" else "valid", "JPEGImages"), video)
            expressions: list[ClipExpression] = []
            labels = find_labels(join(root, split, "Annotations", video.name), frames) if split == "train" else None
            for sentence in video.sentences:
                with tally.item(path, f"video {video.name}, expression {sentence.number}"):
                    kind = place_kind(sentence_facts(sentence.text))
                    if labels is None:
                        expressions.append(clip_expression(video, sentence, None, kind, {}))
                        continue
                    number = object_number(sentence)
                    facts = category_facts(categories, video.name, number) | {"target_area": labels.area(number)}
                    expressions.append(clip_expression(video, sentence, labels.truth(number), kind, facts))
            made = clip(video, frames, expressions)
            if made is not None:
                yield made
