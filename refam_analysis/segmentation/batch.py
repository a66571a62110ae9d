"""Many sentences about many pictures, from a table: grouped by picture, and gone on with after an interruption.

A finished item is a mask on disk and a line of a log, in this order, so that what the log tells is whole. What a line
says has a checksum, and so has each file that it names: what does not fit them is computed again. The table of results
is made of the log at the end. How one picture is segmented is in :mod:`refam_analysis.segmentation.pipeline`.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from itertools import groupby
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import pandas as pd
from PIL import Image
from tqdm.auto import tqdm

from refam_analysis.errors import RefamError
from refam_analysis.files import (
    DamagedFileError,
    NotWrittenError,
    add_entry,
    file_checksum,
    read_entries,
    read_json,
    told_when_refused,
    write_entries,
    write_json,
    written_whole,
)
from refam_analysis.models.base import DiffusionModel
from refam_analysis.models.fingerprint import transformers_fingerprint
from refam_analysis.models.images import UnreadableImageError
from refam_analysis.prompts import make_prompt
from refam_analysis.segmentation.batch_table import BadRow, BatchRow, BatchRowError
from refam_analysis.segmentation.gas import NoMagnetsError
from refam_analysis.segmentation.heatmap import content_words
from refam_analysis.segmentation.mask_choice import MaskChoice
from refam_analysis.segmentation.pipeline import segment_expressions
from refam_analysis.segmentation.result import SegmentationResult
from refam_analysis.segmentation.segmenters import Segmenter, chosen_segmenter, load_segmenter_for
from refam_analysis.segmentation.settings import HeatmapSettings

OnError = Literal["stop", "skip"]
Extras = Mapping[str, tuple[str, Callable[[SegmentationResult, Path], None]]]
"""What is written of each result beside its mask: name of a folder -> ending of its files, and what writes one."""

ABOUT, LOG, RESULTS, SKIPPED, MASKS = "batch.json", "finished.jsonl", "results.csv", "skipped.csv", "masks"


class OtherBatchError(RefamError, ValueError):
    """A folder holds the results of another batch than the one that is to go on."""

    def __init__(self, folder: Path, entries: Sequence[str]) -> None:
        super().__init__(
            f"The folder {str(folder)!r} holds a batch that differs in {', '.join(entries)}: give another folder, or "
            "delete this one."
        )


@dataclass(frozen=True)
class BatchOptions:
    """How every row is segmented: the arguments of :func:`~refam_analysis.segmentation.pipeline.segment`.

    Attributes:
        settings: how heatmaps are read, with numbers for blocks.
        magnets: for rows that do not name their own.
        segmenter: a name or a path; None for the one that ships for the scenes that the model knows.
        mask_choice: among the segmenter's candidates.
        seed: of the noise, the same for every row.
    """

    settings: HeatmapSettings
    magnets: tuple[str, ...]
    segmenter: str | None = None
    mask_choice: MaskChoice = "score"
    seed: int = 0


@dataclass(frozen=True)
class BatchReport:
    """What came of a batch.

    Attributes:
        results: a row an answered row of the table, in its order: ``row``, ``image``, ``expression``, ``magnets`` (as
            appended), ``mask`` (path below the folder), ``x``, ``y``, ``candidate``, ``score`` (the segmenter's guess
            of the IoU), ``pixels`` of the mask.
        skipped: a row a bad row of the table: ``row``, ``image``, ``expression``, ``reason``.
    """

    results: pd.DataFrame
    skipped: pd.DataFrame


def segment_rows(
    model: DiffusionModel,
    rows: Sequence[BatchRow],
    out: str | Path,
    options: BatchOptions,
    *,
    on_error: OnError = "stop",
    extras: Extras | None = None,
    batch_size: int = 16,
    progress: bool = False,
) -> BatchReport:
    """Segment every row of a table, and write masks and ``results.csv``.

    An interrupted call, even one that was killed, goes on where it was when it is made again. Items are known by the
    content of their picture, the expression and the magnets, so that rows may be added, mended and moved meanwhile;
    equal rows are computed once.

    Args:
        model: from ``load_model``.
        rows: from :func:`~refam_analysis.segmentation.batch_table.read_rows`.
        out: folder of the results, made when it is not there: ``masks``, ``results.csv``, ``skipped.csv`` where rows
            were skipped, ``batch.json`` (what was asked) and ``finished.jsonl`` (the log).
        options: how every row is segmented.
        on_error: "stop": a bad row ends the batch; all sentences are checked before anything is computed. "skip": bad
            rows are left out, and listed with the reason.
        extras: what else is written of each result.
        batch_size: sentences of one picture in a forward pass.
        progress: show a bar.

    Raises:
        BatchRowError: a row cannot be answered; finished ones stay.
        OtherBatchError: the folder holds a batch of another model or with other options.
        DamagedFileError: what the folder says of its batch is not what was written.
        NotWrittenError: the system refuses to write.
        UnknownSegmenterError, SegmenterFolderError: there is no such segmenter.
    """
    folder, extras = Path(out), extras or {}
    options = replace(options, segmenter=chosen_segmenter(model, options.segmenter))
    work = _Work(model, load_segmenter_for(model, options.segmenter), folder, options, extras, batch_size)
    work.describe()
    log = _Log(folder / LOG)
    good, bad = _sorted_out(model, rows, options)
    if bad and on_error == "stop":
        raise BatchRowError(bad)
    waiting = sorted({item for _, item in good if item.key not in log.finished}, key=attrgetter("image", "magnets"))
    with tqdm(total=len(waiting), desc="sentences", disable=not progress) as bar:
        for _, alike in groupby(waiting, key=attrgetter("image", "magnets")):
            items = list(alike)
            try:
                for item, entry in work.answers(items):
                    log.add(item.key, entry)
                    bar.update()
            except NotWrittenError:
                raise  # it is not the row that is bad
            except RefamError as error:
                failed = {item.key for item in items} - log.finished.keys()
                bad += [BadRow(row, str(error)) for row, item in good if item.key in failed]
                if on_error == "stop":
                    raise BatchRowError(bad) from error
    return _report(folder, good, bad, log)


@dataclass(frozen=True)
class _Item:
    """What is computed once. ``image`` is where it is read, ``key`` goes by what is read there."""

    image: Path
    expression: str
    magnets: tuple[str, ...]
    key: str


@dataclass(frozen=True)
class _Work:
    model: DiffusionModel
    segmenter: Segmenter
    folder: Path
    options: BatchOptions
    extras: Extras
    batch_size: int

    def describe(self) -> None:
        """Write what is asked, or see that the folder has been asked the same."""
        weights = transformers_fingerprint(self.model, self.options.settings.noise_levels)
        asked = {
            "model": self.model.name, "weights": weights, **asdict(self.options), "extras": sorted(self.extras),
        }  # fmt: skip
        del asked["magnets"]  # belong to the items
        asked = json.loads(json.dumps(asked))
        about = self.folder / ABOUT
        if about.is_file():
            there = read_json(about)
            if differing := sorted(name for name in {*there, *asked} if there.get(name) != asked.get(name)):
                raise OtherBatchError(self.folder, differing)
        elif (self.folder / LOG).is_file():
            raise DamagedFileError(about, "it is gone, and with it what the masks beside it follow from")
        for name in (MASKS, *self.extras):
            with told_when_refused(self.folder / name):
                (self.folder / name).mkdir(parents=True, exist_ok=True)
        write_json(about, asked)

    def answers(self, items: Sequence[_Item]) -> Iterator[tuple[_Item, dict[str, Any]]]:
        """Segment sentences about one picture, with the same magnets, and write what came of each."""
        options = self.options
        for first in range(0, len(items), self.batch_size):
            part = items[first : first + self.batch_size]
            results = segment_expressions(
                self.model, part[0].image, [item.expression for item in part], magnets=part[0].magnets,
                segmenter=self.segmenter, settings=options.settings, mask_choice=options.mask_choice,
                seed=options.seed, batch_size=self.batch_size,
            )  # fmt: skip
            for item, result in zip(part, results, strict=True):
                yield item, self._written(item, result)

    def _written(self, item: _Item, result: SegmentationResult) -> dict[str, Any]:
        name = f"{re.sub(r'[^A-Za-z0-9_-]+', '_', item.image.stem)}-{item.key}"
        mask, chosen = Path(MASKS) / f"{name}.png", result.stages["chosen"]
        with written_whole(self.folder / mask) as place:
            Image.fromarray(result.mask).save(place, format="png")
        files = [mask.as_posix()]
        for folder, (ending, write) in self.extras.items():
            files.append(f"{folder}/{name}{ending}")
            write(result, self.folder / files[-1])
        return {
            "files": {file: file_checksum(self.folder / file) for file in files},
            "magnets": " ".join(result.stages["prompt"].magnets),
            "mask": mask.as_posix(),
            "x": result.point[0],
            "y": result.point[1],
            "candidate": int(chosen),
            "score": float(result.stages["scores"][chosen]),
            "pixels": int(result.mask.sum()),
        }


class _Log:
    """The finished items, a line each. One that is damaged, or whose files are, is dropped and computed again."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.finished: dict[str, dict[str, Any]] = {}
        lines = read_entries(path)
        kept = [line for line in lines if line is not None and self._is_whole(line)]
        if kept != lines:
            write_entries(path, kept)
        for line in kept:
            self.finished[line.pop("key")] = line

    def add(self, key: str, entry: dict[str, Any]) -> None:
        add_entry(self.path, {"key": key, **entry})
        self.finished[key] = entry

    def answer(self, key: str) -> dict[str, Any]:
        """What the table of results says of a finished item."""
        return {name: value for name, value in self.finished[key].items() if name != "files"}

    def _is_whole(self, line: Mapping[str, Any]) -> bool:
        return all(file_checksum(self.path.parent / name) == found for name, found in line["files"].items())


