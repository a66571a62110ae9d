"""``load_dataset``: one call for every benchmark."""

from __future__ import annotations

import os
from typing import get_args

from refam_analysis.evaluation.datasets.base import ClipExpression, Item, ReferringDataset
from refam_analysis.evaluation.datasets.catalogue import BENCHMARKS, Benchmark
from refam_analysis.evaluation.datasets.drawn import DrawnClips, DrawnScenes
from refam_analysis.evaluation.datasets.problems import (
    DatasetError,
    EmptySplitError,
    OnError,
    Tally,
    UnknownDatasetError,
)


def load_dataset(
    name: str,
    split: str,
    root: str | os.PathLike[str] | None = None,
    *,
    on_error: OnError = "raise",
    limit: int | None = None,
) -> ReferringDataset:
    """Read a split of a benchmark from its original release.

    Annotations are read and checked here, and every picture or frame must be there; pixels are read where they are
    used, and what is wrong with them is found then (``refam datasets check --pixels`` looks at all of them).

    Args:
        name: one of ``BENCHMARKS``: refcoco, refcoco+, refcocog-umd, refcocog-google, grefcoco, ref-davis17,
            ref-youtube-vos, mevis, scenes, moving-scenes.
        split: in the release's own words; see ``BENCHMARKS[name].splits``.
        root: folder of the release, or an address that fsspec knows ("s3://bucket/coco"); None for scenes.
        on_error: what to do with a broken or incomplete item: "raise", or "skip" to leave it out and list it in
            ``problems``. A file without which nothing can be read is always an error.
        limit: read so many pictures or clips at most, the first ones; scenes are drawn to this number (500, and 300
            clips, by default).

    Returns:
        The items in the order of the release.

    Raises:
        UnknownDatasetError: no data set, or no split of it, has this name.
        ForbiddenPickleError: a list of references asks for code to run.
        DatasetFileError: a file is missing, cut, or something else.
        EmptySplitError: the files name nothing of this split.
        DatasetItemError: an item is broken; with ``on_error="raise"``.

    >>> dataset = load_dataset("scenes", "test", limit=2)
    >>> len(dataset), dataset.video, dataset[1].load().shape
    (2, False, (96, 96, 3))
    """
    benchmark = find_benchmark(name)
    if split not in benchmark.splits:
        raise UnknownDatasetError(f"split of {name}", split, benchmark.splits)
    if on_error not in get_args(OnError):
        raise DatasetError(f"on_error={on_error!r} is unknown: choose one of {', '.join(get_args(OnError))}.")
    if limit is not None and limit < 1:
        raise DatasetError(f"limit={limit} leaves nothing to read: give at least 1, or None for all.")
    if root is None and not benchmark.drawn:
        raise DatasetError(f"{benchmark.title} needs root=, the folder of its release. {benchmark.get}")
    tally = Tally(on_error)
    items = benchmark.read("" if root is None else os.fspath(root), split, tally, limit)
    if not len(items) and not tally.problems:
        raise EmptySplitError(str(root), split, benchmark.get)
    if isinstance(items, (DrawnScenes, DrawnClips)):
        count, has_truth = items.count_expressions(), True
    else:
        count, has_truth = sum(len(item.expressions) for item in items), all(_has_truth(item) for item in items)
    return ReferringDataset(
        name, split, items, count, benchmark.video, benchmark.empty, tuple(tally.problems), has_truth
    )


def find_benchmark(name: str) -> Benchmark:
    """The data set of a name.

    Raises:
        UnknownDatasetError: there is none.
    """
    if name not in BENCHMARKS:
        raise UnknownDatasetError("data set", name, tuple(BENCHMARKS))
    return BENCHMARKS[name]


def _has_truth(item: Item) -> bool:
    return not any(isinstance(one, ClipExpression) and one.truth is None for one in item.expressions)
