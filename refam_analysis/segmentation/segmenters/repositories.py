"""Repositories in transformers' form, as a folder or on the model hub: what tells them, without loading anything."""

from __future__ import annotations

import json
from pathlib import Path


def model_type(folder: Path) -> str:
    """What a folder's ``config.json`` calls its model, such as "sam2_video"; empty where it does not say.

    >>> model_type(Path("nowhere"))
    ''
    """
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return ""
    return str(config.get("model_type", "")) if isinstance(config, dict) else ""


def is_hub_id(source: str) -> bool:
    """Whether a text has the form of an id on the model hub, an owner and a name.

    >>> is_hub_id("facebook/sam2.1-hiera-tiny"), is_hub_id("./sam2"), is_hub_id("sam2")
    (True, False, False)
    """
    return source.count("/") == 1 and not source.startswith((".", "/", "~"))
