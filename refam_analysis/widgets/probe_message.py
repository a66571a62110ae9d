"""What goes between a probe and its browser: states read from what a browser sends, and answers as it draws them.

What comes from a browser is a stranger's: every entry is checked for its type before it is used. What goes there is
plain numbers and texts, which the scripts put into text nodes and never into markup.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from refam_analysis.prompts import Prompt
from refam_analysis.segmentation.settings import GAS, HeatmapSettings
from refam_analysis.widgets.probe_export import UNITS
from refam_analysis.widgets.probe_pictures import MAX_UPLOAD_BYTES, SCENES, Picture, SceneChoice
from refam_analysis.widgets.probe_state import (
    COMPARISONS,
    MAX_CHARACTERS,
    MAX_SEED,
    MEASURES,
    ProbeInputError,
    ProbeState,
    View,
)
from refam_analysis.widgets.probe_view import AnswerView, TokenGroup

_PHOTOGRAPH_PIXELS = 256 * 256
"""A picture with more is sent as a JPEG: a drawing is smaller, and exact, as a PNG."""

FIRST_CHOICES: dict[str, Any] = {
    "expression": "", "stop_words": True, "colours": True, "own_words": "", "noise_level": None, "seed": 0,
    "noun_phrase": None, "spatial_bias": None, "gas": None, "comparison": "nothing", "other": "",
    "source": "scene", "scene": {"number": 0, "objects": 3, "occlusion": 0.0, "shared_attribute": False},
}  # fmt: skip
"""What a browser is given first; it sends the same back, changed."""
FIRST_VIEW: dict[str, Any] = {"block": None, "head": None, "token": None, "measure": MEASURES[0]}


def scene_of(chosen: Mapping[str, Any]) -> SceneChoice:
    """The scene that a browser chose.

    Raises:
        ProbeInputError, SceneChoiceError: it cannot be drawn.
    """
    scene = _entry(chosen, "scene", dict)
    objects = _whole(scene, "objects", 1, 6)
    occlusion = _number(scene, "occlusion", 0.0, 1.0)
    shared = _entry(scene, "shared_attribute", bool)
    return SceneChoice(_whole(scene, "number", 0, 10**9), objects, occlusion, shared)


def state_of(chosen: Mapping[str, Any], picture: Picture) -> ProbeState:
    """The state that a browser chose.

    Args:
        chosen: with the entries of :data:`FIRST_CHOICES`.
        picture: what is asked about.

    Raises:
        ProbeInputError: an entry is missing, or of another type or range.
    """
    level = chosen.get("noise_level")
    return ProbeState(
        picture,
        _entry(chosen, "expression", str),
        stop_words=_entry(chosen, "stop_words", bool),
        colours=_entry(chosen, "colours", bool),
        own_words=_entry(chosen, "own_words", str),
        noise_level=None if level is None else _number(chosen, "noise_level", 0.0, 1.0),
        seed=_whole(chosen, "seed", 0, MAX_SEED),
        noun_phrase=_optional(chosen, "noun_phrase", (True, False)),
        spatial_bias=_optional(chosen, "spatial_bias", (True, False)),
        gas=_optional(chosen, "gas", GAS),
        comparison=_one_of(chosen, "comparison", COMPARISONS),
        other=_entry(chosen, "other", str),
    )


def view_of(sent: Mapping[str, Any]) -> View:
    """The view that a browser chose.

    Raises:
        ProbeInputError: an entry is of another type.
    """
    block, head, token = sent.get("block"), sent.get("head"), sent.get("token")
    block = None if block is None else _whole(sent, "block", 0, 10_000)
    head = None if head is None else _whole(sent, "head", 0, 10_000)
    token = None if token is None else _entry(sent, "token", str)
    return View(measure=_one_of(sent, "measure", MEASURES)).changed(block=block, head=head, token=token)


def picture_address(picture: Picture) -> str:
    """The picture as a data: address, which every page may show."""
    pixels = picture.pixels
    if pixels.width * pixels.height <= _PHOTOGRAPH_PIXELS:
        return f"data:image/png;base64,{base64.b64encode(picture.png()).decode()}"
    written = BytesIO()
    pixels.save(written, format="JPEG", quality=90)
    return f"data:image/jpeg;base64,{base64.b64encode(written.getvalue()).decode()}"


def answer_message(view: AnswerView) -> dict[str, Any]:
    """What does not change with the view: tokens, matrices, mask, point. Arrays are bytes, float32 unless said."""
    result, prompt = view.answer.result, view.answer.question.prompt
    truth = view.answer.question.picture.truth(prompt.expression)
    height, width = result.mask.shape
    return {
        "heading": heading(prompt),
        "tokens": [_token(group) for group in view.groups],
        "imageSinks": view.image_sinks,
        "blocks": view.blocks,
        "heads": view.heads,
        "sites": _packed(view.sites),
        "measures": [{"name": name, "unit": UNITS[name]} for name in view.measures],
        "matrices": [_packed(view.matrix(name)) for name in view.measures],
        "point": [float(part) for part in result.point],
        "mask": np.packbits(result.mask).tobytes(),
        "truth": None if truth is None else np.packbits(truth).tobytes(),
        "size": [int(width), int(height)],
        "share": float(result.mask.mean()),
        "score": float(result.stages["scores"][result.stages["chosen"]]),
        "noun_phrase": phrase.text if (phrase := result.stages["noun_phrase"]) else None,
    }


def map_message(view: AnswerView, picked: View) -> dict[str, Any]:
    """What changes with the view: the map that is picked."""
    shown = view.shown(picked)
    rows, columns = shown.values.shape
    group = view.group(picked.token)
    return {
        "values": _packed(shown.values),
        "rows": int(rows),
        "columns": int(columns),
        "title": shown.title,
        "isHeatmap": shown.is_heatmap,
        "token": None if group is None else group.name,
    }


def offer_message(picture: Picture, own: HeatmapSettings | None, *, model: str, files: bool) -> dict[str, Any]:
    """What a browser needs to draw the controls.

    Args:
        picture: what is asked about.
        own: the model's own settings; None until it is loaded.
        model: its name.
        files: whether files of this machine may be opened.
    """
    offer: dict[str, Any] = {
        "ready": own is not None, "model": model, "title": picture.title, "files": files,
        "expressions": list(picture.expressions), "scenes": SCENES, "maxBytes": MAX_UPLOAD_BYTES,
        "maxCharacters": MAX_CHARACTERS, "defaults": {},
    }  # fmt: skip
    if own is not None:
        offer["defaults"] = {
            "noise_level": own.noise_levels[0], "noun_phrase": own.noun_phrase, "spatial_bias": own.spatial_bias > 0,
            "gas": own.gas,
        }  # fmt: skip
    return offer


def unexpected_message(error: Exception) -> str:
    """What a reader is told about an error that nobody foresaw."""
    return (
        f"Something unexpected happened ({type(error).__name__}: {error}). Try another picture or sentence; if it "
        "happens again, please report it: `raise probe.unexpected` shows where it came from."
    )


def heading(prompt: Prompt) -> str:
    """What a reader is told an answer is of."""
    return f"{prompt.expression} + {len(prompt.magnets)} magnets" if prompt.magnets else prompt.expression


def _packed(values: NDArray[np.floating]) -> bytes:
    return np.ascontiguousarray(values, dtype="<f4").tobytes()


def _token(group: TokenGroup) -> dict[str, Any]:
    blocks = ", ".join(map(str, group.sink_blocks))
    told = f"sink in block {blocks}" if len(group.sink_blocks) == 1 else f"sink in blocks {blocks}"
    note = f"{told}{', acted on' if group.handled else ''} (by its effect in this one picture)" if blocks else None
    badge = ("sink ✓" if group.handled else "sink") if blocks else None
    return {"name": group.name, "text": group.text, "kind": group.kind, "badge": badge, "note": note}


def _entry(entries: Mapping[str, Any], name: str, kind: type) -> Any:
    value = entries.get(name)
    if not isinstance(value, kind):
        raise ProbeInputError(f"{name} should be a {kind.__name__}, and is {str(value)[:40]!r}: choose it anew.")
    return value


def _number(entries: Mapping[str, Any], name: str, low: float, high: float) -> float:
    value = entries.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ProbeInputError(f"{name} is {str(value)[:40]!r}: give a number from {low:g} to {high:g}.")
    return float(value)


def _whole(entries: Mapping[str, Any], name: str, low: int, high: int) -> int:
    value = _number(entries, name, low, high)
    if value != int(value):
        raise ProbeInputError(f"{name} is {value:g}: give a whole number from {low} to {high}.")
    return int(value)


def _optional(entries: Mapping[str, Any], name: str, choices: Sequence[Any]) -> Any:
    return None if entries.get(name) is None else _one_of(entries, name, choices)


def _one_of(entries: Mapping[str, Any], name: str, choices: Sequence[Any]) -> Any:
    value = entries.get(name)
    if not isinstance(value, bool | str) or value not in choices:
        raise ProbeInputError(f"{name} is {str(value)[:40]!r}: choose {' or '.join(map(str, choices))}.")
    return value
