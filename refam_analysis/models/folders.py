"""Model folders in diffusers' format: which parts one has to have, and which it lacks. Nothing is loaded here."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from refam_analysis.errors import RefamError

_TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "vocab.json", "vocab.txt", "tokenizer.model")
_MOST = 65_536
"""Of pixels a side, tokens, steps and frames: more is taken for a broken file before memory is asked for."""
_PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


class ModelFolderError(RefamError, OSError):
    """A model folder lacks a part, or a part of it is broken."""

    def __init__(self, folder: Path, problem: str) -> None:
        super().__init__(
            f"The model folder {str(folder)!r} cannot be used: {problem}. "
            "Give a folder that a diffusers pipeline has saved with save_pretrained, with all its parts."
        )


def check_folder(folder: Path) -> dict[str, Any]:
    """Make sure that all files are there.

    Args:
        folder: as ``save_pretrained`` of a diffusers pipeline writes it.

    Returns:
        Its ``model_index.json``.

    Raises:
        ModelFolderError: names every part that is missing.
    """
    if not (folder / "model_index.json").is_file():
        raise ModelFolderError(folder, "it has no model_index.json")
    index = read_json(folder / "model_index.json")
    if not isinstance(index.get("_class_name"), str):
        raise ModelFolderError(folder, "its model_index.json names no pipeline class (_class_name)")
    parts = dict(_parts(folder, index))
    problems = [problem for name, class_name in parts.items() for problem in _missing(folder / name, class_name)]
    if problems:
        raise ModelFolderError(folder, "; ".join(problems))
    return index


def check_settings(folder: Path, settings: Mapping[str, Any]) -> None:
    """Make sure that a folder's ``refam.json`` says what a model can be.

    Args:
        folder: that it is in.
        settings: what it holds; entries that are not known here are left to their readers.

    Raises:
        ModelFolderError: an entry is of another kind, or out of all bounds.
    """
    sizes = settings.get("image_size", [1, 1])
    if not isinstance(sizes, list) or len(sizes) != 2:
        raise ModelFolderError(folder, f"its refam.json has {sizes!r} for image_size, not height and width")
    whole = [(name, settings[name]) for name in ("text_length", "steps", "frames") if name in settings]
    for name, value in (*whole, *(("image_size", side) for side in sizes)):
        if type(value) is not int or not 1 <= value <= _MOST:
            raise ModelFolderError(folder, f"its refam.json has {value!r} in {name}, not a number from 1 to {_MOST:,}")
    guidance = settings.get("guidance", 1.0)
    if type(guidance) not in (int, float) or not math.isfinite(guidance):
        raise ModelFolderError(folder, f"its refam.json has {guidance!r} for guidance, which is no number")
    if not isinstance(settings.get("grounding", {}), dict):
        raise ModelFolderError(folder, "its refam.json has no heatmap settings by name in grounding")


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model folder.

    Raises:
        ModelFolderError: the file holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ModelFolderError(path.parent, f"{path.name} is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise ModelFolderError(path.parent, f"{path.name} holds no JSON object")
    return content


def _parts(folder: Path, index: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Name and class of every part that the folder does not do without."""
    for name, entry in index.items():
        if not isinstance(entry, list):
            continue
        if len(entry) != 2 or not all(isinstance(one, str | None) for one in entry):
            raise ModelFolderError(folder, f"its model_index.json has no library and class for {name!r}")
        if entry[0]:
            # A name is that of a folder inside this one.
            if not entry[1] or Path(name).name != name or "\0" in name:
                raise ModelFolderError(folder, f"its model_index.json names a part {name!r} of the class {entry[1]!r}")
            yield name, entry[1]


def _missing(part: Path, class_name: str) -> Iterator[str]:
    """What a part of the pipeline lacks, each as half a sentence."""
    if not os.path.isdir(part):
        yield f"it has no {part.name}/ folder"
    elif "Tokenizer" in class_name:
        yield from _needs_one_of(part, _TOKENIZER_FILES)
    elif class_name.endswith("Scheduler"):
        yield from _needs_one_of(part, ("scheduler_config.json",))
    elif class_name.endswith(("Processor", "FeatureExtractor")):
        yield from _needs_one_of(part, _PROCESSOR_FILES)
    else:
        yield from _needs_one_of(part, ("config.json",))
        yield from _missing_weights(part)


def _needs_one_of(part: Path, names: tuple[str, ...]) -> Iterator[str]:
    if not any((part / name).is_file() for name in names):
        yield f"{part.name}/ has no {' or '.join(names)}"


def _shards(index: Path) -> set[str]:
    shards = read_json(index).get("weight_map", {})
    if not isinstance(shards, dict) or not all(isinstance(shard, str) for shard in shards.values()):
        raise ModelFolderError(index.parent, f"{index.name} does not say which file holds which tensor")
    return set(shards.values())


def _missing_weights(part: Path) -> Iterator[str]:
    for index in part.glob("*.safetensors.index.json"):
        shards = sorted(_shards(index))
        yield from (f"{part.name}/ lacks {shard}" for shard in shards if not os.path.isfile(part / shard))
        return
    if any(part.glob("*.safetensors")):
        return
    if any(part.glob("*.bin")):
        yield f"{part.name}/ has pickled weights only (.bin), which are not read: save them as safetensors"
    else:
        yield f"{part.name}/ has no weights (.safetensors)"
