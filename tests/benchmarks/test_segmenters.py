"""The benchmark of the segmenter compares like with like: what should change only rounding does."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from timm.models.tiny_vit import Attention, ConvNorm

from benchmarks.segmenters import PLAIN, VARIANTS, channels_last, distance, folded, halved, quality_summary
from refam_analysis.segmentation.segmenters.tiny_vit import TinyVitEncoder, speed_up


@pytest.fixture
def sam() -> Sam:
    """What a checkpoint gives, of 96 pixels."""
    torch.manual_seed(0)
    prompts = PromptEncoder(embed_dim=32, image_embedding_size=(6, 6), input_image_size=(96, 96), mask_in_chans=16)
    decoder = MaskDecoder(
        transformer_dim=32,
        transformer=TwoWayTransformer(depth=1, embedding_dim=32, num_heads=8, mlp_dim=64),
        iou_head_hidden_dim=32,
    )
    encoder = TinyVitEncoder(96, 32)
    for module in encoder.modules():
        if isinstance(module, Attention):
            torch.nn.init.normal_(module.attention_biases)
    return Sam(encoder, prompts, decoder).eval()


def prepared(name: str, sam: Sam) -> Sam:
    if name == "default":
        speed_up(sam.image_encoder)
    return {"channels last": channels_last, "folded": folded}.get(name, lambda same: same)(sam)


@pytest.mark.parametrize("name", ["channels last", "folded", "default"])
@torch.no_grad()
def test_what_claims_to_change_nothing_changes_only_rounding(sam: Sam, name: str) -> None:
    picture = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    attentions = [module for module in sam.image_encoder.modules() if isinstance(module, Attention)]
    kinds = [type(module) for module in attentions]
    for module in attentions:
        module.__class__ = Attention
    expected = sam.image_encoder(picture)
    for module, kind in zip(attentions, kinds, strict=True):
        module.__class__ = kind
        module.attention_bias_cache = {}
    assert distance(prepared(name, sam).image_encoder(picture), expected) < 1e-4


@torch.no_grad()
def test_half_precision_is_near_and_not_the_same(sam: Sam) -> None:
    picture = torch.randn(1, 3, 96, 96, generator=torch.Generator().manual_seed(1))
    expected = sam.image_encoder(picture)
    found = halved(sam).image_encoder(picture)
    assert found.dtype == torch.float32 and 1e-4 < distance(found, expected) < 0.5


def test_folding_takes_every_normalisation(sam: Sam) -> None:
    assert any(isinstance(module, ConvNorm) for module in sam.image_encoder.modules())
    assert not any(isinstance(module, ConvNorm) for module in folded(sam).image_encoder.modules())


def test_the_published_model_is_what_others_are_compared_with() -> None:
    assert next(iter(VARIANTS)) == PLAIN and len(VARIANTS) >= 8


def test_the_distance_of_other_grids_is_not_a_number() -> None:
    assert np.isnan(distance(torch.zeros(1, 2, 3, 3), torch.zeros(1, 2, 4, 4)))


def test_quality_is_averaged_over_photographs() -> None:
    rows = [
        {"image_size": size, "photograph": photograph, "object": thing, "iou": iou + shift, "best": iou + shift}
        for size, shift in ((1024, 0.0), (512, -0.1))
        for photograph, thing, iou in (("a", "one", 0.9), ("a", "two", 0.7), ("b", "three", 0.4))
    ]
    table = quality_summary(pd.DataFrame(rows)).query("measure == 'iou'").set_index("image_size")
    assert table["mean"].to_dict() == pytest.approx({1024: 0.6, 512: 0.5})
    assert table.loc[512, ["change_low", "change", "change_high"]].tolist() == pytest.approx([-0.1] * 3)
    assert table["objects"].tolist() == [3, 3] and table["photographs"].tolist() == [2, 2]


def test_outlines_are_where_the_benchmark_looks() -> None:
    from benchmarks.segmenters import OUTLINES

    assert Path(OUTLINES).is_file()
