"""What a reader can touch: the probe in a notebook, as an app, and the explorer of the rendered book.

Here attention that other rooms recorded is drawn and steered. The scripts and style sheets that browsers load are in
``static``; `scripts` makes one file of each for the world that it is for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from refam_analysis.errors import RefamError

if TYPE_CHECKING:
    from refam_analysis.widgets.explorer import Explorer
    from refam_analysis.widgets.explorer_scenes import explore
    from refam_analysis.widgets.probe import Probe

__all__ = ["Explorer", "Probe", "ProbeNotInstalledError", "explore"]

_HOMES = {"Explorer": "explorer", "Probe": "probe", "explore": "explorer_scenes"}
"""Public name -> the file that has it."""


class ProbeNotInstalledError(RefamError, ImportError):
    """What the widgets alone require is not installed."""

    def __init__(self, missing: str | None) -> None:
        super().__init__(
            f"Probe and explorer need {missing or 'anywidget'}, which is not installed. Install it with: "
            "pip install 'refam-analysis[probe]'"
        )


def __getattr__(name: str) -> Any:
    """Import a public name at its first use: it may need widgets, which the pages of the book do without."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)
    except ModuleNotFoundError as error:
        if error.name not in ("anywidget", "ipywidgets", "traitlets"):
            raise
        raise ProbeNotInstalledError(error.name) from error
