"""The rule that finds blocks, on real diffusers classes, and what it says where it cannot."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch
from torch import nn

from refam_analysis.errors import RefamError
from refam_analysis.models.blocks import (
    BlockCountError,
    NoBlocksError,
    UnknownBlockError,
    choose_blocks,
    find_blocks,
)

FAMILIES: list[tuple[str, dict[str, Any], list[str]]] = [
    (
        "SD3Transformer2DModel",
        {"sample_size": 8, "num_layers": 3, "attention_head_dim": 8, "num_attention_heads": 2,
         "caption_projection_dim": 16, "joint_attention_dim": 8, "pooled_projection_dim": 8, "in_channels": 4,
         "pos_embed_max_size": 8},
        ["transformer"] * 3,
    ),
    (
        "AuraFlowTransformer2DModel",
        {"sample_size": 8, "num_mmdit_layers": 2, "num_single_dit_layers": 3, "attention_head_dim": 8,
         "num_attention_heads": 2, "caption_projection_dim": 16, "joint_attention_dim": 8, "pos_embed_max_size": 64},
        ["double"] * 2 + ["single"] * 3,
    ),
    (
        "PixArtTransformer2DModel",
        {"num_attention_heads": 2, "attention_head_dim": 8, "num_layers": 3, "cross_attention_dim": 16,
         "caption_channels": 8, "sample_size": 8, "use_additional_conditions": False},
        ["transformer"] * 3,
    ),
    (
        "ZImageTransformer2DModel",
        {"dim": 32, "n_layers": 3, "n_refiner_layers": 2, "n_heads": 2, "n_kv_heads": 2, "cap_feat_dim": 8,
         "axes_dims": [4, 6, 6], "axes_lens": [16, 8, 8]},
        ["transformer"] * 3,
    ),
]  # fmt: skip


@pytest.fixture
def transformer() -> nn.Module:
    with torch.device("meta"):
        return diffusers.FluxTransformer2DModel(
            num_layers=2, num_single_layers=3, attention_head_dim=16, num_attention_heads=2, axes_dims_rope=(4, 6, 6)
        )


def test_flux_counts_double_then_single(transformer: nn.Module) -> None:
    blocks = find_blocks(transformer)
    assert [block.index for block in blocks] == [0, 1, 2, 3, 4]
    assert [block.type for block in blocks] == ["double", "double", "single", "single", "single"]
    assert blocks[2].path == "single_transformer_blocks.0"
    assert blocks[2].module is transformer.single_transformer_blocks[0]


@pytest.mark.parametrize(("name", "configuration", "types"), FAMILIES, ids=[row[0] for row in FAMILIES])
def test_blocks_of_a_real_class(name: str, configuration: dict[str, Any], types: list[str]) -> None:
    assert [block.type for block in find_blocks(getattr(diffusers, name)(**configuration))] == types


def test_a_model_without_attention_blocks_is_refused() -> None:
    with pytest.raises(NoBlocksError, match="Sequential has no list of blocks"):
        find_blocks(nn.Sequential(nn.ModuleList([nn.Linear(2, 2)])))


def test_a_block_too_few_is_named(transformer: nn.Module) -> None:
    del transformer.single_transformer_blocks[2]
    with pytest.raises(BlockCountError, match=r"num_single_layers=3.*single_transformer_blocks\.2"):
        find_blocks(transformer)


def test_choosing_keeps_the_networks_order(transformer: nn.Module) -> None:
    blocks = find_blocks(transformer)
    assert [block.index for block in choose_blocks(blocks, [3, 0, 3])] == [0, 3]
    assert choose_blocks(blocks, None) == blocks


def test_choosing_a_block_that_does_not_exist_is_refused(transformer: nn.Module) -> None:
    with pytest.raises(UnknownBlockError, match="0 to 4, not -1, 5"):
        choose_blocks(find_blocks(transformer), [5, 1, -1])
    with pytest.raises(RefamError, match="empty"):
        choose_blocks(find_blocks(transformer), [])


def test_a_module_with_attention_outside_the_lists_does_not_count() -> None:
    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.pool = nn.MultiheadAttention(4, 1)
            self.blocks = nn.ModuleList([nn.TransformerEncoderLayer(4, 1) for _ in range(2)])

    with torch.device("meta"):
        assert [block.path for block in find_blocks(Model())] == ["blocks.0", "blocks.1"]
