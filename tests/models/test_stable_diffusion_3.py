"""Stable Diffusion 3 and 3.5 in every variant: what diffusers' own pipeline computes, with T5 and without."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families.denoising import our_step, pipeline_latents
from families.stable_diffusion_3 import CLIP_LENGTH, T5_LENGTH, build
from PIL import Image

from refam_analysis.models import ModelDefaults, find_blocks, load_model
from refam_analysis.models.family import MissingPartError
from refam_analysis.models.stable_diffusion_3 import ZEROS, StableDiffusion3Model, TextLengthError
from refam_analysis.prompts import PromptTooLongError, make_prompt
from refam_analysis.recording import record

PROMPT = make_prompt("the red ring on left", [".", "a"])
SIZE = {"height": 32, "width": 40}
VARIANTS = {
    "3-medium": partial(build, dual=(), qk_norm=None),
    "3.5-large": partial(build, dual=(), qk_norm="rms_norm"),
    "3.5-medium": partial(build, dual=(0, 2), qk_norm="rms_norm"),
    "without-t5": partial(build, t5=False),
    "tiny-autoencoder": partial(build, autoencoder="tiny"),
}


def model_of(pipeline: Any, text_length: int = CLIP_LENGTH + T5_LENGTH) -> StableDiffusion3Model:
    defaults = ModelDefaults(image_size=(32, 40), text_length=text_length, steps=2, guidance=3.5)
    return StableDiffusion3Model(pipeline, defaults, name="random")


@pytest.fixture(scope="module", params=VARIANTS.values(), ids=VARIANTS.keys())
def model(request: pytest.FixtureRequest) -> StableDiffusion3Model:
    return model_of(request.param())


@pytest.fixture(scope="module")
def without_t5() -> StableDiffusion3Model:
    return model_of(build(t5=False))


@pytest.fixture(scope="module")
def plain() -> StableDiffusion3Model:
    return model_of(build())


def picture(seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (32, 40, 3), np.uint8))


# --- against the pipeline's own call ---


@pytest.mark.parametrize("guidance", [None, 3.0], ids=["plain", "guided"])
def test_one_step_equals_the_pipelines_own(model: StableDiffusion3Model, guidance: float | None) -> None:
    """The second of three, from one noise level within (0, 1) to another."""
    latents = pipeline_latents(
        model, PROMPT, seed=0, num_inference_steps=3, max_sequence_length=T5_LENGTH, guidance_scale=guidance or 1.0,
        **SIZE,
    )  # fmt: skip
    level, to = (float(sigma) for sigma in model.pipeline.scheduler.sigmas[1:3])
    assert 0 < to < level < 1
    found = our_step(model, latents[0], PROMPT, level=level, to=to, guidance=guidance)
    torch.testing.assert_close(found, latents[1], atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("t5", [True, False], ids=["with-t5", "without-t5"])
def test_the_transformer_is_given_what_the_pipeline_gives_it(dtype: torch.dtype, t5: bool) -> None:
    model = model_of(build(t5=t5).to(dtype=dtype))
    calls: list[dict[str, Any]] = []
    handle = model.transformer.register_forward_pre_hook(lambda _, __, given: calls.append(given), with_kwargs=True)
    [after, _] = pipeline_latents(
        model, PROMPT, seed=0, num_inference_steps=2, max_sequence_length=T5_LENGTH, guidance_scale=1.0, **SIZE
    )
    handle.remove()
    level = float(model.pipeline.scheduler.sigmas[1])
    found = model.inputs_of(after, model.encode_prompts([PROMPT]), noise_level=level).kwargs
    for name, value in calls[1].items():
        if value is not None:
            torch.testing.assert_close(found[name], value, atol=0, rtol=0)


def test_the_noise_of_a_seed_is_the_pipelines_own(plain: StableDiffusion3Model) -> None:
    latents = plain.encode_images([picture()])
    theirs = plain.pipeline.prepare_latents(
        1, 4, 32, 40, torch.float32, torch.device("cpu"), torch.Generator().manual_seed(7)
    )
    torch.testing.assert_close(plain.noised(latents, noise_level=1.0, seeds=[7]), theirs)


@torch.no_grad()
def test_decoding_inverts_the_scaling_of_encoding(
    model: StableDiffusion3Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the pipeline decodes from our latents is what the autoencoder alone makes of the picture."""
    vae, taken = model.pipeline.vae, []
    latents = model.encode_images([picture()])
    decode = vae.decode

    def spy(given: torch.Tensor, **options: Any) -> Any:
        taken.append(given)
        return decode(given, **options)

    monkeypatch.setattr(vae, "decode", spy)
    model.pipeline(
        PROMPT.text, num_inference_steps=1, max_sequence_length=T5_LENGTH, guidance_scale=1.0,
        callback_on_step_end=lambda *_: {"latents": latents}, **SIZE,
    )  # fmt: skip
    pixels = torch.from_numpy(np.array(picture())).permute(2, 0, 1)[None] / 127.5 - 1
    encoded = vae.encode(pixels)
    raw = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mean
    torch.testing.assert_close(taken[0], raw, atol=1e-3, rtol=1e-3)


# --- the blocks ---


def test_a_block_with_dual_attention_makes_a_second_call() -> None:
    transformer = build(dual=(0, 2)).transformer
    found = [
        StableDiffusion3Model.family.calls_of(transformer.config, block.index) for block in find_blocks(transformer)
    ]
    assert found == [("joint", "other"), ("joint",), ("joint", "other"), ("joint",)]


