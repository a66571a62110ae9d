"""What a run writes beside its rows: the configuration as it was resolved, the models' weights, the versions.

Entries of the first kind (:func:`identity_of`) must be equal for rows to lie in one folder. The others
(:func:`start_of`) say when and where a start of the run took place.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from importlib import metadata
from typing import TYPE_CHECKING, Any

from refam_analysis.evaluation.datasets.base import ReferringDataset
from refam_analysis.evaluation.runner.configuration import RunConfiguration

if TYPE_CHECKING:
    from refam_analysis.evaluation.runner.groups import LoadedModels

_LIBRARIES = ("numpy", "pycocotools", "segment-anything", "timm", "torchvision")
"""Beside those that a recording names."""


def identity_of(configuration: RunConfiguration, dataset: ReferringDataset) -> dict[str, Any]:
    """What is known of a run before its models are loaded.

    Args:
        configuration: of the run.
        dataset: as it was read.

    Returns:
        Plain values, nested: ``configuration`` and ``data`` (what was found on disk).
    """
    entries = configuration.entries()
    del entries["settings"]  # resolved with the model's own, in describe_models
    return {
        "configuration": entries,
        "data": {
            "items": len(dataset), "expressions": dataset.expressions, "left_out": len(dataset.problems),
            "video": dataset.video, "empty": dataset.empty, "has_truth": dataset.has_truth,
        },
    }  # fmt: skip


def describe_models(loaded: LoadedModels) -> dict[str, Any]:
    """What answers, such that other weights, settings or versions are told apart.

    Args:
        loaded: the models of the run, on any machine.

    Returns:
        Plain values, nested: ``model``, ``segmenter``, ``propagator``, ``settings``, ``versions``.
    """
    from torch import nn

    from refam_analysis import __version__
    from refam_analysis.models.fingerprint import networks_of, weights_fingerprint
    from refam_analysis.recording.record import describe_run

    described = describe_run(loaded.model)
    versions = {name: metadata.version(name) for name in _LIBRARIES}
    parts = [part for part in loaded.model.pipeline.components.values() if isinstance(part, nn.Module)]
    return {
        "model": {name: described[name] for name in ("model", "revision", "family", "model_dtype")}
        | {"weights": weights_fingerprint(*parts)},
        "segmenter": {
            "class": type(loaded.segmenter).__name__,
            "weights": weights_fingerprint(*networks_of(loaded.segmenter)),
        },
        "propagator": {
            "class": type(loaded.propagator).__name__,
            "weights": weights_fingerprint(*networks_of(loaded.propagator)),
        },
        "settings": json.loads(json.dumps(loaded.settings.to_dict())),
        "versions": {"refam-analysis": __version__, "python": platform.python_version()}
        | described["versions"]
        | versions,
    }


def start_of(configuration: RunConfiguration, loaded: LoadedModels | None) -> dict[str, Any]:
    """When and where a run was started, for the record.

    Args:
        configuration: of the run.
        loaded: the models, where they are on this machine.
    """
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": " ".join(sys.argv[1:]) if sys.argv[0].endswith("refam") else None,
        "root": configuration.root,
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "device": None if loaded is None else device_of(loaded),
    }


def device_of(loaded: LoadedModels) -> str:
    """What the model computes on: a GPU by its maker's name, anything else by PyTorch's, such as "cpu"."""
    import torch

    device = loaded.model.device
    return torch.cuda.get_device_name(device) if device.type == "cuda" else device.type


def differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The entries that differ, by their dotted names; an entry that one side lacks is None there.

    >>> differences({"a": {"b": 1, "c": 2}}, {"a": {"b": 1, "c": 3}})
    {'a.c': (2, 3)}
    """
    first, second = _flat(before), _flat(now)
    return {
        name: (first.get(name), second.get(name))
        for name in dict.fromkeys([*first, *second])
        if first.get(name) != second.get(name)
    }


def _flat(entries: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in entries.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
    return flat
