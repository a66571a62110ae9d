"""Lumina Image 2.0: what its pipeline gives it, reversed time, texts without padding behind an instruction."""

from typing import Any

import numpy as np
import pytest
import torch
from families.chat import decoded_latents, encoded_mean, euler_step, inputs_of, pictures, pipeline_call
from families.denoising import our_step, pipeline_latents
from families.lumina2 import INSTRUCTION, build

from refam_analysis.models import ModelDefaults, find_blocks, load_model
from refam_analysis.models.blocks import head_shape
from refam_analysis.models.family import MissingPartError
from refam_analysis.models.lumina2 import Lumina2Model
from refam_analysis.prompts import PromptTooLongError, make_prompt
from refam_analysis.recording import record, record_batch

PROMPT, SHORT = make_prompt("the red ring on the left", [".", "a"]), make_prompt("a ring")
SIZE = {"height": 64, "width": 80}
READ = [*"You", *INSTRUCTION[1:]]
"""The instruction's tokens: the letters of its first word, which no space joins, and the other words."""
BEFORE = 1 + len(READ)


def make_model() -> Lumina2Model:
    """At 64 x 80 pixels: 4 x 5 tokens."""
    defaults = ModelDefaults(image_size=(64, 80), text_length=48, steps=2, guidance=2.5)
    return Lumina2Model(build(), defaults, name="random")


@pytest.fixture(scope="module")
def model() -> Lumina2Model:
    return make_model()


# --- against the pipeline's own call ---


@pytest.mark.parametrize("noise_level", [1.0, 0.6, 0.05])
def test_one_euler_step_equals_the_pipelines_own(model: Lumina2Model, noise_level: float) -> None:
    inputs = inputs_of(model, [PROMPT, SHORT], noise_level=noise_level)
    ours = euler_step(model, inputs)
    seen = pipeline_call(model, inputs.mixture, noise_level, prompt=[PROMPT.text, SHORT.text], guidance_scale=1.0)
    torch.testing.assert_close(ours, seen["latents"], atol=5e-4, rtol=1e-4)
    assert not torch.allclose(ours, inputs.mixture, atol=0.01)


