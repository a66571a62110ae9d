"""FLUX: what we give the transformer is what diffusers' own pipeline gives it, and tokens stand where we say."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from PIL import Image
from torch.overrides import TorchFunctionMode

from refam_analysis.models import (
    BatchError,
    DiffusionModel,
    ForwardInputs,
    ModelDefaults,
    ModelSizeError,
    NoiseLevelError,
    load_model,
)
from refam_analysis.models.family import MissingPartError
from refam_analysis.models.flux import FluxModel, image_ids, pack_latents
from refam_analysis.prompts import PromptTooLongError, make_prompt

VARIANTS = [("tiny", False), ("tiny", True), ("kl", False), ("kl", True)]
PROMPT = make_prompt("the red ring on the left", [".", "a"])


def model_of(pipeline: FluxPipeline) -> FluxModel:
    """At 32 x 40 pixels: 4 x 5 tokens."""
    defaults = ModelDefaults(image_size=(32, 40), text_length=24, steps=2, guidance=2.5)
    return FluxModel(pipeline, defaults, name="random")


@pytest.fixture(scope="session", params=VARIANTS, ids=lambda v: f"{v[0]}-{'guided' if v[1] else 'plain'}")
def model(request: pytest.FixtureRequest, tiny_flux_pipeline: Callable[..., FluxPipeline]) -> FluxModel:
    autoencoder, guidance = request.param
    return model_of(tiny_flux_pipeline(autoencoder=autoencoder, guidance=guidance))


@pytest.fixture(scope="session")
def plain(tiny_flux_pipeline: Callable[..., FluxPipeline]) -> FluxModel:
    return model_of(tiny_flux_pipeline())


def images(number: int = 1, size: tuple[int, int] = (32, 40)) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (number, *size, 3), np.uint8)
    return [Image.fromarray(array) for array in pixels]


def inputs_of(
    model: DiffusionModel, number: int = 1, noise_level: float = 0.6, seeds: Sequence[int] | None = None
) -> ForwardInputs:
    latents = model.encode_images(images(number))
    conditioning = model.encode_prompts([PROMPT] * number)
    return model.forward_inputs(
        latents, conditioning, noise_level=noise_level, seeds=list(range(number)) if seeds is None else seeds
    )


@torch.no_grad()
def velocity(model: DiffusionModel, inputs: ForwardInputs) -> torch.Tensor:
    return model.transformer(**inputs.kwargs)[0]


# --- against the pipeline's own call ---


@pytest.mark.parametrize("noise_level", [1.0, 0.6, 0.05])
def test_one_euler_step_equals_the_pipelines_own(model: FluxModel, noise_level: float) -> None:
    inputs = inputs_of(model, noise_level=noise_level)
    noised = inputs.kwargs["hidden_states"]
    ours = noised - noise_level * velocity(model, inputs)
    theirs = model.pipeline(
        PROMPT.text, height=32, width=40, sigmas=[noise_level], num_inference_steps=1, latents=noised,
        max_sequence_length=24, guidance_scale=2.5, output_type="latent",
    ).images  # fmt: skip
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)


def test_the_noise_of_a_seed_is_the_pipelines_own(model: FluxModel) -> None:
    pure = inputs_of(model, noise_level=1.0, seeds=[7]).kwargs["hidden_states"]
    theirs, _ = model.pipeline.prepare_latents(
        1, 4, 32, 40, torch.float32, torch.device("cpu"), torch.Generator().manual_seed(7)
    )
    torch.testing.assert_close(pure, theirs)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_low_precision_gives_the_transformer_what_the_pipeline_gives_it(
    dtype: torch.dtype, tiny_flux_pipeline: Callable[..., FluxPipeline]
) -> None:
    model = model_of(tiny_flux_pipeline(guidance=True).to(dtype=dtype))
    inputs = inputs_of(model, noise_level=0.257)  # rounded twice by the pipeline: not the nearest bfloat16
    seen: dict[str, Any] = {}
    handle = model.transformer.register_forward_pre_hook(lambda _, __, kw: seen.update(kw), with_kwargs=True)
    model.pipeline(
        PROMPT.text, height=32, width=40, sigmas=[0.257], num_inference_steps=1,
        latents=inputs.kwargs["hidden_states"], max_sequence_length=24, guidance_scale=2.5, output_type="latent",
    )  # fmt: skip
    handle.remove()
    for name, value in inputs.kwargs.items():
        torch.testing.assert_close(value, seen[name], atol=0, rtol=0)


def test_decoding_inverts_the_scaling_of_encoding(model: FluxModel) -> None:
    """What the pipeline decodes from our latents is what the autoencoder alone makes of the picture."""
    source = images()
    packed = pack_latents(model.encode_images(source))
    taken = torch.zeros(1)

    def spy(_: torch.nn.Module, arguments: tuple[torch.Tensor, ...]) -> None:
        nonlocal taken
        taken = arguments[0]

    vae = model.pipeline.vae
    handle = vae.decoder.register_forward_pre_hook(spy)
    # One step of size zero: the pipeline decodes the latents that it was given.
    model.pipeline("a", height=32, width=40, sigmas=[0.0], num_inference_steps=1, latents=packed)
    handle.remove()
    pixels = torch.from_numpy(np.array(source[0])).permute(2, 0, 1)[None] / 127.5 - 1
    with torch.no_grad():
        encoded = vae.encode(pixels)
    raw = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mean
    torch.testing.assert_close(taken, raw, atol=1e-5, rtol=1e-5)


def test_packing_equals_the_pipelines_and_unpacks(plain: FluxModel) -> None:
    latents = torch.randn(2, 4, 6, 10)
    packed = pack_latents(latents)
    torch.testing.assert_close(packed, FluxPipeline._pack_latents(latents, 2, 4, 6, 10))
    torch.testing.assert_close(FluxPipeline._unpack_latents(packed, 24, 40, 4), latents)


def test_image_positions_equal_the_pipelines(plain: FluxModel) -> None:
    expected = FluxPipeline._prepare_latent_image_ids(1, 3, 5, torch.device("cpu"), torch.float32)
    torch.testing.assert_close(image_ids(3, 5), expected)


def test_prompts_are_encoded_as_the_pipeline_encodes_them(model: FluxModel) -> None:
    prompts = [PROMPT, make_prompt("a zebra")]
    ours = model.encode_prompts(prompts)
    states, pooled, _ = model.pipeline.encode_prompt([p.text for p in prompts], None, max_sequence_length=24)
    torch.testing.assert_close(ours.inputs["encoder_hidden_states"], states)
    torch.testing.assert_close(ours.inputs["pooled_projections"], pooled)
    assert [tokens[0].text for tokens in ours.tokens] == ["the", "a"]
    assert {len(tokens) for tokens in ours.tokens} == {24}


# --- where tokens stand ---


def input_of_block_0(model: FluxModel, kwargs: dict[str, Any]) -> torch.Tensor:
    """Text and image states that enter the first block, joined in the order in which its attention joins them."""
    seen: list[torch.Tensor] = []

    def keep(_: torch.nn.Module, __: tuple[()], given: dict[str, torch.Tensor]) -> None:
        seen.append(torch.cat((given["encoder_hidden_states"], given["hidden_states"]), dim=1))

    handle = model.transformer.transformer_blocks[0].register_forward_pre_hook(keep, with_kwargs=True)
    with torch.no_grad():
        model.transformer(**kwargs)
    handle.remove()
    return seen[0]


def changed(before: torch.Tensor, after: torch.Tensor) -> list[int]:
    return torch.nonzero((before - after).abs().amax(dim=(0, 2))).flatten().tolist()


@pytest.mark.parametrize("position", [0, 3, -1])
def test_a_marked_text_token_is_found_where_the_layout_says(plain: FluxModel, position: int) -> None:
    inputs = inputs_of(plain)
    before = input_of_block_0(plain, dict(inputs.kwargs))
    marked = inputs.kwargs["encoder_hidden_states"].clone()
    marked[:, position] += 1
    after = input_of_block_0(plain, {**inputs.kwargs, "encoder_hidden_states": marked})
    assert changed(before, after) == [range(before.shape[1])[inputs.layout.text][position]]


@pytest.mark.parametrize(("y", "x"), [(0, 0), (1, 4), (3, 2)])
def test_a_marked_patch_is_found_where_the_layout_says(plain: FluxModel, y: int, x: int) -> None:
    conditioning = plain.encode_prompts([PROMPT])
    latents = plain.encode_images(images())
    marked = latents.clone()
    marked[..., 2 * y + 1, 2 * x] += 1
    both = [plain.forward_inputs(z, conditioning, noise_level=0.5, seeds=[0]) for z in (latents, marked)]
    layout = both[0].layout
    assert layout.grid == (4, 5)
    before, after = (input_of_block_0(plain, dict(inputs.kwargs)) for inputs in both)
    assert before.shape[1] == layout.length
    assert changed(before, after) == [layout.image.start + np.ravel_multi_index((y, x), layout.grid)]


def test_the_joint_sequence_is_text_then_image(plain: FluxModel) -> None:
    """Block 0's own queries, as its attention sees them: a marked text token moves no row but its own."""
    inputs = inputs_of(plain)
    marked = inputs.kwargs["encoder_hidden_states"].clone()
    marked[:, 3] += 1
    queries = [
        first_queries(plain, kwargs) for kwargs in (inputs.kwargs, {**inputs.kwargs, "encoder_hidden_states": marked})
    ]
    assert queries[0].shape[1] == inputs.layout.length == 24 + 20
    assert changed(*(query.flatten(2) for query in queries)) == [inputs.layout.text.start + 3]


