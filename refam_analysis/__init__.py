"""Record, measure and use the attention of diffusion transformers.

The public names of the library, each imported from its room at its first use, so that ``import refam_analysis``
itself is quick, loads no PyTorch and touches no network. What is not here is reached through its room:
``refam_analysis.evaluation.overall_iou``.

>>> import refam_analysis as ra
>>> "load_model" in dir(ra)
True
>>> ra.Scenes is ra.scenes.Scenes
True
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refam_analysis import analysis as analysis
    from refam_analysis import errors as errors
    from refam_analysis import evaluation as evaluation
    from refam_analysis import figures as figures
    from refam_analysis import models as models
    from refam_analysis import prompts as prompts
    from refam_analysis import recording as recording
    from refam_analysis import scenes as scenes
    from refam_analysis import segmentation as segmentation
    from refam_analysis.analysis import detect_sinks
    from refam_analysis.errors import RefamError
    from refam_analysis.models import DiffusionModel, TokenLayout, load_image, load_model
    from refam_analysis.prompts import (
        DEFAULT_MAGNETS,
        STOP_WORDS,
        EmptyExpressionError,
        Prompt,
        PromptTooLongError,
        Token,
        make_prompt,
    )
    from refam_analysis.recording import (
        Intervention,
        Recorder,
        Recording,
        estimate,
        load_recording,
        record,
        record_batch,
    )
    from refam_analysis.scenes import Expression, Scenes, SceneSample
    from refam_analysis.segmentation import (
        HeatmapSettings,
        NoContentWordsError,
        SegmentationResult,
        VideoResult,
        heatmap,
        segment,
        segment_expressions,
        segment_video,
    )
    from refam_analysis.widgets import Explorer, Probe, explore

__version__ = "0.1.0"

_QUIET = {"HF_HUB_DISABLE_TELEMETRY": "1", "ORT_DISABLE_TELEMETRY": "1", "RAY_USAGE_STATS_ENABLED": "0"}
"""Names in the environment by which libraries of ours are told to report nothing of their use."""

for _name, _value in _QUIET.items():
    os.environ.setdefault(_name, _value)

_ROOMS = ("analysis", "errors", "evaluation", "figures", "models", "prompts", "recording", "scenes", "segmentation")
"""Rooms that are reached as attributes of the package."""

_HOMES = {
    "DEFAULT_MAGNETS": "prompts",
    "DiffusionModel": "models",
    "EmptyExpressionError": "prompts",
    "Explorer": "widgets",
    "Expression": "scenes",
    "HeatmapSettings": "segmentation",
    "Intervention": "recording",
    "NoContentWordsError": "segmentation",
    "Probe": "widgets",
    "Prompt": "prompts",
    "PromptTooLongError": "prompts",
    "Recorder": "recording",
    "Recording": "recording",
    "RefamError": "errors",
    "STOP_WORDS": "prompts",
    "SceneSample": "scenes",
    "Scenes": "scenes",
    "SegmentationResult": "segmentation",
    "Token": "prompts",
    "TokenLayout": "models",
    "VideoResult": "segmentation",
    "detect_sinks": "analysis",
    "estimate": "recording",
    "explore": "widgets",
    "heatmap": "segmentation",
    "load_image": "models",
    "load_model": "models",
    "load_recording": "recording",
    "make_prompt": "prompts",
    "record": "recording",
    "record_batch": "recording",
    "segment": "segmentation",
    "segment_expressions": "segmentation",
    "segment_video": "segmentation",
}
"""Public name -> the room that has it."""

__all__ = [
    "DEFAULT_MAGNETS",
    "DiffusionModel",
    "EmptyExpressionError",
    "Explorer",
    "Expression",
    "HeatmapSettings",
    "Intervention",
    "NoContentWordsError",
    "Probe",
    "Prompt",
    "PromptTooLongError",
    "Recorder",
    "Recording",
    "RefamError",
    "STOP_WORDS",
    "SceneSample",
    "Scenes",
    "SegmentationResult",
    "Token",
    "TokenLayout",
    "VideoResult",
    "detect_sinks",
    "estimate",
    "explore",
    "heatmap",
    "load_image",
    "load_model",
    "load_recording",
    "make_prompt",
    "record",
    "record_batch",
    "segment",
    "segment_expressions",
    "segment_video",
]


def __getattr__(name: str) -> Any:
    """Import a public name, or a room, at its first use (PEP 562)."""
    if name in _ROOMS:
        return importlib.import_module(f"{__name__}.{name}")
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
