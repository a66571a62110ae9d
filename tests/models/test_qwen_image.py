"""Qwen-Image: what its pipeline gives it, in batches of unequal prompts too; template, padding and autoencoder."""

from typing import Any

import numpy as np
import pytest
import torch
from families.chat import decoded_latents, encoded_mean, euler_step, inputs_of, pictures, pipeline_call
from families.denoising import our_step
from families.qwen_image import build

from refam_analysis.models import ModelDefaults, load_model
from refam_analysis.models.family import MissingPartError
from refam_analysis.models.qwen_image import QwenImageModel
from refam_analysis.prompts import PromptTooLongError, make_prompt
from refam_analysis.recording import record, record_batch

PROMPT, SHORT = make_prompt("the red ring", [".", "a"]), make_prompt("a ring")
BEHIND = ["<|im_end|>", "Ċ", "<|im_start|>", "assistant", "Ċ"]
"""What the template writes behind a prompt."""


def make_model() -> QwenImageModel:
    """At 32 x 40 pixels: 4 x 5 tokens."""
    defaults = ModelDefaults(image_size=(32, 40), text_length=40, steps=2, guidance=2.5)
    return QwenImageModel(build(), defaults, name="random")


@pytest.fixture(scope="module")
def model() -> QwenImageModel:
    return make_model()


# --- against the pipeline's own call ---


@pytest.mark.parametrize("noise_level", [1.0, 0.6, 0.05])
def test_one_euler_step_equals_the_pipelines_own(model: QwenImageModel, noise_level: float) -> None:
    inputs = inputs_of(model, [PROMPT, SHORT], noise_level=noise_level)
    ours = euler_step(model, inputs)
    latents = inputs.kwargs["hidden_states"]
    seen = pipeline_call(model, latents, noise_level, prompt=[PROMPT.text, SHORT.text], true_cfg_scale=1.0)
    theirs = model.pipeline._unpack_latents(seen["latents"], 32, 40, model.pipeline.vae_scale_factor)[:, :, 0]
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours, inputs.mixture, atol=0.01)


def test_a_guided_step_equals_the_pipelines_own(model: QwenImageModel) -> None:
    inputs = inputs_of(model, [PROMPT], noise_level=0.6)
    seen = pipeline_call(
        model, inputs.kwargs["hidden_states"], 0.6, prompt=[PROMPT.text], negative_prompt=[""], true_cfg_scale=3.0
    )
    theirs = model.pipeline._unpack_latents(seen["latents"], 32, 40, model.pipeline.vae_scale_factor)[:, :, 0]
    ours = our_step(model, inputs.mixture, PROMPT, level=0.6, to=0.0, guidance=3.0)
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_batch_of_unequal_prompts_is_padded_and_masked_as_the_pipeline_does_it(dtype: torch.dtype) -> None:
    model = make_model()
    model.pipeline.to(dtype=dtype)
    inputs = inputs_of(model, [SHORT, PROMPT], noise_level=0.257)  # rounded twice: not the nearest bfloat16
    latents = inputs.kwargs["hidden_states"]
    seen = pipeline_call(model, latents, 0.257, prompt=[SHORT.text, PROMPT.text], true_cfg_scale=1.0)
    assert inputs.kwargs["encoder_hidden_states_mask"].sum(1).tolist() == [5 + 5, 12 + 5]
    for argument, value in inputs.kwargs.items():
        if torch.is_tensor(value):
            torch.testing.assert_close(value, seen[argument], atol=0, rtol=0)
        else:
            assert value == seen[argument], argument


def test_prompts_of_one_length_are_not_masked(model: QwenImageModel) -> None:
    assert inputs_of(model, [SHORT, SHORT]).kwargs["encoder_hidden_states_mask"] is None


def test_the_noise_of_a_seed_is_the_pipelines_own(model: QwenImageModel) -> None:
    ours = inputs_of(model, [PROMPT], noise_level=1.0, first_seed=7).kwargs["hidden_states"]
    theirs = model.pipeline.prepare_latents(
        1, 4, 32, 40, torch.float32, torch.device("cpu"), torch.Generator().manual_seed(7)
    )
    torch.testing.assert_close(ours, theirs)


def test_decoding_inverts_the_scaling_of_encoding(model: QwenImageModel) -> None:
    [picture] = pictures()
    packed = inputs_of(model, [SHORT], noise_level=0.0).kwargs["hidden_states"]
    taken = decoded_latents(model, packed, true_cfg_scale=1.0)
    torch.testing.assert_close(taken, encoded_mean(model, picture, frames=True), atol=1e-5, rtol=1e-5)


