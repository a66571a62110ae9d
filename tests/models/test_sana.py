"""Sana and Sana-Sprint: what diffusers' own pipelines compute, and which of Gemma's tokens are the text."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, SanaSprintPipeline, SCMScheduler
from families.denoising import our_step, pipeline_latents
from families.sana import TEXT_LENGTH, build
from PIL import Image

from refam_analysis.models import ModelDefaults, load_model
from refam_analysis.models.family import MissingPartError
from refam_analysis.models.sana import SanaModel, SanaSprintModel
from refam_analysis.prompts import PromptTooLongError, make_prompt
from refam_analysis.recording import Recorder, record

PROMPT = make_prompt("The RED ring on the left", [".", "a"])
CALL = {"height": 32, "width": 64, "max_sequence_length": TEXT_LENGTH, "use_resolution_binning": False}
pytestmark = pytest.mark.filterwarnings(
    # DPMSolverMultistepScheduler with NumPy 2.
    "ignore:__array__ implementation doesn't accept a copy keyword:DeprecationWarning"
)


def dpm_solver() -> DPMSolverMultistepScheduler:
    """As published for Sana, but of the first order, which is one step of Euler's method."""
    return DPMSolverMultistepScheduler(
        use_flow_sigmas=True, prediction_type="flow_prediction", flow_shift=3.0, solver_order=1
    )


SCHEDULERS = {"euler": lambda: None, "dpm-solver": dpm_solver}


def model_of(pipeline: Any, kind: type[SanaModel] = SanaModel) -> SanaModel:
    defaults = ModelDefaults(image_size=(32, 64), text_length=TEXT_LENGTH, steps=2, guidance=4.5)
    return kind(pipeline, defaults, name="random")


def sprint_model(dtype: torch.dtype = torch.float32) -> SanaModel:
    pipeline = build(SCMScheduler(), SanaSprintPipeline, guidance=True, qk_norm="rms_norm_across_heads")
    return model_of(pipeline.to(dtype=dtype), SanaSprintModel)


@pytest.fixture(scope="module", params=SCHEDULERS.values(), ids=SCHEDULERS.keys())
def model(request: pytest.FixtureRequest) -> SanaModel:
    return model_of(build(request.param()))


@pytest.fixture(scope="module")
def plain() -> SanaModel:
    return model_of(build())


@pytest.fixture(scope="module")
def sprint() -> SanaModel:
    return sprint_model()


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 64, 3), np.uint8))


def calls_of(model: SanaModel, run: Callable[[], Any]) -> list[dict[str, Any]]:
    """What the transformer is given, call by call."""
    calls: list[dict[str, Any]] = []
    handle = model.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append({"hidden_states": args[0], **kwargs}), with_kwargs=True
    )
    run()
    handle.remove()
    return calls


# --- against the pipeline's own call ---


