"""Wan: zeros behind the prompt, a timestep a token, two transformers, image-to-video transformers, cleaned prompts."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import WanImageToVideoPipeline, WanTransformer3DModel
from families import wan
from PIL import Image
from streaming.runs import assert_same
from torch.overrides import TorchFunctionMode

from refam_analysis.errors import RefamError
from refam_analysis.models import TokenLayout, UnsupportedModelError, load_model
from refam_analysis.models.family import ModelDefaults
from refam_analysis.models.wan import CleanedPromptError, WanModel
from refam_analysis.prompts import make_prompt
from refam_analysis.recording import OtherRunError, Recorder, RecorderBusyError, Recording, estimate, record

PROMPT = make_prompt("the red ring on the left", [".", "a"])


def model_of(variant: wan.Variant) -> WanModel:
    """Pictures of 2 x 3 tokens."""
    size = (64, 96) if variant == "2.2-5B" else (32, 48)
    defaults = ModelDefaults(image_size=size, text_length=24, steps=2, guidance=5.0, frames=5)
    return WanModel(wan.build(variant), defaults, name="random")


@pytest.fixture(scope="module")
def model() -> WanModel:
    return model_of("2.1")


def clip(frames: int = 5) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (frames, 32, 48, 3), np.uint8)
    return [Image.fromarray(frame) for frame in pixels]


# --- text ---


def test_behind_the_prompt_the_text_is_zeros(model: WanModel) -> None:
    conditioning = model.encode_prompts([PROMPT])
    used = [token.kind != "padding" for token in conditioning.tokens[0]]
    states = conditioning.inputs["encoder_hidden_states"][0]
    assert 0 < sum(used) < 24
    assert [bool(state.any()) for state in states] == used


def test_all_places_behind_the_prompt_are_attended_to_alike(model: WanModel) -> None:
    recording = record(model, clip(), PROMPT.expression, keep=["image_to_text"])
    maps = recording["image_to_text"]
    padding = maps.isel(token=[token.kind == "padding" for token in recording.tokens]).values
    assert padding.shape[-1] > 1 and padding.min() > 0
    np.testing.assert_allclose(padding, np.broadcast_to(padding[..., :1], padding.shape), rtol=1e-4)
    np.testing.assert_allclose(maps.sum("token"), 1.0, atol=1e-5)


@pytest.mark.parametrize(
    ("written", "read_as"), [("the ring &amp; the square", "the ring & the square"), ("a &lt; ring", "a < ring")]
)
def test_a_prompt_that_the_pipeline_would_rewrite_is_refused(model: WanModel, written: str, read_as: str) -> None:
    for use in (lambda: model.encode_prompts([make_prompt(written)]), lambda: model.generate(written)):
        with pytest.raises(CleanedPromptError, match=f"reads the prompt '{written}' as '{read_as}'"):
            use()
    assert model.tokens(make_prompt(read_as))[0].kind == "stop"


# --- 2.2 ---


def test_5b_is_told_the_noise_level_of_every_token() -> None:
    model = model_of("2.2-5B")
    latents = model.encode_images([clip(), clip()])
    assert model.pixels_per_token == 32 and latents.shape == (2, 8, 2, 4, 6)
    inputs = model.forward_inputs(latents, model.encode_prompts([PROMPT] * 2), noise_level=0.6, seeds=[0, 1])
    assert inputs.kwargs["timestep"].shape == (2, 2 * 2 * 3)
    torch.testing.assert_close(inputs.kwargs["timestep"], torch.full((2, 12), 600.0))


@pytest.fixture(scope="module")
def two() -> WanModel:
    """With two transformers, which take turns at the noise level 0.875."""
    return model_of("2.2-A14B")


def ran(model: WanModel, run: Callable[[], object]) -> list[str]:
    """Which transformer each pass of something ran."""
    seen: list[str] = []
    handles = [
        getattr(model.pipeline, name).register_forward_pre_hook(lambda *_, name=name: seen.append(name))
        for name in ("transformer", "transformer_2")
    ]
    run()
    for handle in handles:
        handle.remove()
    return seen


@torch.no_grad()
@pytest.mark.parametrize(
    ("level", "name"),
    [(0.95, "transformer"), (0.875, "transformer"), (0.8749, "transformer_2"), (0.3, "transformer_2")],
)
def test_of_two_transformers_the_one_is_recorded_that_the_pipeline_runs_there(
    two: WanModel, level: float, name: str
) -> None:
    keep = ["image_to_text", "image_to_image"]
    recording = record(two, clip(), PROMPT.expression, noise_level=level, keep=keep)
    latents, prompts = two.encode_images([clip()]), two.encode_prompts([make_prompt(PROMPT.expression)])
    inputs = two.forward_inputs(latents, prompts, noise_level=level, seeds=[0])
    transformer = getattr(two.pipeline, name)
    with Recorder(transformer, inputs.layouts, keep=keep) as recorder:
        transformer(**inputs.kwargs)
    for quantity in keep:
        np.testing.assert_array_equal(recording[quantity], recorder.recording()[quantity])
    assert recording.attrs.get("transformers", ["transformer"]) == [name]


def test_they_take_turns_as_in_the_pipelines_own_call(two: WanModel) -> None:
    """The same levels as the pipeline's own three steps, all from noise; each step is what it is alone."""
    own = {"height": 32, "width": 48, "num_frames": 5, "num_inference_steps": 3, "output_type": "latent"}
    turns = ran(two, lambda: two.pipeline(prompt="a ring", guidance_scale=1.0, **own))
    levels = [float(timestep) / 1000 for timestep in two.pipeline.scheduler.timesteps]
    options = {"keep": ["image_to_text"], "seed": 2}
    found: list[Recording] = []
    assert turns == ran(two, lambda: found.append(record(two, clip(), "a ring", noise_level=levels, **options)))
    assert set(turns) == {"transformer", "transformer_2"}
    assert found[0].attrs["transformers"] == turns and found[0].noise_levels == tuple(levels)
    for step, level in enumerate(levels):
        alone = record(two, clip(), "a ring", noise_level=level, **options)["image_to_text"]
        np.testing.assert_array_equal(found[0]["image_to_text"][step], alone[0])


