"""LTX-Video: both pipelines' own calls, positions in seconds and pixels, and the autoencoder's means and deviations."""

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import LTXConditionPipeline, LTXPipeline
from families.denoising import our_step, pipeline_latents
from families.ltx_video import FRAMES, build
from PIL import Image

from refam_analysis.models import ClipLengthError, ModelDefaults, load_model
from refam_analysis.models.family import MissingPartError
from refam_analysis.models.ltx_video import FRAME_RATE, LtxConditionModel, LtxVideoModel
from refam_analysis.prompts import PromptTooLongError, make_prompt
from refam_analysis.recording import record

# LTXConditionPipeline makes a numpy array of a tensor of timesteps.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PROMPT = make_prompt("the red ring on the left", [".", "a"])
DEFAULTS = ModelDefaults(image_size=(96, 128), text_length=20, steps=2, guidance=3.0, frames=FRAMES)
CALL = {"height": 96, "width": 128, "num_frames": FRAMES, "max_sequence_length": 20}


def text_model(**options: Any) -> LtxVideoModel:
    return LtxVideoModel(build(**options), DEFAULTS, name="random")


def condition_model() -> LtxConditionModel:
    return LtxConditionModel(build(LTXConditionPipeline, shift=False), DEFAULTS, name="random")


@pytest.fixture(scope="module", params=[text_model, condition_model], ids=["LTXPipeline", "LTXConditionPipeline"])
def model(request: pytest.FixtureRequest) -> LtxVideoModel:
    return request.param()


@pytest.fixture(scope="module")
def plain() -> LtxVideoModel:
    return text_model()


def clip(frames: int = FRAMES) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (frames, 96, 128, 3), np.uint8)
    return [Image.fromarray(frame) for frame in pixels]


def noise_of(seed: int) -> torch.Tensor:
    """What the pipelines' own calls start from."""
    return torch.randn(1, 8, 2, 3, 4, generator=torch.Generator().manual_seed(seed))


# --- against the pipelines' own calls ---


