"""Refiners: blocks before the main stack, over the text or over the image alone, recorded as stacks of their own.

The reference is the whole softmax in float64, of the operands that a spy of its own sees in blocks that a row names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from families import hunyuan_video, lumina2, z_image
from families.case import FamilyCase
from families.running import PROMPTS, inputs_of, loaded, pictures
from families.spy import spied

from refam_analysis.models import (
    BlockCountError,
    DiffusionModel,
    ForwardInputs,
    TokenLayout,
    UnknownStackError,
    block_table,
    find_blocks,
    load_model,
)
from refam_analysis.models.blocks import stacks_of
from refam_analysis.recording import QUANTITIES, MissedAttentionError, Recorder, record, record_batch

Plain = Callable[..., torch.Tensor]

CASES = [z_image.CASE, hunyuan_video.CASE, lumina2.CASE]
ROWS = [(case, stack) for case in CASES for stack in case.refiners]
SIDES = {"context_refiner": "text", "noise_refiner": "image"}
REFINED_IMAGE = {"z_image": 32, "lumina2": 20}
"""How many tokens of the image's side a refiner has: Z-Image fills its 20 up."""


def kept(stack: str) -> list[str]:
    """What a refiner has, by the words of the design."""
    side = SIDES[stack]
    return ["full", f"{side}_to_{side}", "entropy", f"entropy_over_{side}", f"received_from_{side}",
            f"uniformity_from_{side}"]  # fmt: skip


@pytest.fixture(scope="module", params=ROWS, ids=lambda row: f"{row[0]}-{row[1]}")
def row(request: pytest.FixtureRequest) -> tuple[FamilyCase, str]:
    return request.param


@pytest.fixture(scope="module")
def case(row: tuple[FamilyCase, str]) -> FamilyCase:
    return row[0]


@pytest.fixture(scope="module")
def stack(row: tuple[FamilyCase, str]) -> Any:
    return row[1]


@pytest.fixture(scope="module")
def model(case: FamilyCase, tmp_path_factory: pytest.TempPathFactory) -> DiffusionModel:
    return loaded(case, tmp_path_factory.mktemp(case.name))


def positions(case: FamilyCase, stack: str, layout: TokenLayout) -> range:
    """Where the tokens of a refiner stand in the sequence of the main stack."""
    if SIDES[stack] == "text":
        return range(layout.text.start, layout.text.stop)
    return range(layout.image.start, layout.image.start + REFINED_IMAGE[case.name])


# --- which blocks ---


def test_blocks_are_found_in_order_with_a_type_of_their_own(
    model: DiffusionModel, case: FamilyCase, stack: Any
) -> None:
    found = find_blocks(model.transformer, stack)
    assert [(block.path, block.type) for block in found] == [(path, stack) for path in case.refiners[stack]]
    assert [block.index for block in found] == [0, 1]
    assert set(stacks_of(model.transformer)) == {"main", *case.refiners}


def test_they_do_not_shift_the_count_of_the_main_stack(model: DiffusionModel, case: FamilyCase, stack: Any) -> None:
    assert [block.path for block in find_blocks(model.transformer)] == case.paths
    table = block_table(model)
    assert table.loc[stack, ["blocks", "number"]].tolist() == ["0 to 1", 2]
    assert table.drop(index=list(case.refiners))["number"].sum() == len(case.blocks)


def test_a_refiner_of_another_length_than_configured_is_refused(case: FamilyCase, stack: Any) -> None:
    transformer = case.build().transformer
    path = case.refiners[stack][1]
    del transformer.get_submodule(path.rpartition(".")[0])[1]
    with pytest.raises(BlockCountError, match=rf"n.*_refiner_layers=2.*{path}"):
        find_blocks(transformer, stack)


def test_a_stack_that_a_model_lacks_is_refused(tiny_flux_pipeline: Callable[..., FluxPipeline]) -> None:
    flux = load_model(tiny_flux_pipeline())
    with pytest.raises(UnknownStackError, match="Flux.* has no stack 'context_refiner'. Those that it has: main"):
        record(flux, np.zeros((8, 8, 3), np.uint8), "a ring", stack="context_refiner")
    hunyuan = hunyuan_video.tiny_transformer()
    with pytest.raises(UnknownStackError, match="has no stack 'noise_refiner'. .*main, context_refiner"):
        find_blocks(hunyuan, "noise_refiner")


# --- what is recorded ---


