"""Every family of diffusion transformers, on the smallest random model of its real classes, saved and loaded again.

Each test holds for every row of ``CASES``; a new family is one file in ``tests/families`` and one row here. The
reference is the whole softmax in float64, of the operands that a spy of its own sees in blocks that the row names.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from families import (
    cogvideox,
    flux,
    flux2,
    hunyuan_video,
    ltx_video,
    lumina2,
    mochi,
    pixart,
    qwen_image,
    sana,
    stable_diffusion_3,
    wan,
    z_image,
)
from families.case import FamilyCase
from families.running import PROMPTS, inputs_of, loaded, pictures
from families.spy import spied

from refam_analysis.models import DiffusionModel, ForwardInputs, TokenLayout, find_blocks
from refam_analysis.models.registry import PIPELINES, TRANSFORMERS
from refam_analysis.recording import QUANTITIES, Recorder, load_recording, record, record_batch

CASES = [
    flux.CASE,
    hunyuan_video.CASE,
    ltx_video.CASE,
    cogvideox.CASE,
    mochi.CASE,
    wan.CASE,
    flux2.CASE,
    qwen_image.CASE,
    z_image.CASE,
    lumina2.CASE,
    stable_diffusion_3.CASE,
    pixart.CASE,
    sana.CASE,
]
SHOWN = {
    "image": {"image_to_image": "map", "entropy_over_image": "entropy"},
    "text": {"image_to_text": "map", "entropy_over_text": "entropy"},
}
"""Of the separate attentions: a quantity, and what it is of that attention alone."""


@pytest.fixture(scope="module", params=CASES, ids=str)
def case(request: pytest.FixtureRequest) -> FamilyCase:
    return request.param


@pytest.fixture(scope="module")
def model(case: FamilyCase, tmp_path_factory: pytest.TempPathFactory) -> DiffusionModel:
    return loaded(case, tmp_path_factory.mktemp(case.name))


@pytest.fixture(scope="module")
def silenced(case: FamilyCase, tmp_path_factory: pytest.TempPathFactory) -> DiffusionModel:
    """The same, with refiners of the text that give back what they are given."""
    model = loaded(case, tmp_path_factory.mktemp(f"{case.name}-silenced"))
    for path in case.refined:
        for name, weights in model.transformer.get_submodule(path).named_parameters():
            if "to_out" in name or name.endswith(("linear_2.weight", "linear_2.bias", "net.2.weight", "w2.weight")):
                torch.nn.init.zeros_(weights)
    return model


def test_the_table_has_every_family() -> None:
    places = [*PIPELINES.values(), *TRANSFORMERS.values()]
    assert {case.name for case in CASES} == {place.split(":")[0] for place in places}


def test_every_block_is_found_in_order(model: DiffusionModel, case: FamilyCase) -> None:
    found = find_blocks(model.transformer)
    assert [(block.path, block.type) for block in found] == list(case.blocks)
    assert [model.family.calls_of(model.transformer.config, block.index) for block in found] == list(case.calls)


@torch.no_grad()
def test_recording_does_not_change_the_output(model: DiffusionModel, case: FamilyCase) -> None:
    inputs = inputs_of(model, case)
    expected = model.transformer(**inputs.kwargs)[0]
    with Recorder(model.transformer, inputs.layouts) as recorder:
        found = model.transformer(**inputs.kwargs)[0]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    for recording in recorder.recordings():
        assert recording.dataset.sizes["step"] == 1
        assert recording.dataset["block"].values.tolist() == list(range(len(case.blocks)))
        assert recording.dataset["block_type"].values.tolist() == [kind for _, kind in case.blocks]


# --- every quantity ---


def attentions(
    model: DiffusionModel, case: FamilyCase, inputs: ForwardInputs, plain_attention: Callable[..., torch.Tensor]
) -> Iterator[tuple[int, int, str, torch.Tensor, torch.Tensor | None]]:
    """Block, item, role, the whole attention (1, head, query, key) and the mask of every call that is recorded."""
    turns: dict[int, int] = {}
    for block, call in spied(model, case.paths, inputs.kwargs):
        turn, roles = turns.get(block, 0), case.calls[block]
        turns[block] = turn + 1
        role = roles[turn % len(roles)]
        if role == "other":
            continue
        mask = call.get("attn_mask")
        whole = plain_attention(call["query"], call["key"], mask=mask, scale=call.get("scale"))
        an_item_each = len(whole) < len(inputs.layouts)
        items = [turn // len(roles)] if an_item_each else list(range(len(whole)))
        for place, item in enumerate(items):
            own = mask if mask is None else mask.expand(whole.shape)[place : place + 1]
            yield block, item, role, whole[place : place + 1], own


def available(name: str, layout: TokenLayout) -> bool:
    """By the words of the design, not by the library's table."""
    if layout.attention == "joint":
        return True
    over_image = layout.attention == "separate"
    of_text = name.endswith("from_image") or name in SHOWN["text"]
    return of_text or (over_image and name in SHOWN["image"])