@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_every_step_equals_the_pipelines_own(model: LtxVideoModel, guidance: float) -> None:
    after = pipeline_latents(model, PROMPT, seed=1, num_inference_steps=3, guidance_scale=guidance, **CALL)
    levels = model.pipeline.scheduler.sigmas.tolist()
    assert levels[0] == 1.0 and levels[-1] == 0.0 and len(after) == 3
    mixture = noise_of(1)
    for place, expected in enumerate(after):
        level, to = levels[place : place + 2]
        ours = our_step(model, mixture, PROMPT, level=level, to=to, guidance=None if guidance == 1.0 else guidance)
        mixture = model.predicted(expected, mixture)
        torch.testing.assert_close(ours, mixture, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("make", [text_model, condition_model], ids=["LTXPipeline", "LTXConditionPipeline"])
def test_the_transformer_is_given_exactly_what_the_pipeline_gives_it(
    make: Callable[[], LtxVideoModel], dtype: torch.dtype
) -> None:
    model, seen = make(), list[dict[str, Any]]()
    model.pipeline.to(dtype=dtype)
    handle = model.transformer.register_forward_pre_hook(lambda _, __, given: seen.append(given), with_kwargs=True)
    pipeline_latents(model, PROMPT, seed=1, num_inference_steps=3, guidance_scale=1.0, **CALL)
    handle.remove()
    mixture = model.predicted(seen[1]["hidden_states"], noise_of(1))
    level = float(seen[1]["timestep"].flatten()[0]) / 1000
    ours = model.inputs_of(mixture, model.encode_prompts([PROMPT]), noise_level=level).kwargs
    given = {name: value for name, value in seen[1].items() if value is not None}
    assert given.keys() == ours.keys()
    for name, value in given.items():
        if torch.is_tensor(value):
            torch.testing.assert_close(ours[name], value, atol=0, rtol=1e-6 if name == "timestep" else 0, msg=name)
        else:
            assert ours[name] == value, name


def test_a_tokens_place_in_the_sequence_is_the_pipelines(plain: LtxVideoModel) -> None:
    latents = torch.randn(2, 8, 3, 4, 5)
    conditioning = plain.encode_prompts([PROMPT, PROMPT])
    tokens = plain.inputs_of(latents, conditioning, noise_level=0.5).kwargs["hidden_states"]
    torch.testing.assert_close(tokens, LTXPipeline._pack_latents(latents), atol=0, rtol=0)
    torch.testing.assert_close(plain.predicted(tokens, latents), latents, atol=0, rtol=0)


@pytest.mark.parametrize("frames", [1, 9, 25])
def test_decoding_inverts_the_scaling_of_encoding(frames: int) -> None:
    """A transformer that predicts no motion leaves our latents as they are, and the pipeline decodes these."""
    model, taken = text_model(), list[torch.Tensor]()
    for weights in model.transformer.proj_out.parameters():
        torch.nn.init.zeros_(weights)
    latents = model.encode_images([clip(frames)])
    assert latents.shape == (1, 8, 1 + (frames - 1) // 8, 3, 4)
    handle = model.pipeline.vae.decoder.register_forward_pre_hook(lambda _, given: taken.append(given[0]))
    call = {**CALL, "num_frames": frames, "latents": LTXPipeline._pack_latents(latents)}
    model.pipeline(PROMPT.text, num_inference_steps=2, guidance_scale=1.0, **call)
    handle.remove()
    pixels = torch.stack([torch.from_numpy(np.array(frame)) for frame in clip(frames)]).permute(3, 0, 1, 2)[None]
    with torch.no_grad():
        expected = model.pipeline.vae.encode(pixels / 127.5 - 1).latent_dist.mean
    torch.testing.assert_close(taken[0], expected, atol=1e-5, rtol=1e-5)


def test_one_picture_is_a_clip_of_one_frame(plain: LtxVideoModel) -> None:
    torch.testing.assert_close(plain.encode_images(clip(1)), plain.encode_images([clip(1)]), atol=0, rtol=0)
    recording = record(plain, clip(1)[0], "a red ring", keep=["image_to_text"])
    assert recording["image_to_text"].sizes["frame"] == 1


@pytest.mark.parametrize("frames", [2, 8, 10])
def test_a_clip_that_the_autoencoder_cannot_take_is_refused(plain: LtxVideoModel, frames: int) -> None:
    with pytest.raises(ClipLengthError, match=f"clip of {frames} frames. Give"):
        plain.encode_images([clip(frames)])


# --- words ---


def test_padding_draws_no_attention(plain: LtxVideoModel) -> None:
    recording = record(plain, clip(), "the red ring", keep=["image_to_text", "received_from_image"])
    padding = [token.index for token in recording.tokens if token.kind == "padding"]
    used = [token.index for token in recording.tokens if token.kind != "padding"]
    assert len(padding) == 16 and len(used) == 4
    maps = recording["image_to_text"]
    assert float(maps.isel(token=padding).max()) == 0.0 and float(maps.isel(token=used).min()) > 0.0
    assert float(recording["received_from_image"].isel(key=padding).max()) == 0.0


def test_a_prompt_too_long_is_refused(plain: LtxVideoModel) -> None:
    long = "the red ring " * 6 + "zebra"
    for attempt in (lambda: plain.encode_prompts([make_prompt(long)]), lambda: plain.generate(long)):
        with pytest.raises(PromptTooLongError, match="more than 20 tokens of the t5 encoder: 'zebra' would be cut"):
            attempt()


# --- generation, defaults, missing parts ---


def test_generating_is_the_pipelines_own_call_with_the_models_defaults(model: LtxVideoModel) -> None:
    theirs = model.pipeline(
        prompt="a red ring", num_inference_steps=2, guidance_scale=3.0, generator=torch.Generator().manual_seed(5),
        **CALL,
    ).frames[0]  # fmt: skip
    ours = model.generate("a red ring", seed=5)
    assert len(ours) == FRAMES and ours[0].size == (128, 96)
    np.testing.assert_array_equal(np.stack(ours), np.stack(theirs))
    assert np.any(np.stack(ours) != np.stack(model.generate("a red ring", seed=6)))
    assert np.any(np.stack(ours) != np.stack(model.generate("a red ring", seed=5, guidance=1.0)))


def test_an_empty_prompt_draws_without_condition(model: LtxVideoModel) -> None:
    assert len(model.generate("", steps=2)) == FRAMES


@pytest.mark.parametrize(
    ("pipeline_class", "text_length"), [(LTXPipeline, 128), (LTXConditionPipeline, 256)], ids=["text", "condition"]
)
def test_a_live_pipeline_has_the_published_defaults(
    pipeline_class: type[LTXPipeline | LTXConditionPipeline], text_length: int
) -> None:
    model = load_model(build(pipeline_class))
    expected = ModelDefaults(image_size=(512, 704), text_length=text_length, steps=50, guidance=3.0, frames=161)
    assert model.defaults == expected
    assert isinstance(model, LtxConditionModel) == (pipeline_class is LTXConditionPipeline)
    own = inspect.signature(pipeline_class.__call__).parameters
    assert (own["num_frames"].default, own["frame_rate"].default) == (expected.frames, FRAME_RATE)
    assert (own["height"].default, own["width"].default) == expected.image_size
    assert own["max_sequence_length"].default == text_length


def test_a_pipeline_without_a_part_is_refused() -> None:
    pipeline = build()
    pipeline.vae = None
    with pytest.raises(MissingPartError, match="has no vae"):
        load_model(pipeline)
