"""HunyuanVideo: the pipeline's own call, the template that LLaMA reads and the pipeline drops, masked padding."""

import inspect
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import HunyuanVideoPipeline
from families.denoising import our_step, pipeline_latents
from families.hunyuan_video import FRAMES, build, tiny_llama_tokenizer, tiny_transformer
from PIL import Image

from refam_analysis.models import ClipLengthError, ModelDefaults, TokenLayout, load_model
from refam_analysis.models.family import MissingPartError
from refam_analysis.models.hunyuan_video import HunyuanVideoModel, ImageConditionError, TemplateLengthError
from refam_analysis.models.registry import UnsupportedModelError, family_class
from refam_analysis.prompts import PromptTooLongError, make_prompt
from refam_analysis.recording import Recorder, record

PROMPT = make_prompt("the red ring on the left", [".", "a"])
DEFAULTS = ModelDefaults(image_size=(48, 64), text_length=28, steps=2, guidance=6.0, frames=FRAMES)
CALL = {"height": 48, "width": 64, "num_frames": FRAMES, "max_sequence_length": 28}


def model_of(*, guidance: bool = True) -> HunyuanVideoModel:
    """At 2 x 3 x 4 tokens."""
    defaults = DEFAULTS if guidance else replace(DEFAULTS, guidance=1.0)
    return HunyuanVideoModel(build(guidance=guidance), defaults, name="random")


@pytest.fixture(scope="module", params=[True, False], ids=["embedded-guidance", "no-embedding"])
def model(request: pytest.FixtureRequest) -> HunyuanVideoModel:
    return model_of(guidance=request.param)


@pytest.fixture(scope="module")
def plain() -> HunyuanVideoModel:
    return model_of()


def clip(frames: int = FRAMES) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (frames, 48, 64, 3), np.uint8)
    return [Image.fromarray(frame) for frame in pixels]


def noise_of(seed: int) -> torch.Tensor:
    """What the pipeline's own call starts from."""
    return torch.randn(1, 4, 2, 6, 8, generator=torch.Generator().manual_seed(seed))


# --- against the pipeline's own call ---


@pytest.mark.parametrize("contrast", [None, 2.5], ids=["unguided", "guided"])
def test_every_step_equals_the_pipelines_own(model: HunyuanVideoModel, contrast: float | None) -> None:
    call: dict[str, Any] = {"guidance_scale": model.defaults.guidance, **CALL}
    if contrast is not None:
        call |= {"true_cfg_scale": contrast, "negative_prompt": ""}
    after = pipeline_latents(model, PROMPT, seed=1, num_inference_steps=3, **call)
    levels = model.pipeline.scheduler.sigmas.tolist()
    assert levels[0] == 1.0 and levels[-1] == 0.0 and len(after) == 3
    mixture = noise_of(1)
    for place, expected in enumerate(after):
        level, to = levels[place : place + 2]
        ours = our_step(model, mixture, PROMPT, level=level, to=to, guidance=contrast)
        torch.testing.assert_close(ours, expected, atol=1e-4, rtol=1e-4)
        mixture = expected


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_transformer_is_given_exactly_what_the_pipeline_gives_it(dtype: torch.dtype) -> None:
    model, seen = model_of(), list[dict[str, Any]]()
    model.pipeline.to(dtype=dtype)
    handle = model.transformer.register_forward_pre_hook(lambda _, __, given: seen.append(given), with_kwargs=True)
    pipeline_latents(model, PROMPT, seed=1, num_inference_steps=3, guidance_scale=6.0, **CALL)
    handle.remove()
    level = float(seen[1]["timestep"][0]) / 1000
    conditioning = model.encode_prompts([PROMPT])
    ours = model.inputs_of(seen[1]["hidden_states"], conditioning, noise_level=level).kwargs
    given = {name: value for name, value in seen[1].items() if value is not None}
    assert given.keys() == ours.keys()
    assert given.pop("return_dict") is ours["return_dict"] is False
    for name, value in given.items():
        torch.testing.assert_close(ours[name], value, atol=0, rtol=1e-6 if name == "timestep" else 0, msg=name)