def expected_of(
    role: str,
    whole: torch.Tensor,
    mask: torch.Tensor | None,
    layout: TokenLayout,
    keep: list[str],
    plain_quantity: Callable[..., torch.Tensor],
) -> Iterator[tuple[str, np.ndarray]]:
    """Every quantity that a call shows, from its whole attention."""
    if role == "joint":
        whole = whole[:, :, : layout.length, : layout.length]
        mask = mask if mask is None else mask[:, :, : layout.length, : layout.length]
        torch.testing.assert_close(whole.sum(-1), torch.ones_like(whole.sum(-1)))
        for name in keep:
            yield name, plain_quantity(name, whole, layout.text, layout.image, mask=mask)[0].numpy()
        return
    for name, what in SHOWN[role].items():
        yield name, (whole if what == "map" else torch.special.entr(whole).sum(-1))[0].numpy()
    for name in ("received_from_image", "uniformity_from_image"):
        yield name, plain_quantity(name, whole, slice(0, 0), slice(0, whole.shape[-2]), mask=mask)[0].numpy()


def part_of(array: Any, name: str, layout: TokenLayout, role: str) -> np.ndarray:
    """What the role has filled: of the quantities by key, its own keys."""
    if role == "joint" or QUANTITIES[name].form != "by_key":
        return array.values
    return array.isel(key=array.side.values == ("text" if role == "text" else "image")).values


@torch.no_grad()
def test_every_quantity_equals_plain_softmax(
    model: DiffusionModel,
    case: FamilyCase,
    plain_attention: Callable[..., torch.Tensor],
    plain_quantity: Callable[..., torch.Tensor],
) -> None:
    inputs = inputs_of(model, case)
    keep = [name for name in QUANTITIES if name not in model.family.absent and available(name, inputs.layout)]
    with Recorder(model.transformer, inputs.layouts, keep=keep) as recorder:
        model.transformer(**inputs.kwargs)
    recordings, seen = recorder.recordings(), set()
    for block, item, role, whole, mask in attentions(model, case, inputs, plain_attention):
        recording, layout = recordings[item], inputs.layouts[item]
        for name, expected in expected_of(role, whole, mask, layout, keep, plain_quantity):
            found = part_of(recording[name].sel(block=block).isel(step=0, branch=0), name, layout, role)
            known = ~np.isnan(expected)  # the evenness of a key that is masked for everyone is not defined
            relative = 0.0 if QUANTITIES[name].form == "map" else 1e-4
            np.testing.assert_allclose(
                found.reshape(expected.shape)[known],
                expected[known],
                atol=1e-5,
                rtol=relative,
                err_msg=f"{name}, block {block}",
            )
            seen.add((block, item, name))
    assert seen == {(block, item, name) for block in range(len(case.blocks)) for item in range(2) for name in keep}


# --- where tokens stand ---


def key_calls(model: DiffusionModel, case: FamilyCase, kwargs: Mapping[str, Any], side: str) -> list[torch.Tensor]:
    """Keys (item, head, key, channel) of the first block's calls in which this side has keys.

    Where image keys have no softmax, the image's queries, which stand in the same order.
    """
    calls = [call for block, call in spied(model, case.paths, kwargs) if block == 0]
    roles = [case.calls[0][turn % len(case.calls[0])] for turn in range(len(calls))]
    if side == "image" and not {"joint", "image"} & set(roles):
        return [call["query"] for call in calls]
    return [call["key"] for role, call in zip(roles, calls, strict=True) if role in ("joint", side)]


def most_changed(before: list[torch.Tensor], after: list[torch.Tensor], item: int) -> int:
    """The key that changed most, as the attention call counts it."""
    if len(before) > 1:  # a call an item
        return int((after[item][0] - before[item][0]).norm(dim=(0, 2)).argmax())
    return int((after[0][item] - before[0][item]).norm(dim=(0, 2)).argmax())


def position_of(layout: TokenLayout, side: str, place: int) -> int:
    """Where the layout says that a token is, as the attention call counts its keys."""
    part = layout.text if side == "text" else layout.image
    return place + (part.start if layout.attention == "joint" else 0)


