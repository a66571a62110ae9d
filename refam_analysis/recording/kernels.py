"""Which kernel answers an attention call, with the log-sum-exp of its rows, and the exact fallback.

A kernel gives the output of the model's own kernel, bit for bit, and for every row lse_i = log sum_j exp(s_ij) over
the scores. With it any part of the attention is exact and cheap: attention[i, j] = exp(s_ij - lse_i).

:data:`KERNELS` is the table; the first row that serves a call answers it. The rows of a GPU's fused kernels belong
here too; until they are there, a GPU is served by the fallback.

| kernel | device | dtype | mask | grouped queries | lse |
|---|---|---|---|---|---|
| fused-cpu | CPU | float32, float64 | any | yes | the fused kernel's own |
| fused-cpu-half | CPU | float16, bfloat16 | any | yes | the fused kernel's, run again in float32 |
| chunked | any | any | any | yes | scores in float32, a few rows at a time |

The first two serve only what PyTorch itself would send to that kernel, so the output is the same.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch.nn.attention import SDPBackend

from refam_analysis.recording.attention_calls import AttentionCall, Plain
from refam_analysis.recording.chunks import Scores, Workspace, plan_chunks

_FUSED_CPU = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu


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


def _fused_on_cpu(call: AttentionCall) -> bool:
    """Whether PyTorch itself would answer this call by its fused CPU kernel."""
    if call.query.device.type != "cpu":
        return False
    choice = torch._fused_sdp_choice(
        call.query, call.key, call.value, call.mask, 0.0, call.causal, scale=call.scale, enable_gqa=call.grouped
    )
    return choice == SDPBackend.FLASH_ATTENTION.value


def _attend_fused(call: AttentionCall, plain: Plain) -> Attended:
    bias = None if call.causal else call.bias
    output, lse = _FUSED_CPU(call.query, call.key, call.value, 0.0, call.causal, attn_mask=bias, scale=call.scale)
    return Attended(output, lse.detach())


def _attend_fused_half(call: AttentionCall, plain: Plain) -> Attended:
    """In half precision the kernel's lse is off by 3e-5 and more; a second run in float32 has it to 1e-6."""
    query, key = call.query.detach().float(), call.key.detach().float()
    bias = None if call.causal or call.bias is None else call.bias.float()
    lse = _FUSED_CPU(query, key, key, 0.0, call.causal, attn_mask=bias, scale=call.scale)[1]
    return Attended(plain(), lse)


def _attend_chunked(call: AttentionCall, plain: Plain) -> Attended:
    scores = Scores(call, None, Workspace())
    rows, columns = slice(0, call.query.shape[-2]), slice(0, call.key.shape[-2])
    lse = torch.empty(call.query.shape[:3], dtype=call.score_dtype, device=call.query.device)
    for chunk in plan_chunks(lse.shape[0], call.heads, rows, columns, device=lse.device):
        lse[chunk.index] = torch.logsumexp(scores.compute(chunk), -1)
    return Attended(plain(), lse.masked_fill_(lse == float("-inf"), 0.0))


def _is_full_precision(call: AttentionCall) -> bool:
    return call.query.dtype in (torch.float32, torch.float64)


KERNELS: tuple[Kernel, ...] = (
    Kernel("fused-cpu", lambda call: _is_full_precision(call) and _fused_on_cpu(call), _attend_fused),
    Kernel("fused-cpu-half", lambda call: not _is_full_precision(call) and _fused_on_cpu(call), _attend_fused_half),
    Kernel("chunked", lambda call: True, _attend_chunked),
)
