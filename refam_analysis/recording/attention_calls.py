"""One call of scaled dot-product attention, as the model made it, and the mode that sees such calls.

Everything that the reductions need is in :class:`AttentionCall`; whoever answers a call (the recorder, with its
intervention) gets it together with a way to run the model's own kernel, and decides the output. Which block is
running, and what is kept, is not known here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import Any

import torch
from torch.nn import functional
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack, _pop_mode, _push_mode
from torch.utils._pytree import tree_map

from refam_analysis.errors import RefamError

LOWEST_BIAS = -1e3
"""A query may attend to a key whose bias is at least this. It must have one, or none but -inf."""

OUTSIDE_GRAPHS = "attention is recorded outside compiled graphs; compile without fullgraph=True, or not at all"
"""What torch.compile is told where it may not go on: a graph ends before recording, and another begins behind it."""


class UnsupportedAttentionError(RefamError, NotImplementedError):
    """An attention call whose probabilities the recorder cannot state exactly."""


@dataclass(frozen=True)
class Moved:
    """Mass that an intervention has taken from some keys and given to others, in some rows.

    Attributes:
        keys: from which, as the call counts them.
        onto: to which, each the same share.
        rows: of which queries.
    """

    keys: tuple[int, ...]
    onto: tuple[int, ...]
    rows: slice

    def probabilities(self, call: AttentionCall, lse: torch.Tensor) -> torch.Tensor:
        """What the keys had before, (batch, head, row, key)."""
        keys = list(self.keys)
        key = call.key[:, :, keys].to(call.score_dtype).repeat_interleave(call.heads // call.key.shape[1], dim=1)
        scores = call.query[:, :, self.rows].to(call.score_dtype) @ key.mT * call.scale
        if call.bias is not None:
            bias = call.bias[..., keys] if call.bias.shape[-1] > 1 else call.bias
            scores = scores + (bias[:, :, self.rows] if bias.shape[2] > 1 else bias)
        return torch.exp(scores - lse[:, :, self.rows, None])


@dataclass(frozen=True)
class AttentionCall:
    """The final operands of one call of ``torch.nn.functional.scaled_dot_product_attention``.

    The scores are ``scale * query @ key^T + bias``; their softmax over keys is the attention, less what was moved.

    Attributes:
        query: (batch, head, query, channel), after norms and positions.
        key: (batch, key head, key, channel); the number of heads divides that of the query (grouped queries).
        value: (batch, key head, key, value channel).
        mask: None; bool, True where a query may attend; or floating point, added to the scores. Broadcasts to
            (batch, head, query, key).
        causal: whether query i attends to keys 0..i only. Never together with a mask.
        scale: factor of the scores.
        moved: mass that an intervention has moved after the softmax.
        counted: how many keys each query may attend to, (1 or batch, 1 or head, 1 or query), where an intervention
            masks others beside; None for those that the mask leaves.
    """

    query: torch.Tensor
    key: torch.Tensor
    value: torch.Tensor
    mask: torch.Tensor | None = None
    causal: bool = False
    scale: float = 1.0
    moved: Moved | None = None
    counted: torch.Tensor | None = None

    def narrow(self, items: slice, queries: int, keys: int) -> AttentionCall:
        """The call of some items of the batch, of its first queries and its first keys."""
        parts = self.query[items, :, :queries], self.key[items, :, :keys], self.value[items, :, :keys]
        wanted = (items, slice(None), slice(0, queries), slice(0, keys))
        return self._with(*parts, _narrowed(self.bias, wanted), _narrowed(self.counted, wanted[:3]))

    def take_heads(self, heads: Sequence[int]) -> AttentionCall:
        """The call of some of the heads."""
        chosen = list(heads)
        groups = self.heads // self.key.shape[1]
        key, value = (part.repeat_interleave(groups, dim=1)[:, chosen] for part in (self.key, self.value))
        bias, counted = (_taken(part, chosen, axis=1) for part in (self.bias, self.counted))
        return self._with(self.query[:, chosen], key, value, bias, counted)

    def take_queries(self, positions: Sequence[int]) -> AttentionCall:
        """The call of some of the queries, given in rising order."""
        chosen, moved = list(positions), self.moved
        bias, counted = (_taken(part, chosen, axis=2) for part in (self.bias, self.counted))
        if moved is not None:
            inside = [place for place, position in enumerate(chosen) if moved.rows.start <= position < moved.rows.stop]
            rows = slice(inside[0], inside[-1] + 1) if inside else slice(0, 0)
            moved = replace(moved, rows=rows)
        return replace(self._with(self.query[:, :, chosen], self.key, self.value, bias, counted), moved=moved)

    def _with(
        self,
        query: torch.Tensor,
        key: torch.Tensor,
        value: torch.Tensor,
        bias: torch.Tensor | None,
        counted: torch.Tensor | None,
    ) -> AttentionCall:
        return AttentionCall(query, key, value, mask=bias, scale=self.scale, moved=self.moved, counted=counted)

    @property
    def length(self) -> tuple[int, int]:
        """Numbers of queries and of keys."""
        return self.query.shape[-2], self.key.shape[-2]

    @property
    def heads(self) -> int:
        """Number of query heads."""
        return self.query.shape[1]

    @property
    def grouped(self) -> bool:
        """Whether several query heads share one head of keys."""
        return self.key.shape[1] != self.heads

    @property
    def score_dtype(self) -> torch.dtype:
        """In what the scores are computed: float32, or float64 where the model is in float64."""
        return torch.promote_types(self.query.dtype, torch.float32)

    @cached_property
    def bias(self) -> torch.Tensor | None:
        """The mask as what is added to the scores, (1 or batch, 1 or head, 1 or query, 1 or key); None without one."""
        if self.causal:
            queries, keys = self.query.shape[-2], self.key.shape[-2]
            allowed = torch.ones(queries, keys, dtype=torch.bool, device=self.query.device).tril()
            return _as_additive(allowed, self.query.dtype)[None, None]
        if self.mask is None:
            return None
        is_bool = self.mask.dtype == torch.bool
        mask = _as_additive(self.mask, self.query.dtype) if is_bool else _checked(self.mask.detach())
        return mask.reshape((1,) * (4 - mask.ndim) + tuple(mask.shape))

    @cached_property
    def open_keys(self) -> torch.Tensor | int:
        """How many keys the model lets each query attend to, whatever an intervention masks beside.

        All, where there is no mask; (1 or batch, 1 or head, 1 or query) where there is one.
        """
        if self.counted is not None:
            return self.counted
        keys = self.key.shape[-2]
        if self.bias is None:
            return keys
        allowed = (self.bias >= LOWEST_BIAS).sum(-1)
        return allowed if self.bias.shape[-1] > 1 else allowed * keys


def _narrowed(part: torch.Tensor | None, wanted: Sequence[slice]) -> torch.Tensor | None:
    """A range along every axis that is not there for all alike."""
    if part is None:
        return None
    return part[tuple(slice(None) if n == 1 else w for n, w in zip(part.shape, wanted, strict=True))]


def _taken(part: torch.Tensor | None, chosen: Sequence[int], *, axis: int) -> torch.Tensor | None:
    """Some entries along an axis, unless it is there for all alike."""
    if part is None or part.shape[axis] == 1:
        return part
    return part.index_select(axis, torch.tensor(chosen, device=part.device))


def _checked(mask: torch.Tensor) -> torch.Tensor:
    """Refuse a row whose every key is masked by a finite number: its scores are lost in that number's rounding."""
    best = mask.amax(-1)
    if bool(((best < LOWEST_BIAS) & (best > float("-inf"))).any()):
        raise UnsupportedAttentionError(
            f"A query has all its keys masked by finite numbers, the highest being {best.min().item():g}: what it "
            "attends to is rounding error. Mask with True and False, or with -inf."
        )
    return mask