@torch.no_grad()
def test_recording_does_not_change_the_output(model: DiffusionModel, case: FamilyCase, stack: Any) -> None:
    inputs = inputs_of(model, case)
    expected = model.transformer(**inputs.kwargs)[0]
    with Recorder(model.transformer, inputs.layouts, stack=stack) as recorder:
        found = model.transformer(**inputs.kwargs)[0]
    for one, other in zip(found, expected, strict=True):
        assert torch.equal(one, other)
    for recording in recorder.recordings():
        assert recording.dataset["block"].values.tolist() == [0, 1]
        assert recording.dataset["block_type"].values.tolist() == [stack] * 2
        assert recording.attrs["stack"] == stack


def attentions(
    model: DiffusionModel, case: FamilyCase, stack: str, inputs: ForwardInputs, plain_attention: Plain
) -> Iterator[tuple[int, int, torch.Tensor, torch.Tensor | None]]:
    """Block, item, and the whole attention (1, head, query, key) over the item's own tokens, with the mask."""
    calls = spied(model, case.refiners[stack], inputs.kwargs)
    assert [block for block, _ in calls] == [0, 1]
    for block, call in calls:
        mask = call.get("attn_mask")
        whole = plain_attention(call["query"], call["key"], mask=mask, scale=call.get("scale"))
        for item, layout in enumerate(inputs.layouts):
            length = len(positions(case, stack, layout))
            own = whole[item : item + 1, :, :length, :length]
            torch.testing.assert_close(own.sum(-1), torch.ones_like(own.sum(-1)))
            yield block, item, own, mask if mask is None else mask.expand(whole.shape)[item, :, :length, :length]


@torch.no_grad()
@pytest.mark.parametrize("heads", ["each", "mean"])
def test_every_quantity_equals_plain_softmax(
    model: DiffusionModel, case: FamilyCase, stack: Any, heads: Any, plain_attention: Plain, plain_quantity: Plain
) -> None:
    inputs = inputs_of(model, case)
    with Recorder(model.transformer, inputs.layouts, keep=kept(stack), heads=heads, stack=stack) as recorder:
        model.transformer(**inputs.kwargs)
    recordings, seen = recorder.recordings(), 0
    for block, item, whole, mask in attentions(model, case, stack, inputs, plain_attention):
        own = slice(0, whole.shape[-1]) if SIDES[stack] == "text" else slice(0, inputs.layout.image_length)
        for name in kept(stack):
            expected = plain_quantity(name, whole, own, own, mask=mask)[0].numpy()
            expected = expected.mean(0, keepdims=True) if heads == "mean" else expected
            found = recordings[item][name].sel(block=block).isel(step=0, branch=0).values
            known = ~np.isnan(expected)  # the evenness of a key that is masked for everyone is not defined
            relative = 0.0 if QUANTITIES[name].form == "map" else 1e-4
            np.testing.assert_allclose(found[known], expected[known], atol=1e-5, rtol=relative, err_msg=name)
            seen += 1
    assert seen == 2 * 2 * len(kept(stack))


@torch.no_grad()
def test_axes_have_the_positions_of_the_main_stack(model: DiffusionModel, case: FamilyCase, stack: Any) -> None:
    inputs = inputs_of(model, case)
    tokens = [model.tokens(prompt) for prompt in PROMPTS]
    found = {}
    for name in (stack, "main"):
        with Recorder(model.transformer, inputs.layouts, keep=["full"], stack=name) as recorder:
            model.transformer(**inputs.kwargs)
        found[name] = [recording["full"] for recording in recorder.recordings(tokens=tokens)]
    for item, layout in enumerate(inputs.layouts):
        refined, main = found[stack][item], found["main"][item]
        there = list(positions(case, stack, layout))
        assert refined["query"].values.tolist() == refined["key"].values.tolist() == there
        same = main.sel(query=there, key=there)
        labels = ("side", "key_side") + (("word", "kind", "key_word", "key_kind") if SIDES[stack] == "text" else ())
        for label in labels:
            np.testing.assert_array_equal(refined[label].values, same[label].values)
    sides = found[stack][0].key_side.values.tolist()
    filling = REFINED_IMAGE.get(case.name, 0) - 20
    assert sides == (["text"] * len(sides) if SIDES[stack] == "text" else ["image"] * 20 + ["other"] * filling)


def first_keys(model: DiffusionModel, case: FamilyCase, stack: str, kwargs: Any) -> torch.Tensor:
    """(item, head, key, channel) of the first block."""
    return spied(model, case.refiners[stack], kwargs)[0][1]["key"]


