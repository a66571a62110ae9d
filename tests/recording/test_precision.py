"""Sums and products in float32: the errors stated for each dtype, and what the program around has chosen."""

from __future__ import annotations

import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from refam_analysis.recording.attention_calls import AttentionCall, read_call, run_call
from refam_analysis.recording.kernels import choose_kernel
from refam_analysis.recording.precision import exact_products
from refam_analysis.recording.quantities import QUANTITIES
from refam_analysis.recording.reductions import reduce_attention, result_shape

Plain = Callable[..., torch.Tensor]

TEXT, IMAGE = slice(0, 512), slice(512, 1536)
SIDES = {"text": TEXT, "image": IMAGE, "all": slice(0, 1536)}
KEEP = ["full", "entropy", "mass_on_text"]
KEEP += [f"{what}_from_{side}" for what in ("received", "uniformity") for side in ("text", "image")]


def peaked_call(dtype: torch.dtype) -> AttentionCall:
    """1536 tokens, scores up to 33: rows with next to nothing but one key, and rows that are spread."""
    generator = torch.Generator().manual_seed(0)
    query, key, value = (torch.randn(1, 2, 1536, 64, generator=generator) for _ in range(3))
    return read_call((query * 6).to(dtype), key.to(dtype), value.to(dtype))


def reduced(call: AttentionCall, keep: list[str]) -> dict[str, torch.Tensor]:
    found = {name: torch.empty(1, 2, *result_shape(QUANTITIES[name], SIDES, SIDES)) for name in keep}
    reduce_attention(call, choose_kernel(call).attend(call, lambda: run_call(call)).lse, SIDES, SIDES, found)
    return found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_errors_at_1536_tokens_with_peaked_rows_are_as_stated(
    dtype: torch.dtype, plain_attention: Plain, plain_quantity: Plain
) -> None:
    call = peaked_call(dtype)
    attention = plain_attention(call.query, call.key)
    assert torch.special.entr(attention).sum(-1).min() < 0.01 and attention.max() > 0.999
    found = reduced(call, KEEP)
    for name, values in found.items():
        expected = plain_quantity(name, attention, TEXT, IMAGE)
        difference = (values.double() - expected).abs()
        if name.startswith(("received", "uniformity")):
            assert (difference / expected).max() < 2e-5, name
        else:
            assert difference.max() < (1e-5 if name == "entropy" else 5e-6), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_a_softmax_in_half_precision_would_be_far_off(dtype: torch.dtype, plain_attention: Plain) -> None:
    call = peaked_call(dtype)
    attention = plain_attention(call.query, call.key)
    rounded = torch.softmax(call.query @ call.key.mT * call.scale, -1)
    assert (rounded.double() - attention).abs().max() > 1e-3
    entropy = torch.special.entr(attention).sum(-1)
    assert (torch.special.entr(rounded.float()).sum(-1) - entropy).abs().max() > 5e-3


# --- what the program around has chosen ----------------------------------------------------------------------------


def settings() -> tuple[str, ...]:
    backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul
    return torch.get_float32_matmul_precision(), *(backend.fp32_precision for backend in backends)


@pytest.fixture
def chosen() -> Iterator[None]:
    """As a program chooses that wants its model fast."""
    torch.set_float32_matmul_precision("medium")
    yield
    torch.set_float32_matmul_precision("highest")


class Precisions(TorchDispatchMode):
    """Notes at every matrix product what a GPU and a CPU may do to its operands."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: set[tuple[str, ...]] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if "mm" in str(func):
            self.seen.add(settings())
        return func(*args, **(kwargs or {}))


@pytest.mark.usefixtures("chosen")
def test_every_product_of_a_reduction_is_exact_and_the_choice_is_left_as_it_was() -> None:
    before = settings()
    assert before == ("medium", "tf32", "bf16")
    call = read_call(*torch.randn(3, 1, 2, 40, 8).unbind())
    sides = {"text": slice(0, 10), "image": slice(10, 40), "all": slice(0, 40)}
    found = {name: torch.empty(1, 2, *result_shape(QUANTITIES[name], sides, sides)) for name in KEEP}
    with Precisions() as watch:
        lse = choose_kernel(call).attend(call, lambda: run_call(call)).lse
        reduce_attention(call, lse, sides, sides, found)
    assert watch.seen == {("highest", "ieee", "ieee")}
    assert settings() == before


@pytest.mark.usefixtures("chosen")
def test_it_is_put_back_after_an_error_and_by_the_last_of_several_threads() -> None:
    before, entered, left = settings(), threading.Event(), threading.Event()
    inside: list[tuple[str, ...]] = []

    def work() -> None:
        with exact_products():
            entered.set()
            left.wait(60)
            inside.append(settings())

    with pytest.raises(ZeroDivisionError), exact_products():
        thread = threading.Thread(target=work)
        thread.start()
        entered.wait(60)
        raise ZeroDivisionError
    assert settings() == ("highest", "ieee", "ieee")
    left.set()
    thread.join()
    assert inside == [("highest", "ieee", "ieee")] and settings() == before


NEWER = """
import torch
from refam_analysis.recording.precision import exact_products
{choice} = "tf32"
backends = torch.backends.cuda.matmul, torch.backends.mkldnn.matmul, torch.backends
before = [backend.fp32_precision for backend in backends]
with exact_products():
    assert [backend.fp32_precision for backend in backends[:2]] == ["ieee", "ieee"]
assert [backend.fp32_precision for backend in backends] == before and "tf32" in before
"""


@pytest.mark.parametrize("choice", ["torch.backends.cuda.matmul.fp32_precision", "torch.backends.fp32_precision"])
def test_the_newer_setting_of_each_backend_is_known_too(choice: str) -> None:
    """In a process of its own: PyTorch has no way back from it."""
    subprocess.run([sys.executable, "-c", NEWER.format(choice=choice)], check=True, timeout=300)
