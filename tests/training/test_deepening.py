"""A deepened transformer is the same function, has as many blocks as were asked for, and learns in all of them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import Tensor

from refam_analysis.training.deepening import deepened
from refam_analysis.training.dit import CONFIGURATIONS, Trainer, flow_matching_loss, image_positions
from refam_analysis.training.trainer import copy_parts


@pytest.fixture(scope="module")
def shallow(six_blocks: Path) -> FluxTransformer2DModel:
    return FluxTransformer2DModel.from_pretrained(six_blocks / "transformer", dtype=torch.float64)


def velocity(transformer: FluxTransformer2DModel) -> Tensor:
    draws, config = torch.Generator().manual_seed(0), transformer.config
    clean, text = (
        torch.randn(2, number, width, generator=draws, dtype=torch.float64)
        for number, width in ((16, config.in_channels), (9, config.joint_attention_dim))
    )
    pooled = torch.zeros(2, config.pooled_projection_dim, dtype=torch.float64)
    return transformer(
        hidden_states=clean, timestep=torch.tensor([0.3, 0.8], dtype=torch.float64), encoder_hidden_states=text,
        pooled_projections=pooled, txt_ids=torch.zeros(9, 3), img_ids=image_positions(4), return_dict=False,
    )[0]  # fmt: skip


@pytest.mark.parametrize(("double", "single"), [(4, 8), (2, 8), (6, 4)])
@torch.no_grad()
def test_the_deep_one_is_the_same_function(shallow: FluxTransformer2DModel, double: int, single: int) -> None:
    deep = deepened(shallow, double=double, single=single)
    assert (len(deep.transformer_blocks), len(deep.single_transformer_blocks)) == (double, single)
    assert (deep.config.num_layers, deep.config.num_single_layers) == (double, single)
    assert torch.equal(velocity(deep), velocity(shallow))


def test_every_block_of_the_deep_one_learns(shallow: FluxTransformer2DModel) -> None:
    deep = deepened(shallow, double=4, single=8)
    velocity(deep).square().mean().backward()
    for block in deep.single_transformer_blocks:
        assert block.proj_out.weight.grad.abs().max() > 0
    for block in deep.transformer_blocks:
        assert block.attn.to_out[0].weight.grad.abs().max() > 0


def test_the_same_number_of_blocks_is_the_transformer_itself(shallow: FluxTransformer2DModel) -> None:
    assert deepened(shallow, double=2, single=4) is shallow


def test_blocks_that_do_not_divide_are_refused(shallow: FluxTransformer2DModel) -> None:
    with pytest.raises(ValueError, match="4 single-stream blocks cannot become 6: give a multiple of 4"):
        deepened(shallow, double=2, single=6)


def test_a_deep_training_begins_with_a_shallow_model(six_blocks: Path, tmp_path: Path) -> None:
    copy_parts(six_blocks, tmp_path, ("tokenizer", "tokenizer_2"))
    trainer = Trainer(tmp_path, configuration=CONFIGURATIONS["tall"], seed=0, peak=1e-3)
    trainer.begin_with(six_blocks)
    same = Trainer(tmp_path, configuration=CONFIGURATIONS["small"], seed=0, peak=1e-3)
    same.begin_with(six_blocks)
    latents, ids = (
        torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(1)),
        trainer.tokens(["a red ring"])[0],
    )
    losses = [
        flow_matching_loss(one.model, latents, ids.expand(2, -1), torch.Generator().manual_seed(2)).item()
        for one in (trainer, same)
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-5)