def first_queries(model: FluxModel, kwargs: Mapping[str, Any]) -> torch.Tensor:
    """Queries of the first attention call, axes (batch, token, head, channel)."""
    seen: list[torch.Tensor] = []

    class Watch(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.nn.functional.scaled_dot_product_attention:
                seen.append((args[0] if args else kwargs["query"]).transpose(1, 2))
            return function(*args, **(kwargs or {}))

    with torch.no_grad(), Watch():
        model.transformer(**kwargs)
    return seen[0]


# --- images, noise, batches ---


def test_noise_does_not_depend_on_the_batch(plain: FluxModel) -> None:
    both = inputs_of(plain, number=2, seeds=[3, 9]).kwargs["hidden_states"]
    swapped = inputs_of(plain, number=2, seeds=[9, 3]).kwargs["hidden_states"]
    alone = inputs_of(plain, number=1, seeds=[3]).kwargs["hidden_states"]
    torch.testing.assert_close(both[:1], alone, atol=1e-6, rtol=0)
    assert not torch.allclose(both[0], swapped[0])


def test_a_batch_computes_what_its_items_compute_alone(model: FluxModel) -> None:
    prompts = [PROMPT, make_prompt("a zebra")]
    latents = model.encode_images(images(2))
    together = velocity(
        model, model.forward_inputs(latents, model.encode_prompts(prompts), noise_level=0.4, seeds=[1, 2])
    )
    for item in range(2):
        conditioning = model.encode_prompts([prompts[item]])
        alone = model.forward_inputs(latents[item : item + 1], conditioning, noise_level=0.4, seeds=[1 + item])
        torch.testing.assert_close(velocity(model, alone)[0], together[item], atol=1e-5, rtol=1e-5)


def test_noise_level_zero_is_the_image_itself(plain: FluxModel) -> None:
    inputs = inputs_of(plain, noise_level=0.0)
    torch.testing.assert_close(inputs.kwargs["hidden_states"], pack_latents(plain.encode_images(images())))


def test_images_of_any_size_come_to_the_models_size(plain: FluxModel) -> None:
    latents = plain.encode_images([*images(1, (50, 60)), *images(1, (32, 40)), np.zeros((99, 17), np.uint8)])
    assert latents.shape == (3, 4, 8, 10)


def test_an_image_of_the_right_size_is_not_resampled(plain: FluxModel) -> None:
    pixels = plain._pixels(images(), None)
    torch.testing.assert_close(pixels[0], torch.from_numpy(np.array(images()[0])).permute(2, 0, 1) / 127.5 - 1)


def test_an_image_may_keep_its_own_size(plain: FluxModel) -> None:
    [image] = images(1, (50, 67))
    assert plain.own_size(image) == (48, 64)
    latents = plain.encode_images([image], size=plain.own_size(image))
    inputs = plain.forward_inputs(latents, plain.encode_prompts([PROMPT]), noise_level=0.5, seeds=[0])
    assert inputs.layout.grid == (6, 8)
    assert velocity(plain, inputs).shape == (1, 48, 16)


@pytest.mark.parametrize("size", [(30, 40), (32, 0), (32, 41)], ids=str)
def test_a_size_that_does_not_cut_into_tokens_is_refused(plain: FluxModel, size: tuple[int, int]) -> None:
    with pytest.raises(ModelSizeError, match=r"no multiple of 8 pixels a side\. Take \(32,"):
        plain.encode_images(images(), size=size)


@pytest.mark.parametrize("noise_level", [-0.1, 1.5, float("nan")])
def test_a_noise_level_outside_zero_to_one_is_refused(plain: FluxModel, noise_level: float) -> None:
    with pytest.raises(NoiseLevelError, match=f"noise level is {noise_level}"):
        inputs_of(plain, noise_level=noise_level)


def test_unequal_numbers_are_refused(plain: FluxModel) -> None:
    with pytest.raises(BatchError, match="2 images, 1 seeds"):
        inputs_of(plain, number=2, seeds=[0])
    with pytest.raises(BatchError, match="2 images, 1 prompts"):
        plain.forward_inputs(
            plain.encode_images(images(2)), plain.encode_prompts([PROMPT]), noise_level=0.5, seeds=[0, 1]
        )


# --- prompts that do not fit, generation, missing parts ---


def test_a_prompt_too_long_for_t5_is_refused(plain: FluxModel) -> None:
    with pytest.raises(PromptTooLongError, match="more than 24 tokens of the t5 encoder: 'zebra' would be cut"):
        plain.encode_prompts([PROMPT, make_prompt("the red ring " * 6 + "zebra")])


def test_a_prompt_too_long_for_clip_is_refused(tiny_flux_pipeline: Callable[..., FluxPipeline]) -> None:
    """T5 has place for twenty words; the tiny CLIP tokenizer needs a token a letter."""
    with pytest.raises(PromptTooLongError, match="more than 77 tokens of the clip encoder"):
        model_of(tiny_flux_pipeline()).tokens(make_prompt("triangle " * 3 + "green circle square " * 5))


def test_generating_is_the_pipelines_own_call_with_the_models_defaults(model: FluxModel) -> None:
    embedded = model.pipeline.transformer.config.guidance_embeds
    guidance = {"guidance_scale": 2.5} if embedded else {"true_cfg_scale": 2.5, "negative_prompt": ""}
    theirs = model.pipeline(
        "a red ring", height=32, width=40, num_inference_steps=2, max_sequence_length=24,
        generator=torch.Generator().manual_seed(5), **guidance,
    ).images[0]  # fmt: skip
    ours = model.generate("a red ring", seed=5)
    np.testing.assert_array_equal(np.asarray(ours), np.asarray(theirs))
    assert np.any(np.asarray(ours) != np.asarray(model.generate("a red ring", seed=6)))
    assert np.any(np.asarray(ours) != np.asarray(model.generate("a red ring", seed=5, guidance=1.0)))


def test_nothing_is_cut_in_generation_either(plain: FluxModel) -> None:
    with pytest.raises(PromptTooLongError, match="'zebra' would be cut"):
        plain.generate("the red ring " * 6 + "zebra")


def test_an_empty_prompt_draws_without_condition(plain: FluxModel) -> None:
    assert plain.generate("", steps=1).size == (40, 32)


def test_a_pipeline_without_a_part_is_refused(tiny_flux_pipeline: Callable[..., FluxPipeline]) -> None:
    pipeline = tiny_flux_pipeline()
    pipeline.text_encoder_2 = None
    with pytest.raises(MissingPartError, match="has no text_encoder_2"):
        model_of(pipeline)


@pytest.mark.parametrize(
    ("guidance", "text_length", "steps"), [(True, 512, 28), (False, 256, 4)], ids=["dev", "schnell"]
)
def test_a_bare_pipeline_has_the_published_defaults(
    guidance: bool, text_length: int, steps: int, tiny_flux_pipeline: Callable[..., FluxPipeline]
) -> None:
    loaded = load_model(tiny_flux_pipeline(guidance=guidance))
    assert (loaded.text_length, loaded.defaults.steps) == (text_length, steps)
    assert loaded.default_size == (512, 512)  # 128 latents of 4 pixels; 1024 with FLUX.1's autoencoder
    assert len(loaded.tokens(PROMPT)) == text_length


def test_images_may_be_paths(plain: FluxModel, tmp_path: Path) -> None:
    images()[0].save(tmp_path / "a.png")
    torch.testing.assert_close(plain.encode_images([tmp_path / "a.png"]), plain.encode_images(images()))
