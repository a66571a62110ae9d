"""PixArt-alpha and PixArt-sigma in every variant: what diffusers' own pipelines compute, and lower case aligned."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, PixArtAlphaPipeline, PixArtSigmaPipeline
from families.denoising import our_step
from families.pixart import build
from PIL import Image

from refam_analysis.models import ModelDefaults, load_model
from refam_analysis.models.family import MissingPartError
from refam_analysis.models.pixart import PixArtModel
from refam_analysis.prompts import PromptTooLongError, make_prompt
from refam_analysis.recording import record

PROMPT = make_prompt("The RED ring on the left", [".", "a"])
CALL = {
    "height": 32, "width": 40, "max_sequence_length": 24, "clean_caption": False, "use_resolution_binning": False
}  # fmt: skip
VARIANTS = {
    "alpha-1024": partial(build, PixArtAlphaPipeline, sample_size=128),
    "alpha-512": partial(build, PixArtAlphaPipeline, sample_size=64),
    "sigma-1024": partial(build, PixArtSigmaPipeline, sample_size=128, conditions=False),
    "sigma-2048": partial(build, PixArtSigmaPipeline, sample_size=256),
}
DPM = pytest.mark.filterwarnings("ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning")


def model_of(pipeline: Any) -> PixArtModel:
    defaults = ModelDefaults(image_size=(32, 40), text_length=24, steps=2, guidance=4.5)
    return PixArtModel(pipeline, defaults, name="random")


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS.keys())
def model(request: pytest.FixtureRequest) -> PixArtModel:
    return model_of(request.param())


@pytest.fixture(scope="module")
def plain() -> PixArtModel:
    return model_of(build())


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 40, 3), np.uint8))


def level_at(model: PixArtModel, place: int) -> float:
    """Where signal and noise are in the ratio (1 - t) : t, at a place in the scheduler's list."""
    kept = float(model.pipeline.scheduler.alphas_cumprod[model.pipeline.scheduler.timesteps[place]])
    return (1 - kept) ** 0.5 / ((1 - kept) ** 0.5 + kept**0.5)


def steps_of(model: PixArtModel, steps: int, guidance: float) -> tuple[list[dict[str, Any]], list[torch.Tensor]]:
    """What the transformer is given at every step of the pipeline, and the latents after every step."""
    calls: list[dict[str, Any]] = []
    after: list[torch.Tensor] = []
    handle = model.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append({"hidden_states": args[0], **kwargs}), with_kwargs=True
    )
    model.pipeline(
        PROMPT.text, num_inference_steps=steps, guidance_scale=guidance, output_type="latent",
        generator=torch.Generator().manual_seed(0), callback=lambda _, __, latents: after.append(latents.clone()),
        **CALL,
    )  # fmt: skip
    handle.remove()
    return calls, after


# --- against the pipelines' own calls ---


