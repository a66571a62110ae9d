"""What a model may run under: offloading, compilers, attention backends, caches, mixed precision, wrappers.

In each of them a recording is right, that is equal to the softmax of the operands that the block's attention had, with
the output that the model has without a recorder; or the recorder refuses. It never misses a block in silence.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import cpu_offload, disk_offload, dispatch_model
from accelerate.hooks import remove_hook_from_module
from diffusers import (
    CogVideoXTransformer3DModel,
    FasterCacheConfig,
    FirstBlockCacheConfig,
    FluxTransformer2DModel,
    MagCacheConfig,
    PixArtTransformer2DModel,
    PyramidAttentionBroadcastConfig,
    TaylorSeerCacheConfig,
)
from diffusers.hooks import LayerSkipConfig, TextKVCacheConfig, apply_layer_skip
from families.watch import Watch
from torch import nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from refam_analysis.models.layout import TokenLayout
from refam_analysis.recording import (
    BatchChangedError,
    Intervention,
    MissedAttentionError,
    NoBlocksError,
    NothingRecordedError,
    Recorder,
)

Inputs = Callable[..., dict[str, torch.Tensor]]
Plain = Callable[..., torch.Tensor]


@pytest.fixture
def small() -> FluxTransformer2DModel:
    """One block of each kind: compilers take their time."""
    torch.manual_seed(1)
    model = FluxTransformer2DModel(
        in_channels=8, num_layers=1, num_single_layers=1, attention_head_dim=16, num_attention_heads=2,
        joint_attention_dim=12, pooled_projection_dim=6, axes_dims_rope=(4, 6, 6),
    )  # fmt: skip
    for name, weights in model.named_parameters():
        torch.nn.init.normal_(weights, std=1.5 if "attn.norm" in name else 0.3)
    return model.eval()


def check(
    call: nn.Module | Callable[..., Any],
    transformer: nn.Module,
    layout: TokenLayout,
    arguments: dict[str, Any],
    plain_attention: Plain,
    *,
    passes: int = 1,
    dtype: torch.dtype | None = None,
) -> torch.Tensor:
    """Record some passes and compare every block with the softmax of its operands, read in ``dtype`` if given.

    Returns:
        The output of the last pass, the same as without a recorder.
    """
    expected = call(**arguments)[0]
    with Recorder(transformer, layout, keep=["full"]) as recorder, Watch() as watch:
        for _ in range(passes):
            output = call(**arguments)[0]
    assert torch.equal(output, expected)
    recordings = [recording["full"].values for recording in recorder.recordings()]
    steps, _, blocks = recordings[0].shape[:3]
    assert steps == passes and len(watch.calls) == steps * blocks
    for number, (operands, _) in enumerate(watch.calls):
        query, key = (operands[name].to(dtype or operands[name].dtype) for name in ("query", "key"))
        attention = plain_attention(query.detach(), key.detach())
        for item, values in enumerate(recordings):
            np.testing.assert_allclose(values[number // blocks, 0, number % blocks], attention[item], atol=1e-5)
    return output


def whole(model: nn.Module, layout: TokenLayout, arguments: dict[str, Any], **options: Any) -> np.ndarray:
    with torch.no_grad(), Recorder(model, layout, keep=["full"], **options) as recorder:
        model(**arguments)
    return recorder.recording()["full"].values


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
    expected, prediction = whole(transformer, layout, inputs()), transformer(**inputs())[0]
    model = offloaded(kind, transformer, tmp_path)
    assert torch.equal(check(model, model, layout, inputs(), plain_attention, passes=2), prediction)
    assert np.array_equal(whole(model, layout, inputs()), expected)
    changed = whole(model, layout, inputs(), intervention=Intervention((2,)))
    assert changed[..., 2].max() == 0
    remove_hook_from_module(model, recurse=True)


# --- compilers -----------------------------------------------------------------------------------------------------


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compiled(how: str, model: FluxTransformer2DModel, **options: Any) -> Callable[..., Any]:
    """What is called in place of the model."""
    if how == "wrapped":
        return torch.compile(model, **options)
    if how == "in-place":
        model.compile(**options)
    elif how == "forward":
        model.forward = torch.compile(model.forward, **options)
    else:
        model.compile_repeated_blocks(**options)
    return model


@pytest.mark.parametrize("traced", ["before", "inside"])
@pytest.mark.parametrize(
    ("how", "backend"),
    [("wrapped", "eager"), ("in-place", "eager"), ("forward", "eager"), ("blocks", "aot_eager")],
    ids=lambda given: given,
)
@pytest.mark.usefixtures("fresh_compiler")
@torch.no_grad()
def test_a_compiled_model_is_recorded_whether_or_not_it_was_traced_before(
    small: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, how: str, backend: str, traced: str
) -> None:
    expected = [whole(small, layout, inputs(seed=seed)) for seed in range(3)]
    changed = whole(small, layout, inputs(), intervention=Intervention((2,)))
    prediction = small(**inputs())[0]
    call = compiled(how, small, backend=backend)
    if traced == "before":
        call(**inputs())
    for seed in range(3):
        with Recorder(small, layout, keep=["full"]) as recorder:
            call(**inputs(seed=seed))
        np.testing.assert_allclose(recorder.recording()["full"].values, expected[seed], atol=1e-6)
    with Recorder(small, layout, keep=["full"], intervention=Intervention((2,))) as recorder:
        call(**inputs())
    np.testing.assert_allclose(recorder.recording()["full"].values, changed, atol=1e-6)
    torch.testing.assert_close(call(**inputs())[0], prediction, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("fresh_compiler")
@torch.no_grad()
def test_more_recorders_than_a_compiler_keeps_graphs_for_are_all_right(
    small: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    seeds = range(torch._dynamo.config.recompile_limit + 3)
    expected = [whole(small, layout, inputs(seed=seed)) for seed in seeds]
    small.compile_repeated_blocks(backend="eager")
    for seed in seeds:
        np.testing.assert_allclose(whole(small, layout, inputs(seed=seed)), expected[seed], atol=1e-6)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.usefixtures("fresh_compiler")
@torch.no_grad()
def test_inductor_is_recorded_up_to_its_own_rounding(
    small: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    expected = whole(small, layout, inputs())
    small.compile_repeated_blocks(backend="inductor")
    small(**inputs())
    np.testing.assert_allclose(whole(small, layout, inputs()), expected, atol=1e-4)


@pytest.mark.usefixtures("fresh_compiler")
@torch.no_grad()
def test_one_graph_without_a_break_is_refused(
    small: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    call = torch.compile(small, backend="eager", fullgraph=True)
    call(**inputs())
    with Recorder(small, layout) as recorder:
        with pytest.raises(torch._dynamo.exc.Unsupported, match="attention is recorded outside compiled graphs"):
            call(**inputs())
    with pytest.raises(NothingRecordedError):
        recorder.recording()


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
    check(transformer, transformer, layout, arguments, plain_attention)


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
        check(transformer.to(dtype), transformer, layout, arguments, plain_attention)


# --- caches and skipped layers -------------------------------------------------------------------------------------

CACHES: dict[str, Any] = {
    "first-block": FirstBlockCacheConfig(threshold=10.0),
    "pyramid": PyramidAttentionBroadcastConfig(
        spatial_attention_block_skip_range=2, current_timestep_callback=lambda: 500
    ),
    "magnitude": MagCacheConfig(mag_ratios=[1.0] * 4, num_inference_steps=4, retention_ratio=0.0, threshold=10.0),
    "taylor": TaylorSeerCacheConfig(cache_interval=2, disable_cache_before_step=1),
}


@pytest.mark.parametrize("name", CACHES)
@torch.no_grad()
def test_a_step_that_a_cache_answers_is_refused_and_the_steps_before_are_right(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, name: str
) -> None:
    expected = whole(transformer, layout, inputs())
    transformer.enable_cache(CACHES[name])
    with Recorder(transformer, layout, keep=["full"]) as recorder, transformer.cache_context("conditional"):
        transformer(**inputs())
        with pytest.raises(MissedAttentionError, match="no skipped layers"):
            for _ in range(3):
                transformer(**inputs())
    assert np.array_equal(recorder.recording()["full"].values, expected)
    transformer.disable_cache()
    assert np.array_equal(whole(transformer, layout, inputs()), expected)


@torch.no_grad()
def test_a_cache_that_leaves_the_attention_alone_is_recorded(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, plain_attention: Plain
) -> None:
    transformer.enable_cache(TextKVCacheConfig())
    with transformer.cache_context("conditional"):
        check(transformer, transformer, layout, inputs(), plain_attention, passes=3)


def cogvideox() -> tuple[CogVideoXTransformer3DModel, TokenLayout, dict[str, Any]]:
    """A small video transformer and two items for it, unconditional and conditional."""
    torch.manual_seed(0)
    model = CogVideoXTransformer3DModel(
        num_attention_heads=2, attention_head_dim=16, in_channels=4, out_channels=4, time_embed_dim=8,
        text_embed_dim=24, num_layers=2, sample_width=4, sample_height=4, sample_frames=5, max_text_seq_length=3,
    ).eval()  # fmt: skip
    arguments = {
        "hidden_states": torch.randn(2, 2, 4, 4, 4),
        "encoder_hidden_states": torch.randn(2, 3, 24),
        "timestep": torch.tensor([500, 500]),
    }
    return model, TokenLayout(text=slice(0, 3), image=slice(3, 11), grid=(2, 2, 2)), arguments


@pytest.mark.filterwarnings("ignore:torch.meshgrid")
@torch.no_grad()
def test_a_cache_that_drops_the_unconditional_half_of_a_batch_is_refused() -> None:
    model, layout, arguments = cogvideox()
    config = FasterCacheConfig(
        unconditional_batch_skip_range=2, unconditional_batch_timestep_skip_range=(-1, 901),
        spatial_attention_timestep_skip_range=(-1, 0), current_timestep_callback=lambda: 500, tensor_format="BFCHW",
        attention_weight_callback=lambda _: 0.5,
    )  # fmt: skip
    model.enable_cache(config)
    with Recorder(model, layout):
        with pytest.raises(BatchChangedError, match="batch size 1"):
            for _ in range(4):
                model(**arguments)


@torch.no_grad()
def test_a_skipped_layer_is_refused() -> None:
    model, layout, arguments = cogvideox()
    apply_layer_skip(model, LayerSkipConfig(indices=[1], fqn="transformer_blocks"))
    with Recorder(model, layout), pytest.raises(MissedAttentionError, match="Block 1 .*made 0"):
        model(**arguments)


@torch.no_grad()
def test_attention_whose_scores_another_mode_skips_is_refused() -> None:
    torch.manual_seed(0)
    model = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, num_layers=2, patch_size=1,
        cross_attention_dim=16, caption_channels=12, sample_size=2, norm_num_groups=2,
    ).eval()  # fmt: skip
    layout = TokenLayout(text=slice(0, 4), image=slice(4, 8), grid=(2, 2), attention="separate")
    arguments = {
        "hidden_states": torch.randn(1, 4, 2, 2),
        "encoder_hidden_states": torch.randn(1, 4, 12),
        "timestep": torch.tensor([500]),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }
    config = LayerSkipConfig(
        indices=[1], fqn="transformer_blocks", skip_attention=False, skip_attention_scores=True, skip_ff=False
    )
    apply_layer_skip(model, config)
    with Recorder(model, layout), pytest.raises(MissedAttentionError, match="Block 1 .*made [01] .*where 2"):
        model(**arguments)


@torch.no_grad()
def test_a_skipped_feed_forward_layer_is_recorded(plain_attention: Plain) -> None:
    model, layout, arguments = cogvideox()
    config = LayerSkipConfig(indices=[1], fqn="transformer_blocks", skip_attention=False)
    apply_layer_skip(model, config)
    check(model, model, layout, arguments | {"return_dict": False}, plain_attention)


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
        check(transformer, transformer, layout, inputs(2), plain_attention, passes=2)


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
        check(transformer, transformer, layout, inputs(2), plain_attention, dtype=dtype)


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


@pytest.mark.filterwarnings("ignore:Mismatch dtype between input and weight")
@torch.no_grad()
def test_an_intervention_under_autocast_is_rounded_as_the_model_is(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    for how, onto in (("score", ()), ("value", ()), ("redirect", (3,))):
        intervention = Intervention((2,), how, onto=onto, queries="image")
        with torch.autocast("cpu", torch.bfloat16), Watch() as outer:
            with Recorder(transformer, layout, intervention=intervention) as recorder, Watch() as watch:
                transformer(**inputs())
        assert {output.dtype for _, output in watch.calls} == {torch.bfloat16}
        assert len(recorder.recording()["entropy"].block) == 5 and outer.calls is not watch.calls


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
    small: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, name: str
) -> None:
    expected = whole(small, layout, inputs())
    wrapper = WRAPPERS[name](small)
    with pytest.raises(NoBlocksError, match="Give the bare transformer"):
        Recorder(wrapper, layout)
    with Recorder(small, layout, keep=["full"]) as recorder:
        wrapper(**inputs())
    np.testing.assert_allclose(recorder.recording()["full"].values, expected, atol=1e-6)
