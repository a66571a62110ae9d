"""FLUX.2: dev and klein are given what their pipelines give them; template, padding and autoencoder are theirs."""

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Flux2Pipeline
from families.chat import decoded_latents, encoded_mean, euler_step, inputs_of, pictures, pipeline_call
from families.flux2 import build, build_klein

from refam_analysis.models import ModelDefaults, load_model
from refam_analysis.models.chat import RewrittenPromptError
from refam_analysis.models.family import MissingPartError
from refam_analysis.models.flux2 import Flux2Model, positions
from refam_analysis.prompts import PromptTooLongError, make_prompt
from refam_analysis.recording import record

PROMPT = make_prompt("the red ring", [".", "a"])
BUILDERS = {"dev": build, "klein": build_klein}


def model_of(name: str) -> Flux2Model:
    """At 32 x 40 pixels: 4 x 5 tokens."""
    defaults = ModelDefaults(image_size=(32, 40), text_length=150, steps=2, guidance=2.5)
    return Flux2Model(BUILDERS[name](), defaults, name="random")


@pytest.fixture(scope="module", params=BUILDERS)
def model(request: pytest.FixtureRequest) -> Flux2Model:
    return model_of(request.param)


@pytest.fixture(scope="module")
def dev() -> Flux2Model:
    return model_of("dev")


# --- against the pipelines' own calls ---


def unguided(model: Flux2Model) -> float:
    """The guidance that leads to one transformer call a step: dev is told its strength in that very call."""
    return 2.5 if isinstance(model.pipeline, Flux2Pipeline) else 1.0


@pytest.mark.parametrize("noise_level", [1.0, 0.6, 0.05])
def test_one_euler_step_equals_the_pipelines_own(model: Flux2Model, noise_level: float) -> None:
    inputs = inputs_of(model, [PROMPT], noise_level=noise_level)
    ours = euler_step(model, inputs)
    seen = pipeline_call(model, inputs.mixture, noise_level, prompt=PROMPT.text, guidance_scale=unguided(model))
    torch.testing.assert_close(ours.flatten(2).mT, seen["latents"], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours, inputs.mixture, atol=0.01)


def test_the_noise_of_a_seed_is_the_pipelines_own(model: Flux2Model) -> None:
    ours = inputs_of(model, [PROMPT], noise_level=1.0, first_seed=7).kwargs["hidden_states"]
    theirs, _ = model.pipeline.prepare_latents(
        1, 2, 32, 40, torch.float32, torch.device("cpu"), torch.Generator().manual_seed(7)
    )
    torch.testing.assert_close(ours, theirs)


@pytest.mark.parametrize("name", BUILDERS)
def test_low_precision_gives_the_transformer_what_the_pipeline_gives_it(name: str) -> None:
    model = model_of(name)
    model.pipeline.to(dtype=torch.bfloat16)
    inputs = inputs_of(model, [PROMPT], noise_level=0.257)  # rounded twice by the pipeline: not the nearest bfloat16
    seen = pipeline_call(model, inputs.mixture, 0.257, prompt=PROMPT.text, guidance_scale=unguided(model))
    for argument, value in inputs.kwargs.items():
        if torch.is_tensor(value):
            torch.testing.assert_close(value, seen[argument], atol=0, rtol=0)
        else:
            assert value == seen[argument], argument


def test_decoding_inverts_the_packing_and_scaling_of_encoding(model: Flux2Model) -> None:
    [picture] = pictures()
    taken = decoded_latents(model, model.encode_images([picture]), guidance_scale=1.0)
    torch.testing.assert_close(taken, encoded_mean(model, picture), atol=1e-5, rtol=1e-5)


def test_prompts_of_a_batch_are_encoded_as_the_pipeline_encodes_them(model: Flux2Model) -> None:
    prompts = [PROMPT, make_prompt("a zebra")]
    ours = model.encode_prompts(prompts)
    states, _ = model.pipeline.encode_prompt([prompt.text for prompt in prompts], max_sequence_length=150)
    torch.testing.assert_close(ours.inputs["encoder_hidden_states"], states)
    assert states.shape == (2, 150, 48)
    assert {len(tokens) for tokens in ours.tokens} == {150}


def test_positions_equal_the_pipelines(dev: Flux2Model) -> None:
    image = dev.pipeline._prepare_latent_ids(torch.zeros(1, 8, 3, 5))[0]
    text = dev.pipeline._prepare_text_ids(torch.zeros(1, 7, 4))[0]
    assert torch.equal(positions(y=3, x=5), image) and torch.equal(positions(token=7), text)


# --- the text segment ---


