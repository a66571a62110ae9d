"""The arithmetic of interventions on any small attention call: shapes, masks, groups of heads, chunks, gradients."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from references.interventions import changed_attention, changed_output

from refam_analysis.models.layout import TokenLayout
from refam_analysis.recording import QUANTITIES, Intervention, InterventionError
from refam_analysis.recording import chunks as chunk_sizes
from refam_analysis.recording.attention_calls import read_call, run_call
from refam_analysis.recording.reductions import reduce_attention, result_shape

Plain = Callable[..., torch.Tensor]

WAYS = ["score", "value", "redirect"]
SIDES = ["all", "text", "image"]


@st.composite
def problems(draw: st.DrawFn) -> dict[str, Any]:
    """A small attention call, and what is to be changed in it."""
    text, image = draw(st.integers(1, 6)), draw(st.integers(2, 12))
    places = draw(st.permutations(range(text + image)))
    count = draw(st.integers(1, text + image - 1))
    receivers = draw(st.integers(1, text + image - count))
    return {
        "items": draw(st.integers(1, 3)),
        "grouping": draw(st.sampled_from([(1, 1), (3, 3), (4, 2), (5, 1)])),
        "text": text,
        "image": image,
        "keys": places[:count],
        "receivers": places[count : count + receivers],
        "how": draw(st.sampled_from(WAYS)),
        "queries": draw(st.sampled_from(SIDES)),
        "mask": draw(st.sampled_from(["none", "keys", "pairs", "bias", "causal"])),
        "peak": draw(st.sampled_from([0.1, 1.0, 6.0])),
        "chunk": draw(st.integers(1, 2000)),
        "seed": draw(st.integers(0, 2**31)),
    }


def random_operands(problem: dict[str, Any]) -> dict[str, Any]:
    """Arguments of an attention call; the mask leaves every query a key beside those of the intervention."""
    generator = torch.Generator().manual_seed(problem["seed"])
    heads, key_heads = problem["grouping"]
    tokens, items = problem["text"] + problem["image"], problem["items"]
    query, key, value = (
        torch.randn(items, number, tokens, 8, generator=generator) for number in (heads, key_heads, key_heads)
    )
    operands: dict[str, Any] = {"query": query * problem["peak"], "key": key, "value": value}
    free = next(place for place in range(tokens) if place not in problem["keys"])
    if problem["mask"] in ("keys", "pairs"):
        height = tokens if problem["mask"] == "pairs" else 1
        allowed = torch.rand(items, 1, height, tokens, generator=generator) < 0.5
        allowed[..., free] = True
        operands["attn_mask"] = allowed
    elif problem["mask"] == "bias":
        operands["attn_mask"] = torch.randn(1, heads, tokens, tokens, generator=generator)
    elif problem["mask"] == "causal":
        operands["is_causal"] = True
    return operands


@settings(deadline=None, max_examples=150)
@given(problem=problems())
def test_the_arithmetic_of_any_call(problem: dict[str, Any], plain_attention: Plain, plain_quantity: Plain) -> None:
    operands, how = random_operands(problem), problem["how"]
    text, tokens = problem["text"], problem["text"] + problem["image"]
    layout = TokenLayout(text=slice(0, text), image=slice(text, tokens), grid=(1, problem["image"]))
    sides = {"text": layout.text, "image": layout.image, "all": slice(0, tokens)}
    rows, onto = sides[problem["queries"]], problem["receivers"] if how == "redirect" else ()
    intervention = Intervention(tuple(problem["keys"]), how, onto=tuple(onto), queries=problem["queries"])
    call = read_call(**operands, enable_gqa=True)
    nothing_left = problem["mask"] == "causal" and how == "score" and _first_row_is_lost(problem["keys"], rows)
    if nothing_left:
        with pytest.raises(InterventionError, match="nothing left"):
            intervention.attend(call, partial(run_call, call), layout, "joint")
        return
    after, attended, _ = intervention.attend(call, partial(run_call, call), layout, "joint")
    attention = changed_attention(plain_attention, operands, how, problem["keys"], onto, rows)
    expected = changed_output(attention, operands["value"], how, problem["keys"], rows)
    torch.testing.assert_close(attended.output.double(), expected, atol=2e-5, rtol=1e-4)
    names = [name for name in QUANTITIES if not name.startswith("uniformity")]
    found = {
        name: torch.full((*attended.lse.shape[:2], *result_shape(QUANTITIES[name], sides, sides)), torch.nan)
        for name in names
    }
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(chunk_sizes.CHUNK_BYTES, "cpu", 4 * problem["chunk"])
        reduce_attention(after, attended.lse, sides, sides, found)
    causal = torch.ones(tokens, tokens, dtype=torch.bool).tril() if problem["mask"] == "causal" else None
    for name in names:
        quantity = plain_quantity(name, attention, layout.text, layout.image, mask=operands.get("attn_mask", causal))
        torch.testing.assert_close(
            found[name].double(), quantity, atol=1e-5, rtol=1e-4, msg=lambda message, name=name: f"{name}: {message}"
        )


def _first_row_is_lost(keys: Sequence[int], rows: slice) -> bool:
    """Whether a causal mask leaves some of these rows with the keys alone."""
    return any(set(range(row + 1)) <= set(keys) for row in range(rows.start, rows.stop))


@pytest.mark.parametrize("queries", SIDES)
@pytest.mark.parametrize("how", WAYS)
def test_gradients_are_those_of_the_definition(how: str, queries: Any, plain_attention: Plain) -> None:
    layout = TokenLayout(text=slice(0, 5), image=slice(5, 17), grid=(3, 4))
    rows = {"all": slice(0, 17), "text": layout.text, "image": layout.image}[queries]
    intervention = Intervention((1, 12), how, onto=(2, 9) if how == "redirect" else (), queries=queries)
    generator = torch.Generator().manual_seed(0)
    operands = {
        name: torch.randn(1, 2, 17, 8, generator=generator, dtype=torch.float64).requires_grad_()
        for name in ("query", "key", "value")
    }
    call = read_call(**operands)
    output = intervention.attend(call, partial(run_call, call), layout, "joint")[1].output
    found = torch.autograd.grad(output.square().sum(), list(operands.values()))
    attention = changed_attention(plain_attention, operands, how, intervention.keys, intervention.onto, rows)
    expected = changed_output(attention, operands["value"], how, intervention.keys, rows)
    torch.testing.assert_close(found, torch.autograd.grad(expected.square().sum(), list(operands.values())))