def _sorted_out(
    model: DiffusionModel, rows: Sequence[BatchRow], options: BatchOptions
) -> tuple[list[tuple[BatchRow, _Item]], list[BadRow]]:
    """The rows that can be answered, as far as that can be told without opening a picture, and the bad ones."""
    digests: dict[Path, str] = {}
    good, bad = [], []
    for row in rows:
        magnets = options.magnets if row.magnets is None else row.magnets
        try:
            if row.image not in digests:
                digests[row.image] = _digest(row.image)
            prompt = make_prompt(row.expression, magnets)
            content_words(model.tokens(prompt))
            if options.settings.gas == "redirect" and not prompt.magnets:
                raise NoMagnetsError(prompt.expression)
        except RefamError as error:
            bad.append(BadRow(row, str(error)))
            continue
        asked = json.dumps([digests[row.image], prompt.expression, magnets])
        key = hashlib.sha256(asked.encode()).hexdigest()[:16]
        good.append((row, _Item(row.image, prompt.expression, magnets, key)))
    return good, bad


def _digest(image: Path) -> str:
    try:
        return hashlib.sha256(image.read_bytes()).hexdigest()
    except OSError as error:
        raise UnreadableImageError(image, (error.strerror or str(error)).lower()) from error


def _report(folder: Path, good: Sequence[tuple[BatchRow, _Item]], bad: Sequence[BadRow], log: _Log) -> BatchReport:
    """The tables, written and returned; rows in the order of the table."""
    answered = [
        {"row": row.row, "image": str(row.image), "expression": row.expression, **log.answer(item.key)}
        for row, item in good
        if item.key in log.finished
    ]
    left_out = [
        {"row": one.row.row, "image": str(one.row.image), "expression": one.row.expression, "reason": one.reason}
        for one in sorted(bad, key=lambda one: one.row.row)
    ]
    report = BatchReport(pd.DataFrame(answered), pd.DataFrame(left_out))
    with written_whole(folder / RESULTS) as place:
        report.results.to_csv(place, index=False)
    if left_out:
        with written_whole(folder / SKIPPED) as place:
            report.skipped.to_csv(place, index=False)
    else:
        (folder / SKIPPED).unlink(missing_ok=True)
    return report
