"""Every row of the table of kernels: the model's own output, and the log-sum-exp of every row."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from refam_analysis.recording.attention_calls import AttentionCall, Plain, read_call, run_call
from refam_analysis.recording.kernels import (
    KERNELS,
    Attended,
    Compared,
    Kernel,
    _aligned,
    choose_kernel,
    exact_lse,
)

BY_NAME = {kernel.name: kernel for kernel in KERNELS}

Operands = Callable[..., dict[str, torch.Tensor]]


@pytest.fixture
def operands() -> Operands:
    """Arguments of scaled_dot_product_attention, the scores large enough that rows are peaked."""

    def make(
        tokens: int = 33, heads: int = 4, key_heads: int = 4, dtype: torch.dtype = torch.float32, mask: str = "none"
    ) -> dict[str, torch.Tensor]:
        generator = torch.Generator().manual_seed(tokens + heads)
        shapes = ((2, heads, tokens, 16), (2, key_heads, tokens, 16), (2, key_heads, tokens, 16))
        query, key, value = (torch.randn(shape, generator=generator).to(dtype) for shape in shapes)
        found: dict[str, torch.Tensor] = {"query": query * 3, "key": key, "value": value}
        if mask == "keys":
            found["attn_mask"] = torch.arange(tokens) < torch.tensor([tokens, tokens // 2 + 1])[:, None, None, None]
        elif mask == "pairs":
            found["attn_mask"] = torch.rand(2, 1, tokens, tokens, generator=generator) < 0.7
        elif mask == "bias":
            found["attn_mask"] = torch.randn(1, heads, tokens, tokens, generator=generator).to(dtype)
        elif mask == "row":
            found["attn_mask"] = torch.arange(tokens)[:, None] != tokens // 2
        return found

    return make


def expected_lse(call: AttentionCall) -> torch.Tensor:
    """In float64, by the definition; 0 for a row that may attend to nothing."""
    key = call.key.double().repeat_interleave(call.query.shape[1] // call.key.shape[1], dim=1)
    scores = call.query.double() @ key.mT * call.scale
    if call.mask is not None and call.mask.dtype == torch.bool:
        scores = scores.masked_fill(~call.mask, float("-inf"))
    elif call.mask is not None:
        scores = scores + call.mask.double()
    lse = torch.logsumexp(scores, -1)
    return torch.where(lse == float("-inf"), 0.0, lse)


@pytest.mark.parametrize("mask", ["none", "keys", "pairs", "bias", "row"])
@pytest.mark.parametrize("key_heads", [4, 2, 1], ids=lambda n: f"{n}-key-heads")
@pytest.mark.parametrize("tokens", [1, 7, 33, 130], ids=lambda n: f"{n}-tokens")
@pytest.mark.parametrize("name", ["fused-cpu", "chunked"])
def test_lse_equals_float64(operands: Operands, name: str, tokens: int, key_heads: int, mask: str) -> None:
    arguments = operands(tokens, key_heads=key_heads, mask=mask)
    call = read_call(**arguments, enable_gqa=True)
    lse = BY_NAME[name].attend(call, lambda: arguments["query"]).lse
    assert lse.dtype == torch.float32
    torch.testing.assert_close(lse.double(), expected_lse(call), atol=5e-6, rtol=1e-6)


@pytest.mark.parametrize("mask", ["none", "keys", "bias"])
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", ["fused-cpu-half", "chunked"])
def test_lse_of_a_half_precision_model_is_as_exact_as_float32(
    operands: Operands, name: str, dtype: torch.dtype, mask: str
) -> None:
    arguments = operands(dtype=dtype, mask=mask)
    call = read_call(**arguments)
    lse = BY_NAME[name].attend(call, lambda: arguments["query"]).lse
    torch.testing.assert_close(lse.double(), expected_lse(call), atol=5e-6, rtol=1e-6)


@pytest.mark.parametrize("mask", ["none", "keys", "pairs", "bias", "row"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16], ids=str)
@pytest.mark.parametrize("key_heads", [4, 2], ids=lambda n: f"{n}-key-heads")
def test_output_is_the_models_own_bit_for_bit(
    operands: Operands, dtype: torch.dtype, key_heads: int, mask: str
) -> None:
    arguments = operands(dtype=dtype, key_heads=key_heads, mask=mask)

    def plain() -> torch.Tensor:
        return functional.scaled_dot_product_attention(**arguments, enable_gqa=True)

    call = read_call(**arguments, enable_gqa=True)
    assert torch.equal(choose_kernel(call).attend(call, plain).output, plain())


def test_causal_output_is_the_models_own_bit_for_bit(operands: Operands) -> None:
    arguments = operands()
    call = read_call(**arguments, is_causal=True)
    expected = functional.scaled_dot_product_attention(**arguments, is_causal=True)
    assert choose_kernel(call).name == "fused-cpu"
    assert torch.equal(choose_kernel(call).attend(call, lambda: expected).output, expected)


@pytest.mark.parametrize(
    ("dtype", "kernel"),
    [(torch.float32, "fused-cpu"), (torch.float64, "fused-cpu"), (torch.bfloat16, "fused-cpu-half")],
    ids=str,
)
def test_a_fused_kernel_serves_the_cpu(operands: Operands, dtype: torch.dtype, kernel: str) -> None:
    assert choose_kernel(read_call(**operands(dtype=dtype))).name == kernel


def test_the_fallback_serves_what_pytorch_would_not_send_to_the_fused_kernel(operands: Operands) -> None:
    narrow = operands()
    narrow["value"] = narrow["value"][..., :8]
    assert choose_kernel(read_call(**narrow)).name == "chunked"
    with sdpa_kernel(SDPBackend.MATH):
        assert choose_kernel(read_call(**operands())).name == "chunked"


@pytest.mark.parametrize("kernel", [BY_NAME["fused-cpu"], BY_NAME["chunked"]], ids=str)
def test_a_float64_model_is_answered_in_float64(operands: Operands, kernel: Kernel) -> None:
    arguments = operands(dtype=torch.float64)
    call = read_call(**arguments)
    lse = kernel.attend(call, lambda: arguments["query"]).lse
    torch.testing.assert_close(lse, expected_lse(call), atol=1e-12, rtol=1e-12)


def test_the_gradient_of_a_mask_is_not_lost(operands: Operands) -> None:
    arguments = operands(mask="bias")
    mask = arguments["attn_mask"].requires_grad_()
    expected = functional.scaled_dot_product_attention(**arguments)
    call = read_call(**arguments)
    found = choose_kernel(call).attend(call, lambda: functional.scaled_dot_product_attention(**arguments)).output
    assert torch.equal(found, expected)
    gradients = [torch.autograd.grad(output.square().sum(), mask)[0] for output in (found, expected)]
    torch.testing.assert_close(*gradients)


# --- kernels that have to show that they are right, as those of a GPU ------------------------------------------------


def compared(attend: Callable[[AttentionCall, Plain], Attended]) -> tuple[Compared, list[AttentionCall]]:
    """Such a kernel, and the calls that it has answered."""
    answered: list[AttentionCall] = []

    def noting(call: AttentionCall, plain: Plain) -> Attended:
        answered.append(call)
        return attend(call, plain)

    return Compared(lambda call: True, noting), answered


def by_the_plain_formula(call: AttentionCall, plain: Plain) -> Attended:
    with sdpa_kernel(SDPBackend.MATH):
        return Attended(run_call(call), exact_lse(call))


def with_the_lse_of_half_precision(call: AttentionCall, plain: Plain) -> Attended:
    return Attended(*torch.ops.aten._scaled_dot_product_flash_attention_for_cpu(call.query, call.key, call.value))


def with_padding(call: AttentionCall, plain: Plain) -> Attended:
    return Attended(plain(), functional.pad(exact_lse(call), (0, 3)))


def with_a_wrong_last_row(call: AttentionCall, plain: Plain) -> Attended:
    lse = exact_lse(call)
    lse[:, :, -1] += 1e-4
    return Attended(plain(), lse)


def test_a_right_kernel_is_compared_once_for_every_kind_of_call(operands: Operands) -> None:
    serves, answered = compared(BY_NAME["fused-cpu"].attend)
    first, other = read_call(**operands(33)), read_call(**operands(40))
    assert serves(first) and serves(first) and len(answered) == 1
    assert serves(other) and len(answered) == 2
    assert serves(read_call(**operands(33), is_causal=True)) and len(answered) == 3
    assert serves(read_call(**operands(33, mask="bias"))) and len(answered) == 4


@pytest.mark.parametrize(
    ("attend", "dtype"),
    [
        (by_the_plain_formula, torch.float32),
        (with_the_lse_of_half_precision, torch.bfloat16),
        (with_padding, torch.float32),
        (with_a_wrong_last_row, torch.float32),
        (BY_NAME["flash-cuda"].attend, torch.float16),
        (BY_NAME["efficient-cuda"].attend, torch.float32),
    ],
    ids=["another-output", "another-lse", "another-shape", "wrong-in-one-row", "not-here", "not-here-either"],
)
def test_a_kernel_that_is_not_right_is_left_aside(operands: Operands, attend: Any, dtype: torch.dtype) -> None:
    serves, answered = compared(attend)
    call = read_call(**operands(1536, dtype=dtype))
    assert not serves(call) and not serves(call)
    assert len(answered) == 1


def test_what_does_not_come_into_question_is_not_compared(operands: Operands) -> None:
    for name in ("flash-cuda", "efficient-cuda", "cudnn-cuda"):
        kernel = BY_NAME[name]
        assert isinstance(kernel.serves, Compared)
        for dtype in (torch.float32, torch.bfloat16):
            assert not kernel.serves(read_call(**operands(dtype=dtype)))
        assert kernel.serves._verdicts == {}


@pytest.mark.parametrize(
    ("name", "mask"),
    [
        ("flash-cuda", "none"),
        *((name, mask) for name in ("efficient-cuda", "cudnn-cuda") for mask in ("none", "keys", "pairs")),
    ],
)
def test_kernels_of_a_gpu_are_called_by_their_signature(operands: Operands, name: str, mask: str) -> None:
    """On the meta device PyTorch checks arguments and gives shapes, padding included, and computes nothing."""
    arguments = {key: part.to("meta") for key, part in operands(33, dtype=torch.float16, mask=mask).items()}
    call = read_call(**arguments)
    attended = BY_NAME[name].attend(call, lambda: call.query)
    assert attended.output.shape == call.value.shape
    assert attended.lse.shape == call.query.shape[:3] and attended.lse.dtype == torch.float32


@pytest.mark.parametrize("tokens", [16, 33])
@pytest.mark.parametrize("shape", ["whole", "query", "key", "item"])
def test_a_bias_is_aligned_and_its_numbers_stay(tokens: int, shape: str) -> None:
    sizes = {
        "whole": (2, 4, tokens, tokens), "query": (1, 1, tokens, 1), "key": (1, 1, 1, tokens), "item": (2, 1, 1, tokens)
    }  # fmt: skip
    query = torch.zeros(2, 4, tokens, 8)
    bias = torch.randn(sizes[shape])
    aligned = _aligned(read_call(query, query, query, bias))
    assert torch.equal(aligned, bias.expand(2, 4, tokens, tokens))
    assert aligned.stride(-1) == 1 and all(stride % 16 == 0 for stride in aligned.stride()[:3])
