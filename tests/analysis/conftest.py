"""Recordings built from arrays, with attention that is computed here, in float64, from explicit scores."""

from collections.abc import Callable, Sequence

import numpy as np
import pytest

from refam_analysis.models.layout import TokenLayout
from refam_analysis.prompts.tokens import Token
from refam_analysis.recording.labels import build_dataset, make_axes
from refam_analysis.recording.recording import Recording

GRID = (3, 4)


def make_tokens(words: Sequence[str], magnets: Sequence[str] = (), length: int = 10) -> tuple[Token, ...]:
    """One token a word, an end token, and padding."""
    stops = {"the", "on", "a"}
    kinds = [("stop" if word in stops else "content", word) for word in words] + [("magnet", word) for word in magnets]
    tokens = [Token(i, word, word, kind, "t5", i) for i, (kind, word) in enumerate(kinds)]  # type: ignore[arg-type]
    tokens.append(Token(len(tokens), "</s>", "", "special", "t5", None))
    tokens += [Token(i, "<pad>", "", "padding", "t5", None) for i in range(len(tokens), length)]
    return tuple(tokens)


def softmax(scores: np.ndarray) -> np.ndarray:
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True)


def random_attention(seed: int, *, blocks: int = 2, heads: int = 2, keys: int = 22, spread: float = 0.3) -> np.ndarray:
    """(step 1, branch 1, block, head, query, key), rows sum to 1."""
    return softmax(np.random.default_rng(seed).normal(0.0, spread, size=(1, 1, blocks, heads, keys, keys)))


def make_recording(
    attention: np.ndarray,
    tokens: Sequence[Token],
    *,
    keep: Sequence[str] = ("full",),
    image_first: bool = False,
    blocks: Sequence[int] | None = None,
    anonymous: bool = False,
    absent: Sequence[str] = (),
) -> Recording:
    """A recording of the given attention, reduced by plain loops over keys."""
    text, image = len(tokens), GRID[0] * GRID[1]
    layout = TokenLayout(slice(0, text), slice(text, text + image), GRID)
    if image_first:
        layout = TokenLayout(slice(image, image + text), slice(0, image), GRID)
    values = {name: reduced(attention, layout, name) for name in keep}
    numbers = list(range(attention.shape[2])) if blocks is None else list(blocks)
    axes = make_axes(
        keep,
        layout,
        blocks=numbers,
        branches=[str(i) for i in range(attention.shape[1])],
        noise_levels=[0.6] * attention.shape[0],
        heads=range(attention.shape[3]),
    )
    dataset = build_dataset(
        values,
        axes,
        layout,
        tokens=() if anonymous else tokens,
        block_types=dict.fromkeys(numbers, "double"),
        attributes={"model": "made by hand", "absent": dict.fromkeys(absent, "the model has no such queries.")},
    )
    return Recording(dataset)


def reduced(attention: np.ndarray, layout: TokenLayout, name: str) -> np.ndarray:
    if name == "full":
        return attention
    if name == "entropy":
        return np.sum([-p * np.log(p) for p in np.moveaxis(attention, -1, 0)], axis=0)
    if name in ("image_to_text", "text_to_image"):
        sides = {"image": layout.image, "text": layout.text}
        rows, columns = name.split("_to_")
        return attention[..., sides[rows], sides[columns]]
    measure, _, side = name.partition("_from_")
    rows = attention[..., layout.text if side == "text" else layout.image, :]
    if measure == "received":
        return rows.sum(-2) / rows.shape[-2] * attention.shape[-1]
    shares = [column / column.sum(-1, keepdims=True) for column in np.moveaxis(rows, -1, 0)]
    evenness = [np.exp(np.sum(-p * np.log(p), axis=-1)) / rows.shape[-2] for p in shares]
    return np.stack(evenness, axis=-1)


@pytest.fixture(name="make_recording")
def _make_recording() -> Callable[..., Recording]:
    return make_recording


@pytest.fixture(name="make_tokens")
def _make_tokens() -> Callable[..., tuple[Token, ...]]:
    return make_tokens


@pytest.fixture(name="random_attention")
def _random_attention() -> Callable[..., np.ndarray]:
    return random_attention
