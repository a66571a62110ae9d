"""Which kernel answers an attention call, with the log-sum-exp of its rows, and the exact fallback.

A kernel gives the output of the model's own kernel, bit for bit, and for every row lse_i = log sum_j exp(s_ij) over
the scores. With it any part of the attention is exact and cheap: attention[i, j] = exp(s_ij - lse_i).

:data:`KERNELS` is the table; the first row that serves a call answers it.

| kernel | device | dtype | mask | grouped queries | output | lse |
|---|---|---|---|---|---|---|
| fused-cpu | CPU | float32, float64 | any | yes | the kernel's | the kernel's |
| fused-cpu-half | CPU | float16, bfloat16 | any | yes | the model's own call | a second run, in float32 |
| flash-cuda | CUDA | float16, bfloat16 | none, causal | yes | the kernel's | the kernel's |
| efficient-cuda | CUDA | float32, float16, bfloat16 | any | no | the kernel's | the kernel's |
| cudnn-cuda | CUDA | float16, bfloat16 | any | without a mask | the model's own call | flash's, or efficient's |
| chunked | any | any | any | yes | the model's own call | scores in float32, a few rows at a time |

All but the last serve only what PyTorch itself would send to that kernel (`cudnn-cuda`: to cuDNN's), so the output is
the same. The rows for CUDA are held to that where they run: the first call of a kind is compared with PyTorch's own
output and with exact scores (:class:`Compared`), and a kernel that differs is left aside for the chunked one.
``python -m benchmarks.check_gpu_kernels`` does so for many kinds of calls, and prints a table.

In half precision the fused CPU kernel's own lse is off by up to 7e-5 (1536 tokens, scores up to 33); run again in
float32 it has 1e-5 at most, against float64 on the same operands, and 1e-6 where scores stay below 6.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch.nn.attention import SDPBackend
from torch.nn.functional import pad

from refam_analysis.recording.attention_calls import AttentionCall, Plain, run_call
from refam_analysis.recording.chunks import Scores, Workspace, plan_chunks
from refam_analysis.recording.precision import exact_products

LSE_TOLERANCE = (1e-5, 5e-7)
"""How far from exact the lse of a GPU's kernel may be, absolute and relative."""

_FUSED_CPU = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_FLASH = torch.ops.aten._scaled_dot_product_flash_attention
_EFFICIENT = torch.ops.aten._scaled_dot_product_efficient_attention
_HALF = (torch.float16, torch.bfloat16)
_ALIGNMENT = 16
"""A row of a mask has to start at a multiple of this many numbers, for the memory-efficient kernel."""


@dataclass(frozen=True)
class Attended:
    """What a kernel returns.

    Attributes:
        output: (batch, head, query, value channel), the model's own.
        lse: (batch, head, query), float32 (float64 for a float64 model); 0 for a row that may attend to nothing.
    """

    output: torch.Tensor
    lse: torch.Tensor


@dataclass(frozen=True)
class Kernel:
    """A row of the table: which calls it serves, and how."""

    name: str
    serves: Callable[[AttentionCall], bool]
    attend: Callable[[AttentionCall, Plain], Attended]

    def __str__(self) -> str:
        return self.name


def choose_kernel(call: AttentionCall) -> Kernel:
    """The first kernel of :data:`KERNELS` that serves the call; the last one serves every call."""
    return next(kernel for kernel in KERNELS if kernel.serves(call))


@exact_products()
def exact_lse(call: AttentionCall) -> torch.Tensor:
    """The log-sum-exp of every row from its scores, a few rows at a time: (batch, head, query)."""
    scores = Scores(call, None, Workspace())
    rows, columns = slice(0, call.query.shape[-2]), slice(0, call.key.shape[-2])
    lse = torch.empty(call.query.shape[:3], dtype=call.score_dtype, device=call.query.device)
    for chunk in plan_chunks(lse.shape[0], call.heads, rows, columns, device=lse.device):
        lse[chunk.index] = torch.logsumexp(scores.compute(chunk), -1)
    return lse.masked_fill_(lse == float("-inf"), 0.0)


@dataclass(frozen=True)
class Compared:
    """A kernel that has to show for every kind of call that it is right; says which calls it serves.

    The first call of a kind is run twice, by the kernel and by PyTorch, and some rows of the lse are computed exactly.
    Calls of a kind agree in device, dtype, shapes, strides of the last axis, mask and scale; the verdict is kept.

    Attributes:
        serves: which calls come into question.
        attend: the kernel.
    """

    serves: Callable[[AttentionCall], bool]
    attend: Callable[[AttentionCall, Plain], Attended]
    _verdicts: dict[tuple[object, ...], bool] = field(default_factory=dict)

    def __call__(self, call: AttentionCall) -> bool:
        """Whether the call is of a kind for which the kernel is right."""
        if not self.serves(call):
            return False
        kind = _kind(call)
        if kind not in self._verdicts:
            self._verdicts[kind] = self._is_right(call)
        return self._verdicts[kind]

    @torch.no_grad()
    def _is_right(self, call: AttentionCall) -> bool:
        call = _without_gradient(call)
        expected = run_call(call)
        try:
            found = self.attend(call, lambda: expected)
        except torch.OutOfMemoryError:
            raise
        except (RuntimeError, TypeError):  # the card or this PyTorch has no such kernel, or another signature
            return False
        queries, shape = call.query.shape[-2], call.query.shape[:3]
        if found.lse.shape != shape or not torch.equal(found.output, expected):
            return False
        rows = sorted({*range(min(queries, 32)), *range(max(0, queries - 32), queries)})
        absolute, relative = LSE_TOLERANCE
        exact = exact_lse(call.take_queries(rows))
        return torch.allclose(found.lse[:, :, rows], exact, atol=absolute, rtol=relative)