def test_one_guided_step_equals_the_pipelines_own() -> None:
    """The second of three, from one noise level within (0, 1) to another."""
    model = make_model()
    latents = pipeline_latents(
        model, PROMPT, seed=0, num_inference_steps=3, max_sequence_length=48, guidance_scale=3.0, **SIZE
    )
    level, to = (float(sigma) for sigma in model.pipeline.scheduler.sigmas[1:3])
    assert 0 < to < level < 1
    found = our_step(model, latents[0], PROMPT, level=level, to=to, guidance=3.0)
    torch.testing.assert_close(found, latents[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_batch_of_unequal_prompts_is_given_as_the_pipeline_gives_it(dtype: torch.dtype) -> None:
    model = make_model()
    model.pipeline.to(dtype=dtype)
    inputs = inputs_of(model, [SHORT, PROMPT], noise_level=0.257)
    seen = pipeline_call(model, inputs.mixture, 0.257, prompt=[SHORT.text, PROMPT.text], guidance_scale=1.0)
    for name in ("hidden_states", "timestep"):
        torch.testing.assert_close(inputs.kwargs[name], seen[name], atol=2e-7, rtol=0)
    longest = len(model.tokens(PROMPT))
    for name in ("encoder_hidden_states", "encoder_attention_mask"):
        torch.testing.assert_close(inputs.kwargs[name], seen[name][:, :longest], atol=0, rtol=0)
    assert not seen["encoder_attention_mask"][:, longest:].any()


def test_the_noise_of_a_seed_is_the_pipelines_own(model: Lumina2Model) -> None:
    ours = inputs_of(model, [PROMPT], noise_level=1.0, first_seed=7).mixture
    theirs = model.pipeline.prepare_latents(
        1, 4, 64, 80, torch.float32, torch.device("cpu"), torch.Generator().manual_seed(7)
    )
    torch.testing.assert_close(ours, theirs)


def test_decoding_inverts_the_scaling_of_encoding(model: Lumina2Model) -> None:
    [picture] = pictures(size=(64, 80))
    taken = decoded_latents(model, model.encode_images([picture]), guidance_scale=1.0)
    torch.testing.assert_close(taken, encoded_mean(model, picture), atol=1e-5, rtol=1e-5)


# --- the text, and where it stands ---


def test_the_instruction_stands_before_the_prompt_and_padding_nowhere(model: Lumina2Model) -> None:
    tokens = model.tokens(SHORT)
    assert [token.text for token in tokens] == ["<bos>", *READ, "a", "ring"]
    assert [token.kind for token in tokens] == ["special", *["template"] * len(READ), "stop", "content"]
    assert [token.index for token in tokens] == list(range(BEFORE + 2))


def test_the_empty_prompt_has_no_instruction(model: Lumina2Model) -> None:
    empty = model.encode_empty(2)
    assert [[token.text for token in tokens] for tokens in empty.tokens] == [["<bos>"], ["<bos>"]]
    assert empty.inputs["encoder_attention_mask"].sum(1).tolist() == [1, 1]


def test_every_item_has_a_layout_of_its_own(model: Lumina2Model) -> None:
    layouts = inputs_of(model, [SHORT, PROMPT]).layouts
    short, long = BEFORE + 2, len(model.tokens(PROMPT))
    assert [layout.text for layout in layouts] == [slice(0, short), slice(0, long)]
    assert [layout.image for layout in layouts] == [slice(short, short + 20), slice(long, long + 20)]


def test_an_item_of_a_batch_is_recorded_as_it_is_alone(model: Lumina2Model) -> None:
    """Neither the other prompt nor what fills its sequence up changes anything."""
    names = ["image_to_text", "text_to_image", "received_from_text", "received_from_image", "entropy"]
    together = record_batch(model, pictures(2), [PROMPT, SHORT], seeds=[0, 3], keep=names)[1]
    alone = record(model, pictures(2)[1], "a ring", seed=3, keep=names)
    for name in names:
        np.testing.assert_allclose(together[name], alone[name], atol=2e-5, rtol=1e-4)


def test_the_width_of_a_head_is_that_of_its_keys(model: Lumina2Model) -> None:
    block = find_blocks(model.transformer)[0].module
    assert head_shape(model.transformer) == (4, block.attn.norm_k.weight.shape[0])


def test_a_prompt_too_long_for_the_text_encoder_is_refused(model: Lumina2Model) -> None:
    room = 48 - BEFORE
    assert len(model.tokens(make_prompt(" ".join(["ring"] * room)))) == 48
    long = " ".join([*["ring"] * room, "square"])
    with pytest.raises(PromptTooLongError, match=f"than {room + 1} tokens of the gemma .* 'square' would be cut"):
        model.encode_prompts([SHORT, make_prompt(long)])
    with pytest.raises(PromptTooLongError, match="'square' would be cut"):
        model.generate(long)


# --- generation, defaults, missing parts ---


def drawn(model: Lumina2Model, prompt: str, **given: Any) -> np.ndarray:
    return np.asarray(model.generate(prompt, **given))


def test_generating_is_the_pipelines_own_call_with_the_models_defaults(model: Lumina2Model) -> None:
    theirs = model.pipeline(
        "a red ring", num_inference_steps=2, max_sequence_length=48, guidance_scale=2.5,
        generator=torch.Generator().manual_seed(5), **SIZE,
    ).images[0]  # fmt: skip
    ours = drawn(model, "a red ring", seed=5)
    np.testing.assert_array_equal(ours, np.asarray(theirs))
    assert np.any(ours != drawn(model, "a red ring", seed=6))
    assert np.any(ours != drawn(model, "a red ring", seed=5, guidance=1.0))
    assert model.generate("", steps=1).size == (80, 64)


def test_a_bare_pipeline_has_the_defaults_of_its_own_call() -> None:
    model = load_model(build())
    assert (model.text_length, model.defaults.steps, model.defaults.guidance) == (256, 30, 4.0)
    assert model.default_size == (128, 128)  # 16 latents of 8 pixels; 128 in the published configuration
    assert model.pixels_per_token == 16


def test_a_pipeline_without_a_part_is_refused() -> None:
    pipeline = build()
    pipeline.tokenizer = None
    with pytest.raises(MissingPartError, match="has no tokenizer"):
        Lumina2Model(pipeline, ModelDefaults((64, 80), 48, 2, 1.0), name="random")