def _as_additive(allowed: torch.Tensor, dtype: torch.dtype) -> torch.Tensor:
    return torch.zeros(allowed.shape, dtype=dtype, device=allowed.device).masked_fill_(~allowed, float("-inf"))


def read_call(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attn_mask: torch.Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> AttentionCall:
    """The call behind the arguments of ``scaled_dot_product_attention``; names and defaults are PyTorch's.

    Raises:
        UnsupportedAttentionError: dropout, operands that are not (batch, head, token, channel), or heads that do
            not divide.
    """
    if dropout_p > 0:
        raise UnsupportedAttentionError(
            f"The attention drops {dropout_p:g} of its probabilities at random, so there is no one attention to "
            "record. Put the transformer in evaluation mode: transformer.eval()."
        )
    if not query.ndim == key.ndim == value.ndim == 4 or query.shape[0] != key.shape[0]:
        shapes = ", ".join(str(tuple(tensor.shape)) for tensor in (query, key, value))
        raise UnsupportedAttentionError(
            f"Only attention over (batch, head, token, channel) is recorded; the query, key and value here have the "
            f"shapes {shapes}."
        )
    heads, key_heads = query.shape[1], key.shape[1]
    if heads % key_heads or (heads != key_heads and not enable_gqa):
        raise UnsupportedAttentionError(
            f"{heads} query heads cannot share {key_heads} key heads; enable_gqa is {enable_gqa}."
        )
    scale = query.shape[-1] ** -0.5 if scale is None else float(scale)
    return AttentionCall(query, key, value, attn_mask, is_causal, scale)


def run_call(call: AttentionCall) -> torch.Tensor:
    """PyTorch's own attention on a call; what an intervention has moved is not in it."""
    return functional.scaled_dot_product_attention(
        call.query,
        call.key,
        call.value,
        attn_mask=call.mask,
        is_causal=call.causal,
        scale=call.scale,
        enable_gqa=call.grouped,
    )


Plain = Callable[[], torch.Tensor]
"""Runs the model's own kernel on the call, and returns the output of the attention."""

Answer = Callable[[AttentionCall, Plain], torch.Tensor]
"""Decides the output of a call. To change nothing, return what ``plain()`` returns."""


class AttentionMode(TorchFunctionMode):
    """While entered, hands the attention calls of this thread to ``answer``, as long as ``listening`` says so.

    Only calls of ``torch.nn.functional.scaled_dot_product_attention`` are seen, which every native backend of
    diffusers ends in. A mode is local to its thread. Leaving it takes away this mode and no other, in whatever order
    modes are left: one that a generator entered may not be the last.
    """

    def __init__(self, answer: Answer, listening: Callable[[], bool]) -> None:
        super().__init__()
        self._answer = answer
        self._listening = listening

    def __exit__(self, *_: Any) -> None:
        stack = _get_current_function_mode_stack()
        if self not in stack:  # left in another thread than it was entered in
            return
        above = stack[stack.index(self) + 1 :]
        for _mode in (self, *above):
            _pop_mode()
        for mode in above:
            _push_mode(mode)

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        if func is functional.scaled_dot_product_attention:
            return self._hear(func, args, kwargs or {})
        return func(*args, **(kwargs or {}))

    @torch.compiler.disable(reason=OUTSIDE_GRAPHS)
    def _hear(self, func: Callable[..., torch.Tensor], args: tuple[Any, ...], named: dict[str, Any]) -> torch.Tensor:
        """Answer an attention call. Under torch.compile the graph ends before it and goes on behind it."""
        if not self._listening():
            return func(*args, **named)
        device = next(part.device.type for part in (*args, *named.values()) if isinstance(part, torch.Tensor))
        if not (torch.amp.is_autocast_available(device) and torch.is_autocast_enabled(device)):
            return self._answer(read_call(*args, **named), partial(func, *args, **named))
        # What autocast would do to the operands is done here, once; the reductions must not be cast.
        args, named = tree_map(partial(_as_autocast, device=device), (args, named))
        with torch.autocast(device, enabled=False):
            return self._answer(read_call(*args, **named), partial(func, *args, **named))


def _as_autocast(part: Any, *, device: str) -> Any:
    if not isinstance(part, torch.Tensor) or not part.is_floating_point() or part.dtype == torch.float64:
        return part
    return part.to(torch.get_autocast_dtype(device))
