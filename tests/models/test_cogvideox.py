"""CogVideoX: axes of its pipeline's latents, two frames a token in 1.5, and a schedule that ends without signal."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from diffusers import CogVideoXDPMScheduler
from families import cogvideox
from PIL import Image

from refam_analysis.models import ForwardInputs
from refam_analysis.models.cogvideox import CogVideoXModel
from refam_analysis.models.family import ModelDefaults
from refam_analysis.prompts import make_prompt
from refam_analysis.recording import record

PROMPT = make_prompt("the red ring on the left", [".", "a"])


def model_of(variant: cogvideox.Variant) -> CogVideoXModel:
    """Pictures of 32 x 48 pixels: 2 x 3 tokens a frame."""
    defaults = ModelDefaults(image_size=(32, 48), text_length=24, steps=2, guidance=6.0, frames=9)
    return CogVideoXModel(cogvideox.build(variant), defaults, name="random")


@pytest.fixture(scope="module")
def of_two_frames() -> CogVideoXModel:
    return model_of("1.5")


def clip(frames: int) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (frames, 32, 48, 3), np.uint8)
    return [Image.fromarray(frame) for frame in pixels]


def inputs_of(model: CogVideoXModel, latents: torch.Tensor) -> ForwardInputs:
    return model.inputs_of(latents, model.encode_prompts([PROMPT]), noise_level=0.5)


@pytest.mark.parametrize(("variant", "frames"), [("2b", 3), ("5b", 3), ("1.5", 2)])
def test_a_token_is_one_latent_frame_and_in_1_5_two(variant: cogvideox.Variant, frames: int) -> None:
    recording = record(model_of(variant), clip(9), "a red ring", keep=["image_to_text"])
    assert recording.layout.grid == (frames, 2, 3)
    assert recording["image_to_text"].sizes["frame"] == frames


@pytest.mark.parametrize(("frames", "copies"), [(1, 1), (5, 0), (9, 1)])
@torch.no_grad()
def test_an_odd_latent_frame_is_preceded_by_a_copy(of_two_frames: CogVideoXModel, frames: int, copies: int) -> None:
    latents = of_two_frames.encode_images([clip(frames)])
    alone = model_of("5b").encode_images([clip(frames)])
    assert latents.shape[2] % 2 == 0
    torch.testing.assert_close(latents[:, :, copies:], alone)
    torch.testing.assert_close(latents[:, :, :copies], alone[:, :, :copies])


@pytest.mark.parametrize("frame", [0, 1, 2, 3])
def test_a_latent_frame_is_in_the_token_that_the_grid_says(of_two_frames: CogVideoXModel, frame: int) -> None:
    """What enters the first block changes in one frame of the grid alone, of two latent frames."""
    latents = of_two_frames.encode_images([clip(9)])
    marked = latents.clone()
    marked[:, :, frame] += 1
    seen: list[torch.Tensor] = []
    block = of_two_frames.transformer.transformer_blocks[0]
    handle = block.register_forward_pre_hook(lambda _, __, given: seen.append(given["hidden_states"]), with_kwargs=True)
    with torch.no_grad():
        for one in (latents, marked):
            inputs = inputs_of(of_two_frames, one)
            of_two_frames.transformer(**inputs.kwargs)
    handle.remove()
    changed = (seen[0] - seen[1]).abs().amax(dim=(0, 2)).view(inputs.layout.grid).amax(dim=(1, 2))
    assert torch.nonzero(changed).flatten().tolist() == [frame // 2]


def test_the_transformer_is_given_frames_before_channels_and_gives_them_back() -> None:
    model = model_of("5b")
    latents = model.encode_images([clip(9)])
    assert latents.shape == (1, 4, 3, 4, 6)
    given = inputs_of(model, latents).kwargs["hidden_states"]
    assert given.shape == (1, 3, 4, 4, 6)
    torch.testing.assert_close(model.predicted(given, latents), latents)


@pytest.mark.parametrize("scheduler", ["published", "dpm"])
def test_no_signal_is_left_at_noise_level_one(scheduler: str) -> None:
    """DPM, which the documentation recommends for 5b, has the same schedule as DDIM."""
    model = model_of("5b")
    if scheduler == "dpm":
        model.pipeline.scheduler = CogVideoXDPMScheduler.from_config(model.pipeline.scheduler.config)
    assert model.schedule.timestep(1.0) == 999.0
    assert model.schedule.scales(1.0) == pytest.approx((0.0, 1.0), abs=1e-5)
    latents = model.encode_images([clip(1)])
    pure = model.noised(latents, noise_level=1.0, seeds=[4])
    other = model.noised(-3 * latents, noise_level=1.0, seeds=[4])
    torch.testing.assert_close(pure, other, atol=1e-3, rtol=0)


@pytest.mark.parametrize("timestep", [100, 500, 900])
def test_noise_is_added_as_the_scheduler_adds_it(timestep: int) -> None:
    model = model_of("2b")
    kept = model.pipeline.scheduler.alphas_cumprod[timestep].item()
    level = 1 / (1 + (kept / (1 - kept)) ** 0.5)
    latents = model.encode_images([clip(1)])
    noise = torch.randn(latents.shape[1:], generator=torch.Generator().manual_seed(7))[None]
    expected = model.pipeline.scheduler.add_noise(latents, noise, torch.tensor([timestep]))
    torch.testing.assert_close(model.noised(latents, noise_level=level, seeds=[7]), expected, atol=1e-4, rtol=1e-4)
    assert model.schedule.timestep(level) == pytest.approx(timestep, abs=1e-2)
