"""Interventions by their definitions: mask and softmax again, zero the values, or move mass after the softmax.

The reference computes the whole attention in float64, changes it as the definition says, and multiplies it with the
values. It is compared with what a block's attention returns inside a real transformer, and with what is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from references.interventions import changed_attention, changed_output
from references.watch import Watch
from torch.utils._python_dispatch import TorchDispatchMode

import refam_analysis as ra
from refam_analysis.models.layout import TokenLayout
from refam_analysis.recording import QUANTITIES, Intervention, Recorder

Inputs = Callable[..., dict[str, Any]]
Plain = Callable[..., torch.Tensor]

TEXT, IMAGE, LENGTH = slice(0, 5), slice(5, 17), 17
ROWS = {"all": slice(0, LENGTH), "text": TEXT, "image": IMAGE}
WAYS = ["score", "value", "redirect"]
MASKED = torch.arange(LENGTH) != 3
"""A key that the model itself masks."""


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
    dtype: torch.dtype | None = None,
) -> None:
    """Every block's output, and everything recorded of it, against the definition; operands read in ``dtype``."""
    recordings = recorder.recordings()
    assert len(calls) == 5
    for block, (given, output) in enumerate(calls):
        operands = {k: v.to(dtype) if dtype and torch.is_tensor(v) else v for k, v in given.items()}
        keys = intervention.keys if intervention.blocks is None or block in intervention.blocks else ()
        rows = ROWS[intervention.queries]
        attention = changed_attention(plain_attention, operands, intervention.how, keys, intervention.onto, rows)
        expected = changed_output(attention, operands["value"], intervention.how, keys, rows)
        size = operands["value"].abs().max().item()
        torch.testing.assert_close(output.double(), expected, atol=output_error * size, rtol=0.0)
        for name in QUANTITIES:
            quantity = plain_quantity(name, attention, TEXT, IMAGE, mask=operands.get("attn_mask"))
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


@pytest.mark.parametrize("queries", ["all", "image"])
@pytest.mark.parametrize("how", WAYS)
@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_under_autocast_it_is_rounded_as_the_model_is(
    transformer: FluxTransformer2DModel,
    layout: TokenLayout,
    inputs: Inputs,
    plain_attention: Plain,
    plain_quantity: Plain,
    how: str,
    queries: Any,
) -> None:
    intervention, dtype = make(how, (1, 12), queries=queries), torch.bfloat16
    with torch.autocast("cpu", dtype):
        recorder, calls, _ = run(transformer, layout, inputs(), intervention, keep=QUANTITIES)
    assert {output.dtype for _, output in calls} == {dtype}
    error = 4 * torch.finfo(dtype).eps
    check_blocks(recorder, calls, intervention, plain_attention, plain_quantity, output_error=error, dtype=dtype)


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
def test_received_mass_counts_the_keys_that_the_model_leaves_each_chosen_query(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, plain_attention: Plain, how: str
) -> None:
    """The mask differs by head and by query; what an intervention masks beside counts all the same."""
    allowed = torch.rand(1, 2, LENGTH, LENGTH, generator=torch.Generator().manual_seed(0)) < 0.6
    allowed[..., 7] = True
    intervention, rows = make(how, (1, 12)), [5, 6, 16]
    arguments = inputs() | {"joint_attention_kwargs": {"attention_mask": allowed}}
    options: dict[str, Any] = {"keep": ["received_from_image"], "heads": [1], "queries": [2, *rows]}
    recorder, calls, _ = run(transformer, layout, arguments, intervention, **options)
    for block, (operands, _) in enumerate(calls):
        everyone = slice(0, LENGTH)
        attention = changed_attention(plain_attention, operands, how, (1, 12), intervention.onto, everyone)
        expected = sum(attention[0, 1, row] * int(allowed[0, 1, row].sum()) for row in rows) / 3
        found = recorder.recording()["received_from_image"].sel(block=block).values
        np.testing.assert_allclose(found[0, 0, 0], expected, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("how", WAYS)
def test_the_mean_over_heads_is_of_the_changed_attention(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, how: str
) -> None:
    each = run(transformer, layout, inputs(), make(how), keep=["full"])[0].recording()["full"]
    mean = run(transformer, layout, inputs(), make(how), keep=["full"], heads="mean")[0].recording()["full"]
    np.testing.assert_allclose(mean.values, each.mean("head", keepdims=True).values, atol=1e-6)


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