@pytest.mark.parametrize("frames", [1, 5, 21])
def test_decoding_inverts_the_scaling_of_encoding(frames: int) -> None:
    """A transformer that predicts no motion leaves our latents as they are, and the pipeline decodes these."""
    model, taken = model_of(), list[torch.Tensor]()
    for weights in model.transformer.proj_out.parameters():
        torch.nn.init.zeros_(weights)
    latents = model.encode_images([clip(frames)])
    assert latents.shape == (1, 4, 1 + (frames - 1) // 4, 6, 8)
    vae = model.pipeline.vae
    vae.use_framewise_decoding = False
    handle = vae.post_quant_conv.register_forward_pre_hook(lambda _, given: taken.append(given[0]))
    model.pipeline(PROMPT.text, num_inference_steps=1, **{**CALL, "num_frames": frames, "latents": latents})
    handle.remove()
    pixels = torch.stack([torch.from_numpy(np.array(frame)) for frame in clip(frames)]).permute(3, 0, 1, 2)[None]
    with torch.no_grad():
        expected = vae.encode(pixels / 127.5 - 1).latent_dist.mean
    torch.testing.assert_close(taken[0], expected, atol=1e-5, rtol=1e-5)


def test_one_picture_is_a_clip_of_one_frame(plain: HunyuanVideoModel) -> None:
    torch.testing.assert_close(plain.encode_images(clip(1)), plain.encode_images([clip(1)]), atol=0, rtol=0)
    recording = record(plain, clip(1)[0], "a red ring", keep=["image_to_text"])
    assert recording["image_to_text"].sizes["frame"] == 1


@pytest.mark.parametrize("frames", [2, 4, 7])
def test_a_clip_that_the_autoencoder_cannot_take_is_refused(plain: HunyuanVideoModel, frames: int) -> None:
    with pytest.raises(ClipLengthError, match=f"clip of {frames} frames. Give"):
        plain.encode_images([clip(frames)])


# --- words, template, padding ---


def test_the_text_segment_begins_with_the_prompt(plain: HunyuanVideoModel) -> None:
    tokens = plain.tokens(make_prompt("the red ring", ["a"]))
    assert [token.text for token in tokens] == ["the", "red", "ring", "a", "<|eot_id|>", *["<pad>"] * 23]
    assert [token.kind for token in tokens] == [
        "stop", "content", "content", "magnet", "template", *["padding"] * 23
    ]  # fmt: skip
    assert [token.index for token in tokens] == list(range(28))
    assert {token.encoder for token in tokens} == {"llama"}


def test_states_of_the_segment_are_those_of_its_tokens(plain: HunyuanVideoModel) -> None:
    """LLaMA looks back only, so that another last word changes its own state and those behind it, and no other."""
    one, other = (
        plain.encode_prompts([make_prompt(text)]).inputs["encoder_hidden_states"]
        for text in ("the red ring", "the red square")
    )
    assert isinstance(one, torch.Tensor) and isinstance(other, torch.Tensor)
    moved = (one - other)[0].abs().amax(-1)
    assert one.shape == (1, 28, 24) and moved[:2].max() < 1e-6 and moved[2:4].min() > 1e-3


def test_an_empty_prompt_is_the_end_of_the_template(plain: HunyuanVideoModel) -> None:
    (tokens,) = plain.encode_empty(1).tokens
    assert [token.kind for token in tokens] == ["template", *["padding"] * 27]


def test_padding_draws_no_attention_and_attends_all_the_same(plain: HunyuanVideoModel) -> None:
    recording = record(plain, clip(), "the red ring", keep=["full", "image_to_text"])
    padding = [token.index for token in recording.tokens if token.kind == "padding"]
    used = [token.index for token in recording.tokens if token.kind != "padding"]
    assert len(padding) == 24 and len(used) == 4
    maps = recording["image_to_text"]
    assert float(maps.isel(token=padding).max()) == 0.0 and float(maps.isel(token=used).min()) > 0.0
    np.testing.assert_allclose(recording["full"].sum("key"), 1.0, atol=1e-5)


def test_a_tokenizer_that_shortens_the_template_is_refused() -> None:
    """Without the token that begins every text the pipeline would drop the first word."""
    model = model_of()
    model.pipeline.tokenizer = tiny_llama_tokenizer(begins=False)
    with pytest.raises(TemplateLengthError, match="fewer than 95 tokens, so the pipeline would drop 'the' with it"):
        model.encode_prompts([PROMPT])


def test_a_prompt_too_long_for_llama_is_refused(plain: HunyuanVideoModel) -> None:
    fits = "a a a " * 9
    assert plain.tokens(make_prompt(fits))[-1].kind == "template"
    long = f"{fits} zebra"
    for attempt in (lambda: plain.encode_prompts([make_prompt(long)]), lambda: plain.generate(long)):
        with pytest.raises(PromptTooLongError, match="tokens of the llama encoder: 'zebra' would be cut"):
            attempt()


def test_a_prompt_too_long_for_clip_is_refused(plain: HunyuanVideoModel) -> None:
    """LLaMA has place for sixteen words; the tiny CLIP tokenizer needs a token a letter."""
    with pytest.raises(PromptTooLongError, match="more than 77 tokens of the clip encoder"):
        plain.tokens(make_prompt("circle square " * 8))


# --- generation, defaults ---


def test_generating_is_the_pipelines_own_call_with_the_models_defaults(model: HunyuanVideoModel) -> None:
    embedded = model.transformer.config.guidance_embeds
    strength, other = (6.0, 2.0) if embedded else (1.0, 3.0)
    guidance = {"guidance_scale": strength} if embedded else {"true_cfg_scale": strength, "negative_prompt": ""}
    theirs = model.pipeline(
        prompt="a red ring", num_inference_steps=2, generator=torch.Generator().manual_seed(5), **guidance, **CALL
    ).frames[0]
    ours = model.generate("a red ring", seed=5)
    assert len(ours) == FRAMES and ours[0].size == (64, 48)
    np.testing.assert_array_equal(np.stack(ours), np.stack(theirs))
    assert np.any(np.stack(ours) != np.stack(model.generate("a red ring", seed=6)))
    assert np.any(np.stack(ours) != np.stack(model.generate("a red ring", seed=5, guidance=other)))


def test_an_empty_prompt_draws_without_condition(plain: HunyuanVideoModel) -> None:
    assert len(plain.generate("", steps=1)) == FRAMES


@pytest.mark.parametrize(("embedded", "guidance"), [(True, 6.0), (False, 1.0)], ids=["embedded", "plain"])
def test_a_live_pipeline_has_the_published_defaults(embedded: bool, guidance: float) -> None:
    model = load_model(build(guidance=embedded))
    assert isinstance(model, HunyuanVideoModel)
    expected = ModelDefaults(image_size=(720, 1280), text_length=256, steps=50, guidance=guidance, frames=129)
    assert model.defaults == expected
    own = {name: given.default for name, given in inspect.signature(HunyuanVideoPipeline.__call__).parameters.items()}
    assert (own["height"], own["width"], own["num_frames"]) == (*expected.image_size, expected.frames)
    assert (own["num_inference_steps"], own["max_sequence_length"]) == (expected.steps, expected.text_length)
    assert (own["guidance_scale"], own["true_cfg_scale"]) == (6.0, 1.0)


def test_a_pipeline_without_a_part_is_refused() -> None:
    pipeline = build()
    pipeline.text_encoder_2 = None
    with pytest.raises(MissingPartError, match="has no text_encoder_2"):
        load_model(pipeline)


# --- image to video ---


@pytest.mark.parametrize("kind", ["latent_concat", "token_replace"])
def test_a_transformer_that_starts_from_a_picture_is_refused(kind: str) -> None:
    pipeline = build()
    pipeline.register_modules(transformer=tiny_transformer(image_condition=kind))
    with pytest.raises(ImageConditionError, match=f"starts from a picture .*{kind}.* use Recorder"):
        load_model(pipeline)


def test_the_pipeline_of_image_to_video_is_refused() -> None:
    """Its text holds the picture's tokens, which a prompt alone does not give."""
    with pytest.raises(UnsupportedModelError, match="HunyuanVideoImageToVideoPipeline is not supported.*Recorder"):
        family_class("HunyuanVideoImageToVideoPipeline")


@torch.no_grad()
@pytest.mark.parametrize("kind", ["latent_concat", "token_replace"])
def test_a_transformer_that_starts_from_a_picture_is_recorded_by_itself(kind: str) -> None:
    torch.manual_seed(0)
    transformer = tiny_transformer(image_condition=kind).eval()
    mask = torch.ones(2, 11)
    mask[1, 7:] = 0
    inputs = {
        "hidden_states": torch.randn(2, transformer.config.in_channels, 2, 6, 8),
        "timestep": torch.tensor([600.0, 600.0]), "encoder_hidden_states": torch.randn(2, 11, 24),
        "encoder_attention_mask": mask, "pooled_projections": torch.randn(2, 16),
        "guidance": torch.tensor([6000.0, 6000.0]), "return_dict": False,
    }  # fmt: skip
    expected = transformer(**inputs)[0]
    layout = TokenLayout(text=slice(24, 35), image=slice(0, 24), grid=(2, 3, 4))
    with Recorder(transformer, layout, keep=["full"]) as recorder:
        assert torch.equal(transformer(**inputs)[0], expected)
    for recording, text in zip(recorder.recordings(), (11, 7), strict=True):
        full = recording["full"]
        assert full.sizes["block"] == 4
        np.testing.assert_allclose(full.isel(key=slice(0, 24 + text)).sum("key"), 1.0, atol=1e-5)
        assert float(full.isel(key=slice(24 + text, None)).sum()) == 0.0
