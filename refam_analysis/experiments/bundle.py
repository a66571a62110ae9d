"""Bundles: what one model's runs leave, small enough to send, checked when they are opened.

A bundle is a folder: ``bundle.json`` with a checksum of every other file, the result of ``refam claims`` under
``ledger/``, tables of the phenomena under ``phenomena/``, and a few recordings in half precision under
``recordings/``. Put into the folder of results, it appears in the book beside the embedded one. How the ledger is made
is in `claims`, how the tables are in `phenomena`.
"""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import torch

from refam_analysis.errors import RefamError
from refam_analysis.evaluation.items import GroundingItem, hard_items
from refam_analysis.experiments.claims.ledger import FIRST_SCENE, shipped_sha256
from refam_analysis.experiments.phenomena import phenomena
from refam_analysis.experiments.provenance import RESULTS, Result, Stopwatch, load_result, named_place, write_result
from refam_analysis.files import read_json, write_json, written_folder
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import DEFAULT_MAGNETS
from refam_analysis.recording import Recording, load_recording, record
from refam_analysis.scenes import KINDS

MOST_BYTES = 20_000_000
"""A bundle is sent by mail and committed to a repository: it stays under this size."""

SCENES = 20
"""Of the tables: enough for the detector of sinks to call one that stands alone."""

ABOUT = "bundle.json"
_LEDGER, _PHENOMENA, _RECORDINGS, _FORMAT = "ledger", "phenomena", "recordings", 2
_MAPS = ("text_to_image", "image_to_text", "entropy", "received_from_text", "received_from_image")


class BundleError(RefamError, ValueError):
    """A bundle cannot be written, or is not what was written."""


@dataclass(frozen=True)
class Bundle:
    """One model's results, opened and checked.

    Attributes:
        folder: where it lies.
        name: of the folder.
        model: as it was loaded, such as a hub id.
        revision: of the model, where it is known.
        ledger: with the tables ``ledger``, ``verdicts``, ``scenes`` and ``profiles``.
        phenomena: with the tables of :func:`~refam_analysis.experiments.phenomena.phenomena`.
        recordings: of some scenes, without and with magnets, read when they are used: means over heads, maps of the
            words alone.
    """

    folder: Path
    name: str
    model: str
    revision: str | None
    ledger: Result
    phenomena: Result
    recordings: tuple[Recording, ...]

    @property
    def label(self) -> str:
        """The model's name as figures write it."""
        return short_name(self.model)


def short_name(model: str) -> str:
    """A model's name as figures write it: without the organisation or the folders before it.

    >>> short_name("black-forest-labs/FLUX.1-dev"), short_name("embedded")
    ('FLUX.1-dev', 'embedded')
    """
    return model.rstrip("/").rsplit("/", maxsplit=1)[-1]


def write_bundle(
    ledger: Path, out: Path, *, model: DiffusionModel, scenes: int = SCENES, recordings: int = 2, seed: int = 0,
    progress: bool = False,
) -> Bundle:  # fmt: skip
    """Pack a run of the ledger, with the tables of the phenomena and some recordings of the same model.

    Args:
        ledger: folder that ``refam claims --out`` wrote.
        out: folder to make.
        model: the one that the ledger was made with.
        scenes: that the tables are made from, of the test split and of every kind of sentence, two passes each.
        recordings: how many of the ledger's scenes to keep recordings of, each without and with magnets.
        seed: of their noise.
        progress: show a bar over scenes.

    Raises:
        BundleError: something is at ``out``, the ledger is another model's, or the bundle would be too large.
        NoResultError: there is no ledger.
    """
    if out.exists():
        raise BundleError(f"There is something at {str(out)!r} already: give another folder, or delete it.")
    result = load_result(ledger.name, results=ledger.parent)
    made_with = result.provenance.configuration["model_name"]
    if made_with != model.name:
        raise BundleError(f"The ledger is of {made_with!r}, the model given is {model.name!r}: give the same.")
    with written_folder(out) as partial:
        shutil.copytree(ledger, partial / _LEDGER)
        command = (
            f"refam bundle --ledger {named_place(ledger)} --out {named_place(out)} --model {model.name} "
            f"--scenes {scenes} --recordings {recordings} --seed {seed}"
        )
        _write_phenomena(partial, model, scenes, seed, command, progress=progress)
        style = model.scene_style
        kept = hard_items("test", recordings, skip=FIRST_SCENE, style=style) if recordings else ()
        for i, item in enumerate(kept):
            for name, magnets in (("plain", ()), ("magnets", DEFAULT_MAGNETS)):
                _words_of(model, item, magnets, seed + i).save(partial / _RECORDINGS / f"{i}-{name}.zarr")
        files = _files(partial)
        about = {"format": _FORMAT, "model": model.name, "revision": model.revision, "files": files}
        size = sum(entry["bytes"] for entry in files.values())
        if size > MOST_BYTES:
            raise BundleError(
                f"The bundle would take {size / 1e6:.1f} MB and may take {MOST_BYTES / 1e6:.0f}: ask for fewer "
                "recordings or a smaller picture."
            )
        write_json(partial / ABOUT, about, indent=1)
    return open_bundle(out)