# --- the text segment ---


def test_the_text_segment_starts_with_the_prompt_and_ends_with_the_template(model: QwenImageModel) -> None:
    tokens = model.tokens(make_prompt("a red", ["."]))
    assert [token.text for token in tokens] == ["a", "re", "d", "Ġ", ".", *BEHIND]
    kinds = ["stop", *["content"] * 2, *["magnet"] * 2, "special", "template", "special", "template", "template"]
    assert [token.kind for token in tokens] == kinds
    assert [token.index for token in tokens] == list(range(10))


def test_the_empty_prompt_is_the_template_alone(model: QwenImageModel) -> None:
    empty = model.encode_empty(1)
    assert [token.text for token in empty.tokens[0]] == BEHIND
    assert [len(states) for states in empty.inputs["encoder_hidden_states"]] == [5]


def test_padding_of_a_batch_stands_between_text_and_image_and_is_not_attended_to(model: QwenImageModel) -> None:
    recordings = record_batch(model, pictures(2), [PROMPT, SHORT], keep=["full", "image_to_text"])
    long, short = (recording.layout for recording in recordings)
    assert (long.text, short.text, long.image, short.image) == (
        slice(0, 17),
        slice(0, 10),
        slice(17, 37),
        slice(17, 37),
    )
    whole = recordings[1]["full"]
    assert whole.side.values.tolist() == ["text"] * 10 + ["other"] * 7 + ["image"] * 20
    attended = whole.isel(query=whole.side.values != "other")
    assert float(attended.isel(key=whole.key_side.values == "other").max()) == 0.0


def test_an_item_of_a_batch_attends_as_it_does_alone(model: QwenImageModel) -> None:
    """Neither the padding nor the other prompt changes anything between its text and its image."""
    maps = ["image_to_text", "text_to_image", "text_to_text"]
    axes = {"entropy": "query", "received_from_text": "key", "received_from_image": "key"}
    together = record_batch(model, pictures(2), [PROMPT, SHORT], seeds=[0, 3], keep=[*maps, *axes])[1]
    alone = record(model, pictures(2)[1], "a ring", seed=3, keep=[*maps, *axes])
    for name in maps:
        np.testing.assert_allclose(together[name], alone[name], atol=1e-5)
    for name, axis in axes.items():
        own = together[name].isel({axis: together[name].side.values != "other"})
        np.testing.assert_allclose(own, alone[name], atol=1e-5, rtol=1e-4)


def test_a_prompt_too_long_for_the_text_segment_is_refused(model: QwenImageModel) -> None:
    fits = "the red ring on the left, or a of of ring ring"
    assert len(model.tokens(make_prompt(f"{fits} ring"))) == 40
    with pytest.raises(PromptTooLongError, match="of the qwen2.5-vl encoder: 'rings' would be cut"):
        model.encode_prompts([SHORT, make_prompt(f"{fits} rings")])
    with pytest.raises(PromptTooLongError, match="'rings' would be cut"):
        model.generate(f"{fits} rings")


# --- generation, defaults, missing parts ---


def drawn(model: QwenImageModel, prompt: str, **given: Any) -> np.ndarray:
    return np.asarray(model.generate(prompt, **given))


def test_generating_is_the_pipelines_own_call_with_the_models_defaults(model: QwenImageModel) -> None:
    theirs = model.pipeline(
        "a red ring", negative_prompt="", true_cfg_scale=2.5, height=32, width=40, num_inference_steps=2,
        max_sequence_length=40, generator=torch.Generator().manual_seed(5),
    ).images[0]  # fmt: skip
    ours = drawn(model, "a red ring", seed=5)
    np.testing.assert_array_equal(ours, np.asarray(theirs))
    assert np.any(ours != drawn(model, "a red ring", seed=6))
    assert np.any(ours != drawn(model, "a red ring", seed=5, guidance=1.0))
    assert model.generate("", steps=1).size == (40, 32)


def test_a_bare_pipeline_has_the_defaults_of_its_own_call() -> None:
    model = load_model(build())
    assert (model.text_length, model.defaults.steps, model.defaults.guidance) == (512, 50, 4.0)
    assert model.default_size == (512, 512)  # 128 latents of 4 pixels; 1024 with Qwen-Image's autoencoder


def test_a_pipeline_without_a_part_is_refused() -> None:
    pipeline = build()
    pipeline.text_encoder = None
    with pytest.raises(MissingPartError, match="has no text_encoder"):
        QwenImageModel(pipeline, ModelDefaults((32, 40), 40, 2, 1.0), name="random")
