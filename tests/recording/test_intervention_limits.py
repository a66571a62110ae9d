"""Interventions on separate attentions, and what an intervention refuses."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel, PixArtTransformer2DModel
from references.interventions import changed_attention, changed_output
from references.watch import Watch

from refam_analysis.models.layout import TokenLayout
from refam_analysis.recording import Intervention, InterventionError, Recorder, UnknownBlockError

Inputs = Callable[..., dict[str, Any]]
Plain = Callable[..., torch.Tensor]

LENGTH = 17
WAYS = ["score", "value", "redirect"]
APART = TokenLayout(text=slice(0, 3), image=slice(3, 7), grid=(2, 2), attention="separate")


@pytest.fixture
def pixart() -> PixArtTransformer2DModel:
    torch.manual_seed(0)
    model = PixArtTransformer2DModel(
        num_attention_heads=2, attention_head_dim=8, in_channels=4, out_channels=4, num_layers=2, patch_size=1,
        cross_attention_dim=16, caption_channels=12, sample_size=2, norm_num_groups=2,
    )  # fmt: skip
    for weights in model.parameters():
        torch.nn.init.normal_(weights, std=0.3)
    return model.eval()


def pixart_inputs() -> dict[str, Any]:
    generator = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(2, 4, 2, 2, generator=generator),
        "encoder_hidden_states": torch.randn(2, 3, 12, generator=generator),
        "timestep": torch.tensor([400, 400]),
        "encoder_attention_mask": torch.tensor([[1, 1, 1], [1, 1, 0]]),
        "added_cond_kwargs": {"resolution": None, "aspect_ratio": None},
    }


@pytest.mark.parametrize(
    ("keys", "onto"), [((1,), (0,)), ((4, 5), (3,)), ((1, 4), ())], ids=["text-keys", "image-keys", "both"]
)
@pytest.mark.parametrize("how", WAYS)
@torch.no_grad()
def test_each_of_two_separate_attentions_is_changed_at_its_own_keys(
    pixart: PixArtTransformer2DModel,
    plain_attention: Plain,
    how: str,
    keys: tuple[int, ...],
    onto: tuple[int, ...],
) -> None:
    if how == "redirect" and not onto:
        with pytest.raises(InterventionError, match="two separate attentions"):
            Recorder(pixart, APART, intervention=Intervention(keys, how, onto=(0,)))
        return
    intervention = Intervention(keys, how, onto=onto if how == "redirect" else ())
    keep = ["image_to_image", "image_to_text"]
    with Recorder(pixart, APART, keep, intervention=intervention) as recorder, Watch() as watch:
        pixart(**pixart_inputs())
    assert len(watch.calls) == 4
    for number, (operands, output) in enumerate(watch.calls):
        side, first = (("image", 3), ("text", 0))[number % 2]
        own = [key - first for key in keys if (key >= 3) == (side == "image")]
        receivers = [key - first for key in intervention.onto if (key >= 3) == (side == "image")]
        rows = slice(0, 4)
        attention = changed_attention(plain_attention, operands, how if own else "value", own, receivers, rows)
        expected = changed_output(attention, operands["value"], how, own, rows)
        torch.testing.assert_close(output.double(), expected, atol=1e-5, rtol=1e-4)
        for item, recording in enumerate(recorder.recordings()):
            found = recording[f"image_to_{side}"].sel(block=number // 2).values.reshape(attention[item].shape)
            np.testing.assert_allclose(found, attention[item], atol=1e-5)


def run(model: FluxTransformer2DModel, layout: TokenLayout, arguments: dict[str, Any], how: Intervention) -> None:
    with Recorder(model, layout, intervention=how):
        model(**arguments)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"keys": ()}, "at least one key"),
        ({"keys": (-1,)}, "from 0 on"),
        ({"keys": (2, 2)}, "each named once"),
        ({"keys": (2,), "how": "redirect"}, "needs receivers"),
        ({"keys": (2,), "how": "score", "onto": (3,)}, "nothing else has them"),
        ({"keys": (2,), "how": "value", "onto": (3,)}, "nothing else has them"),
        ({"keys": (2,), "how": "redirect", "onto": (2,)}, "each named once"),
        ({"keys": (2,), "how": "redirect", "onto": (3, 3)}, "each named once"),
        ({"keys": (2,), "how": "mask"}, "one of score, value, redirect"),
        ({"keys": (2,), "queries": "picture"}, "one of all, text, image"),
        ({"keys": (2,), "blocks": ()}, "blocks is empty"),
    ],
    ids=lambda given: "-".join(f"{k}={v}" for k, v in given.items()) if isinstance(given, dict) else "",
)
def test_what_means_nothing_is_refused(arguments: dict[str, Any], said: str) -> None:
    with pytest.raises(InterventionError, match=said):
        Intervention(**arguments)


def test_what_the_layout_or_the_model_lacks_is_refused_before_it_runs(
    transformer: FluxTransformer2DModel, layout: TokenLayout, pixart: PixArtTransformer2DModel
) -> None:
    with pytest.raises(InterventionError, match=r"positions 0 to 16, not \[17\]"):
        Recorder(transformer, layout, intervention=Intervention((2, 17)))
    with pytest.raises(InterventionError, match=r"not \[40\]"):
        Recorder(transformer, layout, intervention=Intervention((2,), "redirect", onto=(40,)))
    with pytest.raises(UnknownBlockError, match="0 to 4, not 5"):
        Recorder(transformer, layout, intervention=Intervention((2,), blocks=(1, 5)))
    with pytest.raises(InterventionError, match="no text queries"):
        Recorder(pixart, APART, intervention=Intervention((2,), queries="text"))
    with pytest.raises(InterventionError, match="two separate attentions"):
        Recorder(pixart, APART, intervention=Intervention((2,), "redirect", onto=(1, 5)))


def test_items_whose_rows_lie_at_different_places_are_refused(transformer: FluxTransformer2DModel) -> None:
    layouts = [TokenLayout(text=slice(0, text), image=slice(text, text + 12), grid=(3, 4)) for text in (5, 4)]
    Recorder(transformer, layouts, intervention=Intervention((2,)))
    with pytest.raises(InterventionError, match=r"different places, slice\(4, 16, None\) and slice\(5, 17, None\)"):
        Recorder(transformer, layouts, intervention=Intervention((2,), queries="image"))


@pytest.mark.parametrize("queries", ["all", "image"])
@torch.no_grad()
def test_a_query_that_would_attend_to_nothing_is_refused(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, queries: Any
) -> None:
    everything = Intervention(tuple(range(LENGTH)), queries=queries)
    with pytest.raises(InterventionError, match="no others, or the model masks them"):
        run(transformer, layout, inputs(), everything)
    others = Intervention(tuple(range(1, LENGTH)), queries=queries)
    run(transformer, layout, inputs(), others)
    for closed in (torch.arange(LENGTH) > 0, torch.where(torch.arange(LENGTH) > 0, 0.0, -1e9)):
        mask = closed.expand(1, 1, LENGTH, LENGTH)
        arguments = inputs() | {"joint_attention_kwargs": {"attention_mask": mask}}
        with pytest.raises(InterventionError, match="nothing left"):
            run(transformer, layout, arguments, others)


def test_gradient_checkpointing_is_refused(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    transformer.train().enable_gradient_checkpointing()
    with Recorder(transformer, layout, intervention=Intervention((2,))) as recorder:
        with pytest.raises(InterventionError, match="disable_gradient_checkpointing"):
            transformer(**inputs())
        with torch.no_grad():
            transformer(**inputs())
    assert recorder.recording().attrs["intervention"]["keys"] == [2]


def test_positions_may_be_any_integers() -> None:
    given = Intervention(np.array([3, 1]), "redirect", onto=np.array([2]), blocks=np.array([0]))
    assert given == replace(given, keys=(3, 1), onto=(2,), blocks=(0,))