@pytest.mark.parametrize("guidance", [None, 3.0], ids=["plain", "guided"])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
def test_one_step_equals_the_pipelines_own(scheduler: str, guidance: float | None) -> None:
    """The second of four, from one noise level within (0, 1) to another."""
    model = model_of(build(SCHEDULERS[scheduler]()))
    after = pipeline_latents(
        model, PROMPT, seed=0, num_inference_steps=4, guidance_scale=guidance or 1.0, **CALL
    )  # fmt: skip
    level, to = (float(sigma) for sigma in model.pipeline.scheduler.sigmas[1:3])
    assert 0 < to < level < 1
    found = our_step(model, after[0], PROMPT, level=level, to=to, guidance=guidance)
    torch.testing.assert_close(found, after[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("timestep_scale", [1.0, 0.001])
@pytest.mark.parametrize("scheduler", SCHEDULERS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_transformer_is_given_what_the_pipeline_gives_it(
    scheduler: str, dtype: torch.dtype, timestep_scale: float
) -> None:
    model = model_of(build(SCHEDULERS[scheduler](), timestep_scale=timestep_scale).to(dtype=dtype))
    after: list[torch.Tensor] = []
    calls = calls_of(
        model,
        lambda: after.extend(
            pipeline_latents(model, PROMPT, seed=0, num_inference_steps=3, guidance_scale=1.0, **CALL)
        ),
    )
    level = float(model.pipeline.scheduler.sigmas[1])
    found = model.inputs_of(after[0].to(dtype), model.encode_prompts([PROMPT]), noise_level=level).kwargs
    for name in ("hidden_states", "encoder_hidden_states", "encoder_attention_mask"):
        torch.testing.assert_close(found[name], calls[1][name], atol=0, rtol=0)
    torch.testing.assert_close(found["timestep"].double(), calls[1]["timestep"].double(), atol=1e-4, rtol=0)


def test_the_unconditional_prompt_is_the_pipelines_own(plain: SanaModel) -> None:
    calls = calls_of(
        plain,
        lambda: plain.pipeline(
            PROMPT.text, num_inference_steps=1, guidance_scale=2.0, output_type="latent",
            generator=torch.Generator().manual_seed(0), **CALL,
        ),
    )  # fmt: skip
    both = plain.encode_empty(1) + plain.encode_prompts([PROMPT])
    for name, value in both.inputs.items():
        torch.testing.assert_close(value, calls[0][name], atol=1e-6, rtol=1e-6)
    assert [token.kind for token in both.tokens[0]] == ["special"] + ["padding"] * (TEXT_LENGTH - 1)


@torch.no_grad()
def test_decoding_inverts_the_scaling_of_encoding(plain: SanaModel, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the pipeline decodes from our latents is what the autoencoder alone makes of the picture."""
    vae, taken = plain.pipeline.vae, []
    latents = plain.encode_images([picture()])
    decode = vae.decode

    def spy(given: torch.Tensor, **options: Any) -> Any:
        taken.append(given)
        return decode(given, **options)

    monkeypatch.setattr(vae, "decode", spy)
    plain.pipeline(
        PROMPT.text, num_inference_steps=1, guidance_scale=1.0,
        callback_on_step_end=lambda *_: {"latents": latents}, **CALL,
    )  # fmt: skip
    pixels = torch.from_numpy(np.array(picture())).permute(2, 0, 1)[None] / 127.5 - 1
    torch.testing.assert_close(taken[0], vae.encode(pixels).latent, atol=1e-4, rtol=1e-4)


# --- Sana-Sprint ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_sprints_transformer_is_given_what_the_pipeline_gives_it(dtype: torch.dtype) -> None:
    """At the second step, on the circle at 1.3 radians from the image: a share of noise of sin / (sin + cos)."""
    model, after = sprint_model(dtype), []
    calls = calls_of(
        model,
        lambda: after.extend(
            pipeline_latents(model, PROMPT, seed=0, num_inference_steps=2, guidance_scale=4.5, **CALL)
        ),
    )
    level = float(np.sin(1.3) / (np.sin(1.3) + np.cos(1.3)))
    mixture = calls[1]["hidden_states"]
    found = model.inputs_of(mixture, model.encode_prompts([PROMPT]), noise_level=level).kwargs
    for name in ("encoder_hidden_states", "encoder_attention_mask", "guidance", "timestep"):
        torch.testing.assert_close(found[name], calls[1][name], atol=1e-6, rtol=1e-6)


@torch.no_grad()
def test_sprint_sees_the_image_that_the_pipeline_draws(sprint: SanaModel) -> None:
    drawn: list[torch.Tensor] = []
    calls = calls_of(
        sprint,
        lambda: drawn.append(
            sprint.pipeline(
                PROMPT.text, num_inference_steps=2, guidance_scale=4.5, output_type="latent",
                generator=torch.Generator().manual_seed(0), **CALL,
            ).images
        ),
    )  # fmt: skip
    level, mixture = float(calls[1]["timestep"]), calls[1]["hidden_states"]
    inputs = sprint.inputs_of(mixture, sprint.encode_prompts([PROMPT]), noise_level=level)
    predicted = sprint.predicted(sprint.transformer(**inputs.kwargs)[0], mixture)
    image, noise = sprint.schedule.split(mixture, predicted, level)
    torch.testing.assert_close(image, drawn[0], atol=1e-4, rtol=1e-4)
    torch.testing.assert_close((1 - level) * image + level * noise, mixture, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_sprint_generates_by_the_pipelines_own_call(sprint: SanaModel, steps: int) -> None:
    between = {} if steps == 2 else {"intermediate_timesteps": None}
    theirs = sprint.pipeline(
        PROMPT.text, num_inference_steps=steps, guidance_scale=4.5, generator=torch.Generator().manual_seed(5),
        **between, **CALL,
    ).images[0]  # fmt: skip
    np.testing.assert_array_equal(np.asarray(sprint.generate(PROMPT.text, seed=5, steps=steps)), np.asarray(theirs))


def test_sprint_is_recorded(sprint: SanaModel) -> None:
    maps = record(sprint, picture(), "the red ring", guidance=2.0)["image_to_text"]
    assert maps.sizes["head"] == 3
    np.testing.assert_allclose(maps.sum("token").values, 1.0, atol=1e-5)


# --- which of Gemma's tokens are the text ---


def test_the_text_is_the_first_token_and_the_prompts(plain: SanaModel) -> None:
    tokens = plain.tokens(PROMPT)
    assert [token.index for token in tokens] == list(range(TEXT_LENGTH))
    assert [token.text for token in tokens[:5]] == ["<bos>", "the", "red", "ring", "on"]
    assert [token.word for token in tokens[:5]] == ["", "The", "RED", "ring", "on"]
    assert "template" not in {token.kind for token in tokens}


def test_a_space_that_is_not_joined_to_the_prompt_is_template() -> None:
    """Then one token of the instruction is among the kept ones, as the pipeline counts them."""
    tokens = model_of(build(joins=False)).tokens(make_prompt("a ring"))
    kinds = ["special", "template", "stop", *["content"] * 5, *["padding"] * 12]
    assert [token.kind for token in tokens] == kinds
    assert tokens[1].text == "▁" and tokens[2].text == "a"


def test_the_instruction_is_the_pipelines_own(plain: SanaModel) -> None:
    assert plain.instruction[0].startswith("Given a user prompt") and plain.instruction[-1] == "User Prompt: "
    seen: list[torch.Tensor] = []
    handle = plain.pipeline.text_encoder.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    plain.encode_prompts([PROMPT])
    handle.remove()
    read = plain.pipeline.tokenizer.decode(seen[0][0], skip_special_tokens=True)
    assert read.replace(" ", "") == ("\n".join(plain.instruction) + PROMPT.text.lower()).replace(" ", "")


def test_no_image_query_attends_to_padding(plain: SanaModel) -> None:
    recording = record(plain, picture(), "the red ring", keep=["image_to_text"])
    padding = [token.index for token in recording.tokens if token.kind == "padding"]
    assert padding == list(range(4, TEXT_LENGTH))
    assert not recording["image_to_text"].isel(token=padding).values.any()


@pytest.mark.parametrize("name", ["image_to_image", "entropy_over_image", "full", "entropy"])
def test_what_linear_attention_lacks_is_refused_with_that_reason(plain: SanaModel, name: str) -> None:
    inputs = plain.forward_inputs(
        plain.encode_images([picture()]), plain.encode_prompts([PROMPT]), noise_level=0.5, seeds=[0]
    )
    with pytest.raises(KeyError, match="attend to each other linearly in Sana: without a softmax"):
        Recorder(plain.transformer, inputs.layouts, keep=[name])


# --- prompts that do not fit, generation, defaults, what is refused ---


def test_nothing_is_cut(plain: SanaModel) -> None:
    long = "the red ring " * 7 + "square"
    with pytest.raises(PromptTooLongError, match="more than 20 tokens of the gemma encoder: .*'.*square' would be cut"):
        plain.encode_prompts([PROMPT, make_prompt(long)])
    with pytest.raises(PromptTooLongError, match="square' would be cut"):
        plain.generate(long)


def test_a_prompt_that_just_fits_is_kept_whole(plain: SanaModel) -> None:
    """Nineteen words behind the first token."""
    words = " ".join(["ring"] * 19)
    assert [token.word for token in plain.tokens(make_prompt(words))[1:]] == ["ring"] * 19
    with pytest.raises(PromptTooLongError):
        plain.tokens(make_prompt(f"{words} ring"))


def test_generating_is_the_pipelines_own_call_with_the_models_defaults(model: SanaModel) -> None:
    theirs = model.pipeline(
        "A (red) ring", num_inference_steps=2, guidance_scale=4.5, generator=torch.Generator().manual_seed(5), **CALL
    ).images[0]
    ours = model.generate("A (red) ring", seed=5)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    for other in (model.generate("A (red) ring", seed=6), model.generate("A (red) ring", seed=5, guidance=1.0)):
        assert np.any(np.asarray(ours) != np.asarray(other))


def test_an_empty_prompt_draws_without_condition(plain: SanaModel, sprint: SanaModel) -> None:
    for model in (plain, sprint):
        calls = calls_of(model, lambda model=model: model.generate("", guidance=1.0))
        torch.testing.assert_close(
            calls[0]["encoder_hidden_states"], model.encode_empty(1).inputs["encoder_hidden_states"]
        )


def test_a_bare_pipeline_has_the_published_defaults(plain: SanaModel, sprint: SanaModel) -> None:
    """The tiny autoencoder's latents are 8 pixels, those of the published one are 32."""
    loaded = load_model(plain.pipeline)
    assert isinstance(loaded, SanaModel) and loaded.default_size == (64, 64)
    assert (loaded.defaults.steps, loaded.defaults.guidance, loaded.text_length) == (20, 4.5, 300)
    assert len(loaded.tokens(PROMPT)) == 300
    quick = load_model(sprint.pipeline)
    assert isinstance(quick, SanaSprintModel) and (quick.defaults.steps, quick.defaults.guidance) == (2, 4.5)


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer"])
def test_a_pipeline_without_a_part_is_refused(part: str) -> None:
    pipeline = build()
    setattr(pipeline, part, None)
    with pytest.raises(MissingPartError, match=f"has no {part}"):
        model_of(pipeline)
