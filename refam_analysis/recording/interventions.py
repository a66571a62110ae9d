"""Interventions: what chosen keys give is taken away, or moved onto other keys, while the model runs.

They use the recorder's seam: the output of an attention call is decided with the call's operands, so every
intervention is an ordinary attention over changed operands, exact, and leaves a model's code alone. Masking a key is
another mask. Taking its value away is a zero in its place, and moving its mass onto receivers is their mean value in
its place: sum_j p_j v_j is linear in the values. What is recorded is the attention after the intervention.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import torch
from torch import nn

from refam_analysis.errors import RefamError
from refam_analysis.models.blocks import Block, choose_blocks
from refam_analysis.models.layout import Attention, Role, TokenLayout, longest
from refam_analysis.recording.attention_calls import LOWEST_BIAS, AttentionCall, Moved, Plain, run_call
from refam_analysis.recording.kernels import Attended, choose_kernel
from refam_analysis.recording.plans import sides_of

How = Literal["score", "value", "redirect"]
QuerySide = Literal["all", "text", "image"]

_CROSS = "the text is attended to by cross-attention alone"
_WHY_NONE: Mapping[Attention, str] = {
    "separate": _CROSS,
    "cross": _CROSS,
    "text_only": "this stack of blocks runs over the text alone",
    "image_only": "this stack of blocks runs over the image alone",
}


class InterventionError(RefamError, ValueError):
    """An intervention that means nothing, or nothing on this layout."""


@dataclass(frozen=True)
class Intervention:
    """What is done to chosen keys.

    Attributes:
        keys: positions in the sequence, as the layout counts them.
        how: ``score``: as if masked; a row's other keys share the mass in proportion. ``value``: the attention stays,
            and the keys' values count as zero. ``redirect``: the keys' mass goes to ``onto``, to each the same share.
        onto: positions that receive redirected mass; needed there, and only there.
        blocks: numbers of the blocks; None for all.
        queries: whose rows: of "all" queries, of "text", or of "image".

    Raises:
        InterventionError: no keys or no blocks, negative or repeated ones, or ``onto`` where it does not belong, or
            among the keys.

    Source: score path and value path, "Attention Sinks in Diffusion Transformers: A Causal Analysis" (ICML 2026);
    redirection onto auxiliary tokens, RefAM, abstract.

    >>> Intervention(keys=(3,), how="redirect", onto=(7, 8)).changes(block=5)
    True
    """

    keys: tuple[int, ...]
    how: How = "score"
    onto: tuple[int, ...] = ()
    blocks: tuple[int, ...] | None = None
    queries: QuerySide = "all"

    def __post_init__(self) -> None:
        for name in ("keys", "onto"):
            object.__setattr__(self, name, tuple(int(position) for position in getattr(self, name)))
        if self.blocks is not None:
            object.__setattr__(self, "blocks", tuple(int(block) for block in self.blocks))
        if self.how not in get_args(How) or self.queries not in get_args(QuerySide):
            raise InterventionError(
                f"how={self.how!r}, queries={self.queries!r} is unknown: how is one of {', '.join(get_args(How))}, "
                f"queries one of {', '.join(get_args(QuerySide))}."
            )
        places = self.keys + self.onto
        if not self.keys or min(places) < 0 or len(set(places)) < len(places):
            raise InterventionError(
                f"keys={self.keys}, onto={self.onto} must be positions from 0 on, each named once, at least one key."
            )
        if bool(self.onto) != (self.how == "redirect"):
            raise InterventionError(
                f"how={self.how!r} with onto={self.onto}: redirected mass needs receivers, and nothing else has them."
            )
        if self.blocks == ():
            raise InterventionError("blocks is empty, so nothing would be changed. Leave it out to change every block.")

    def check(self, layouts: Sequence[TokenLayout], blocks: Sequence[Block], *, one_call_an_item: bool = False) -> None:
        """Refuse what means nothing for these items, before a model runs.

        Args:
            layouts: of the items.
            blocks: of the model.
            one_call_an_item: whether every item has attention calls of its own.

        Raises:
            InterventionError: positions that are no keys, text queries where there are none, receivers in another
                attention than the keys, or rows that lie at different places in the items of one call.
            UnknownBlockError: a block that the model does not have.
        """
        choose_blocks(blocks, self.blocks)
        for layout in layouts:
            there = layout.key_positions
            if outside := [position for position in self.keys + self.onto if position not in there]:
                raise InterventionError(f"The keys are the positions {there.start} to {there.stop - 1}, not {outside}.")
        attention = layouts[0].attention
        if self.queries != "all" and getattr(layouts[0], self.queries).start not in layouts[0].query_positions:
            raise InterventionError(f"There are no {self.queries} queries here: {_WHY_NONE[attention]}.")
        if attention in ("separate", "cross"):
            self._check_apart(layouts)
        elif self.queries != "all" and not one_call_an_item:
            self._check_rows(layouts, self.queries)

    @staticmethod
    def check_gradient(transformer: nn.Module) -> None:
        """Refuse gradient checkpointing: on the way back blocks run again, without the intervention.

        Raises:
            InterventionError: the transformer is about to checkpoint its blocks.
        """
        if torch.is_grad_enabled() and getattr(transformer, "gradient_checkpointing", False):
            raise InterventionError(
                "With gradient checkpointing the blocks run again for the gradient, and without the intervention. "
                "Call transformer.disable_gradient_checkpointing(), or run under torch.no_grad()."
            )

    def _check_apart(self, layouts: Sequence[TokenLayout]) -> None:
        for layout in layouts:
            sides = {position < layout.text.stop for position in self.keys + self.onto}
            if self.how == "redirect" and len(sides) > 1:
                raise InterventionError(
                    f"Mass of the keys {self.keys} cannot go onto {self.onto}: they are keys of two separate "
                    "attentions. Redirect within one of them."
                )

    @staticmethod
    def _check_rows(layouts: Sequence[TokenLayout], side: Literal["text", "image"]) -> None:
        most: slice = getattr(longest(layouts), side)
        for layout in layouts:
            own: slice = getattr(layout, side)
            if (own.start, own.stop) != (most.start, min(most.stop, layout.query_positions.stop)):
                raise InterventionError(
                    f"The {side} queries of this batch lie at different places, {own} and {most}. Run its items one at "
                    "a time."
                )

    def changes(self, block: int) -> bool:
        """Whether it does anything in this block."""
        return self.blocks is None or block in self.blocks

    def attend(
        self, call: AttentionCall, plain: Plain, layout: TokenLayout, role: Role
    ) -> tuple[AttentionCall, Attended, str]:
        """The attention call as it is after the intervention, with its output, and the kernel that served it.

        Args:
            call: as the model made it.
            plain: the model's own kernel on it.
            layout: of the items.
            role: of the call.

        Raises:
            InterventionError: a query would have nothing left to attend to.
        """
        keys, onto = (_local(positions, layout, role) for positions in (self.keys, self.onto))
        rows = sides_of(layout, role)[0][self.queries]
        everywhere = rows == slice(0, call.query.shape[-2])
        if not keys:
            return _attend(call, plain)
        if self.how == "score":
            changed = _without(call, keys, slice(None) if everywhere else rows)
            return _attend(changed, partial(run_call, changed))
        changed = replace(call, value=_exchanged(call.value, keys, onto))
        if everywhere:
            _, attended, kernel = _attend(changed, partial(run_call, changed))
        else:
            _, attended, kernel = _attend(call, plain)
            output = attended.output.clone()
            output[:, :, rows] = run_call(changed.take_queries(range(rows.start, rows.stop)))
            attended = replace(attended, output=output)
        moved = Moved(tuple(keys), tuple(onto), rows) if self.how == "redirect" else None
        return replace(call, moved=moved), attended, kernel


def _attend(call: AttentionCall, plain: Plain) -> tuple[AttentionCall, Attended, str]:
    kernel = choose_kernel(call)
    return call, kernel.attend(call, plain), kernel.name


def _local(positions: Sequence[int], layout: TokenLayout, role: Role) -> list[int]:
    """Positions as the call counts its keys; those of another attention are left out."""
    if role == "joint":
        return [position - layout.key_positions.start for position in positions]
    side = layout.text if role == "text" else layout.image
    return [position - side.start for position in positions if side.start <= position < side.stop]


def _without(call: AttentionCall, keys: Sequence[int], rows: slice) -> AttentionCall:
    """The call with these keys masked for these rows; a mask of one row where it is for all."""
    queries, count = call.length
    height = 1 if rows == slice(None) else queries
    closed = torch.zeros(1, 1, height, count, dtype=call.query.dtype, device=call.query.device)
    closed[..., rows, torch.tensor(keys, device=closed.device)] = float("-inf")
    bias = closed if call.bias is None else call.bias + closed
    had = torch.zeros_like(closed[..., 0]) if call.bias is None else call.bias.amax(-1)
    if bool(((bias.amax(-1) < LOWEST_BIAS) & (had >= LOWEST_BIAS)).any()):
        raise InterventionError(
            f"Without the keys {list(keys)} a query would have nothing left to attend to: there are no others, or the "
            "model masks them. Suppress fewer."
        )
    counted = torch.as_tensor(call.open_keys, device=call.query.device)
    return replace(call, mask=bias, causal=False, counted=counted.reshape((1,) * (3 - counted.ndim) + counted.shape))


def _exchanged(value: torch.Tensor, keys: Sequence[int], onto: Sequence[int]) -> torch.Tensor:
    """The values, in place of the keys' the mean of the receivers'; zero without receivers."""
    changed = value.clone()
    changed[:, :, list(keys)] = value[:, :, list(onto)].mean(2, keepdim=True) if onto else 0.0
    return changed