def open_bundle(folder: Path) -> Bundle:
    """Check every file of a bundle against its checksum, and open it.

    Raises:
        BundleError: the folder is no bundle or of another format, or a file is missing, changed or was added.
    """
    about = _about(folder)
    found = _files(folder)
    found.pop(ABOUT, None)
    for name, entry in about["files"].items():
        if name not in found:
            raise BundleError(f"The bundle {str(folder)!r} lacks {name}: copy it again.")
        if found.pop(name) != entry:
            raise BundleError(f"In the bundle {str(folder)!r}, {name} is not what was packed: copy it again.")
    if found:
        raise BundleError(f"The bundle {str(folder)!r} holds what was not packed: {', '.join(sorted(found))}.")
    recordings = sorted((folder / _RECORDINGS).glob("*.zarr"))
    return Bundle(
        folder=folder,
        name=folder.name,
        model=str(about["model"]),
        revision=about.get("revision"),
        ledger=load_result(_LEDGER, results=folder),
        phenomena=load_result(_PHENOMENA, results=folder),
        recordings=tuple(load_recording(path) for path in recordings),
    )


def bundles(results: Path = RESULTS) -> list[Bundle]:
    """The bundles among the results, by name.

    Args:
        results: the folder of all results, or another with bundles in it.

    Raises:
        BundleError: one of them is damaged; nothing is left out silently.
    """
    return [open_bundle(path.parent) for path in sorted(results.glob(f"*/{ABOUT}"))]


def _write_phenomena(
    folder: Path, model: DiffusionModel, scenes: int, seed: int, command: str, *, progress: bool
) -> None:
    watch = Stopwatch()
    items = hard_items("test", scenes, kinds=KINDS, skip=FIRST_SCENE, style=model.scene_style)
    tables = phenomena(model, items, seed=seed, progress=progress)
    configuration = {
        "model_name": model.name, "revision": model.revision, "scenes": scenes, "first_scene": FIRST_SCENE,
        "kinds": list(KINDS), "magnets": list(DEFAULT_MAGNETS), "seed": seed,
    }  # fmt: skip
    provenance = watch.provenance(command, configuration, shipped_sha256(model.name))
    write_result(_PHENOMENA, tables, provenance, results=folder)


def _words_of(model: DiffusionModel, item: GroundingItem, magnets: Sequence[str], seed: int) -> Recording:
    """A recording in half precision, averaged over heads, with the maps of the prompt's words alone."""
    kept = record(
        model, item.shown, item.expression, magnets=magnets, seed=seed, heads="mean", dtype=torch.float16,
        keep=[name for name in _MAPS if name not in model.family.absent],
    )  # fmt: skip
    return kept.select(words=list(dict.fromkeys(token.word for token in kept.tokens if token.word)))


def _about(folder: Path) -> dict[str, Any]:
    try:
        about = read_json(folder / ABOUT)
        files, made = about["files"], about["format"]
        sound = isinstance(files, dict) and isinstance(about["model"], str)
    except FileNotFoundError:
        raise BundleError(f"The folder {str(folder)!r} is no bundle: it has no {ABOUT}.") from None
    except (ValueError, KeyError, TypeError) as error:
        raise BundleError(f"{ABOUT} of the bundle {str(folder)!r} cannot be read ({error!r}).") from error
    if made != _FORMAT:
        raise BundleError(
            f"The bundle {str(folder)!r} has format {made!r}, and this version reads {_FORMAT}: pack the same ledger "
            "again with `refam bundle` of this version."
        )
    if not sound or not all(_inside(name) for name in files):
        raise BundleError(f"{ABOUT} of the bundle {str(folder)!r} names files that are no files of a bundle.")
    return dict(about)


def _inside(name: str) -> bool:
    """Whether a path stays below the bundle."""
    path = PurePosixPath(name)
    return not path.is_absolute() and ".." not in path.parts


def _files(folder: Path) -> dict[str, dict[str, Any]]:
    """Size and sha256 of every file below a folder, by its path there."""
    return {
        path.relative_to(folder).as_posix(): {
            "bytes": path.stat().st_size,
            "sha256": hashlib.sha256(path.read_bytes()).hexdigest(),
        }
        for path in _walk(folder)
    }


def _walk(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.rglob("*")):
        if path.is_symlink():
            raise BundleError(f"{str(path)!r} is a link: a bundle holds plain files only.")
        if path.is_file():
            yield path