def _without_gradient(call: AttentionCall) -> AttentionCall:
    return replace(call, query=call.query.detach(), key=call.key.detach(), value=call.value.detach())


def _kind(call: AttentionCall) -> tuple[object, ...]:
    parts = (call.query, call.key, call.value, *(() if call.mask is None else (call.mask,)))
    shapes = tuple((part.device, part.dtype, tuple(part.shape), part.stride(-1)) for part in parts)
    return (*shapes, call.causal, call.scale)


def _choice(call: AttentionCall) -> int:
    """The kernel that PyTorch itself would take."""
    return int(
        torch._fused_sdp_choice(
            call.query, call.key, call.value, call.mask, 0.0, call.causal, scale=call.scale, enable_gqa=call.grouped
        )
    )


def _is_full_precision(call: AttentionCall) -> bool:
    return call.query.dtype in (torch.float32, torch.float64)


# --- CPU -----------------------------------------------------------------------------------------------------------


def _fused_on_cpu(call: AttentionCall) -> bool:
    return call.query.device.type == "cpu" and _choice(call) == SDPBackend.FLASH_ATTENTION.value


def _attend_fused(call: AttentionCall, plain: Plain) -> Attended:
    bias = None if call.causal else call.bias
    output, lse = _FUSED_CPU(call.query, call.key, call.value, 0.0, call.causal, attn_mask=bias, scale=call.scale)
    return Attended(output, lse.detach())


def _attend_fused_half(call: AttentionCall, plain: Plain) -> Attended:
    query, key = call.query.detach().float(), call.key.detach().float()
    bias = None if call.causal or call.bias is None else call.bias.float()
    lse = _FUSED_CPU(query, key, key, 0.0, call.causal, attn_mask=bias, scale=call.scale)[1]
    return Attended(plain(), lse)


# --- CUDA ----------------------------------------------------------------------------------------------------------


def _on_cuda(call: AttentionCall, backend: SDPBackend) -> bool:
    """Whether PyTorch would answer by this kernel, and neither pads heads for it nor needs the mask's gradient."""
    widths = {part.shape[-1] for part in (call.query, call.key, call.value)}
    return (
        call.query.device.type == "cuda"
        and torch.version.hip is None
        and len(widths) == 1
        and widths.pop() % 8 == 0
        and (call.mask is None or not call.mask.requires_grad)
        and _choice(call) == backend.value
    )


def _flash_on_cuda(call: AttentionCall) -> bool:
    return call.mask is None and call.query.dtype in _HALF and _on_cuda(call, SDPBackend.FLASH_ATTENTION)


def _efficient_on_cuda(call: AttentionCall) -> bool:
    return not call.grouped and _on_cuda(call, SDPBackend.EFFICIENT_ATTENTION)


def _cudnn_on_cuda(call: AttentionCall) -> bool:
    suits = call.mask is None or not call.grouped
    return suits and call.query.dtype in _HALF and _on_cuda(call, SDPBackend.CUDNN_ATTENTION)


def _attend_flash(call: AttentionCall, plain: Plain) -> Attended:
    output, lse, *_ = _FLASH(call.query, call.key, call.value, 0.0, call.causal, False, scale=call.scale)
    return Attended(output, _as_rows(lse, call))


def _attend_efficient(call: AttentionCall, plain: Plain) -> Attended:
    bias = None if call.causal or call.bias is None else _aligned(call)
    output, lse, *_ = _EFFICIENT(call.query, call.key, call.value, bias, True, 0.0, call.causal, scale=call.scale)
    return Attended(output, _as_rows(lse, call))


def _attend_cudnn(call: AttentionCall, plain: Plain) -> Attended:
    """Whether the lse is asked for may change how cuDNN computes: the output is the model's own, the lse another's."""
    attend = _attend_flash if call.mask is None else _attend_efficient
    with torch.no_grad():
        lse = attend(_without_gradient(call), plain).lse
    return Attended(plain(), lse)


def _as_rows(lse: torch.Tensor, call: AttentionCall) -> torch.Tensor:
    """Without the padding of the query axis; 0 where a row may attend to nothing, which kernels mark by infinities."""
    rows = lse.detach()[:, :, : call.query.shape[-2]]
    return rows.masked_fill(rows.isinf(), 0.0)


def _aligned(call: AttentionCall) -> torch.Tensor:
    """The bias as the memory-efficient kernel takes it: whole, and each row at an aligned address."""
    assert call.bias is not None
    (queries, keys), bias = call.length, call.bias
    bias = bias.expand(*bias.shape[:3], keys)
    if beyond := -keys % _ALIGNMENT:
        bias = pad(bias, (0, beyond))[..., :keys]
    whole = bias.expand(call.query.shape[0], call.heads, queries, keys)
    return whole if all(stride % _ALIGNMENT == 0 for stride in whole.stride()[:3]) else whole.contiguous()


# --- the table -----------------------------------------------------------------------------------------------------


def _attend_chunked(call: AttentionCall, plain: Plain) -> Attended:
    return Attended(plain(), exact_lse(call))


KERNELS: tuple[Kernel, ...] = (
    Kernel("fused-cpu", lambda call: _is_full_precision(call) and _fused_on_cpu(call), _attend_fused),
    Kernel("fused-cpu-half", lambda call: not _is_full_precision(call) and _fused_on_cpu(call), _attend_fused_half),
    Kernel("flash-cuda", Compared(_flash_on_cuda, _attend_flash), _attend_flash),
    Kernel("efficient-cuda", Compared(_efficient_on_cuda, _attend_efficient), _attend_efficient),
    Kernel("cudnn-cuda", Compared(_cudnn_on_cuda, _attend_cudnn), _attend_cudnn),
    Kernel("chunked", lambda call: True, _attend_chunked),
)
