"""Are the kernels of a GPU right? ``python -m benchmarks.check_gpu_kernels`` says so, call by call, in a table.

Every kind of attention call that a diffusion transformer makes is answered by the row of the recorder's table that
serves it, and compared with PyTorch's own output, bit for bit, and with the whole softmax in float64: log-sum-exp,
probabilities, entropy, received mass. It ends with 0 where all is right and every row for CUDA was reached, with 1
where not, and with 2 without a GPU. It takes about a minute.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from itertools import product

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from refam_analysis.recording.attention_calls import AttentionCall, read_call, run_call
from refam_analysis.recording.kernels import KERNELS, choose_kernel
from refam_analysis.recording.quantities import QUANTITIES
from refam_analysis.recording.reductions import reduce_attention, result_shape

LIMITS = {"lse": 5e-5, "probability": 1e-5, "entropy": 1e-4, "received": 1e-4}
"""Largest error, absolute; of received mass relative."""

DTYPES = (torch.float32, torch.float16, torch.bfloat16)
MASKS = ("none", "causal", "keys", "pairs", "bias", "row")
TOKENS = (1, 77, 512, 1553)
GROUPS = ((4, 4), (4, 2))
WIDTHS = (64, 128, 72, 60)
CHOSEN: dict[str, Callable[[], AbstractContextManager[None]]] = {
    "": nullcontext,
    "flash": lambda: sdpa_kernel(SDPBackend.FLASH_ATTENTION),
    "efficient": lambda: sdpa_kernel(SDPBackend.EFFICIENT_ATTENTION),
    "cudnn": lambda: sdpa_kernel(SDPBackend.CUDNN_ATTENTION),
    "math": lambda: sdpa_kernel(SDPBackend.MATH),
}
"""PyTorch's own choice, and what a program may choose for it."""


@dataclass(frozen=True)
class Case:
    """One kind of attention call.

    Attributes:
        dtype: of the operands.
        mask: a name of :data:`MASKS`.
        tokens: number of queries and of keys.
        heads: numbers of query heads and of key heads.
        width: channels of a head.
        chosen: a name of :data:`CHOSEN`.
        precision: of float32 products, as the program around has set it.
    """

    dtype: torch.dtype = torch.bfloat16
    mask: str = "none"
    tokens: int = 512
    heads: tuple[int, int] = (4, 4)
    width: int = 64
    chosen: str = ""
    precision: str = "highest"

    def __str__(self) -> str:
        dtype = str(self.dtype).removeprefix("torch.")
        heads = "x".join(map(str, self.heads))
        return (
            f"{dtype:9} {self.mask:7} {self.tokens:5} tokens {heads:>4} heads of {self.width:3} "
            f"{self.chosen:9} {self.precision:7}"
        )


@dataclass(frozen=True)
class Finding:
    """What came out.

    Attributes:
        kernel: name of the row that answered; "" where PyTorch itself has no kernel for the call.
        same: whether the output is PyTorch's own, bit for bit.
        errors: largest error by the names of :data:`LIMITS`.
    """

    kernel: str
    same: bool
    errors: dict[str, float]

    @property
    def right(self) -> bool:
        """Whether nothing is beyond its limit; a number that is not one is."""
        return not self.kernel or (self.same and all(self.errors[name] <= limit for name, limit in LIMITS.items()))


def cases() -> Iterator[Case]:
    """What is tried: the common shapes with every mask, the uncommon ones without, and every choice of a kernel."""
    for dtype, mask, tokens, heads in product(DTYPES, MASKS, TOKENS, GROUPS):
        yield Case(dtype, mask, tokens, heads)
    for dtype, width, mask in product(DTYPES, WIDTHS, ("none", "keys")):
        yield Case(dtype, mask, 333, width=width)
    for dtype, chosen, mask in product(DTYPES, CHOSEN, ("none", "causal", "keys", "bias")):
        yield Case(dtype, mask, 333, chosen=chosen)
    for dtype, chosen, mask in product(DTYPES, ("", "math"), ("none", "bias")):
        yield Case(dtype, mask, 1024, chosen=chosen, precision="high")


