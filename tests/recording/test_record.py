"""From image and sentence to Recording on a whole tiny FLUX: right numbers, right tokens, repeatable, batched."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from refam_analysis.models import BatchError, DiffusionModel, NoiseLevelError, load_model
from refam_analysis.prompts import EmptyExpressionError, Prompt, PromptTooLongError, make_prompt
from refam_analysis.recording import (
    DEFAULT_KEEP,
    QUANTITIES,
    Recorder,
    UnknownBlockError,
    load_recording,
    record,
    record_batch,
)

EXPRESSION = "the red circle on the left"


@pytest.fixture(scope="module")
def model(tiny_flux_folder: Path) -> DiffusionModel:
    model = load_model(tiny_flux_folder)
    generator = torch.Generator().manual_seed(2)
    for name, weights in model.transformer.named_parameters():
        weights.data.normal_(std=1.5 if "attn.norm" in name else 0.2, generator=generator)
    return model


def picture(seed: int = 0, height: int = 50, width: int = 70) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@pytest.mark.parametrize("noise_level", [0.0, 0.3, 1.0])
def test_every_quantity_equals_plain_softmax(
    model: DiffusionModel,
    queries_and_keys: Callable[..., list[tuple[torch.Tensor, torch.Tensor]]],
    plain_attention: Callable[..., torch.Tensor],
    plain_quantity: Callable[..., torch.Tensor],
    noise_level: float,
) -> None:
    recording = record(
        model, picture(), EXPRESSION, magnets=[".", "blue"], noise_level=noise_level, seed=3, keep=QUANTITIES
    )
    prompt = make_prompt(EXPRESSION, [".", "blue"])
    inputs = model.forward_inputs(
        model.encode_images([picture()]), model.encode_prompts([prompt]), noise_level=noise_level, seeds=[3]
    )
    calls = queries_and_keys(model.transformer, **inputs.kwargs)
    assert len(calls) == recording.dataset.sizes["block"] == 4
    for block, (query, key) in enumerate(calls):
        attention = plain_attention(query, key)
        for name in QUANTITIES:
            expected = plain_quantity(name, attention, inputs.layout.text, inputs.layout.image)[0]
            found = recording[name].sel(block=block).isel(step=0, branch=0).values.reshape(expected.shape)
            np.testing.assert_allclose(found, expected, atol=1e-5, rtol=1e-4, err_msg=name)


@pytest.mark.parametrize(
    ("argument", "place", "position"),
    [("encoder_hidden_states", 2, 2), ("hidden_states", 0, 24), ("hidden_states", 13, 37)],
    ids=["text-2", "image-0-0", "image-2-3"],
)
@torch.no_grad()
def test_a_marked_token_is_found_at_its_place(model: DiffusionModel, argument: str, place: int, position: int) -> None:
    """In block 0 a changed token changes its own scores only, as a query and as a key."""
    conditioning = model.encode_prompts([make_prompt("the red circle")])
    inputs = model.forward_inputs(model.encode_images([picture()]), conditioning, noise_level=0.5, seeds=[0])
    assert inputs.layout.image.start == 24 and inputs.layout.grid == (4, 5)
    marked = dict(inputs.kwargs)
    marked[argument] = marked[argument].clone()
    marked[argument][:, place] += torch.randn(marked[argument].shape[-1], generator=torch.Generator().manual_seed(0))
    found = []
    for arguments in (inputs.kwargs, marked):
        with Recorder(model.transformer, inputs.layout, keep=["full", "image_to_text", "text_to_image"]) as recorder:
            model.transformer(**arguments)
        found.append(recorder.recording().select(blocks=0))
    logarithms = [np.log(recording["full"].values) for recording in found]
    other = 7  # a key that was not marked: relative to it the softmax's sum drops out
    changed = np.abs(np.subtract(*(values - values[..., other : other + 1] for values in logarithms))).max((0, 1, 2, 3))
    is_marked = np.arange(44) == position
    assert (changed[~is_marked][:, ~is_marked] < 1e-4).all()
    assert (changed[:, is_marked] > 1e-3).mean() > 0.9
    if argument == "hidden_states":
        row, column = divmod(place, 5)
        maps = [recording["image_to_text"] for recording in found]
        logarithms = [np.log(values) - np.log(values.isel(token=other)) for values in maps]
        moved = np.abs(logarithms[0] - logarithms[1]).max(["head", "token"]).squeeze()
        assert np.unravel_index(int(moved.values.argmax()), (4, 5)) == (row, column)
        assert int((moved > 1e-3).sum()) == 1


def test_tokens_are_the_models_own(model: DiffusionModel) -> None:
    recording = record(model, picture(), "the red circle", magnets=["a"], keep=["image_to_text"])
    assert recording.tokens == model.tokens(make_prompt("the red circle", ["a"]))
    assert recording["image_to_text"].kind.values[:5].tolist() == ["stop", "content", "content", "magnet", "special"]
    assert recording.select(words="circle")["image_to_text"].sizes["token"] == 1


@pytest.mark.parametrize("words", ["circle", ["circle"]], ids=["one", "listed"])
def test_of_chosen_words_what_they_show_is_kept(model: DiffusionModel, words: str | list[str]) -> None:
    recording = record(model, picture(), "the red circle", words=words)
    assert recording.attrs["queries"] == [2]
    assert recording.kept == ("full", "text_to_image", "entropy", "received_from_text")


def test_the_default_keeps_full_for_a_small_model(model: DiffusionModel, monkeypatch: pytest.MonkeyPatch) -> None:
    assert set(record(model, picture(), EXPRESSION).kept) == {"full", *DEFAULT_KEEP}
    monkeypatch.setattr(sys.modules["refam_analysis.recording.record"], "SMALL_BYTES", 1000)
    assert set(record(model, picture(), EXPRESSION).kept) == set(DEFAULT_KEEP)


def test_a_run_can_be_repeated_from_its_attributes(model: DiffusionModel, tmp_path: Path) -> None:
    record(model, picture(), EXPRESSION, magnets=["."], noise_level=0.4, seed=9).save(tmp_path / "run.zarr")
    first = load_recording(tmp_path / "run.zarr")
    attributes = first.attrs
    again = record(
        load_model(attributes["model"]) if attributes["model"] != model.name else model,
        picture(),
        attributes["expression"],
        magnets=attributes["magnets"],
        noise_level=first.noise_levels,
        seed=attributes["seed"],
    )
    assert np.array_equal(first["full"], again["full"])
    assert again.attrs == attributes
    assert attributes["prompt"] == f"{EXPRESSION} ." and attributes["image_size"] == [50, 70]
    assert {"torch", "diffusers"} <= attributes["versions"].keys() and len(attributes["image_sha256"]) == 64


def test_several_noise_levels_are_steps(model: DiffusionModel) -> None:
    both = record(model, picture(), EXPRESSION, noise_level=[0.2, 0.7], keep=["entropy"])["entropy"]
    assert both.noise_level.values.tolist() == [0.2, 0.7]
    for step, level in enumerate([0.2, 0.7]):
        alone = record(model, picture(), EXPRESSION, noise_level=level, keep=["entropy"])["entropy"]
        assert np.array_equal(both.isel(step=step), alone.isel(step=0))


def test_seed_image_and_expression_matter(model: DiffusionModel) -> None:
    def entropy(image: int = 0, expression: str = EXPRESSION, seed: int = 0) -> np.ndarray:
        return record(model, picture(image), expression, seed=seed, keep=["entropy"])["entropy"].values

    assert np.array_equal(entropy(), entropy())
    for other in (entropy(image=1), entropy(expression="a ring"), entropy(seed=1)):
        assert not np.allclose(entropy(), other)


def test_a_batch_is_what_its_items_are_alone(model: DiffusionModel) -> None:
    images = [picture(seed) for seed in range(3)]
    prompts = [make_prompt("the red circle"), make_prompt("a ring", ["."]), make_prompt("the large blue square")]
    together = record_batch(model, images, prompts, noise_level=0.5, seeds=[4, 5, 6])
    for recording, image, prompt, seed in zip(together, images, prompts, [4, 5, 6], strict=True):
        alone = record(model, image, prompt.expression, magnets=prompt.magnets, noise_level=0.5, seed=seed)
        assert recording.attrs == alone.attrs
        assert recording.tokens == alone.tokens
        for name in alone:
            np.testing.assert_allclose(recording[name], alone[name], atol=2e-6, rtol=1e-4)


def test_blocks_heads_and_dtype_narrow(model: DiffusionModel) -> None:
    recording = record(model, picture(), EXPRESSION, blocks=[1], heads="mean", dtype=torch.float16)
    assert recording.dataset.sizes["block"] == recording.dataset.sizes["head"] == 1
    assert recording["full"].dtype == np.float16 and recording.attrs["heads"] == "mean"


def test_the_model_is_left_as_it_was(model: DiffusionModel) -> None:
    record(model, picture(), EXPRESSION)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.transformer.modules())
    inputs = model.forward_inputs(
        model.encode_images([picture()]), model.encode_prompts([make_prompt("a ring")]), noise_level=0.5, seeds=[0]
    )
    assert model.transformer(**inputs.kwargs)[0].requires_grad


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"expression": "  "}, EmptyExpressionError),
        ({"expression": "the red circle " * 20}, PromptTooLongError),
        ({"noise_level": 1.5}, NoiseLevelError),
        ({"noise_level": []}, BatchError),
        ({"blocks": [4]}, UnknownBlockError),
    ],
    ids=["empty", "too-long", "noise-level", "no-noise-level", "block"],
)
def test_wrong_arguments_are_refused(model: DiffusionModel, change: dict[str, object], error: type[Exception]) -> None:
    arguments = {"expression": EXPRESSION, **change}
    with pytest.raises(error):
        record(model, picture(), **arguments)


def test_a_batch_needs_one_of_each(model: DiffusionModel) -> None:
    for images, prompts, seeds in (([picture()], [], None), ([], [], None), ([picture()], [Prompt("a")], [1, 2])):
        with pytest.raises(BatchError):
            record_batch(model, images, prompts, seeds=seeds)


def test_a_recorder_in_use_refuses_record(model: DiffusionModel) -> None:
    inputs = model.forward_inputs(
        model.encode_images([picture()]), model.encode_prompts([make_prompt("a ring")]), noise_level=0.5, seeds=[0]
    )
    with Recorder(model.transformer, inputs.layout):
        with pytest.raises(RuntimeError, match="recorded already"):
            record(model, picture(), EXPRESSION)