def wrong_layouts(layout: TokenLayout) -> Iterator[TokenLayout]:
    """Text and image exchanged, and both one position late."""
    if layout.attention != "joint":
        return
    text, image = layout.text_length, layout.image_length
    if layout.text.start < layout.image.start:
        yield replace(layout, image=slice(0, image), text=slice(image, image + text))
    else:
        yield replace(layout, text=slice(0, text), image=slice(text, text + image))
    late = {
        side: slice(part.start + 1, part.stop + 1) for side, part in vars(layout).items() if isinstance(part, slice)
    }
    yield replace(layout, **late)


@pytest.mark.parametrize("item", [0, 1])
def test_a_marked_text_token_is_where_the_layout_says(silenced: DiffusionModel, case: FamilyCase, item: int) -> None:
    inputs = inputs_of(silenced, case)
    layout = inputs.layouts[item]
    before = key_calls(silenced, case, inputs.kwargs, "text")
    used = [token.index for token in silenced.tokens(PROMPTS[item]) if token.kind != "padding"]
    for place in (used[0], used[1], used[-1]):
        after = key_calls(silenced, case, case.mark_text(dict(inputs.kwargs), item, place), "text")
        found = most_changed(before, after, item)
        assert found == position_of(layout, "text", place)
        assert all(found != position_of(wrong, "text", place) for wrong in wrong_layouts(layout))