def test_dev_reads_a_system_message_before_the_prompt_and_padding_before_both(dev: Flux2Model) -> None:
    tokens = dev.tokens(PROMPT)
    kinds = [token.kind for token in tokens]
    first = kinds.index("special")
    assert set(kinds[:first]) == {"padding"} and "padding" not in kinds[first:]
    assert [token.text for token in tokens[first : first + 4]] == ["<s>", "[SYSTEM_PROMPT]", "You", "are"]
    assert kinds[first : first + 4] == ["special", "special", "template", "template"]
    own = [token for token in tokens if token.word]
    assert [token.text for token in own[:3]] == list("the") and own[-1].kind == "magnet"
    around = (tokens[own[0].index - 1], tokens[own[-1].index + 1])
    assert [(token.text, token.kind) for token in around] == [("[INST]", "special"), ("[/INST]", "special")]
    assert own[-1].index == 148


def test_klein_reads_a_chat_without_thinking_and_padding_behind_it() -> None:
    tokens = model_of("klein").tokens(make_prompt("ring"))
    behind = ["<|im_end|>", "Ċ", "<|im_start|>", *"assistant", "Ċ", "<think>", "Ċ", "Ċ", "</think>", "Ċ", "Ċ"]
    assert [token.text for token in tokens[:29]] == ["<|im_start|>", *"user", "Ċ", *"ring", *behind]
    kinds = ["special", *["template"] * 5, *["content"] * 4, "special", "template", "special", *["template"] * 16]
    assert [token.kind for token in tokens[:29]] == kinds
    assert {token.kind for token in tokens[29:]} == {"padding"}


def test_a_prompt_that_names_a_control_token_which_the_pipeline_removes_is_refused(dev: Flux2Model) -> None:
    with pytest.raises(RewrittenPromptError, match=r"changes the prompt 'a \[IMG\] ring'"):
        dev.encode_prompts([make_prompt("a [IMG] ring")])


def test_padding_is_attended_to(model: Flux2Model) -> None:
    recording = record(model, pictures()[0], "a ring", keep=["image_to_text"])
    padding = recording["image_to_text"].values[..., [token.kind == "padding" for token in recording.tokens]]
    assert padding.shape[-1] > 20 and (padding.sum(-1) > 0.01).mean() > 0.9


def test_a_prompt_too_long_for_the_text_segment_is_refused(model: Flux2Model) -> None:
    with pytest.raises(PromptTooLongError, match="3 encoder: '.*zebra' would be cut"):
        model.encode_prompts([PROMPT, make_prompt("the red ring " * 14 + "zebra")])
    with pytest.raises(PromptTooLongError, match="zebra' would be cut"):
        model.generate("the red ring " * 14 + "zebra")


# --- generation, defaults, missing parts ---


def drawn(model: Flux2Model, prompt: str, **given: Any) -> np.ndarray:
    return np.asarray(model.generate(prompt, **given))


def test_generating_is_the_pipelines_own_call_with_the_models_defaults(model: Flux2Model) -> None:
    theirs = model.pipeline(
        prompt="a red ring", height=32, width=40, num_inference_steps=2, max_sequence_length=150, guidance_scale=2.5,
        generator=torch.Generator().manual_seed(5),
    ).images[0]  # fmt: skip
    ours = drawn(model, "a red ring", seed=5)
    np.testing.assert_array_equal(ours, np.asarray(theirs))
    assert np.any(ours != drawn(model, "a red ring", seed=6))
    assert np.any(ours != drawn(model, "a red ring", seed=5, guidance=8.0))
    assert model.generate("", steps=1).size == (40, 32)


def test_a_model_distilled_to_few_steps_is_not_guided() -> None:
    model = load_model(build_klein(distilled=True))
    small = Flux2Model(model.pipeline, ModelDefaults((32, 40), 150, 2, 1.0), name="random")
    np.testing.assert_array_equal(drawn(small, "a ring", guidance=5.0), drawn(small, "a ring"))


@pytest.mark.parametrize(
    ("pipeline", "steps", "guidance"),
    [(build, 50, 4.0), (build_klein, 50, 4.0), (lambda: build_klein(distilled=True), 4, 1.0)],
    ids=["dev", "klein-base", "klein"],
)
def test_a_bare_pipeline_has_the_published_defaults(pipeline: Any, steps: int, guidance: float) -> None:
    model = load_model(pipeline())
    assert (model.text_length, model.defaults.steps, model.defaults.guidance) == (512, steps, guidance)
    assert model.default_size == (512, 512)  # 128 latents of 4 pixels; 1024 with FLUX.2's autoencoder
    assert len(model.tokens(PROMPT)) == 512


def test_a_pipeline_without_a_part_is_refused() -> None:
    pipeline = build_klein()
    pipeline.vae = None
    with pytest.raises(MissingPartError, match="has no vae"):
        Flux2Model(pipeline, ModelDefaults((32, 40), 150, 2, 1.0), name="random")
