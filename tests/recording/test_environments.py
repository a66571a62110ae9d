"""What a model may run under: offloading, attention backends, mixed precision, wrappers.

In each of them a recording is right, that is equal to the softmax of the operands that the block's attention had, with
the output that the model has without a recorder; or the recorder refuses. It never misses a block in silence.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from accelerate.hooks import remove_hook_from_module
from diffusers import (
    FluxTransformer2DModel,
)
from references.recordings import check_recording, recorded
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from refam_analysis.models.layout import TokenLayout
from refam_analysis.recording import (
    Intervention,
    MissedAttentionError,
    NoBlocksError,
    NothingRecordedError,
    Recorder,
)

Inputs = Callable[..., dict[str, torch.Tensor]]
Plain = Callable[..., torch.Tensor]


# --- weights that are elsewhere ------------------------------------------------------------------------------------


def offloaded(kind: str, model: FluxTransformer2DModel, folder: Path) -> FluxTransformer2DModel:
    cpu = torch.device("cpu")
    if kind == "cpu":
        cpu_offload(model, execution_device=cpu)
    elif kind == "disk":
        disk_offload(model, str(folder), execution_device=cpu)
    elif kind == "one-device-map":
        dispatch_model(model, {"": "cpu"}, force_hooks=True)
    elif kind == "block-map":
        places = {name: "cpu" for name, _ in model.named_children()}
        places |= {"transformer_blocks.1": "disk", "single_transformer_blocks.0": "disk"}
        del places["transformer_blocks"], places["single_transformer_blocks"]
        places |= {f"transformer_blocks.{n}": places.get(f"transformer_blocks.{n}", "cpu") for n in range(2)}
        places |= {
            f"single_transformer_blocks.{n}": places.get(f"single_transformer_blocks.{n}", "cpu") for n in range(3)
        }
        dispatch_model(model, places, main_device="cpu", offload_dir=str(folder), force_hooks=True)
    else:
        model.enable_group_offload(onload_device=cpu, offload_device=cpu, offload_type=kind, num_blocks_per_group=1)
    return model


@pytest.mark.parametrize("kind", ["cpu", "disk", "one-device-map", "block-map", "block_level", "leaf_level"])
@pytest.mark.filterwarnings("ignore:`torch.jit.script` is deprecated")
@torch.no_grad()
def test_offloaded_weights_give_the_same_recording(
    transformer: FluxTransformer2DModel,
    layout: TokenLayout,
    inputs: Inputs,
    plain_attention: Plain,
    tmp_path: Path,
    kind: str,
) -> None:
    expected, prediction = recorded(transformer, layout, inputs()), transformer(**inputs())[0]
    model = offloaded(kind, transformer, tmp_path)
    assert torch.equal(check_recording(model, model, layout, inputs(), plain_attention, passes=2), prediction)
    assert np.array_equal(recorded(model, layout, inputs()), expected)
    changed = recorded(model, layout, inputs(), intervention=Intervention((2,)))
    assert changed[..., 2].max() == 0
    remove_hook_from_module(model, recurse=True)


# --- attention backends of diffusers and PyTorch -------------------------------------------------------------------


@pytest.fixture
def default_backend(transformer: FluxTransformer2DModel) -> Iterator[None]:
    yield
    transformer.set_attention_backend("native")


@pytest.mark.parametrize("backend", ["native", "_native_math", "_native_flash"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.usefixtures("default_backend")
@torch.no_grad()
def test_native_backends_are_recorded(
    transformer: FluxTransformer2DModel,
    layout: TokenLayout,
    inputs: Inputs,
    plain_attention: Plain,
    backend: str,
    dtype: torch.dtype,
) -> None:
    transformer.to(dtype).set_attention_backend(backend)
    arguments = {k: v if k.endswith("ids") else v.to(dtype) for k, v in inputs().items()}
    check_recording(transformer, transformer, layout, arguments, plain_attention)


@pytest.mark.parametrize("backend", ["_native_efficient", "_native_cudnn"])
@pytest.mark.usefixtures("default_backend")
@torch.no_grad()
def test_a_backend_that_cannot_run_here_says_so_itself(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, backend: str
) -> None:
    transformer.set_attention_backend(backend)
    with Recorder(transformer, layout) as recorder, pytest.raises(RuntimeError, match="No viable backend"):
        transformer(**inputs())
    with pytest.raises(NothingRecordedError):
        recorder.recording()


@pytest.mark.usefixtures("default_backend")
@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
@torch.no_grad()
def test_flex_attention_is_refused(transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs) -> None:
    transformer.set_attention_backend("flex")
    with Recorder(transformer, layout), pytest.raises(MissedAttentionError, match=r"set_attention_backend\('native'\)"):
        transformer(**inputs())


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("chosen", [SDPBackend.MATH, SDPBackend.FLASH_ATTENTION], ids=str)
@torch.no_grad()
def test_a_kernel_that_the_caller_chooses_is_the_one_that_runs(
    transformer: FluxTransformer2DModel,
    layout: TokenLayout,
    inputs: Inputs,
    plain_attention: Plain,
    chosen: SDPBackend,
    dtype: torch.dtype,
) -> None:
    arguments = {k: v if k.endswith("ids") else v.to(dtype) for k, v in inputs().items()}
    with sdpa_kernel(chosen):
        check_recording(transformer.to(dtype), transformer, layout, arguments, plain_attention)


# --- gradients and precision ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("context", [torch.inference_mode, torch.no_grad, torch.enable_grad])
def test_gradient_modes_are_recorded(
    transformer: FluxTransformer2DModel,
    layout: TokenLayout,
    inputs: Inputs,
    plain_attention: Plain,
    context: Callable[[], Any],
) -> None:
    with context():
        check_recording(transformer, transformer, layout, inputs(2), plain_attention, passes=2)


@torch.no_grad()
def test_one_recorder_may_see_passes_in_and_out_of_inference_mode(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    with Recorder(transformer, layout, keep=["full"]) as recorder:
        with torch.inference_mode():
            transformer(**inputs())
        transformer(**inputs())
    values = recorder.recording()["full"].values
    assert np.array_equal(values[0], values[1])


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("gradient", [False, True], ids=["no-gradient", "gradient"])
def test_autocast_is_recorded_as_it_rounds_and_reduced_in_float32(
    transformer: FluxTransformer2DModel,
    layout: TokenLayout,
    inputs: Inputs,
    plain_attention: Plain,
    gradient: bool,
    dtype: torch.dtype,
) -> None:
    with torch.set_grad_enabled(gradient), torch.autocast("cpu", dtype):
        check_recording(transformer, transformer, layout, inputs(2), plain_attention, dtype=dtype)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@torch.no_grad()
def test_operands_that_autocast_has_yet_to_round_are_recorded_rounded(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, plain_attention: Plain
) -> None:
    """Some families compute norms and positions in float32, so that query and key come in float32, the value not."""
    for name, part in transformer.named_modules():
        if name.endswith(("norm_q", "norm_k", "norm_added_q", "norm_added_k")):
            part.register_forward_hook(lambda _, __, output: output.float())
    with torch.autocast("cpu", torch.bfloat16):
        check_recording(transformer, transformer, layout, inputs(), plain_attention, dtype=torch.bfloat16)


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
def test_autocast_does_not_reach_the_reductions(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    keep = ["full", "received_from_image", "entropy"]
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16), Recorder(transformer, layout, keep) as recorder:
        transformer(**inputs())
    recording = recorder.recording()
    full = recording["full"].values.astype(np.float64)
    received = full[..., 5:, :].mean(-2) * full.shape[-1]
    np.testing.assert_allclose(recording["received_from_image"].values, received, rtol=1e-4)
    entropy = -(full * np.log(full, where=full > 0, out=np.zeros_like(full))).sum(-1)
    np.testing.assert_allclose(recording["entropy"].values, entropy, atol=1e-5)


# --- wrappers ------------------------------------------------------------------------------------------------------


class Sharded(nn.Module):
    """As the wrappers of distributed training are built: the model inside, under a name of its own."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self._wrapped = module

    def forward(self, **arguments: Any) -> Any:
        return self._wrapped(**arguments)


WRAPPERS: dict[str, Callable[[nn.Module], nn.Module]] = {
    "DataParallel": nn.DataParallel,
    "Sharded": Sharded,
    "OptimizedModule": lambda model: torch.compile(model, backend="eager"),  # type: ignore[dict-item,return-value]
}


@pytest.mark.parametrize("name", WRAPPERS)
@torch.no_grad()
def test_a_wrapper_is_refused_and_the_model_in_it_is_recorded(
    small_transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, name: str
) -> None:
    expected = recorded(small_transformer, layout, inputs())
    wrapper = WRAPPERS[name](small_transformer)
    with pytest.raises(NoBlocksError, match="Give the bare transformer"):
        Recorder(wrapper, layout)
    with Recorder(small_transformer, layout, keep=["full"]) as recorder:
        wrapper(**inputs())
    np.testing.assert_allclose(recorder.recording()["full"].values, expected, atol=1e-6)
