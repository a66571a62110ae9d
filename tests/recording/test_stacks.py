"""Recordings of a refiner through everything that a recording goes through: disk, budget, words, interventions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import Lumina2Transformer2DModel
from families import z_image
from families.running import loaded, pictures
from references.interventions import changed_attention, changed_output
from references.watch import Watch
from streaming.runs import assert_same

from refam_analysis.errors import RefamError
from refam_analysis.models import DiffusionModel, TokenLayout, find_blocks
from refam_analysis.prompts import make_prompt
from refam_analysis.recording import (
    QUANTITIES,
    Intervention,
    InterventionError,
    LayoutMismatchError,
    MemoryBudgetError,
    OtherRunError,
    Recorder,
    Recording,
    estimate,
    load_recording,
    record,
)

Plain = Callable[..., torch.Tensor]

STACKS = ("context_refiner", "noise_refiner")
SENTENCE = "the red ring"
TEXT, IMAGE = range(32, 64), range(20)
"""In the sequence of the main stack: the sentence with its template, filled up to 32 tokens; and 4 x 5 patches."""


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> DiffusionModel:
    return loaded(z_image.CASE, tmp_path_factory.mktemp("z-image"))


@pytest.fixture(params=STACKS)
def stack(request: pytest.FixtureRequest) -> Any:
    return request.param


def recorded(model: DiffusionModel, **options: Any) -> Recording:
    return record(model, pictures(z_image.CASE)[0], SENTENCE, **options)


# --- disk and memory ---


RUNS: dict[str, dict[str, Any]] = {
    "usual": {},
    "full": {"keep": ["full", "entropy"]},
    "steps-and-branches": {"keep": ["full"], "steps": 2, "guidance": 2.0},
    "mean": {"heads": "mean", "dtype": torch.float16, "blocks": [1]},
}


@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_a_store_has_what_memory_has(
    model: DiffusionModel, tmp_path: Path, stack: Any, options: dict[str, Any]
) -> None:
    expected = recorded(model, stack=stack, **options)
    streamed = recorded(model, stack=stack, store=tmp_path / "run.zarr", **options)
    assert_same(streamed, expected)
    assert_same(load_recording(expected.save(tmp_path / "saved.zarr")), expected)


@pytest.mark.parametrize("options", RUNS.values(), ids=RUNS)
def test_an_estimate_is_what_it_takes(model: DiffusionModel, stack: Any, options: dict[str, Any]) -> None:
    estimated = estimate(model, expression=SENTENCE, measure=False, stack=stack, **options)
    found = recorded(model, stack=stack, budget=estimated.memory, **options)
    assert estimated.quantities == {name: found.dataset[name].nbytes for name in found.kept}
    with pytest.raises(MemoryBudgetError, match=f"{estimated.memory} bytes"):
        recorded(model, stack=stack, budget=estimated.memory - 1, **options)


class Stopped(Exception):
    """Ends a run in its middle."""


def test_an_interrupted_store_is_completed(model: DiffusionModel, tmp_path: Path, stack: Any) -> None:
    def stop(*_: object) -> None:
        raise Stopped

    options: dict[str, Any] = {"keep": ["full"], "stack": stack}
    handle = find_blocks(model.transformer, stack)[1].module.register_forward_pre_hook(stop)
    with pytest.raises(Stopped):
        recorded(model, store=tmp_path / "run.zarr", **options)
    handle.remove()
    assert load_recording(tmp_path / "run.zarr").attrs["complete_blocks"] == [[0]]
    assert_same(recorded(model, store=tmp_path / "run.zarr", **options), recorded(model, **options))


def test_a_store_of_another_stack_is_refused(model: DiffusionModel, tmp_path: Path, stack: Any) -> None:
    recorded(model, keep=["full"], stack=stack, store=tmp_path / "run.zarr")
    for other in {"main", *STACKS} - {stack}:
        with pytest.raises(OtherRunError, match=rf'stack \("{stack}" there, "{other}" now\)'):
            recorded(model, keep=["full"], stack=other, store=tmp_path / "run.zarr")


# --- what is chosen ---


def test_chosen_words_and_regions_are_what_they_are_among_all(model: DiffusionModel, stack: Any) -> None:
    region = np.zeros((4, 5), dtype=bool)
    region[1, 2:4] = True
    chosen: dict[str, Any] = {"words": ["red"]} if stack == "context_refiner" else {"region": region}
    whole = recorded(model, keep=["full"], stack=stack)["full"]
    some = recorded(model, keep=["full"], stack=stack, **chosen)["full"]
    if stack == "context_refiner":
        assert set(some["word"].values) == {"red"}
    else:
        assert some["query"].values.tolist() == [7, 8]
    np.testing.assert_allclose(some, whole.sel(query=some["query"]), atol=1e-6)


def test_queries_of_the_other_side_are_refused(model: DiffusionModel) -> None:
    with pytest.raises(RefamError, match="among 0 to 31, where there are queries"):
        recorded(model, words=["red"], stack="noise_refiner")
    with pytest.raises(RefamError, match="among 32 to 63, where there are queries"):
        recorded(model, region=np.ones((4, 5), dtype=bool), stack="context_refiner")


def test_chosen_heads_are_what_they_are_among_all(model: DiffusionModel, stack: Any) -> None:
    whole, some = (recorded(model, keep=["full"], stack=stack, heads=heads)["full"] for heads in ("each", [1]))
    np.testing.assert_allclose(some, whole.isel(head=[1]), atol=1e-6)


# --- interventions ---


@pytest.mark.parametrize("how", ["score", "value", "redirect"])
@pytest.mark.parametrize("side", ["all", "own"])
def test_an_intervention_is_as_defined(
    model: DiffusionModel, stack: Any, how: Any, side: str, plain_attention: Plain
) -> None:
    """Keys are named by their positions in the main stack; in block 1 alone, so that block 0 is left as it was."""
    there, own = (TEXT, "text") if stack == "context_refiner" else (range(32), "image")
    keys, onto = (there[2], there[5]), (there[0],)
    queries: Any = "all" if side == "all" else own
    intervention = Intervention(keys, how, onto=onto if how == "redirect" else (), blocks=(1,), queries=queries)
    prompt, latents = model.encode_prompts([make_prompt(SENTENCE)]), model.encode_images(pictures(z_image.CASE, 1))
    inputs = model.forward_inputs(latents, prompt, noise_level=0.6, seeds=[0])
    options: dict[str, Any] = {"keep": ["full", "entropy"], "stack": stack, "intervention": intervention}
    with torch.no_grad(), Recorder(model.transformer, inputs.layouts, **options) as recorder, Watch() as watch:
        model.transformer(**inputs.kwargs)
    calls = watch.calls[2:4] if stack == "context_refiner" else watch.calls[:2]
    rows = slice(0, len(IMAGE) if queries == "image" else len(there))
    local, receivers = ([key - there.start for key in part] for part in (keys, intervention.onto))
    for block, changed in enumerate(([], local)):
        operands, output = calls[block]
        kind = how if changed else "value"
        attention = changed_attention(plain_attention, operands, kind, changed, receivers, rows)
        expected = changed_output(attention, operands["value"], kind, changed, rows)
        torch.testing.assert_close(output.double(), expected, atol=1e-5, rtol=1e-4)
        found = recorder.recording()["full"].sel(block=block).isel(step=0, branch=0).values
        np.testing.assert_allclose(found, attention[0], atol=1e-5)


def test_an_intervention_on_the_other_side_is_refused(model: DiffusionModel) -> None:
    for stack, side, outside, said in (
        ("context_refiner", "image", 3, "the positions 32 to 63"),
        ("noise_refiner", "text", 40, "the positions 0 to 31"),
    ):
        with pytest.raises(InterventionError, match=said):
            recorded(model, stack=stack, intervention=Intervention((outside,)))
        inside = 33 if stack == "context_refiner" else 0
        with pytest.raises(InterventionError, match=rf"no {side} queries here: this stack of blocks runs over the"):
            recorded(model, stack=stack, intervention=Intervention((inside,), queries=side))


# --- a transformer of no known family ---


@pytest.fixture(scope="module")
def lumina() -> Lumina2Transformer2DModel:
    torch.manual_seed(0)
    model = Lumina2Transformer2DModel(
        sample_size=8, in_channels=4, out_channels=4, hidden_size=32, num_layers=2, num_refiner_layers=2,
        num_attention_heads=2, num_kv_heads=1, multiple_of=8, axes_dim_rope=(4, 6, 6), axes_lens=(32, 16, 16),
        cap_feat_dim=12,
    )  # fmt: skip
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return model.eval()


LUMINA = TokenLayout(text=slice(0, 7), image=slice(7, 19), grid=(3, 4))


def lumina_inputs() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(2, 4, 6, 8, generator=generator), "timestep": torch.tensor([0.6, 0.6]),
        "encoder_hidden_states": torch.randn(2, 7, 12, generator=generator),
        "encoder_attention_mask": torch.ones(2, 7, dtype=torch.bool), "return_dict": False,
    }  # fmt: skip


OF_LUMINA = {
    "context_refiner": (0, slice(0, 7), slice(0, 0), ["full", "text_to_text", "entropy", "received_from_text"]),
    "noise_refiner": (2, slice(0, 0), slice(0, 12), ["full", "image_to_image", "entropy", "received_from_image"]),
    "main": (4, slice(0, 7), slice(7, 19), list(QUANTITIES)),
}
"""Of each stack the number of its first attention call, where text and image are in that call, and what it has."""


@torch.no_grad()
@pytest.mark.parametrize("name", OF_LUMINA)
def test_refiners_of_an_unknown_family_are_found_by_the_rule(
    lumina: Lumina2Transformer2DModel, name: Any, plain_attention: Plain, plain_quantity: Plain
) -> None:
    first, text, image, keep = OF_LUMINA[name]
    expected = lumina(**lumina_inputs())[0]
    with Recorder(lumina, LUMINA, keep=keep, stack=name) as recorder, Watch() as watch:
        assert torch.equal(lumina(**lumina_inputs())[0], expected)
    assert len(watch.calls) == 6
    for block, (operands, _) in enumerate(watch.calls[first : first + 2]):
        whole = plain_attention(operands["query"], operands["key"], mask=operands.get("attn_mask"),
                                scale=operands.get("scale"))  # fmt: skip
        for quantity in keep:
            plain = plain_quantity(quantity, whole, text, image)
            for item, recording in enumerate(recorder.recordings()):
                found = recording[quantity].sel(block=block).values.reshape(plain[item].shape)
                np.testing.assert_allclose(found, plain[item], atol=1e-5, rtol=1e-4)


@torch.no_grad()
def test_a_layout_of_another_length_is_refused(lumina: Lumina2Transformer2DModel) -> None:
    wrong = TokenLayout(text=slice(0, 6), image=slice(6, 18), grid=(3, 4))
    with pytest.raises(LayoutMismatchError, match="has 6 queries and 6 keys, but it attends from 7 queries to 7"):
        with Recorder(lumina, wrong, stack="context_refiner"):
            lumina(**lumina_inputs())
