"""Loading: the embedded model, a model of the hub, a local folder or a live pipeline becomes a model of its family.

Which family a pipeline belongs to is in `registry`. Only safetensors are read, never pickled weights; a local folder
needs no network. Which part a folder lacks is said before anything is loaded (`folders`).
"""

from __future__ import annotations

import importlib
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any, get_args

import torch
from diffusers import DiffusionPipeline
from diffusers.utils import logging as diffusers_logging
from transformers.utils import logging as transformers_logging

from refam_analysis.models.base import DiffusionModel
from refam_analysis.models.family import ModelDefaults
from refam_analysis.models.folders import ModelFolderError, check_folder, check_settings, read_json
from refam_analysis.models.registry import PIPELINES, family_class
from refam_analysis.scenes.sampling import Style
from refam_analysis.weights import embedded_folder

EMBEDDED_MODELS = MappingProxyType(
    {"embedded": "embedded-dit", "embedded-rich": "embedded-rich", "embedded-video": "embedded-video"}
)
"""Names of the models that ship with the package, and their folders among the weights."""

_OWN_SETTINGS = "refam.json"


def load_model(
    source: str | Path | DiffusionPipeline,
    *,
    device: str | torch.device | None = None,
    dtype: torch.dtype | None = None,
) -> DiffusionModel:
    """Load a diffusion transformer with its text encoders and its autoencoder.

    Args:
        source: "embedded" for the small model that ships with the package, "embedded-rich" for the deeper one of richer
            scenes, "embedded-video" for the one of moving scenes; an id of the model hub, which is downloaded; a
            folder in diffusers' format; or a pipeline that is already in memory, whose parts are used as they are
            (with its offloading, quantisation and device map).
        device: where to compute; the CPU when left out, and for a live pipeline where it is.
        dtype: of all parts. When left out, the embedded models and everything on the CPU are computed in float32, and
            a model on another device in bfloat16; a live pipeline stays as it is.

    Returns:
        The model, ready to record from, on its device.

    Raises:
        MissingWeightsError: the package came without the embedded model.
        ModelFolderError: no such folder or repository, or a part of it is missing or broken; the message names it.
        UnsupportedModelError: a family that is not known here.
    """
    if isinstance(source, DiffusionPipeline):
        if device is not None or dtype is not None:
            source.to(device=device, dtype=dtype)
        name = getattr(source.config, "_name_or_path", None) or type(source).__name__
        return _model(source, {}, name=str(name), revision=None)
    folder, revision = _folder(str(source))
    family_class(check_folder(folder)["_class_name"])  # before the weights are read
    settings = _settings(folder)
    device = torch.device(device or "cpu")
    dtype = dtype or (torch.float32 if str(source) in EMBEDDED_MODELS or device.type == "cpu" else torch.bfloat16)
    pipeline = _load_pipeline(folder, dtype).to(device)
    return _model(pipeline, settings, name=str(source), revision=revision)


def usual_device(source: str) -> str | None:
    """Where the commands, the notebooks and the probe compute: a GPU where there is one, but for what ships.

    Args:
        source: as for :func:`load_model`, or the name of a segmenter.

    Returns:
        "cuda"; or None, which is the CPU, where the embedded models stay, as in the book.

    >>> usual_device("embedded") is None
    True
    """
    return "cuda" if source not in EMBEDDED_MODELS and torch.cuda.is_available() else None


def _folder(source: str) -> tuple[Path, str | None]:
    """Where the files are, and the revision of a model of the hub."""
    if source in EMBEDDED_MODELS:
        return embedded_folder(EMBEDDED_MODELS[source]), None
    path = Path(os.path.expanduser(source))
    if os.path.isdir(path):
        return path, None
    if source.count("/") != 1 or source.startswith((".", "/", "~")) or os.path.exists(path):
        raise ModelFolderError(path, "there is no such folder")
    try:
        family_class(DiffusionPipeline.load_config(source).get("_class_name", ""))  # before gigabytes are fetched
        folder = Path(DiffusionPipeline.download(source, use_safetensors=True))
    except (OSError, ValueError) as error:
        raise ModelFolderError(path, f"there is no such folder, and the hub does not give it ({error})") from error
    return folder, folder.name