def test_a_marked_patch_is_where_the_layout_says(model: DiffusionModel, case: FamilyCase) -> None:
    latents, conditioning = model.encode_images(pictures(case)), model.encode_prompts(PROMPTS)
    inputs = model.inputs_of(latents, conditioning, noise_level=0.5)
    assert inputs.layout.grid == case.grid and case.grid[-1] != case.grid[-2]
    before = key_calls(model, case, inputs.kwargs, "image")
    first = (0,) * (len(case.grid) - 1)
    for cell in (tuple(side - 1 for side in case.grid), (*first, 1), (*first[:-1], 1, 0)):
        step = [size // side for size, side in zip(latents.shape[2:], case.grid, strict=True)]
        where = tuple(slice(c * s, (c + 1) * s) for c, s in zip(cell, step, strict=True))
        marked = latents.clone()
        marked[(1, slice(None), *where)] += 3.0
        after = key_calls(model, case, model.inputs_of(marked, conditioning, noise_level=0.5).kwargs, "image")
        found, layout = most_changed(before, after, 1), inputs.layouts[1]
        place = int(np.ravel_multi_index(cell, case.grid))
        assert found == position_of(layout, "image", place)
        assert all(found != position_of(wrong, "image", place) for wrong in wrong_layouts(layout))


def test_text_stands_where_the_row_says(model: DiffusionModel, case: FamilyCase) -> None:
    layout = inputs_of(model, case).layout
    assert layout.attention != "joint" or (layout.text.start < layout.image.start) == case.text_first


# --- words, and the pipeline's own call ---


def encoder_inputs(model: DiffusionModel) -> list[torch.Tensor]:
    """Token ids that the text encoders are given for the prompts, in order."""
    seen: list[torch.Tensor] = []

    def note(_: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        seen.append(args[0] if args else kwargs["input_ids"])

    encoders = [part for name, part in model.pipeline.components.items() if name.startswith("text_encoder") and part]
    handles = [encoder.register_forward_pre_hook(note, with_kwargs=True) for encoder in encoders]
    with torch.no_grad():
        model.encode_prompts(PROMPTS)
    for handle in handles:
        handle.remove()
    return seen


@pytest.mark.parametrize("item", [0, 1])
def test_words_are_at_the_positions_that_their_encoder_was_given(
    model: DiffusionModel, case: FamilyCase, item: int
) -> None:
    ids, tokens = case.encoder_ids(encoder_inputs(model), item), model.tokens(PROMPTS[item])
    assert [token.index for token in tokens] == list(range(len(tokens)))
    assert len(ids) == len(tokens) == inputs_of(model, case).layouts[item].text_length
    parts = [part for name, part in model.pipeline.components.items() if name.startswith("tokenizer") and part]
    tokenizers = [getattr(part, "tokenizer", part) for part in parts]  # a processor has one
    named = [token for token in tokens if token.kind in ("content", "stop", "magnet", "punctuation")]
    assert {token.word for token in named} == {word.text for word in PROMPTS[item].words}
    for number, word in enumerate(PROMPTS[item].words):
        for encoder in {token.encoder for token in named}:
            places = [t.index for t in named if t.word_index == number and t.encoder == encoder]
            pieces = ["".join(filter(None, t.convert_ids_to_tokens([ids[i] for i in places]))) for t in tokenizers]
            bare = {one.replace("▁", "").replace("Ġ", "").replace("</w>", "") for one in pieces}
            assert word.text in bare, (word, bare)
    assert {token.word for token in tokens if token.kind == "magnet"} == set(PROMPTS[item].magnets)


def same(ours: Any, theirs: Any) -> bool:
    if torch.is_tensor(theirs):
        ours = torch.as_tensor(ours)
        return ours.shape == theirs.shape and torch.allclose(ours.double(), theirs.double(), atol=1e-4)
    if isinstance(theirs, dict):
        return ours.keys() == theirs.keys() and all(same(ours[name], value) for name, value in theirs.items())
    if isinstance(theirs, list | tuple):
        return len(ours) == len(theirs) and all(same(one, other) for one, other in zip(ours, theirs, strict=True))
    return bool(ours == theirs)


NOT_COMPARED = ("hidden_states", "x", "return_dict", "attention_kwargs", "joint_attention_kwargs")


def test_the_transformer_is_given_what_the_pipeline_gives_it(model: DiffusionModel, case: FamilyCase) -> None:
    """All arguments of diffusers' own first call, but for the latents themselves, which agree in shape."""
    calls: list[dict[str, Any]] = []
    names = list(inspect.signature(model.transformer.forward).parameters)
    handle = model.transformer.register_forward_pre_hook(
        lambda _, args, kwargs: calls.append({**dict(zip(names, args, strict=False)), **kwargs}), with_kwargs=True
    )
    with torch.no_grad():
        model.pipeline(
            prompt=PROMPTS[0].text, num_inference_steps=2, output_type="latent",
            generator=torch.Generator().manual_seed(0), **case.pipeline_call,
        )  # fmt: skip
    handle.remove()
    theirs = calls[0]
    ours = inputs_of(model, case, number=1, noise_level=case.first_level(model.pipeline)).kwargs
    for name, value in theirs.items():
        assert name in NOT_COMPARED or value is None or same(ours[name], value), name
    latents = "x" if "x" in theirs else "hidden_states"
    assert [tuple(part.shape) for part in ours[latents]] == [tuple(part.shape) for part in theirs[latents]]


# --- through the whole pipeline ---


def test_recordings_are_guided_and_denoised(model: DiffusionModel, case: FamilyCase) -> None:
    recordings = record_batch(model, pictures(case), PROMPTS, noise_level=0.8, steps=2, guidance=3.0, seeds=[0, 1])
    for recording, prompt in zip(recordings, PROMPTS, strict=True):
        assert recording.noise_levels == (0.8, 0.4)
        assert recording.dataset["branch"].values.tolist() == ["conditional", "unconditional"]
        maps = recording["image_to_text"]
        conditional, unconditional = maps.isel(branch=0).values, maps.isel(branch=1).values
        assert np.isfinite(conditional).all()
        assert not np.allclose(conditional, np.nan_to_num(unconditional))
        assert not np.allclose(conditional[0], conditional[1])
        assert recording.attrs["prompt"] == prompt.text and recording.attrs["family"] == case.name


def test_the_conditional_branch_is_what_it_is_alone(model: DiffusionModel, case: FamilyCase) -> None:
    image, expression = pictures(case)[0], PROMPTS[0].expression
    alone = record(model, image, expression, seed=3, keep=["image_to_text"])
    guided = record(model, image, expression, seed=3, keep=["image_to_text"], guidance=4.0)
    np.testing.assert_allclose(guided["image_to_text"][:, :1], alone["image_to_text"], atol=1e-5)


def test_another_size_gives_another_grid(model: DiffusionModel, case: FamilyCase) -> None:
    cell = model.pixels_per_token
    recording = record(model, pictures(case)[0], "a red ring", size=(3 * cell, 2 * cell), keep=["image_to_text"])
    assert (recording["image_to_text"].sizes["y"], recording["image_to_text"].sizes["x"]) == (3, 2)


def test_what_is_absent_is_refused_with_a_reason(model: DiffusionModel, case: FamilyCase) -> None:
    inputs = inputs_of(model, case, number=1)
    lacking = set(model.family.absent) | {name for name in QUANTITIES if not available(name, inputs.layout)}
    recording = record(model, pictures(case)[0], "a red ring")
    for name in lacking:
        with pytest.raises(KeyError, match=r"There is no '.*' here: \w+ .*\."):
            Recorder(model.transformer, inputs.layouts, keep=[name])
        with pytest.raises(KeyError, match=r"There is no '.*' here: \w+ .*\."):
            recording[name]


def test_a_recording_survives_the_disk(model: DiffusionModel, case: FamilyCase, tmp_path: Path) -> None:
    recording = record(model, pictures(case)[0], "a red ring", guidance=2.0)
    again = load_recording(recording.save(tmp_path / "run.zarr"))
    assert again.layout == recording.layout and again.tokens == recording.tokens
    for name in recording.kept:
        np.testing.assert_array_equal(again[name].values, recording[name].values)
