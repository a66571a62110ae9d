"""Attention made by hand that looks like a transformer's, without sinks or with one that was planted.

Scores are summed from parts that real attention has, each of which makes some keys draw more than others without
making them sinks, and go through a softmax. What detectors make of it is in `calibration`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter
from scipy.special import softmax

from refam_analysis.errors import RefamError
from refam_analysis.models.layout import text_then_image
from refam_analysis.prompts.tokens import Token, TokenKind
from refam_analysis.recording import Recording
from refam_analysis.recording.labels import build_dataset, make_axes
from refam_analysis.scenes import COLOURS, SHAPES

Floats = NDArray[np.float64]

BLOCKS, HEADS, GRID, PADDING = 4, 2, (6, 6), 4
"""Sizes of what is made; a sentence has three words and an end token."""

_TEXT = 4 + PADDING
_LAYOUT = text_then_image(_TEXT, GRID)
_ATTENDING = 0.7  # the share of queries that attend to the object
_SMOOTH = 1.0  # patches: how far the preferences of image tokens hang together
_NEAR = 1.5  # patches: how far a local head looks


class PlantError(RefamError, ValueError):
    """A sink that cannot be planted."""


@dataclass(frozen=True)
class Pattern:
    """How strongly each part makes itself felt, in units of the score (a natural logarithm of the attention).

    Attributes:
        noise: standard deviation of a part that every (scene, head, query, key) has anew.
        locality: what an image query prefers itself by in the most local head; the preference falls off with the
            distance as a Gaussian of 1.5 patches. Heads differ, from half of it to all, and are the same in all scenes.
        attended: what the patches of an object are preferred by. It covers 2 to 3 patches each way, in another place in
            every scene, and 7 of 10 queries attend to it, text and image alike.
        bias: standard deviation of a preference that every query has for a key by its role, cut off at twice of it. It
            is the same in all scenes and heads of a block, and smooth over the image and over the padding.
    """

    noise: float = 0.5
    locality: float = 0.0
    attended: float = 0.0
    bias: float = 0.0


PATTERNS: Mapping[str, Pattern] = {
    "noise": Pattern(),
    "locality": Pattern(locality=2.0),
    "object": Pattern(attended=1.5),
    "key bias": Pattern(bias=0.2),
    "all of it": Pattern(locality=2.0, attended=1.5, bias=0.2),
}
"""Without sinks. The bias is mild: no key is preferred to an average one more than 1.5 times. A bias by which some keys
draw twice what their peers draw, in every scene and from both sides, is no error of a detector: that is a sink."""


@dataclass(frozen=True)
class Planted:
    """A sink: a key that every query of one block attends to more, in every scene.

    Attributes:
        role: "</s>", "padding 0" to "padding 3", or "image y,x".
        factor: what exp(score) is multiplied by, in the place of the key's own bias. A text key that draws no less than
            the median one otherwise then has an effect of about the factor.
        block: its number.
    """

    role: str
    factor: float
    block: int = BLOCKS - 1

    @property
    def position(self) -> int:
        """Of the key in the sequence.

        Raises:
            PlantError: no such key is in every scene.
        """
        if self.role not in _FIXED:
            raise PlantError(f"No key is {self.role!r} in every scene. Choose from {', '.join(_FIXED)}.")
        return _FIXED[self.role]


_FIXED = {
    "</s>": 3,
    **{f"padding {index}": 4 + index for index in range(PADDING)},
    **{f"image {y},{x}": _TEXT + y * GRID[1] + x for y in range(GRID[0]) for x in range(GRID[1])},
}
"""Position of every role that does not depend on the sentence."""


def planted_attention(
    pattern: Pattern, number: int, *, sink: Planted | None = None, seed: int | Sequence[int] = 0
) -> Floats:
    """The attention of scenes that have their sinks, or the lack of them, in common.

    Args:
        pattern: how the attention looks.
        number: of scenes.
        sink: to plant; None for none.
        seed: of everything. The first scenes of a larger number are not those of a smaller one.

    Returns:
        (scene, block, head, query, key), rows sum to 1. Text comes first: a sentence, an end token, padding.

    Raises:
        PlantError: no key has that role in every scene.
    """
    generator = np.random.default_rng(seed)
    keys = _LAYOUT.length
    scores = pattern.noise * generator.standard_normal((number, BLOCKS, HEADS, keys, keys))
    scores[..., _TEXT:, _TEXT:] += pattern.locality * _locality(generator)
    scores += pattern.attended * _attention_to_objects(generator, number)[:, None, None]
    bias = pattern.bias * np.clip(_bias(generator, number), -2.0, 2.0)
    if sink is not None:
        bias[:, sink.block, sink.position] = np.log(sink.factor)
    scores += bias[:, :, None, None, :]
    return softmax(scores, axis=-1)


def as_recordings(attention: Floats) -> list[Recording]:
    """Scenes of such attention as recordings.

    Args:
        attention: (scene, block, head, query, key), with any number of blocks: two data sets with the same number of
            scenes may stand in one after the other.

    Returns:
        One a scene, with ``full`` kept: 1 step, 1 branch, the blocks, 2 heads, 8 text tokens (a sentence such as "the
        red ring", an end token, padding) and 6 x 6 image tokens. The sentence depends on the number of the scene alone.
    """
    scenes, blocks = attention.shape[:2]
    axes = make_axes(
        ["full"], _LAYOUT, blocks=range(blocks), branches=["conditional"], noise_levels=[0.6], heads=range(HEADS)
    )
    types = dict.fromkeys(range(blocks), "made by hand")
    return [
        Recording(
            build_dataset(
                {"full": attention[scene][None, None]}, axes, _LAYOUT, tokens=_tokens(_sentence(scene)),
                block_types=types, attributes={"model": "made by hand", "prompt": " ".join(_sentence(scene))},
            )
        )
        for scene in range(scenes)
    ]  # fmt: skip


def planted_scenes(
    pattern: Pattern, number: int, *, sink: Planted | None = None, seed: int | Sequence[int] = 0
) -> list[Recording]:
    """Recordings of :func:`planted_attention`, one a scene.

    Args:
        pattern: how the attention looks.
        number: of scenes.
        sink: to plant; None for none.
        seed: of everything.

    Raises:
        PlantError: no key has that role in every scene.

    >>> recording = planted_scenes(PATTERNS["all of it"], 2, sink=Planted("</s>", 5.0))[0]
    >>> recording["full"].sizes["key"], [token.kind for token in recording.tokens[-5:-3]]
    (44, ['special', 'padding'])
    """
    return as_recordings(planted_attention(pattern, number, sink=sink, seed=seed))


def _sentence(scene: int) -> tuple[str, str, str]:
    """The words of a scene; the first colours and shapes come back before all pairs are through."""
    colours = list(COLOURS)
    return "the", colours[scene % len(colours)], SHAPES[scene % len(SHAPES)]


def _locality(generator: np.random.Generator) -> Floats:
    """(block, head, image query, image key), 1 for itself in the most local head."""
    y, x = np.divmod(np.arange(GRID[0] * GRID[1]), GRID[1])
    squared = (y[:, None] - y) ** 2 + (x[:, None] - x) ** 2
    strength = generator.uniform(0.5, 1.0, size=(BLOCKS, HEADS, 1, 1))
    return strength * np.exp(-squared / (2.0 * _NEAR**2))


def _attention_to_objects(generator: np.random.Generator, number: int) -> Floats:
    """(scene, query, key): 1 where a query attends to the object and the key is of it."""
    on_object = np.zeros((number, _LAYOUT.length))
    for scene in range(number):
        height, width = generator.integers(2, 4, size=2)
        top, left = generator.integers(0, GRID[0] - height + 1), generator.integers(0, GRID[1] - width + 1)
        patches = np.zeros(GRID)
        patches[top : top + height, left : left + width] = 1.0
        on_object[scene, _TEXT:] = patches.ravel()
    attends = generator.random((number, _LAYOUT.length)) < _ATTENDING
    return attends[:, :, None] * on_object[:, None, :]


def _bias(generator: np.random.Generator, number: int) -> Floats:
    """(scene, block, key), of unit standard deviation, the same for the same role."""
    words = {word: generator.standard_normal(BLOCKS) for word in ("the", *COLOURS, *SHAPES, "</s>")}
    padding = np.stack([_smooth(generator, (PADDING,)) for _ in range(BLOCKS)])
    image = np.stack([_smooth(generator, GRID).ravel() for _ in range(BLOCKS)])
    scenes = []
    for scene in range(number):
        named = np.stack([words[word] for word in (*_sentence(scene), "</s>")], axis=1)
        scenes.append(np.concatenate([named, padding, image], axis=1))
    return np.stack(scenes)


def _smooth(generator: np.random.Generator, shape: tuple[int, ...]) -> Floats:
    """Noise of unit standard deviation that hangs together over some patches; at the edges it varies a little more."""
    weights = gaussian_filter(np.eye(1, 21, 10)[0], _SMOOTH)
    smooth: Floats = gaussian_filter(generator.standard_normal(shape), _SMOOTH, mode="nearest")
    return smooth / np.sqrt((weights**2).sum()) ** len(shape)


def _tokens(sentence: tuple[str, str, str]) -> tuple[Token, ...]:
    kinds: tuple[TokenKind, ...] = ("stop", "content", "content")
    words = [Token(i, word, word, kind, "none", i) for i, (word, kind) in enumerate(zip(sentence, kinds, strict=True))]
    rest = [Token(3, "</s>", "", "special", "none", None)]
    rest += [Token(4 + i, "<pad>", "", "padding", "none", None) for i in range(PADDING)]
    return (*words, *rest)
