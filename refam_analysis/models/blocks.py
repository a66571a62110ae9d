"""Which modules of a transformer are its blocks: one rule from the module tree, and the exceptions as data.

The rule: a block list is a ``ModuleList`` that is a direct child of the transformer and whose every member contains
an attention module. Lists count on from each other in the order in which the transformer defines them, which is the
order in which they run (the recorder checks that while it records). Refiner lists do not shift the count: each is a
stack of its own, with a block type of its own, counted from 0. The number of blocks is checked against the
configuration.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from torch import nn

from refam_analysis.errors import RefamError
from refam_analysis.models.layout import Attention

Stack = Literal["main", "context_refiner", "noise_refiner"]
"""A run of blocks over one sequence: the ``main`` one over text and image, a refiner over one of them, before that."""

MAIN: Stack = "main"

TYPES: Mapping[str, str] = {
    "joint_transformer_blocks": "double",
    "double_stream_blocks": "double",
    "double_blocks": "double",
    "single_transformer_blocks": "single",
    "single_stream_blocks": "single",
}
"""Block type by the name of the list; other lists are "double" beside a single-stream list, else "transformer"."""

REFINERS: Mapping[str, Stack] = {
    "noise_refiner": "noise_refiner",
    "context_refiner": "context_refiner",
    "context_embedder.token_refiner.refiner_blocks": "context_refiner",
}
"""Lists that refine one side before the main stack, by their path, with their stack: Z-Image and Lumina 2, and
HunyuanVideo."""

REFINED: Mapping[Stack, Attention] = {"context_refiner": "text_only", "noise_refiner": "image_only"}
"""Over what a refiner attends."""

PASSED_OVER: frozenset[str] = frozenset({"siglip_refiner"})
"""Lists over other tokens than those of the prompt and the picture."""

COUNT_KEYS: Mapping[str, tuple[str, ...]] = {
    "transformer_blocks": ("num_layers",),
    "joint_transformer_blocks": ("num_mmdit_layers",),
    "single_transformer_blocks": ("num_single_layers", "num_single_dit_layers"),
    "blocks": ("num_layers",),
    "layers": ("n_layers", "num_layers"),
    **dict.fromkeys(REFINERS, ("n_refiner_layers", "num_refiner_layers")),
}
"""What the configuration calls the length of a list; the first key that it has counts."""


class NoBlocksError(RefamError, ValueError):
    """No transformer blocks were found."""

    def __init__(self, name: str) -> None:
        super().__init__(
            f"{name} has no list of blocks that contain attention, so there is nothing to record. Give the bare "
            "transformer (pipeline.transformer), not the pipeline, and not a wrapper around it."
        )


class BlockCountError(RefamError, ValueError):
    """The module tree and the configuration disagree about the number of blocks."""

    def __init__(self, name: str, path: str, found: int, key: str, expected: int) -> None:
        first = min(found, expected)
        super().__init__(
            f"{name}.{path} has {found} blocks, but its configuration says {key}={expected}; the first that differs "
            f"is {path}.{first}. Load the model with its own configuration."
        )


class UnknownStackError(RefamError, ValueError):
    """The model has no such stack of blocks."""

    def __init__(self, name: str, stack: str, stacks: Iterable[str]) -> None:
        super().__init__(f"{name} has no stack {stack!r}. Those that it has: {', '.join(stacks)}.")


class UnknownBlockError(RefamError, ValueError):
    """`blocks` names a block that the model does not have."""

    def __init__(self, wanted: Iterable[int], count: int) -> None:
        numbers = ", ".join(str(number) for number in wanted)
        super().__init__(f"The model has the blocks 0 to {count - 1}, not {numbers}.")


@dataclass(frozen=True)
class Block:
    """One transformer layer.

    Attributes:
        index: its number over the whole network, from 0; of a refiner its number in that.
        type: "double", "single" or "transformer"; of a refiner the name of its stack.
        path: its name in the module tree, such as "single_transformer_blocks.3".
        module: the layer itself.
    """

    index: int
    type: str
    path: str
    module: nn.Module

    def __str__(self) -> str:
        return f"block {self.index} ({self.path})"


def find_blocks(transformer: nn.Module, stack: Stack = MAIN) -> tuple[Block, ...]:
    """The blocks of a stack, in the order in which they run.

    Args:
        transformer: the bare transformer.
        stack: "main", or a refiner before it.

    Returns:
        One a layer, numbered from 0 over the stack, with its type and module.

    Raises:
        NoBlocksError: there are none.
        UnknownStackError: the model has no such refiner.
        BlockCountError: their number is not what the configuration says.
    """
    name, lists = type(transformer).__name__, _lists_of(transformer, stack)
    if not lists and stack == MAIN:
        raise NoBlocksError(name)
    if not lists:
        raise UnknownStackError(name, stack, stacks_of(transformer))
    for path, members in lists.items():
        _check_count(name, path, len(members), getattr(transformer, "config", {}))
    has_single = any(TYPES.get(path) == "single" for path in lists)
    usual = stack if stack != MAIN else "double" if has_single else "transformer"
    places = [(path, number, module) for path, members in lists.items() for number, module in enumerate(members)]
    return tuple(
        Block(index, TYPES.get(path, usual), f"{path}.{number}", module)
        for index, (path, number, module) in enumerate(places)
    )


def stacks_of(transformer: nn.Module) -> tuple[Stack, ...]:
    """The stacks that a transformer has: the main one, then its refiners."""
    return (MAIN, *(stack for stack in REFINED if _lists_of(transformer, stack)))


def head_shape(transformer: nn.Module) -> tuple[int, int]:
    """Number of heads, and channels of each, by the configuration; 0 for what it does not say."""
    config: Mapping[str, Any] = getattr(transformer, "config", {})
    heads = int(config.get("num_attention_heads", config.get("n_heads", 0)))
    whole = int(config.get("dim") or config.get("hidden_size", 0))
    return heads, int(config.get("attention_head_dim") or (whole // heads if heads else 0))


def choose_blocks(blocks: Sequence[Block], wanted: Iterable[int] | None) -> tuple[Block, ...]:
    """The blocks with these numbers in the order of the network; all of them for None.

    Raises:
        UnknownBlockError: a number that no block has.
        RefamError: no number at all.
    """
    if wanted is None:
        return tuple(blocks)
    numbers = {int(number) for number in wanted}
    unknown = sorted(numbers - {block.index for block in blocks})
    if unknown:
        raise UnknownBlockError(unknown, len(blocks))
    if not numbers:
        raise RefamError("blocks is empty, so nothing would be recorded. Leave it out to record every block.")
    return tuple(block for block in blocks if block.index in numbers)


def _lists_of(transformer: nn.Module, stack: Stack) -> dict[str, nn.ModuleList]:
    """The lists of blocks of a stack, by their path; none where the transformer does not have it."""
    if stack == MAIN:
        others = {*REFINERS, *PASSED_OVER}
        found = {name: child for name, child in transformer.named_children() if name not in others}
    else:
        named = dict(transformer.named_modules())
        found = {path: named[path] for path, of in REFINERS.items() if of == stack and path in named}
    return {path: child for path, child in found.items() if isinstance(child, nn.ModuleList) and _are_blocks(child)}


def _are_blocks(members: nn.ModuleList) -> bool:
    return len(members) > 0 and all(_has_attention(member) for member in members)


def _has_attention(module: nn.Module) -> bool:
    return any("attention" in (kind := type(part).__name__.lower()) or "attn" in kind for part in module.modules())


def _check_count(name: str, path: str, found: int, config: Any) -> None:
    key = next((key for key in COUNT_KEYS.get(path, ()) if key in config), None)
    if key is not None and config[key] != found:
        raise BlockCountError(name, path, found, key, config[key])
