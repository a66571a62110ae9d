"""Every quantity against the whole softmax in float64, for every shape, mask, grouping and chunk size."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from refam_analysis.recording import chunks
from refam_analysis.recording.attention_calls import read_call
from refam_analysis.recording.kernels import choose_kernel
from refam_analysis.recording.quantities import QUANTITIES
from refam_analysis.recording.reductions import reduce_attention, result_shape

Plain = Callable[..., torch.Tensor]


def tolerances(name: str) -> dict[str, float]:
    """1e-5 absolute on probabilities, 1e-4 relative on derived numbers (and 1e-5 for an entropy next to 0)."""
    if name.startswith("entropy"):
        return {"atol": 1e-5, "rtol": 1e-4}
    if name == "mass_on_text":
        return {"atol": 1e-5, "rtol": 0.0}
    return {"atol": 1e-5, "rtol": 0.0} if QUANTITIES[name].form == "map" else {"atol": 1e-9, "rtol": 1e-4}


def reduced(
    query: torch.Tensor,
    key: torch.Tensor,
    text: slice,
    image: slice,
    *,
    keep: Iterable[str] = tuple(QUANTITIES),
    mean: bool = False,
    dtype: torch.dtype = torch.float32,
    lse_error: float = 0.0,
    **options: object,
) -> dict[str, torch.Tensor]:
    """What the library makes of a call."""
    call = read_call(query, key, key, enable_gqa=True, **options)
    sides = {"text": text, "image": image, "all": slice(0, query.shape[-2])}
    heads = 1 if mean else query.shape[1]
    results = {
        name: torch.full((query.shape[0], heads, *result_shape(QUANTITIES[name], sides, sides)), torch.nan, dtype=dtype)
        for name in keep
    }
    lse = choose_kernel(call).attend(call, lambda: query).lse + lse_error
    reduce_attention(call, lse, sides, sides, results, mean_over_heads=mean)
    return results


def random_heads(
    items: int, heads: int, key_heads: int, tokens: int, *, peak: float = 1.0, seed: int = 0
) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    query = torch.randn(items, heads, tokens, 8, generator=generator) * peak
    return query, torch.randn(items, key_heads, tokens, 8, generator=generator)


def check_all(
    found: dict[str, torch.Tensor],
    attention: torch.Tensor,
    text: slice,
    image: slice,
    plain_quantity: Plain,
    mask: torch.Tensor | None = None,
) -> None:
    for name, values in found.items():
        expected = plain_quantity(name, attention, text, image, mask=mask)
        torch.testing.assert_close(values.double(), expected, **tolerances(name), msg=lambda m, n=name: f"{n}: {m}")


@settings(deadline=None, max_examples=60)
@given(
    items=st.integers(1, 3),
    grouping=st.sampled_from([(1, 1), (3, 3), (4, 2), (5, 1)]),
    text=st.integers(1, 19),
    image=st.integers(1, 37),
    gap=st.integers(0, 2),
    text_first=st.booleans(),
    peak=st.sampled_from([0.1, 1.0, 4.0]),
    chunk_rows=st.integers(1, 4000),
    seed=st.integers(0, 2**31),
)
def test_every_quantity_equals_plain_softmax(
    items: int,
    grouping: tuple[int, int],
    text: int,
    image: int,
    gap: int,
    text_first: bool,
    peak: float,
    chunk_rows: int,
    seed: int,
    plain_attention: Plain,
    plain_quantity: Plain,
) -> None:
    first, second = (text, image) if text_first else (image, text)
    early, late = slice(0, first), slice(first + gap, first + gap + second)
    text_side, image_side = (early, late) if text_first else (late, early)
    query, key = random_heads(items, *grouping, first + gap + second, peak=peak, seed=seed)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(chunks.CHUNK_BYTES, "cpu", 4 * chunk_rows)
        found = reduced(query, key, text_side, image_side)
    check_all(found, plain_attention(query, key), text_side, image_side, plain_quantity)


MASKS = ["keys", "pairs", "bias", "bias-with-inf", "bias-with-10000", "queries", "causal", "scale"]


@pytest.mark.parametrize("mask", MASKS)
def test_masks_and_scales_equal_plain_softmax(mask: str, plain_attention: Plain, plain_quantity: Plain) -> None:
    text, image, tokens = slice(0, 6), slice(6, 31), 31
    query, key = random_heads(2, 4, 2, tokens)
    generator = torch.Generator().manual_seed(1)
    bias = torch.randn(tokens, tokens, generator=generator)
    options: dict[str, object] = {
        "keys": {"attn_mask": torch.arange(tokens) < torch.tensor([31, 20])[:, None, None, None]},
        "pairs": {"attn_mask": torch.rand(1, 4, tokens, tokens, generator=generator) < 0.6},
        "bias": {"attn_mask": bias},
        "bias-with-inf": {"attn_mask": bias.index_fill(1, torch.tensor([2, 9]), -torch.inf)},
        "bias-with-10000": {"attn_mask": (torch.arange(tokens) > 24)[None, None, None] * -10000.0},
        "queries": {"attn_mask": torch.arange(tokens)[:, None] != 4},
        "causal": {"is_causal": True},
        "scale": {"scale": 0.7},
    }[mask]
    names = {"attn_mask": "mask", "is_causal": "causal", "scale": "scale"}
    attention = plain_attention(query, key, **{names[name]: value for name, value in options.items()})
    keep = [name for name in QUANTITIES if not name.startswith("uniformity")]
    open_to = torch.ones(tokens, tokens, dtype=torch.bool).tril() if mask == "causal" else options.get("attn_mask")
    found = reduced(query, key, text, image, keep=keep, **options)
    check_all(found, attention, text, image, plain_quantity, mask=open_to)
    nobody = attention[..., text, :].sum(-2) == 0
    evenness = reduced(query, key, text, image, keep=["uniformity_from_text"], **options)["uniformity_from_text"]
    assert torch.equal(evenness.isnan(), nobody)
    expected = plain_quantity("uniformity_from_text", attention, text, image)
    torch.testing.assert_close(evenness.double()[~nobody], expected[~nobody], atol=0, rtol=1e-4)


def test_uniform_attention_over_what_is_not_masked_is_received_as_one() -> None:
    query, key = torch.zeros(2, 3, 12, 8), torch.randn(2, 3, 12, 8)
    allowed = torch.arange(12) < torch.tensor([12, 5])[:, None, None, None]
    found = reduced(query, key, slice(0, 4), slice(4, 12), attn_mask=allowed)["received_from_image"]
    torch.testing.assert_close(found, allowed[:, 0].expand(2, 3, 12).float())


def test_a_query_that_may_attend_to_nothing_has_zeros_and_no_entropy() -> None:
    query, key = random_heads(1, 2, 2, 9)
    found = reduced(query, key, slice(0, 3), slice(3, 9), attn_mask=torch.arange(9)[:, None] != 4)
    assert found["full"][:, :, 4].count_nonzero() == 0
    assert found["entropy"][:, :, 4].count_nonzero() == 0
    assert (found["entropy"][:, :, 5] > 0).all()


@pytest.mark.parametrize("name", QUANTITIES)
def test_the_mean_over_heads_is_the_mean_of_what_each_head_has(name: str) -> None:
    query, key = random_heads(2, 5, 5, 40)
    text, image = slice(0, 9), slice(9, 40)
    each = reduced(query, key, text, image, keep=[name])[name]
    mean = reduced(query, key, text, image, keep=[name], mean=True)[name]
    torch.testing.assert_close(mean, each.mean(1, keepdim=True), atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("name", QUANTITIES)
def test_a_quantity_does_not_depend_on_what_else_is_kept(name: str) -> None:
    query, key = random_heads(1, 3, 3, 40)
    text, image = slice(0, 9), slice(9, 40)
    alone = reduced(query, key, text, image, keep=[name])[name]
    torch.testing.assert_close(alone, reduced(query, key, text, image)[name], atol=1e-7, rtol=1e-5)


def test_float16_is_the_float32_result_rounded_once() -> None:
    query, key = random_heads(2, 3, 3, 40)
    exact = reduced(query, key, slice(0, 9), slice(9, 40))
    for name, values in reduced(query, key, slice(0, 9), slice(9, 40), dtype=torch.float16).items():
        assert torch.equal(values, exact[name].half()), name


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_models_are_reduced_in_float32(
    dtype: torch.dtype, plain_attention: Plain, plain_quantity: Plain
) -> None:
    query, key = (part.to(dtype) for part in random_heads(2, 4, 2, 65, peak=3.0))
    found = reduced(query, key, slice(0, 20), slice(20, 65))
    check_all(found, plain_attention(query, key), slice(0, 20), slice(20, 65), plain_quantity)


def test_large_common_scores_do_not_spoil_entropy(plain_attention: Plain, plain_quantity: Plain) -> None:
    query, key = random_heads(1, 2, 2, 50, peak=2.0)
    query, key = query + 4.0, key + 4.0  # every score is near 45, as where one channel dominates
    found = reduced(query, key, slice(0, 10), slice(10, 50))
    check_all(found, plain_attention(query, key), slice(0, 10), slice(10, 50), plain_quantity)


def test_an_inexact_lse_is_made_good_where_whole_rows_are_visited(
    plain_attention: Plain, plain_quantity: Plain
) -> None:
    query, key = random_heads(2, 3, 3, 50)
    found = reduced(query, key, slice(0, 10), slice(10, 50), lse_error=0.01)
    check_all(found, plain_attention(query, key), slice(0, 10), slice(10, 50), plain_quantity)


def test_a_perfectly_even_key_has_uniformity_one() -> None:
    query, key = torch.zeros(1, 1, 12, 8), torch.randn(1, 1, 12, 8)
    found = reduced(query, key, slice(0, 4), slice(4, 12))
    torch.testing.assert_close(found["uniformity_from_text"], torch.ones(1, 1, 12))
    torch.testing.assert_close(found["received_from_image"], torch.ones(1, 1, 12))
    torch.testing.assert_close(found["entropy"], torch.full((1, 1, 12), 12.0).log())


def test_no_tensor_as_large_as_the_attention_is_made_for_summaries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(chunks.CHUNK_BYTES, "cpu", 4 * 1000)
    query, key = random_heads(1, 2, 2, 200)
    sizes: list[int] = []

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(
            self, func: object, types: object, args: tuple = (), kwargs: dict | None = None
        ) -> object:
            result = func(*args, **(kwargs or {}))
            sizes.extend(part.numel() for part in torch.utils._pytree.tree_leaves(result) if torch.is_tensor(part))
            return result

    keep = [name for name in QUANTITIES if QUANTITIES[name].form != "map"]
    with Watch():
        reduced(query, key, slice(0, 50), slice(50, 200), keep=keep)
    assert max(sizes) <= 2 * 200 * 9  # the key with its channel of ones, not 200 x 200
