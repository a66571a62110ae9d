"""What the explorer shows of a scene, and how it is written: attention in seven bits, as text that a script can hold.

Here arrays become plain values and come back; nothing here runs a model, knows where files lie, or draws. A map has a
scale of its own (its smallest value and the width of a step), because maps of one scene differ by orders of magnitude.
"""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray
from PIL import Image

Floats = NDArray[np.floating[Any]]
ViewName = Literal["without", "with"]
"""The same sentence without magnets and with them."""

LIST = Path(__file__).with_name("data") / "explorer-scenes.json"
"""The scenes of the book's page, see `explorer_list`."""

MAP_BITS = 7
MASS_BITS = 16


@dataclass(frozen=True)
class Quantised:
    """Numbers as whole steps above the smallest of their group.

    Attributes:
        codes: uint8 or uint16, the shape of the numbers.
        low: float32, one a group: the smallest number.
        step: float32, one a group: the width of a step; 0 where all numbers of the group are equal.
    """

    codes: NDArray[np.unsignedinteger[Any]]
    low: NDArray[np.float32]
    step: NDArray[np.float32]

    def restore(self) -> NDArray[np.float64]:
        """The numbers again, each less than 0.51 steps away from what it was (half a step, and float32's rounding)."""
        group = (...,) + (None,) * (self.codes.ndim - self.low.ndim)
        return self.low.astype(np.float64)[group] + self.codes * self.step.astype(np.float64)[group]

    def to_dict(self) -> dict[str, Any]:
        """For JSON: the bytes, little endian, in base64, and the shape of the codes."""
        kind = "<u2" if self.codes.dtype == np.uint16 else "|u1"
        return {
            "codes": _text(self.codes.astype(kind)),
            "low": _text(self.low.astype("<f4")),
            "step": _text(self.step.astype("<f4")),
            "bits": 8 * self.codes.dtype.itemsize,
            "shape": list(self.codes.shape),
            "groups": list(self.low.shape),
        }

    @classmethod
    def from_dict(cls, entry: Mapping[str, Any]) -> Quantised:
        """What :meth:`to_dict` wrote."""
        codes = np.frombuffer(base64.b64decode(entry["codes"]), "<u2" if entry["bits"] == 16 else "|u1")
        low, step = (np.frombuffer(base64.b64decode(entry[name]), "<f4") for name in ("low", "step"))
        return cls(codes.reshape(entry["shape"]), low.reshape(entry["groups"]), step.reshape(entry["groups"]))


def quantise(values: ArrayLike, *, shared: int, bits: int = MAP_BITS) -> Quantised:
    """Numbers in so many bits, evenly between the smallest and the largest of each group.

    Args:
        values: finite.
        shared: how many of the last axes share one scale: 2 for maps (..., y, x).
        bits: at most 8, or 16.

    >>> quantise([[0.0, 0.2, 1.0]], shared=1).codes.tolist()
    [[0, 25, 127]]
    """
    exact = np.asarray(values, dtype=np.float64)
    axes = tuple(range(exact.ndim - shared, exact.ndim))
    levels = 2**bits - 1
    # The float32 that is kept decides, so that its rounding is made up for by the codes.
    low = exact.min(axes, keepdims=True).astype(np.float32)
    step = ((exact.max(axes, keepdims=True) - low) / levels).astype(np.float32)
    width = np.where(step > 0, step, 1.0).astype(np.float64)
    codes = np.clip(np.rint((exact - low) / width), 0, levels).astype(np.uint16 if bits == 16 else np.uint8)
    return Quantised(codes, low.reshape(exact.shape[: axes[0]]), step.reshape(exact.shape[: axes[0]]))


@dataclass(frozen=True)
class ShownToken:
    """A token of the prompt, as the strip shows it.

    Attributes:
        text: the piece.
        kind: of :data:`refam_analysis.prompts.TokenKind`.
        key: the same for the same token with and without magnets: its kind's group and its place there ("word 1").
        map: which map of the view is its own; padding tokens may share one, their mean.
    """

    text: str
    kind: str
    key: str
    map: int


@dataclass(frozen=True)
class Answer:
    """What the pipeline answered.

    Attributes:
        point: (x, y) in pixels of the picture.
        heatmap: (y, x).
        mask: bool (height, width).
        on_target: whether the point lies on the object that is meant; None where that is not known.
        iou: of the mask with it; None likewise.
    """

    point: tuple[float, float]
    heatmap: Floats
    mask: NDArray[np.bool_]
    on_target: bool | None = None
    iou: float | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "point": list(self.point),
            "heatmap": quantise(self.heatmap, shared=2).to_dict(),
            "mask": bits(self.mask),
            "on_target": self.on_target,
            "iou": None if self.iou is None else round(float(self.iou), 4),
        }