def make_call(case: Case, device: str) -> AttentionCall:
    """Operands with rows that are peaked, scores up to about 20."""
    generator = torch.Generator().manual_seed(case.tokens + case.width)
    (heads, key_heads), tokens = case.heads, case.tokens
    query, key, value = (
        torch.randn(2, number, tokens, case.width, generator=generator) for number in (heads, key_heads, key_heads)
    )
    masks = {
        "keys": torch.arange(tokens) < torch.tensor([tokens, tokens // 2 + 1])[:, None, None, None],
        "pairs": (torch.rand(2, 1, tokens, tokens, generator=generator) < 0.7) | torch.eye(tokens, dtype=torch.bool),
        "bias": torch.randn(1, heads, tokens, tokens, generator=generator).to(case.dtype),
        "row": (torch.arange(tokens) != tokens // 2)[:, None].expand(tokens, tokens),
    }
    query, key, value = ((part * size).to(device, case.dtype) for part, size in ((query, 4), (key, 1), (value, 1)))
    mask = masks[case.mask].to(device) if case.mask in masks else None
    return read_call(query, key, value, mask, is_causal=case.mask == "causal", enable_gqa=heads != key_heads)


def plain_attention(call: AttentionCall) -> tuple[torch.Tensor, torch.Tensor]:
    """Log-sum-exp and probabilities in float64, from the definition; zeros for a row that may attend to nothing."""
    key = call.key.double().repeat_interleave(call.heads // call.key.shape[1], dim=1)
    scores = call.query.double() @ key.mT * call.scale
    if call.causal:
        scores = scores.masked_fill(~torch.ones_like(scores[0, 0], dtype=torch.bool).tril(), float("-inf"))
    elif call.mask is not None and call.mask.dtype == torch.bool:
        scores = scores.masked_fill(~call.mask, float("-inf"))
    elif call.mask is not None:
        scores = scores + call.mask.double()
    lse = torch.logsumexp(scores, -1)
    return lse.masked_fill(lse == float("-inf"), 0.0), torch.softmax(scores, -1).nan_to_num(0.0)


@torch.no_grad()
def examine(case: Case, device: str) -> Finding:
    """Answer one call, and compare."""
    call = make_call(case, device)
    torch.set_float32_matmul_precision(case.precision)
    try:
        with CHOSEN[case.chosen]():
            try:
                expected = run_call(call)
            except RuntimeError:
                return Finding("", True, {})
            kernel = choose_kernel(call)
            attended = kernel.attend(call, lambda: run_call(call))
            found = _reduced(call, attended.lse)
    finally:
        torch.set_float32_matmul_precision("highest")
    lse, attention = plain_attention(call)
    attended_to = (attention > 0).sum(-1, keepdim=True)  # keys that a mask hides are not counted
    received = (attended_to * attention).mean(-2)
    errors = {
        "lse": attended.lse - lse,
        "probability": found["full"] - attention,
        "entropy": found["entropy"] - torch.special.entr(attention).sum(-1),
        "received": (found["received_from_image"] - received) / received.clamp_min(1e-3),
    }
    same = torch.equal(attended.output, expected)
    return Finding(kernel.name, same, {name: error.abs().max().item() for name, error in errors.items()})


def _reduced(call: AttentionCall, lse: torch.Tensor) -> dict[str, torch.Tensor]:
    whole = slice(0, call.query.shape[-2])
    sides = {"image": whole, "all": whole}
    found = {
        name: torch.empty(*lse.shape[:2], *result_shape(QUANTITIES[name], sides, sides), device=lse.device)
        for name in ("full", "entropy", "received_from_image")
    }
    reduce_attention(call, lse, sides, sides, found)
    return found


def report(findings: dict[Case, Finding]) -> list[str]:
    """The table, a line a case, and at its end what was not reached."""
    lines = []
    for case, finding in findings.items():
        errors = "  ".join(f"{name} {finding.errors[name]:.0e}" for name in LIMITS if name in finding.errors)
        output = "same output" if finding.same else "OTHER OUTPUT"
        said = f"{finding.kernel:14} {output}  {errors}" if finding.kernel else "PyTorch has no kernel for it"
        lines.append(f"{'right' if finding.right else 'WRONG'}  {case}  {said}")
    wrong = sum(not finding.right for finding in findings.values())
    lines.append(f"{len(findings)} kinds of calls, {wrong} wrong.")
    return lines + [f"NOT REACHED: {name}" for name in not_reached(findings)]


def not_reached(findings: dict[Case, Finding]) -> list[str]:
    """Rows for CUDA that answered no call: not tried, or left aside because they differ."""
    reached = {finding.kernel for finding in findings.values()}
    return [kernel.name for kernel in KERNELS if kernel.name.endswith("-cuda") and kernel.name not in reached]


def main() -> int:
    """Examine every case on the GPU and print the table."""
    if not torch.cuda.is_available():
        print("There is no GPU that PyTorch sees, so nothing was checked.")
        return 2
    print(f"{torch.cuda.get_device_name()}, PyTorch {torch.__version__}")
    findings = {case: examine(case, "cuda") for case in cases()}
    print("\n".join(report(findings)))
    return int(bool(not_reached(findings)) or not all(finding.right for finding in findings.values()))


if __name__ == "__main__":
    sys.exit(main())