def test_denoising_goes_on_with_the_second(two: WanModel) -> None:
    options = {"noise_level": 0.95, "steps": 4, "guidance": 3.0, "keep": ["image_to_text"]}
    turns = ran(two, lambda: record(two, clip(), "a ring", **options))
    assert turns == ["transformer"] + ["transformer_2"] * 3


def test_both_are_streamed_to_one_store(two: WanModel, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    options: dict[str, Any] = {"noise_level": [0.95, 0.3], "keep": ["image_to_text"]}
    expected = record(two, clip(), "a ring", progress=True, **options)
    assert "4/4" in capsys.readouterr().err
    assert_same(record(two, clip(), "a ring", store=tmp_path / "run.zarr", **options), expected)
    other = model_of("2.2-A14B")
    torch.nn.init.zeros_(other.pipeline.transformer_2.proj_out.bias)
    with pytest.raises(OtherRunError, match="the weights of the model"):
        record(other, clip(), "a ring", store=tmp_path / "run.zarr", **options)
    estimated = estimate(two, frames=5, expression="a ring", keep=["image_to_text"], measure=False)
    assert estimated.size == expected["image_to_text"].nbytes / 2


def test_a_recorder_of_both_is_gone_when_it_is_left(two: WanModel) -> None:
    both = [two.pipeline.transformer, two.pipeline.transformer_2]
    layout = TokenLayout(text=slice(0, 24), image=slice(24, 36), grid=(2, 2, 3), attention="separate")
    with Recorder(both, layout):
        with pytest.raises(RecorderBusyError):
            Recorder(both[1], layout).__enter__()
    assert not any(part._forward_hooks or part._forward_pre_hooks for model in both for part in model.modules())


def test_transformers_of_unlike_build_cannot_take_turns(two: WanModel) -> None:
    longer = WanTransformer3DModel.from_config({**two.transformer.config, "num_layers": 3})
    layout = TokenLayout(text=slice(0, 24), image=slice(24, 36), grid=(2, 2, 3), attention="separate")
    with pytest.raises(RefamError, match="differ in their blocks, so they cannot take turns"):
        Recorder([two.transformer, longer], layout)


def test_a_pipeline_with_the_second_transformer_survives_the_disk(tmp_path: Path) -> None:
    wan.build("2.2-A14B").save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.pipeline.transformer_2 is not None
    assert loaded.default_size == (720, 1280) and loaded.text_length == 512


# --- image to video ---


def image_to_video_inputs() -> dict[str, torch.Tensor]:
    """Of two clips of 2 x 2 x 3 tokens, with a CLIP embedding of five tokens."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        "hidden_states": (2, 36, 2, 4, 6),
        "encoder_hidden_states": (2, 512, 24),
        "encoder_hidden_states_image": (2, 5, 8),
    }
    given = {name: torch.randn(shape, generator=generator) for name, shape in shapes.items()}
    return {**given, "timestep": torch.tensor([600.0, 600.0])}


@torch.no_grad()
def test_an_image_to_video_transformer_is_recorded_without_its_pipeline(
    plain_attention: Callable[..., torch.Tensor],
) -> None:
    """Of its three attention calls a block, the second (over the picture's CLIP tokens) is passed over."""
    transformer = wan.transformer(channels=36, image_width=8)
    given = image_to_video_inputs()
    seen: list[torch.Tensor] = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
            if function is torch.nn.functional.scaled_dot_product_attention:
                named = {**dict(zip(("query", "key"), args, strict=False)), **(kwargs or {})}
                seen.append(plain_attention(named["query"], named["key"]))
            return function(*args, **(kwargs or {}))

    with Watch():
        transformer(**given)
    assert [whole.shape[-1] for whole in seen] == [12, 5, 512] * 2
    layout = TokenLayout(text=slice(0, 512), image=slice(512, 524), grid=(2, 2, 3), attention="separate")
    with Recorder(transformer, layout, keep=["image_to_image", "image_to_text"]) as recorder:
        transformer(**given)
    for item, recording in enumerate(recorder.recordings()):
        for name, places in {"image_to_image": (0, 3), "image_to_text": (2, 5)}.items():
            for block, place in enumerate(places):
                found = recording[name].sel(block=block).isel(step=0, branch=0).values
                expected = seen[place][item].numpy().reshape(found.shape)
                np.testing.assert_allclose(found, expected, atol=1e-5)


def test_an_image_to_video_pipeline_is_refused_with_the_way_out(model: WanModel) -> None:
    parts = {name: getattr(model.pipeline, name) for name in ("tokenizer", "text_encoder", "vae", "scheduler")}
    with pytest.raises(UnsupportedModelError, match="WanImageToVideoPipeline is not supported.*use Recorder on its"):
        load_model(WanImageToVideoPipeline(**parts, transformer=wan.transformer(channels=36)))
