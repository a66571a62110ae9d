"""Every row of the table of kernels: the model's own output, and the log-sum-exp of every row."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from torch.nn import functional
from torch.nn.attention import SDPBackend, sdpa_kernel

from refam_analysis.recording.attention_calls import AttentionCall, read_call
from refam_analysis.recording.kernels import KERNELS, Kernel, choose_kernel

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


@pytest.mark.parametrize("kernel", KERNELS[:1] + KERNELS[2:], ids=str)
def test_a_float64_model_is_answered_in_float64(operands: Operands, kernel: Kernel) -> None:
    arguments = operands(dtype=torch.float64)
    call = read_call(**arguments)
    lse = kernel.attend(call, lambda: arguments["query"]).lse
    torch.testing.assert_close(lse, expected_lse(call), atol=1e-12, rtol=1e-12)
