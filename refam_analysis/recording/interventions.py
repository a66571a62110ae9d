"""Interventions: what chosen keys give is taken away, or moved onto other keys, while the model runs.

They use the recorder's seam: the output of an attention call is decided with the call's operands and the log-sum-exp of
its rows, so every intervention is exact, costs little, and leaves a model's code alone. What is recorded is the
attention after the intervention.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal, get_args

import torch
from torch.nn import functional

from refam_analysis.errors import RefamError
from refam_analysis.models.layout import Role, TokenLayout
from refam_analysis.recording.attention_calls import AttentionCall, Moved, Plain
from refam_analysis.recording.kernels import Attended, choose_kernel

How = Literal["score", "value", "redirect"]
QuerySide = Literal["all", "text", "image"]


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
        InterventionError: no keys, negative or repeated ones, or ``onto`` where it does not belong, or among the keys.

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
            InterventionError: keys beyond the sequence, in both of two separate attentions, or all that a query has.
        """
        keys, onto = (_local(positions, layout, role) for positions in (self.keys, self.onto))
        if not keys:
            kernel = choose_kernel(call)
            return call, kernel.attend(call, plain), kernel.name
        if self.how == "redirect" and len(onto) < len(self.onto):
            raise InterventionError(
                f"Mass of the keys {self.keys} cannot go onto {self.onto}: they are keys of two separate attentions."
            )
        rows = _rows(self.queries, layout, role)
        if self.how == "score":
            changed = _without(call, keys, rows)
            kernel = choose_kernel(changed)
            return changed, kernel.attend(changed, partial(_run, changed)), kernel.name
        kernel = choose_kernel(call)
        attended = kernel.attend(call, plain)
        moved = Moved(tuple(keys), tuple(onto), rows)
        output = attended.output + _difference(call, attended.lse, moved).to(attended.output.dtype)
        after = replace(call, moved=moved) if self.how == "redirect" else call
        return after, Attended(output, attended.lse), kernel.name


def _local(positions: Sequence[int], layout: TokenLayout, role: Role) -> list[int]:
    """Positions as the call counts its keys; those of another attention are left out."""
    if outside := [position for position in positions if position >= layout.length]:
        raise InterventionError(f"The sequence has the positions 0 to {layout.length - 1}, not {outside}.")
    if role == "joint":
        return list(positions)
    side = layout.text if role == "text" else layout.image
    return [position - side.start for position in positions if side.start <= position < side.stop]


def _rows(queries: QuerySide, layout: TokenLayout, role: Role) -> slice:
    if role == "joint":
        return {"all": slice(0, layout.length), "text": layout.text, "image": layout.image}[queries]
    if queries == "text":
        raise InterventionError("There are no text queries here: the text is attended to by cross-attention alone.")
    return slice(0, layout.image_length)


def _without(call: AttentionCall, keys: Sequence[int], rows: slice) -> AttentionCall:
    """The call with these keys masked for these rows."""
    if len(keys) == call.key.shape[-2]:
        raise InterventionError("Every key is suppressed, so queries would attend to nothing. Leave some.")
    device = call.query.device
    closed = torch.zeros(1, 1, call.query.shape[-2], call.key.shape[-2], dtype=call.query.dtype, device=device)
    closed[..., rows, torch.tensor(keys, device=device)] = float("-inf")
    bias = closed if call.bias is None else call.bias + closed
    if bool((bias.amax(-1) == float("-inf")).any()):
        raise InterventionError("A query would have nothing left to attend to: the model masks its other keys.")
    return replace(call, mask=bias, causal=False)


def _run(call: AttentionCall) -> torch.Tensor:
    return functional.scaled_dot_product_attention(
        call.query, call.key, call.value, attn_mask=call.bias, scale=call.scale, enable_gqa=call.grouped
    )


def _difference(call: AttentionCall, lse: torch.Tensor, moved: Moved) -> torch.Tensor:
    """What the output gains: minus the keys' part of it, plus their mass times the mean value of the receivers."""
    probability = moved.probabilities(call, lse)
    value = call.value.to(call.score_dtype).repeat_interleave(call.heads // call.value.shape[1], dim=1)
    gained = -(probability @ value[:, :, list(moved.keys)])
    if moved.onto:
        gained = gained + probability.sum(-1, keepdim=True) * value[:, :, list(moved.onto)].mean(2, keepdim=True)
    difference = value.new_zeros(*call.query.shape[:3], value.shape[-1])
    difference[:, :, moved.rows] = gained
    return difference