def test_every_variant_is_recorded(model: StableDiffusion3Model) -> None:
    recording = record(model, picture(), "the red ring", keep=["full"])
    rows = recording["full"].sum("key").values
    assert rows.shape == (1, 1, 4, 2, 20 + CLIP_LENGTH + T5_LENGTH)
    np.testing.assert_allclose(rows, 1.0, atol=1e-5)


# --- the text of two encoders, and without T5 ---


def test_a_word_has_tokens_of_clip_and_of_t5(plain: StableDiffusion3Model) -> None:
    tokens = plain.tokens(PROMPT)
    assert [token.encoder for token in tokens] == ["clip"] * CLIP_LENGTH + ["t5"] * T5_LENGTH
    ring = [token for token in tokens if token.word == "ring"]
    assert [token.text for token in ring] == ["r", "i", "n", "g", "ring"]
    assert [token.index - CLIP_LENGTH for token in ring if token.encoder == "t5"] == [2]


def test_without_t5_its_part_of_the_text_is_zeros_and_padding(without_t5: StableDiffusion3Model) -> None:
    encoded = without_t5.encode_prompts([PROMPT, make_prompt("a ring")])
    states = encoded.inputs["encoder_hidden_states"]
    assert states.shape == (2, CLIP_LENGTH + T5_LENGTH, 40)
    assert not states[:, CLIP_LENGTH:].any() and states[:, :CLIP_LENGTH].any(-1).all()
    behind = encoded.tokens[0][CLIP_LENGTH:]
    assert {(token.text, token.kind, token.word) for token in behind} == {(ZEROS, "padding", "")}
    assert [token.index for token in encoded.tokens[0]] == list(range(CLIP_LENGTH + T5_LENGTH))


def test_a_folder_without_t5_is_loaded(without_t5: StableDiffusion3Model, tmp_path: Path) -> None:
    without_t5.pipeline.save_pretrained(tmp_path)
    loaded = load_model(tmp_path)
    assert loaded.pipeline.text_encoder_3 is None and loaded.text_length == CLIP_LENGTH + 256
    ours = loaded.encode_prompts([PROMPT]).inputs["encoder_hidden_states"][:, : CLIP_LENGTH + T5_LENGTH]
    torch.testing.assert_close(ours, without_t5.encode_prompts([PROMPT]).inputs["encoder_hidden_states"])


# --- prompts that do not fit, generation, defaults, what is refused ---


def test_a_prompt_too_long_for_clip_is_refused(plain: StableDiffusion3Model) -> None:
    long = "the red ring on left zebra circle square"
    with pytest.raises(PromptTooLongError, match="more than 30 tokens of the clip encoder: 'square' would be cut"):
        plain.encode_prompts([PROMPT, make_prompt(long)])
    with pytest.raises(PromptTooLongError, match="'square' would be cut"):
        plain.generate(long)


def test_a_prompt_too_long_for_the_other_clip_is_refused() -> None:
    """The first joins two letters that the second leaves apart."""
    pipeline = build()
    pipeline.tokenizer = pipeline.tokenizer_2.__class__(
        {**pipeline.tokenizer_2.get_vocab(), "sq": 500}, merges=[("s", "q")], model_max_length=CLIP_LENGTH
    )
    with pytest.raises(PromptTooLongError, match="more than 30 tokens of the clip_2 encoder: 'square' would be cut"):
        model_of(pipeline).tokens(make_prompt("the red ring on left zebra a a square"))


def test_a_prompt_too_long_for_t5_is_refused() -> None:
    with pytest.raises(PromptTooLongError, match="more than 4 tokens of the t5 encoder: 'left' would be cut"):
        model_of(build(), CLIP_LENGTH + 4).encode_prompts([make_prompt("the red ring left")])


def test_generating_is_the_pipelines_own_call_with_the_models_defaults(model: StableDiffusion3Model) -> None:
    theirs = model.pipeline(
        "a red ring", num_inference_steps=2, guidance_scale=3.5, max_sequence_length=T5_LENGTH,
        generator=torch.Generator().manual_seed(5), **SIZE,
    ).images[0]  # fmt: skip
    ours = model.generate("a red ring", seed=5)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    for other in (model.generate("a red ring", seed=6), model.generate("a red ring", seed=5, guidance=1.0)):
        assert np.any(np.asarray(ours) != np.asarray(other))


def test_an_empty_prompt_draws_without_condition(plain: StableDiffusion3Model) -> None:
    assert plain.generate("", steps=1).size == (40, 32)


@pytest.mark.parametrize(
    ("variant", "steps", "guidance"), [("3-medium", 28, 7.0), ("3.5-large", 28, 3.5), ("3.5-medium", 40, 4.5)]
)
def test_a_bare_pipeline_has_the_published_defaults(variant: str, steps: int, guidance: float) -> None:
    loaded = load_model(VARIANTS[variant]())
    assert (loaded.defaults.steps, loaded.defaults.guidance) == (steps, guidance)
    assert loaded.default_size == (64, 64)  # 16 latents of 4 pixels; 128 of 8 with the published weights
    assert len(loaded.tokens(PROMPT)) == CLIP_LENGTH + 256


@pytest.mark.parametrize("part", ["text_encoder", "tokenizer_2", "tokenizer_3", "vae"])
def test_a_pipeline_without_a_part_is_refused(part: str) -> None:
    pipeline = build()
    setattr(pipeline, part, None)
    with pytest.raises(MissingPartError, match=f"has no {part}"):
        model_of(pipeline)


def test_a_text_segment_without_room_for_t5_is_refused() -> None:
    with pytest.raises(TextLengthError, match=r"30 tokens has no room behind CLIP's 30 .* at least 31"):
        model_of(build(), CLIP_LENGTH)
