"""Interventions by their definitions: mask and softmax again, zero the values, or move mass after the softmax.

The reference computes the whole attention in float64, changes it as the definition says, and multiplies it with the
values. It is compared with what a block's attention returns inside a real transformer, and with what is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel, PixArtTransformer2DModel
from families.watch import Watch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.utils._python_dispatch import TorchDispatchMode

import refam_analysis as ra
from refam_analysis.models.layout import TokenLayout
from refam_analysis.recording import QUANTITIES, Intervention, InterventionError, Recorder, UnknownBlockError
from refam_analysis.recording import chunks as chunk_sizes
from refam_analysis.recording.attention_calls import read_call, run_call
from refam_analysis.recording.reductions import reduce_attention, result_shape

Inputs = Callable[..., dict[str, Any]]
Plain = Callable[..., torch.Tensor]

TEXT, IMAGE, LENGTH = slice(0, 5), slice(5, 17), 17
ROWS = {"all": slice(0, LENGTH), "text": TEXT, "image": IMAGE}
WAYS = ["score", "value", "redirect"]
MASKED = torch.arange(LENGTH) != 3
"""A key that the model itself masks."""


def changed_attention(
    plain_attention: Plain, operands: dict[str, Any], how: str, keys: Sequence[int], onto: Sequence[int], rows: slice
) -> torch.Tensor:
    """The attention after an intervention, by its definition, in float64."""
    mask = operands.get("attn_mask")
    options = {"scale": operands.get("scale"), "causal": operands.get("is_causal", False)}
    attention = plain_attention(operands["query"], operands["key"], mask=mask, **options)
    if how == "redirect":
        moved = attention[:, :, rows][..., list(keys)].sum(-1, keepdim=True)
        attention[:, :, rows, torch.tensor(list(onto))[:, None]] += (moved / len(onto))[..., None]
    if how != "value":
        index = torch.zeros(attention.shape[-2:], dtype=torch.bool)
        index[rows, list(keys)] = True
        attention = attention.masked_fill(index, 0.0)
    if how == "score":
        total = attention.sum(-1, keepdim=True)
        attention = attention / total.where(total > 0, 1.0)
    return attention


def changed_output(attention: torch.Tensor, value: torch.Tensor, how: str, keys: Sequence[int], rows: slice) -> Any:
    """What it makes of the values: where values are taken away, the keys' part of the sum is left out."""
    value = value.double().repeat_interleave(attention.shape[1] // value.shape[1], dim=1)
    output = attention @ value
    if how == "value":
        output[:, :, rows] -= attention[:, :, rows][..., list(keys)] @ value[:, :, list(keys)]
    return output


def run(
    model: FluxTransformer2DModel,
    layout: TokenLayout,
    arguments: dict[str, Any],
    intervention: Intervention,
    **options: Any,
) -> tuple[Recorder, list[tuple[dict[str, Any], torch.Tensor]], torch.Tensor]:
    with torch.no_grad(), Recorder(model, layout, intervention=intervention, **options) as recorder, Watch() as watch:
        predicted = model(**arguments).sample
    return recorder, watch.calls, predicted


def make(how: str, keys: Sequence[int] = (1,), **options: Any) -> Intervention:
    return Intervention(tuple(keys), how, onto=(2, 9) if how == "redirect" else (), **options)


def check_blocks(
    recorder: Recorder,
    calls: list[tuple[dict[str, Any], torch.Tensor]],
    intervention: Intervention,
    plain_attention: Plain,
    plain_quantity: Plain,
    *,
    output_error: float,
) -> None:
    """Every block's output, and everything recorded of it, against the definition."""
    recordings = recorder.recordings()
    assert len(calls) == 5
    for block, (operands, output) in enumerate(calls):
        keys = intervention.keys if intervention.blocks is None or block in intervention.blocks else ()
        rows = ROWS[intervention.queries]
        attention = changed_attention(plain_attention, operands, intervention.how, keys, intervention.onto, rows)
        expected = changed_output(attention, operands["value"], intervention.how, keys, rows)
        size = operands["value"].abs().max().item()
        torch.testing.assert_close(output.double(), expected, atol=output_error * size, rtol=0.0)
        for name in QUANTITIES:
            quantity = plain_quantity(name, attention, TEXT, IMAGE)
            for item, recording in enumerate(recordings):
                found = recording[name].sel(block=block).values.reshape(quantity[item].shape)
                np.testing.assert_allclose(found, quantity[item], atol=1e-5, rtol=1e-4, err_msg=f"{block} {name}")


@pytest.mark.parametrize("blocks", [None, (1, 3)], ids=["every-block", "two-blocks"])
@pytest.mark.parametrize("keys", [(0,), (1, 4, 13)], ids=["one-key", "three-keys"])
@pytest.mark.parametrize("queries", ROWS)
@pytest.mark.parametrize("how", WAYS)
def test_output_and_record_are_as_defined(
    transformer: FluxTransformer2DModel,
    layout: TokenLayout,
    inputs: Inputs,
    plain_attention: Plain,
    plain_quantity: Plain,
    how: str,
    queries: Any,
    keys: tuple[int, ...],
    blocks: Any,
) -> None:
    intervention = make(how, keys, queries=queries, blocks=blocks)
    recorder, calls, _ = run(transformer, layout, inputs(2), intervention, keep=QUANTITIES)
    check_blocks(recorder, calls, intervention, plain_attention, plain_quantity, output_error=1e-5)


@pytest.mark.parametrize("kind", ["bool", "additive"])
@pytest.mark.parametrize("queries", ROWS)
@pytest.mark.parametrize("how", WAYS)
def test_a_model_that_masks_keys_is_changed_as_defined(
    transformer: FluxTransformer2DModel,
    layout: TokenLayout,
    inputs: Inputs,
    plain_attention: Plain,
    plain_quantity: Plain,
    how: str,
    queries: Any,
    kind: str,
) -> None:
    allowed = MASKED.expand(2, 1, LENGTH, LENGTH)
    bias = torch.linspace(-1, 1, LENGTH).expand_as(allowed).masked_fill(~allowed, -torch.inf)
    arguments = inputs(2) | {"joint_attention_kwargs": {"attention_mask": allowed if kind == "bool" else bias}}
    intervention = make(how, (3, 4), queries=queries)
    recorder, calls, _ = run(transformer, layout, arguments, intervention, keep=QUANTITIES)
    assert all(operands["attn_mask"] is not None for operands, _ in calls)
    check_blocks(recorder, calls, intervention, plain_attention, plain_quantity, output_error=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("queries", ["all", "text"])
@pytest.mark.parametrize("how", WAYS)
def test_half_precision_is_rounded_and_recorded_in_float32(
    transformer: FluxTransformer2DModel,
    layout: TokenLayout,
    inputs: Inputs,
    plain_attention: Plain,
    plain_quantity: Plain,
    how: str,
    queries: Any,
    dtype: torch.dtype,
) -> None:
    arguments = {k: v if k.endswith("ids") else v.to(dtype) for k, v in inputs().items()}
    intervention = make(how, (1, 12), queries=queries)
    recorder, calls, predicted = run(transformer.to(dtype), layout, arguments, intervention, keep=QUANTITIES)
    assert predicted.dtype == calls[0][1].dtype == dtype
    error = 4 * torch.finfo(dtype).eps
    check_blocks(recorder, calls, intervention, plain_attention, plain_quantity, output_error=error)


@pytest.mark.parametrize("how", WAYS)
def test_chosen_heads_and_queries_are_what_they_are_among_all(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, how: str
) -> None:
    intervention = make(how, (1, 12), queries="image")
    everything = run(transformer, layout, inputs(), intervention, keep=["full", "entropy"])[0].recording()
    chosen = [2, 5, 6, 16]
    options: dict[str, Any] = {"keep": ["full", "entropy", "mass_on_text"], "heads": [1], "queries": chosen}
    some = run(transformer, layout, inputs(), intervention, **options)[0].recording()
    for name in ("full", "entropy"):
        expected = everything[name].isel(head=[1], query=chosen).values
        np.testing.assert_allclose(some[name].values, expected, atol=1e-6, rtol=1e-5)
    expected = everything["full"].isel(head=[1], query=chosen).sel(key=slice(0, 4)).values.sum(-1)
    np.testing.assert_allclose(some["mass_on_text"].values, expected, atol=1e-6)


@pytest.mark.parametrize("how", WAYS)
def test_the_mean_over_heads_is_of_the_changed_attention(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, how: str
) -> None:
    each = run(transformer, layout, inputs(), make(how), keep=["full"])[0].recording()["full"]
    mean = run(transformer, layout, inputs(), make(how), keep=["full"], heads="mean")[0].recording()["full"]
    np.testing.assert_allclose(mean.values, each.mean("head", keepdims=True).values, atol=1e-6)


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
        "queries": draw(st.sampled_from(sorted(ROWS))),
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
    for name in names:
        quantity = plain_quantity(name, attention, layout.text, layout.image)
        torch.testing.assert_close(
            found[name].double(), quantity, atol=1e-5, rtol=1e-4, msg=lambda message, name=name: f"{name}: {message}"
        )


def _first_row_is_lost(keys: Sequence[int], rows: slice) -> bool:
    """Whether a causal mask leaves some of these rows with the keys alone."""
    return any(set(range(row + 1)) <= set(keys) for row in range(rows.start, rows.stop))


@pytest.mark.parametrize("queries", ["all", "image"])
@pytest.mark.parametrize("how", WAYS)
def test_gradients_are_those_of_the_definition(how: str, queries: Any, plain_attention: Plain) -> None:
    layout = TokenLayout(text=TEXT, image=IMAGE, grid=(3, 4))
    intervention = make(how, (1, 12), queries=queries)
    generator = torch.Generator().manual_seed(0)
    operands = {
        name: torch.randn(1, 2, LENGTH, 8, generator=generator, dtype=torch.float64).requires_grad_()
        for name in ("query", "key", "value")
    }
    call = read_call(**operands)
    output = intervention.attend(call, partial(run_call, call), layout, "joint")[1].output
    found = torch.autograd.grad(output.square().sum(), list(operands.values()))
    attention = changed_attention(plain_attention, operands, how, intervention.keys, intervention.onto, ROWS[queries])
    expected = changed_output(attention, operands["value"], how, intervention.keys, ROWS[queries])
    torch.testing.assert_close(found, torch.autograd.grad(expected.square().sum(), list(operands.values())))


class Count(TorchDispatchMode):
    """Counts the operations that run."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names.append(str(func))
        return func(*args, **(kwargs or {}))


@torch.no_grad()
def test_blocks_that_are_neither_changed_nor_kept_run_as_without_a_recorder(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    def operations(*recorders: Recorder) -> list[str]:
        for recorder in recorders:
            with recorder, Count() as count:
                transformer(**inputs())
            return count.names
        with Count() as count:
            transformer(**inputs())
        return count.names

    plain = operations()
    one_kept = operations(Recorder(transformer, layout, blocks=[4]))
    intervention = Intervention((1,), blocks=(4,))
    one_changed = operations(Recorder(transformer, layout, blocks=[4], intervention=intervention))
    last = max(place for place, name in enumerate(plain) if "scaled_dot_product" in name)
    assert sum("scaled_dot_product" in name for name in plain[: last + 1]) == 5
    assert one_kept[:last] == one_changed[:last] == plain[:last]


@torch.no_grad()
def test_an_intervention_changes_the_prediction_from_its_block_on(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    plain, before = transformer(**inputs()).sample, {}
    with Recorder(transformer, layout, keep=["full"]) as recorder:
        assert torch.equal(transformer(**inputs()).sample, plain)
    expected = recorder.recording()["full"]
    for how in WAYS:
        recorder, _, predicted = run(transformer, layout, inputs(), make(how, blocks=(2,)), keep=["full"])
        found = recorder.recording()["full"]
        assert not torch.allclose(predicted, plain, atol=1e-3)
        assert np.array_equal(found.sel(block=[0, 1]), expected.sel(block=[0, 1]))
        assert np.abs(found.sel(block=3) - expected.sel(block=3)).max() > 1e-4
        assert all(not torch.allclose(predicted, other, atol=1e-4) for other in before.values())
        before[how] = predicted


@torch.no_grad()
def test_after_the_with_statement_the_model_is_as_it_was(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    plain = transformer(**inputs()).sample
    run(transformer, layout, inputs(), make("redirect"))
    assert torch.equal(transformer(**inputs()).sample, plain)


@torch.no_grad()
def test_a_key_that_the_model_masks_may_be_suppressed_and_its_empty_rows_stay_empty(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    allowed = MASKED.expand(1, 1, LENGTH, LENGTH).clone()
    allowed[..., 7, :] = False
    arguments = inputs() | {"joint_attention_kwargs": {"attention_mask": allowed}}
    recorder, calls, _ = run(transformer, layout, arguments, Intervention((3, 4)), keep=["full"])
    assert recorder.recording()["full"].sel(query=7).values.max() == 0
    assert recorder.recording()["full"].sel(key=[3, 4]).values.max() == 0
    assert calls[0][1][:, :, 7].count_nonzero() == 0


# --- separate attentions -------------------------------------------------------------------------------------------

APART = TokenLayout(text=slice(0, 3), image=slice(3, 7), grid=(2, 2), attention="separate")


@pytest.fixture
def pixart() -> PixArtTransformer2DModel:
    torch.manual_seed(0)
    model = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, num_layers=2, patch_size=1,
        cross_attention_dim=16, caption_channels=12, sample_size=2, norm_num_groups=2,
    )  # fmt: skip
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return model.eval()


def pixart_inputs() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(2, 4, 2, 2, generator=generator),
        "encoder_hidden_states": torch.randn(2, 3, 12, generator=generator),
        "timestep": torch.tensor([400, 400]),
        "encoder_attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }


@pytest.mark.parametrize(
    ("keys", "onto"), [((1,), (0,)), ((4, 5), (3,)), ((1, 4), ())], ids=["text-keys", "image-keys", "both"]
)
@pytest.mark.parametrize("how", WAYS)
@torch.no_grad()
def test_each_of_two_separate_attentions_is_changed_at_its_own_keys(
    pixart: PixArtTransformer2DModel,
    plain_attention: Plain,
    how: str,
    keys: tuple[int, ...],
    onto: tuple[int, ...],
) -> None:
    if how == "redirect" and not onto:
        with pytest.raises(InterventionError, match="two separate attentions"):
            Recorder(pixart, APART, intervention=Intervention(keys, how, onto=(0,)))
        return
    intervention = Intervention(keys, how, onto=onto if how == "redirect" else ())
    keep = ["image_to_image", "image_to_text"]
    with Recorder(pixart, APART, keep, intervention=intervention) as recorder, Watch() as watch:
        pixart(**pixart_inputs())
    assert len(watch.calls) == 4
    for number, (operands, output) in enumerate(watch.calls):
        side, first = (("image", 3), ("text", 0))[number % 2]
        own = [key - first for key in keys if (key >= 3) == (side == "image")]
        receivers = [key - first for key in intervention.onto if (key >= 3) == (side == "image")]
        rows = slice(0, 4)
        attention = changed_attention(plain_attention, operands, how if own else "value", own, receivers, rows)
        expected = changed_output(attention, operands["value"], how, own, rows)
        torch.testing.assert_close(output.double(), expected, atol=1e-5, rtol=1e-4)
        for item, recording in enumerate(recorder.recordings()):
            found = recording[f"image_to_{side}"].sel(block=number // 2).values.reshape(attention[item].shape)
            np.testing.assert_allclose(found, attention[item], atol=1e-5)


# --- through `record` ----------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def model(tiny_flux_folder: Path) -> ra.DiffusionModel:
    model = ra.load_model(tiny_flux_folder)
    generator = torch.Generator().manual_seed(2)
    for name, weights in model.transformer.named_parameters():
        weights.data.normal_(std=1.5 if "attn.norm" in name else 0.2, generator=generator)
    return model


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


@pytest.mark.parametrize("how", WAYS)
def test_record_runs_with_an_intervention_and_says_so(model: ra.DiffusionModel, how: str, tmp_path: Path) -> None:
    intervention = ra.Intervention((1,), how, onto=(3,) if how == "redirect" else (), blocks=(1, 2))
    plain = ra.record(model, picture(), "the red circle", keep=["full"], noise_level=0.5)["full"]
    recording = ra.record(model, picture(), "the red circle", keep=["full"], noise_level=0.5, intervention=intervention)
    found, first = recording["full"], plain.sel(block=1)
    assert np.array_equal(found.sel(block=0), plain.sel(block=0))
    if how == "value":
        np.testing.assert_allclose(found.sel(block=1), first, atol=1e-6)
    else:
        assert found.sel(block=[1, 2], key=1).values.max() == 0
        np.testing.assert_allclose(found.sel(block=[1, 2]).sum("key"), 1.0, atol=1e-5)
    if how == "redirect":
        expected = first.sel(key=3) + first.sel(key=1)
        np.testing.assert_allclose(found.sel(block=1, key=3), expected, atol=1e-6)
    assert np.abs(found.sel(block=3) - plain.sel(block=3)).max() > 1e-5
    assert recording.attrs["intervention"]["how"] == how
    recording.save(tmp_path / "run.zarr")
    assert ra.load_recording(tmp_path / "run.zarr").attrs["intervention"] == recording.attrs["intervention"]


def test_an_intervention_changes_what_the_next_step_starts_from(model: ra.DiffusionModel) -> None:
    options: dict[str, Any] = {"keep": ["full"], "blocks": [0], "noise_level": 0.8, "steps": 2}
    plain = ra.record(model, picture(), "the red circle", **options)["full"]
    found = ra.record(model, picture(), "the red circle", intervention=Intervention((1,), blocks=(3,)), **options)
    assert np.array_equal(found["full"].isel(step=0), plain.isel(step=0))
    assert np.abs(found["full"].isel(step=1) - plain.isel(step=1)).max() > 1e-6


# --- what is refused -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"keys": ()}, "at least one key"),
        ({"keys": (-1,)}, "from 0 on"),
        ({"keys": (2, 2)}, "each named once"),
        ({"keys": (2,), "how": "redirect"}, "needs receivers"),
        ({"keys": (2,), "how": "score", "onto": (3,)}, "nothing else has them"),
        ({"keys": (2,), "how": "value", "onto": (3,)}, "nothing else has them"),
        ({"keys": (2,), "how": "redirect", "onto": (2,)}, "each named once"),
        ({"keys": (2,), "how": "redirect", "onto": (3, 3)}, "each named once"),
        ({"keys": (2,), "how": "mask"}, "one of score, value, redirect"),
        ({"keys": (2,), "queries": "picture"}, "one of all, text, image"),
        ({"keys": (2,), "blocks": ()}, "blocks is empty"),
    ],
    ids=lambda given: "-".join(f"{k}={v}" for k, v in given.items()) if isinstance(given, dict) else "",
)
def test_what_means_nothing_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InterventionError, match=said):
        Intervention(**arguments)


def test_what_the_layout_or_the_model_lacks_is_refused_before_it_runs(
    transformer: FluxTransformer2DModel, layout: TokenLayout, pixart: PixArtTransformer2DModel
) -> None:
    with pytest.raises(InterventionError, match=r"positions 0 to 16, not \[17\]"):
        Recorder(transformer, layout, intervention=Intervention((2, 17)))
    with pytest.raises(InterventionError, match=r"not \[40\]"):
        Recorder(transformer, layout, intervention=Intervention((2,), "redirect", onto=(40,)))
    with pytest.raises(UnknownBlockError, match="0 to 4, not 5"):
        Recorder(transformer, layout, intervention=Intervention((2,), blocks=(1, 5)))
    with pytest.raises(InterventionError, match="no text queries"):
        Recorder(pixart, APART, intervention=Intervention((2,), queries="text"))
    with pytest.raises(InterventionError, match="two separate attentions"):
        Recorder(pixart, APART, intervention=Intervention((2,), "redirect", onto=(1, 5)))


def test_items_whose_rows_lie_at_different_places_are_refused(transformer: FluxTransformer2DModel) -> None:
    layouts = [TokenLayout(text=slice(0, text), image=slice(text, text + 12), grid=(3, 4)) for text in (5, 4)]
    Recorder(transformer, layouts, intervention=Intervention((2,)))
    with pytest.raises(InterventionError, match=r"different places, slice\(4, 16, None\) and slice\(5, 17, None\)"):
        Recorder(transformer, layouts, intervention=Intervention((2,), queries="image"))


@pytest.mark.parametrize("queries", ["all", "image"])
@torch.no_grad()
def test_a_query_that_would_attend_to_nothing_is_refused(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, queries: Any
) -> None:
    everything = Intervention(tuple(range(LENGTH)), queries=queries)
    with pytest.raises(InterventionError, match="no others, or the model masks them"):
        run(transformer, layout, inputs(), everything)
    others = Intervention(tuple(range(1, LENGTH)), queries=queries)
    run(transformer, layout, inputs(), others)
    for closed in (torch.arange(LENGTH) > 0, torch.where(torch.arange(LENGTH) > 0, 0.0, -1e9)):
        mask = closed.expand(1, 1, LENGTH, LENGTH)
        arguments = inputs() | {"joint_attention_kwargs": {"attention_mask": mask}}
        with pytest.raises(InterventionError, match="nothing left"):
            run(transformer, layout, arguments, others)


def test_gradient_checkpointing_is_refused(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    transformer.train().enable_gradient_checkpointing()
    with Recorder(transformer, layout, intervention=Intervention((2,))) as recorder:
        with pytest.raises(InterventionError, match="disable_gradient_checkpointing"):
            transformer(**inputs())
        with torch.no_grad():
            transformer(**inputs())
    assert recorder.recording().attrs["intervention"]["keys"] == [2]


def test_positions_may_be_any_integers() -> None:
    given = Intervention(np.array([3, 1]), "redirect", onto=np.array([2]), blocks=np.array([0]))
    assert given == replace(given, keys=(3, 1), onto=(2,), blocks=(0,))
