"""Record, measure and use the attention of diffusion transformers.

The public names of the library, each imported from its room at its first use, so that ``import refam_analysis``
itself is quick, loads no PyTorch and touches no network. What is not here is reached through its room:
``refam_analysis.evaluation.overall_iou``.

>>> import refam_analysis as ra
>>> "load_model" in dir(ra)
True
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from refam_analysis.errors import RefamError

__version__ = "0.1.0"

_HOMES = {
    "RefamError": "errors",
}
"""Public name -> the room that has it."""

_ROOMS = ("errors",)
"""Rooms that are reached as attributes of the package."""

__all__ = ["RefamError"]


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