def marked(model: DiffusionModel, case: FamilyCase, stack: str, item: int, place: int) -> tuple[Any, Any]:
    """Arguments of the transformer, and the same with something added to one token of one item."""
    latents, conditioning = model.encode_images(pictures(case)), model.encode_prompts(PROMPTS)
    plain = model.inputs_of(latents, conditioning, noise_level=0.5).kwargs
    if SIDES[stack] == "text":
        return plain, case.mark_text(dict(plain), item, place)
    y, x = np.unravel_index(place, case.grid)
    changed = latents.clone()
    changed[item, :, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2] += 3.0
    return plain, model.inputs_of(changed, conditioning, noise_level=0.5).kwargs


@torch.no_grad()
@pytest.mark.parametrize("item", [0, 1])
@pytest.mark.parametrize("place", [0, 1, 6])
def test_a_marked_token_is_where_the_recording_says(
    model: DiffusionModel, case: FamilyCase, stack: Any, item: int, place: int
) -> None:
    before, after = (first_keys(model, case, stack, kwargs) for kwargs in marked(model, case, stack, item, place))
    found = int((after - before)[item].norm(dim=(0, 2)).argmax())
    inputs = inputs_of(model, case)
    with Recorder(model.transformer, inputs.layouts, keep=["full"], stack=stack) as recorder:
        model.transformer(**inputs.kwargs)
    layout = inputs.layouts[item]
    first = layout.text.start if SIDES[stack] == "text" else layout.image.start
    assert int(recorder.recordings()[item]["full"]["key"][found]) == first + place


def test_what_a_refiner_lacks_is_refused_with_a_reason(model: DiffusionModel, case: FamilyCase, stack: Any) -> None:
    inputs = inputs_of(model, case, number=1)
    recording = record(model, pictures(case)[0], "a red ring", stack=stack)
    for name in set(QUANTITIES) - set(kept(stack)):
        for attempt in (
            lambda name=name: Recorder(model.transformer, inputs.layouts, keep=[name], stack=stack),
            lambda name=name: recording[name],
        ):
            with pytest.raises(KeyError, match=rf"There is no '{name}' here: .*(alone|so each is 1)\."):
                attempt()


@torch.no_grad()
def test_a_block_that_computes_its_softmax_by_hand_is_named(case: FamilyCase, stack: Any) -> None:
    model = case.build().transformer
    path = case.refiners[stack][1]
    attention = next(part for part in model.get_submodule(path).modules() if hasattr(part, "set_processor"))
    attention.set_processor(lambda attn, hidden_states, **_: hidden_states)
    live = load_model(case.build())
    live.pipeline.register_modules(transformer=model)
    live.transformer = model
    size = case.settings["image_size"]
    with pytest.raises(MissedAttentionError, match=rf"Block 1 \({path}\) made 0 attention calls"):
        record(live, pictures(case)[0], "a ring", stack=stack, size=size)


# --- through the whole pipeline ---


def test_recordings_are_guided_and_denoised(model: DiffusionModel, case: FamilyCase, stack: Any) -> None:
    keep = ["full", "entropy"]
    options: dict[str, Any] = {"noise_level": 0.8, "steps": 2, "seeds": [0, 1], "keep": keep, "stack": stack}
    recordings = record_batch(model, pictures(case), PROMPTS, guidance=3.0, **options)
    for item, recording in enumerate(recordings):
        full = recording["full"]
        assert recording.noise_levels == (0.8, 0.4)
        assert full.sizes["branch"] == 2 and full.sizes["block"] == 2
        np.testing.assert_allclose(full.isel(branch=0).sum("key", skipna=False), 1.0, atol=1e-5)
        if SIDES[stack] == "text":
            conditional, unconditional = (np.nan_to_num(full.isel(branch=branch).values) for branch in (0, 1))
            assert not np.allclose(conditional, unconditional)
        alone = record(
            model, pictures(case)[item], PROMPTS[item].expression, magnets=PROMPTS[item].magnets, noise_level=0.8,
            seed=item, keep=keep, stack=stack,
        )  # fmt: skip
        there = alone["full"].sizes["key"]
        np.testing.assert_allclose(full.values[:1, :1, ..., :there, :there], alone["full"], atol=2e-5)


def test_the_default_is_a_map_of_the_text_entropy_and_received_mass(
    model: DiffusionModel, case: FamilyCase, stack: Any
) -> None:
    side = SIDES[stack]
    found = record(model, pictures(case)[0], "a red ring", stack=stack)
    maps = {"text_to_text"} if side == "text" else set()
    assert set(found.kept) == {*maps, "entropy", f"received_from_{side}"}