@dataclass(frozen=True)
class View:
    """A sentence's attention, with magnets or without.

    Attributes:
        prompt: the text that the model was given.
        tokens: every token of it.
        attention: direction -> float (block, head, map, y, x), probabilities.
        received: side of the queries -> float (block, head, key), keys in the order of ``tokens`` and then of the
            patches; 1 is what even attention would give. Empty where it was not recorded.
        sinks: for every block, the tokens (numbers in ``tokens``) that stand out as sinks in this scene.
        answer: the pipeline's; None where it was not asked.
    """

    prompt: str
    tokens: tuple[ShownToken, ...]
    attention: Mapping[str, Floats]
    received: Mapping[str, Floats] = field(default_factory=dict)
    sinks: tuple[tuple[int, ...], ...] = ()
    answer: Answer | None = None

    def to_dict(self) -> dict[str, Any]:
        """For JSON: attention and the patches' mass in seven bits a map, the tokens' mass in sixteen."""
        count = len(self.tokens)
        return {
            "prompt": self.prompt,
            "tokens": [[token.text, token.kind, token.key, token.map] for token in self.tokens],
            "attention": {name: quantise(maps, shared=2).to_dict() for name, maps in self.attention.items()},
            "received": {
                side: {
                    "tokens": quantise(mass[..., :count], shared=1, bits=MASS_BITS).to_dict(),
                    "patches": quantise(mass[..., count:], shared=1).to_dict(),
                }
                for side, mass in self.received.items()
            },
            "sinks": [list(tokens) for tokens in self.sinks],
            "answer": None if self.answer is None else self.answer.to_dict(),
        }


@dataclass(frozen=True)
class ExplorerScene:
    """A picture and a sentence, ready to be explored.

    Attributes:
        name: short and unlike others': letters, digits and hyphens.
        title: what a reader chooses it by.
        why: one sentence on what there is to see.
        expression: the sentence.
        image: uint8 (height, width, 3).
        blocks: numbers of the recorded blocks.
        heads: numbers of the recorded heads; empty where only their mean was recorded.
        views: at least one.
        target: bool (height, width), the object that is meant; None where it is not known.
        others: bool (height, width), all other objects.
    """

    name: str
    title: str
    why: str
    expression: str
    image: NDArray[np.uint8]
    blocks: tuple[int, ...]
    heads: tuple[int, ...]
    views: Mapping[ViewName, View]
    target: NDArray[np.bool_] | None = None
    others: NDArray[np.bool_] | None = None

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of patches."""
        maps = next(iter(next(iter(self.views.values())).attention.values()))
        return int(maps.shape[-2]), int(maps.shape[-1])

    def heading(self) -> dict[str, Any]:
        """What is shown of it before it is chosen, for JSON."""
        return {"name": self.name, "title": self.title, "why": self.why, "expression": self.expression}

    def to_dict(self) -> dict[str, Any]:
        """All of it, for JSON."""
        covered = {}
        if self.target is not None and self.others is not None:
            covered = {"target": self.target, "other": self.others & ~self.target}
        return {
            **self.heading(),
            "picture": picture_address(self.image),
            "size": list(self.image.shape[:2]),
            "grid": list(self.grid),
            "blocks": list(self.blocks),
            "heads": list(self.heads),
            "truth": None if self.target is None else bits(self.target),
            "cover": {name: _cover(mask, self.grid).to_dict() for name, mask in covered.items()},
            "views": {name: view.to_dict() for name, view in self.views.items()},
        }


@dataclass(frozen=True)
class QuantisationError:
    """How far the maps that are shown are from those that were recorded.

    Attributes:
        absolute: the largest difference, a probability.
        relative: the largest difference, as a share of the range (largest less smallest value) of its own map.
        maps: how many were compared.
    """

    absolute: float
    relative: float
    maps: int


def quantisation_error(scenes: Sequence[ExplorerScene]) -> QuantisationError:
    """Of every map of the scenes, read back from what is written."""
    absolute, relative, maps = 0.0, 0.0, 0
    for scene in scenes:
        for view in scene.views.values():
            for exact in view.attention.values():
                exact = exact.astype(np.float64)
                away = np.abs(Quantised.from_dict(quantise(exact, shared=2).to_dict()).restore() - exact).max((-2, -1))
                reach = exact.max((-2, -1)) - exact.min((-2, -1))
                absolute = max(absolute, float(away.max()))
                relative = max(relative, float((away[reach > 0] / reach[reach > 0]).max(initial=0.0)))
                maps += away.size
    return QuantisationError(absolute, relative, maps)


def bits(mask: NDArray[np.bool_]) -> str:
    """A mask in base64, a bit a pixel, row by row, the first pixel in the highest bit.

    >>> bits(np.array([[True, False, True]]))
    'oA=='
    """
    return _text(np.packbits(mask.astype(bool)))


def picture_address(image: NDArray[np.uint8]) -> str:
    """A picture as a ``data:`` address, without loss."""
    written = io.BytesIO()
    Image.fromarray(image).save(written, "png", optimize=True)
    return "data:image/png;base64," + base64.b64encode(written.getvalue()).decode("ascii")


def _cover(mask: NDArray[np.bool_], grid: tuple[int, int]) -> Quantised:
    """The share of every patch that a mask covers, in [0, 1]."""
    shares = Image.fromarray(mask.astype(np.float32)).resize(grid[::-1], Image.Resampling.BOX)
    return quantise(np.asarray(shares), shared=2)


def _text(array: NDArray[Any]) -> str:
    return base64.b64encode(np.ascontiguousarray(array).tobytes()).decode("ascii")
