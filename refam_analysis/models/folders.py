"""Model folders in diffusers' format: which parts one has to have, and which it lacks. Nothing is loaded here."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from refam_analysis.errors import RefamError

_TOKENIZER_FILES = ("tokenizer.json", "spiece.model", "vocab.json", "vocab.txt", "tokenizer.model")
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
    parts = {name: entry[1] for name, entry in index.items() if isinstance(entry, list) and entry[0]}
    problems = [problem for name, class_name in parts.items() for problem in _missing(folder / name, class_name)]
    if problems:
        raise ModelFolderError(folder, "; ".join(problems))
    return index


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in a file of a model folder.

    Raises:
        ModelFolderError: the file holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ModelFolderError(path.parent, f"{path.name} is no JSON ({error})") from error
    if not isinstance(content, dict):
        raise ModelFolderError(path.parent, f"{path.name} holds no JSON object")
    return content


def _missing(part: Path, class_name: str) -> Iterator[str]:
    """What a part of the pipeline lacks, each as half a sentence."""
    if not part.is_dir():
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


def _missing_weights(part: Path) -> Iterator[str]:
    for index in part.glob("*.safetensors.index.json"):
        shards = sorted(set(read_json(index).get("weight_map", {}).values()))
        yield from (f"{part.name}/ lacks {shard}" for shard in shards if not (part / shard).is_file())
        return
    if any(part.glob("*.safetensors")):
        return
    if any(part.glob("*.bin")):
        yield f"{part.name}/ has pickled weights only (.bin), which are not read: save them as safetensors"
    else:
        yield f"{part.name}/ has no weights (.safetensors)"