def _settings(folder: Path) -> dict[str, Any]:
    """What the folder's ``refam.json`` says; nothing where there is none."""
    path = folder / _OWN_SETTINGS
    settings = read_json(path) if path.is_file() else {}
    check_settings(folder, settings)
    known = get_args(Style)
    if (style := settings.get("scenes", "plain")) not in known:
        raise ModelFolderError(folder, f"its {path.name} names scenes {style!r}, and there are {' and '.join(known)}")
    return settings


def _load_pipeline(folder: Path, dtype: torch.dtype) -> DiffusionPipeline:
    index = read_json(folder / "model_index.json")
    with _quiet():
        parts: dict[str, torch.nn.Module | None] = {
            part: _load_part(folder, part, library, class_name, dtype)
            for part, (library, class_name) in ((k, v) for k, v in index.items() if isinstance(v, list) and v[0])
            if _has_weights(library, class_name)
        }
        # A part that the folder does without (T5 in Stable Diffusion 3) is given as such, or diffusers asks for it.
        parts |= {part: None for part, value in index.items() if isinstance(value, list) and not value[0]}
        try:
            pipeline = DiffusionPipeline.from_pretrained(folder, local_files_only=True, dtype=dtype, **parts)
        except Exception as error:
            # A tokenizer or a schedule of which the files are broken raises whatever its reader meets.
            problem = f"its parts cannot be put together ({type(error).__name__}: {error})"
            raise ModelFolderError(folder, problem) from error
    # None: no bar where nobody watches, such as in a log or in a notebook that is executed for the book.
    pipeline.set_progress_bar_config(disable=None)
    return pipeline


def _has_weights(library: str, class_name: str) -> bool:
    found = getattr(importlib.import_module(library), class_name, None) if library in _LIBRARIES else None
    return isinstance(found, type) and issubclass(found, torch.nn.Module)


_LIBRARIES = ("diffusers", "transformers")


def _load_part(folder: Path, part: str, library: str, class_name: str, dtype: torch.dtype) -> torch.nn.Module:
    """One part with weights. The libraries fill what a file lacks with random numbers; here that is an error."""
    part_class = getattr(importlib.import_module(library), class_name)
    options: dict[str, Any] = {"use_safetensors": True, "local_files_only": True, "output_loading_info": True}
    try:
        module, report = part_class.from_pretrained(folder / part, dtype=dtype, **options)
    except Exception as error:
        raise ModelFolderError(folder, f"its {part}/ cannot be loaded ({type(error).__name__}: {error})") from error
    if missing := sorted(report["missing_keys"]):
        raise ModelFolderError(folder, f"the weights in {part}/ lack {len(missing)} tensors, such as {missing[0]}")
    return module


def _model(
    pipeline: DiffusionPipeline, settings: Mapping[str, Any], *, name: str, revision: str | None
) -> DiffusionModel:
    known = [base.__name__ for base in type(pipeline).__mro__ if base.__name__ in PIPELINES]
    family = family_class(known[0] if known else type(pipeline).__name__)
    defaults = family.pipeline_defaults(pipeline)
    return family(pipeline, _with_settings(defaults, settings), name=name, revision=revision)


def _with_settings(defaults: ModelDefaults, settings: Mapping[str, Any]) -> ModelDefaults:
    """The family's defaults, overridden by the folder's ``refam.json``."""
    height, width = settings.get("image_size", defaults.image_size)
    return ModelDefaults(
        image_size=(int(height), int(width)),
        text_length=int(settings.get("text_length", defaults.text_length)),
        steps=int(settings.get("steps", defaults.steps)),
        guidance=float(settings.get("guidance", defaults.guidance)),
        grounding=MappingProxyType(dict(settings.get("grounding", {}))),
        frames=int(settings.get("frames", defaults.frames)),
        scenes=settings.get("scenes", defaults.scenes),
    )


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep the libraries' progress bars and remarks away, such as that AutoencoderTiny is no AutoencoderKL."""
    libraries = (diffusers_logging, transformers_logging)
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    try:
        for library in libraries:
            library.set_verbosity_error()
            library.disable_progress_bar()
        yield
    finally:
        for library, (verbosity, had_bar) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            if had_bar:
                library.enable_progress_bar()
