"""Z-Image: what its pipeline gives it, reversed time, and where learnt padding stands."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from families.chat import decoded_latents, encoded_mean, euler_step, inputs_of, pictures, pipeline_call
from families.z_image import build

from refam_analysis.models import ModelDefaults, find_blocks, load_model
from refam_analysis.models.family import MissingPartError
from refam_analysis.models.z_image import ZImageModel
from refam_analysis.prompts import PromptTooLongError, make_prompt
from refam_analysis.recording import record, record_batch

PROMPT, SHORT = make_prompt("the red ring on the left", [".", "a"]), make_prompt("a ring")


def make_model() -> ZImageModel:
    """At 32 x 40 pixels: 4 x 5 tokens."""
    defaults = ModelDefaults(image_size=(32, 40), text_length=60, steps=2, guidance=2.5)
    return ZImageModel(build(), defaults, name="random")


@pytest.fixture(scope="module")
def model() -> ZImageModel:
    return make_model()


# --- against the pipeline's own call ---


@pytest.mark.parametrize("noise_level", [1.0, 0.6, 0.05])
def test_one_euler_step_equals_the_pipelines_own(model: ZImageModel, noise_level: float) -> None:
    inputs = inputs_of(model, [PROMPT, SHORT], noise_level=noise_level)
    ours = euler_step(model, inputs)
    seen = pipeline_call(
        model, inputs.mixture, noise_level, prompt=[PROMPT.text, SHORT.text], guidance_scale=0.0
    )  # fmt: skip
    torch.testing.assert_close(ours, seen["latents"], atol=1e-5, rtol=1e-5)
    assert not torch.allclose(ours, inputs.mixture, atol=0.01)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_batch_of_unequal_prompts_is_given_as_the_pipeline_gives_it(dtype: torch.dtype) -> None:
    model = make_model()
    model.pipeline.to(dtype=dtype)
    inputs = inputs_of(model, [SHORT, PROMPT], noise_level=0.257)
    latents = inputs.mixture.float()
    seen = pipeline_call(model, latents, 0.257, prompt=[SHORT.text, PROMPT.text], guidance_scale=0.0)
    torch.testing.assert_close(inputs.kwargs["t"], seen["t"], atol=0, rtol=0)
    for name in ("x", "cap_feats"):
        assert len(inputs.kwargs[name]) == len(seen[name]) == 2
        for ours, theirs in zip(inputs.kwargs[name], seen[name], strict=True):
            torch.testing.assert_close(ours, theirs, atol=0, rtol=0)


def test_the_noise_of_a_seed_is_the_pipelines_own(model: ZImageModel) -> None:
    ours = inputs_of(model, [PROMPT], noise_level=1.0, first_seed=7).mixture
    theirs = model.pipeline.prepare_latents(
        1, 4, 32, 40, torch.float32, torch.device("cpu"), torch.Generator().manual_seed(7)
    )
    torch.testing.assert_close(ours, theirs)


def test_decoding_inverts_the_scaling_of_encoding(model: ZImageModel) -> None:
    [picture] = pictures()
    taken = decoded_latents(model, model.encode_images([picture]), guidance_scale=0.0)
    torch.testing.assert_close(taken, encoded_mean(model, picture), atol=1e-5, rtol=1e-5)


# --- where tokens and their filling stand ---


def test_text_is_filled_up_with_padding_to_a_multiple_of_32(model: ZImageModel) -> None:
    tokens = model.tokens(SHORT)
    before, behind = ["<|im_start|>", *"user", "Ċ"], ["<|im_end|>", "Ċ", "<|im_start|>", *"assistant", "Ċ"]
    assert [token.text for token in tokens[:25]] == [*before, "a", "Ġ", *"ring", *behind]
    kinds = ["special", *["template"] * 5, "stop", *["content"] * 5, "special", "template", "special"]
    assert [token.kind for token in tokens[:25]] == kinds + ["template"] * 10
    assert [(token.text, token.kind) for token in tokens[25:]] == [("cap_pad_token", "padding")] * 7
    assert [token.index for token in tokens] == list(range(32))


@pytest.mark.parametrize(("letters", "length"), [(13, 32), (14, 64)], ids=["just-fits", "one-more"])
def test_a_text_of_exactly_32_tokens_needs_no_padding(model: ZImageModel, letters: int, length: int) -> None:
    tokens = model.tokens(make_prompt("x" * letters))
    assert len(tokens) == length
    assert sum(token.kind == "padding" for token in tokens) == length - letters - 19


def test_every_item_has_a_layout_of_its_own(model: ZImageModel) -> None:
    layouts = inputs_of(model, [SHORT, PROMPT]).layouts
    assert [layout.image for layout in layouts] == [slice(0, 20)] * 2
    assert [layout.text for layout in layouts] == [slice(32, 64), slice(32, 96)]


@torch.no_grad()
def changed_by(model: ZImageModel, change: Callable[[], Any]) -> list[int]:
    """Positions of the sequence before block 0 that a change of the transformer changes, for a batch of one."""
    seen: list[torch.Tensor] = []
    handle = find_blocks(model.transformer)[0].module.register_forward_pre_hook(lambda _, args: seen.append(args[0][0]))
    inputs = inputs_of(model, [SHORT])
    model.transformer(**inputs.kwargs)
    change()
    model.transformer(**inputs.kwargs)
    handle.remove()
    return torch.nonzero((seen[0] - seen[1]).abs().amax(-1) > 1e-6).flatten().tolist()


@pytest.mark.parametrize(
    ("parameter", "refiner", "expected"),
    [("x_pad_token", "noise_refiner", range(20, 32)), ("cap_pad_token", "context_refiner", range(57, 64))],
    ids=["of-the-image", "of-the-text"],
)
def test_learnt_padding_stands_behind_image_and_text(parameter: str, refiner: str, expected: range) -> None:
    """Found by changing the learnt token itself, with the refiners out of the way."""
    model = make_model()
    setattr(model.transformer, refiner, torch.nn.ModuleList())
    assert changed_by(model, lambda: getattr(model.transformer, parameter).add_(1.0)) == list(expected)
    layout = inputs_of(model, [SHORT]).layout
    inside = set(range(layout.text.start, layout.text.stop)) | set(range(layout.image.start, layout.image.stop))
    assert (set(expected) <= inside) == (parameter == "cap_pad_token")


def test_learnt_padding_takes_part_and_is_of_neither_side_where_it_is_the_images(model: ZImageModel) -> None:
    whole = record(model, pictures()[0], "a ring", keep=["full"])["full"]
    assert whole.key_side.values.tolist() == ["image"] * 20 + ["other"] * 12 + ["text"] * 32
    for padding in (whole.key_side.values == "other", whole.key_kind.values == "padding"):
        drawn = whole.isel(key=padding).sum("key")
        assert padding.any() and float(drawn.min()) > 0 and float(drawn.mean()) > 0.05


def test_an_item_of_a_batch_is_recorded_as_it_is_alone(model: ZImageModel) -> None:
    together = record_batch(model, pictures(2), [PROMPT, SHORT], seeds=[0, 3])[1]
    alone = record(model, pictures(2)[1], "a ring", seed=3)
    for name in ("full", "image_to_text", "text_to_image", "received_from_text", "received_from_image", "entropy"):
        np.testing.assert_allclose(together[name], alone[name], atol=2e-5, rtol=1e-4)


def test_refiners_are_no_blocks(model: ZImageModel) -> None:
    assert [block.path for block in find_blocks(model.transformer)] == ["layers.0", "layers.1", "layers.2"]
    assert len(model.transformer.noise_refiner) == len(model.transformer.context_refiner) == 2


def test_a_prompt_too_long_for_the_text_encoder_is_refused(model: ZImageModel) -> None:
    assert len(model.tokens(make_prompt("x" * 41))) == 64
    with pytest.raises(PromptTooLongError, match="more than 41 tokens of the qwen3 encoder: 'zebra' would be cut"):
        model.encode_prompts([SHORT, make_prompt("x" * 38 + " zebra")])
    with pytest.raises(PromptTooLongError, match="'zebra' would be cut"):
        model.generate("x" * 38 + " zebra")


# --- generation, defaults, missing parts ---


def drawn(model: ZImageModel, prompt: str, **given: Any) -> np.ndarray:
    return np.asarray(model.generate(prompt, **given))


@pytest.mark.parametrize(
    ("given", "scale"), [({}, 1.5), ({"guidance": 1.0}, 0.0)], ids=["the-models-guidance", "no-guidance"]
)
def test_generating_is_the_pipelines_own_call(model: ZImageModel, given: dict[str, float], scale: float) -> None:
    """Its guidance_scale is what is added to the conditional prediction: one less than the strength."""
    theirs = model.pipeline(
        "a red ring", height=32, width=40, num_inference_steps=2, max_sequence_length=60, guidance_scale=scale,
        generator=torch.Generator().manual_seed(5),
    ).images[0]  # fmt: skip
    ours = drawn(model, "a red ring", seed=5, **given)
    np.testing.assert_array_equal(ours, np.asarray(theirs))
    assert np.any(ours != drawn(model, "a red ring", seed=6, **given))
    assert np.any(ours != drawn(model, "a red ring", seed=5, guidance=6.0))


def test_an_empty_prompt_draws_without_condition(model: ZImageModel) -> None:
    assert model.generate("", steps=1).size == (40, 32)


@pytest.mark.parametrize(("shift", "steps", "guidance"), [(3.0, 8, 1.0), (6.0, 50, 5.0)], ids=["turbo", "base"])
def test_a_bare_pipeline_has_the_published_defaults(shift: float, steps: int, guidance: float) -> None:
    pipeline = build()
    pipeline.scheduler = FlowMatchEulerDiscreteScheduler(shift=shift)
    model = load_model(pipeline)
    assert (model.text_length, model.defaults.steps, model.defaults.guidance) == (512, steps, guidance)
    assert model.default_size == (1024, 1024)


def test_a_pipeline_without_a_part_is_refused() -> None:
    pipeline = build()
    pipeline.tokenizer = None
    with pytest.raises(MissingPartError, match="has no tokenizer"):
        ZImageModel(pipeline, ModelDefaults((32, 40), 60, 2, 1.0), name="random")
