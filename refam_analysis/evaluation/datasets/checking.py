"""Whether a release is complete: what is there, what is missing or broken, and its counts beside the published ones."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from refam_analysis.evaluation.datasets.base import ReferringClip, ReferringDataset, ReferringImage
from refam_analysis.evaluation.datasets.catalogue import Benchmark, Count
from refam_analysis.evaluation.datasets.loading import find_benchmark, load_dataset
from refam_analysis.evaluation.datasets.problems import (
    DatasetFileError,
    DatasetItemError,
    EmptySplitError,
    Problem,
    UnknownDatasetError,
)

Progress = Callable[[Iterable[object], str], Iterable[object]]
"""Wraps what is gone through, and shows how far it is; the second argument names it."""


@dataclass(frozen=True)
class SplitCheck:
    """What was found of one split.

    Attributes:
        split: its name.
        items: pictures or clips that can be used.
        expressions: sentences that can be used.
        published: what its makers count.
        problems: what cannot be used, and why.
        has_truth: whether its masks are released.
    """

    split: str
    items: int
    expressions: int
    published: Count
    problems: tuple[Problem, ...]
    has_truth: bool

    @property
    def complete(self) -> bool:
        """Whether nothing is wrong or missing, and the counts are the published ones, as far as there are any."""
        other_items = self.published.items is not None and self.items != self.published.items
        other_expressions = bool(self.published.expressions) and self.expressions not in self.published.expressions
        return self.items > 0 and not self.problems and not other_items and not other_expressions


@dataclass(frozen=True)
class DatasetCheck:
    """What was found of a data set.

    Attributes:
        name: of the data set.
        root: where it was looked for.
        benchmark: what it should be.
        splits: one entry a split.
    """

    name: str
    root: str
    benchmark: Benchmark
    splits: tuple[SplitCheck, ...]

    @property
    def complete(self) -> bool:
        """Whether every split is."""
        return all(split.complete for split in self.splits)

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Of every split, each once."""
        return tuple(dict.fromkeys(problem for split in self.splits for problem in split.problems))

    def summary(self, *, most: int = 20) -> str:
        """All of it in words.

        Args:
            most: how many problems to write out.
        """
        kind = "clips" if self.benchmark.video else "pictures"
        rows: list[tuple[str, ...]] = [("split", kind, "published", "expressions", "published", "masks", "")]
        rows += [_row(split) for split in self.splits]
        widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
        table = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
        lines = [f"{self.benchmark.title} in {self.root}", "", *table, ""]
        lines += [str(problem) for problem in self.problems[:most]]
        if len(self.problems) > most:
            lines.append(f"... and {len(self.problems) - most} more")
        if self.benchmark.counted_by:
            lines.append(f"Published: {self.benchmark.counted_by}.")
        if not self.complete:
            lines.append(f"Where to get it: {self.benchmark.get}")
        lines.append("Complete." if self.complete else "Not complete.")
        return "\n".join(lines)


def check_dataset(
    name: str,
    root: str | os.PathLike[str],
    *,
    splits: Sequence[str] = (),
    pixels: bool = False,
    progress: Progress = lambda items, name: items,
) -> DatasetCheck:
    """Read a release as far as it can be read, and say what is missing.

    Args:
        name: of the data set; one that has files.
        root: folder of its release, or an address that fsspec knows.
        splits: to look at; all of them by default.
        pixels: read every picture, frame and mask too, which takes as long as reading all of them once.
        progress: shows how far the reading of pixels is.

    Raises:
        UnknownDatasetError: no data set, or no split of it, has this name.
    """
    benchmark = find_benchmark(name)
    if unknown := [split for split in splits if split not in benchmark.splits]:
        raise UnknownDatasetError(f"split of {name}", unknown[0], benchmark.splits)
    checked = tuple(
        _check_split(name, split, os.fspath(root), benchmark.published.get(split, Count()), pixels, progress)
        for split in splits or benchmark.splits
    )
    return DatasetCheck(name, os.fspath(root), benchmark, checked)


def _check_split(name: str, split: str, root: str, published: Count, pixels: bool, progress: Progress) -> SplitCheck:
    try:
        dataset = load_dataset(name, split, root, on_error="skip")
    except (DatasetFileError, EmptySplitError) as error:
        return SplitCheck(split, 0, 0, published, (error.problem,), has_truth=False)
    broken = _broken_pixels(dataset, progress) if pixels else ()
    return SplitCheck(
        split, len(dataset), dataset.expressions, published, (*dataset.problems, *broken), dataset.has_truth
    )


def _broken_pixels(dataset: ReferringDataset, progress: Progress) -> tuple[Problem, ...]:
    """What is wrong with pictures, frames and masks once they are read."""
    problems: list[Problem] = []
    for item in progress(dataset, f"{dataset.name} {dataset.split}"):
        reads: list[Callable[[], object]] = []
        if isinstance(item, ReferringImage):
            reads.append(item.load)
        elif isinstance(item, ReferringClip):
            for i in range(len(item)):
                reads.append(lambda clip=item, i=i: clip.load_frame(i))  # type: ignore[misc]
                reads += [lambda one=one, i=i: one.load_masks(i) for one in item.expressions]  # type: ignore[misc]
        for read in reads:
            try:
                read()
            except DatasetItemError as error:
                problems.append(error.problem)
    return tuple(dict.fromkeys(problems))


def _row(split: SplitCheck) -> tuple[str, ...]:
    items = "?" if split.published.items is None else f"{split.published.items:,}"
    expressions = " or ".join(f"{count:,}" for count in split.published.expressions) or "?"
    truth = "there" if split.has_truth else "held back" if split.items else "?"
    said = "complete" if split.complete else f"{len(split.problems)} problems" if split.problems else "other counts"
    return split.split, f"{split.items:,}", items, f"{split.expressions:,}", expressions, truth, said