@pytest.mark.parametrize("guidance", [None, 3.0], ids=["plain", "guided"])
def test_one_step_equals_the_pipelines_own(model: PixArtModel, guidance: float | None) -> None:
    """DDIM's second step of four, from one noise level within (0, 1) to another."""
    _, after = steps_of(model, 4, guidance or 1.0)
    level, to = level_at(model, 1), level_at(model, 2)
    assert 0 < to < level < 1
    found = our_step(model, after[0], PROMPT, level=level, to=to, guidance=guidance)
    torch.testing.assert_close(found, after[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("variant", VARIANTS)
def test_the_transformer_is_given_what_the_pipeline_gives_it(variant: str, dtype: torch.dtype) -> None:
    model = model_of(VARIANTS[variant]().to(dtype=dtype))
    calls, after = steps_of(model, 3, 1.0)
    found = model.inputs_of(after[0], model.encode_prompts([PROMPT]), noise_level=level_at(model, 1)).kwargs
    for name in ("hidden_states", "encoder_hidden_states", "encoder_attention_mask"):
        torch.testing.assert_close(found[name], calls[1][name], atol=0, rtol=0)
    torch.testing.assert_close(found["timestep"].double(), calls[1]["timestep"].double(), atol=1e-3, rtol=0)
    conditions = calls[1]["added_cond_kwargs"]
    assert (conditions["resolution"] is not None) == (variant == "alpha-1024")
    assert found["added_cond_kwargs"].keys() == conditions.keys()
    for name, value in conditions.items():
        if value is None:
            assert found["added_cond_kwargs"][name] is None
        else:
            torch.testing.assert_close(found["added_cond_kwargs"][name], value, atol=0, rtol=0)


@DPM
def test_the_published_scheduler_tells_the_timesteps_that_we_tell() -> None:
    model = model_of(build())
    model.pipeline.scheduler = DPMSolverMultistepScheduler(beta_start=1e-4, beta_end=0.02)
    calls, _ = steps_of(model, 5, 1.0)
    for place, call in enumerate(calls):
        assert model.schedule.timestep(level_at(model, place)) == pytest.approx(float(call["timestep"]), abs=1e-3)


@torch.no_grad()
def test_the_prediction_leaves_the_variance_out(plain: PixArtModel) -> None:
    inputs = plain.forward_inputs(
        plain.encode_images([picture()]), plain.encode_prompts([PROMPT]), noise_level=0.5, seeds=[0]
    )
    output = plain.transformer(**inputs.kwargs)[0]
    assert output.shape == (1, 8, 8, 10)
    torch.testing.assert_close(plain.predicted(output, inputs.mixture), output[:, :4])


def test_a_mixture_has_the_noise_levels_ratio_of_noise_to_signal(plain: PixArtModel) -> None:
    latents = torch.full((1, 4, 8, 10), 2.0)
    for level in (0.2, 0.6, 0.9):
        noise = plain.noised(torch.zeros_like(latents), noise_level=level, seeds=[0])
        signal = plain.noised(latents, noise_level=level, seeds=[0]) - noise
        drawn = torch.randn(4, 8, 10, generator=torch.Generator().manual_seed(0))
        scales = (signal / latents).mean().item(), (noise[0] / drawn).median().item()
        assert scales[1] / scales[0] == pytest.approx(level / (1 - level), rel=1e-4)
        assert scales[0] ** 2 + scales[1] ** 2 == pytest.approx(1.0, rel=1e-4)


@torch.no_grad()
def test_decoding_inverts_the_scaling_of_encoding(model: PixArtModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pipeline decodes from our latents is what the autoencoder alone makes of the picture."""
    vae, taken = model.pipeline.vae, []
    latents = model.encode_images([picture()])
    decode = vae.decode

    def spy(given: torch.Tensor, **options: Any) -> Any:
        taken.append(given)
        return decode(given, **options)

    monkeypatch.setattr(vae, "decode", spy)
    monkeypatch.setattr(model.pipeline.scheduler, "step", lambda *_, **__: (latents, latents))
    model.pipeline(PROMPT.text, num_inference_steps=1, guidance_scale=1.0, **CALL)
    pixels = torch.from_numpy(np.array(picture())).permute(2, 0, 1)[None] / 127.5 - 1
    torch.testing.assert_close(taken[0], vae.encode(pixels).latent_dist.mean, atol=1e-4, rtol=1e-4)


# --- lower case and padding ---


def test_the_encoder_reads_lower_case_and_words_stay_as_written(plain: PixArtModel) -> None:
    tokens = plain.tokens(PROMPT)
    named = [(token.text, token.word) for token in tokens if token.word]
    assert named[:3] == [("the", "The"), ("red", "RED"), ("ring", "ring")]
    seen: list[torch.Tensor] = []
    handle = plain.pipeline.text_encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    plain.encode_prompts([PROMPT])
    handle.remove()
    pieces = plain.pipeline.tokenizer.convert_ids_to_tokens(seen[0][0].tolist())
    assert [pieces[token.index].replace("▁", "") for token in tokens[:3]] == ["the", "red", "ring"]


def test_no_image_query_attends_to_padding(plain: PixArtModel) -> None:
    recording = record(plain, picture(), "the red ring", keep=["image_to_text"])
    maps = recording["image_to_text"]
    padding = [token.index for token in recording.tokens if token.kind == "padding"]
    assert padding == list(range(4, 24))
    assert not maps.isel(token=padding).values.any()
    np.testing.assert_allclose(maps.isel(token=slice(0, 4)).sum("token").values, 1.0, atol=1e-5)


# --- prompts that do not fit, generation, defaults, what is refused ---


def test_nothing_is_cut(plain: PixArtModel) -> None:
    long = "The red ring " * 7 + "zebra"
    with pytest.raises(PromptTooLongError, match="more than 24 tokens of the t5 encoder: 'zebra' would be cut"):
        plain.encode_prompts([PROMPT, make_prompt(long)])
    with pytest.raises(PromptTooLongError, match="'zebra' would be cut"):
        plain.generate(long)


def test_generating_is_the_pipelines_own_call_with_the_models_defaults(model: PixArtModel) -> None:
    theirs = model.pipeline(
        "A (red) ring", num_inference_steps=2, guidance_scale=4.5, generator=torch.Generator().manual_seed(5), **CALL
    ).images[0]
    ours = model.generate("A (red) ring", seed=5)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    for other in (model.generate("A (red) ring", seed=6), model.generate("A (red) ring", seed=5, guidance=1.0)):
        assert np.any(np.asarray(ours) != np.asarray(other))


def test_an_empty_prompt_draws_without_condition(plain: PixArtModel) -> None:
    assert plain.generate("", steps=1).size == (40, 32)


@pytest.mark.parametrize(
    ("variant", "side", "text_length"), [("alpha-1024", 512, 120), ("alpha-512", 256, 120), ("sigma-2048", 1024, 300)]
)
def test_a_bare_pipeline_has_the_published_defaults(variant: str, side: int, text_length: int) -> None:
    """The tiny autoencoder's latents are 4 pixels, those of the published one are 8."""
    loaded = load_model(VARIANTS[variant]())
    assert loaded.default_size == (side, side)
    assert (loaded.defaults.steps, loaded.defaults.guidance) == (20, 4.5)
    assert len(loaded.tokens(PROMPT)) == text_length


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer"])
def test_a_pipeline_without_a_part_is_refused(part: str) -> None:
    pipeline = build()
    setattr(pipeline, part, None)
    with pytest.raises(MissingPartError, match=f"has no {part}"):
        model_of(pipeline)
