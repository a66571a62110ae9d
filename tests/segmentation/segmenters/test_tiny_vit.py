"""MobileSAM's image encoder, with random weights: names, sizes, and that what is faster computes the same."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from segment_anything.modeling import MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from timm.models.tiny_vit import Attention, ConvNorm
from torch import Tensor, nn

from refam_analysis.segmentation.segmenters import load_segmenter
from refam_analysis.segmentation.segmenters.checkpoints import CheckpointError, load_sam
from refam_analysis.segmentation.segmenters.tiny_vit import TinyVitEncoder, fold_norms, renamed, speed_up


@pytest.fixture
def encoder() -> TinyVitEncoder:
    torch.manual_seed(0)
    made = TinyVitEncoder(image_size=128, embedding=32).eval()
    for module in made.modules():
        if isinstance(module, nn.BatchNorm2d):  # as after training, where folding has something to fold
            nn.init.normal_(module.weight, 1.0, 0.2)
            nn.init.normal_(module.bias, 0.0, 0.2)
            nn.init.normal_(module.running_mean, 0.0, 0.2)
            nn.init.uniform_(module.running_var, 0.5, 2.0)
        if isinstance(module, Attention):
            nn.init.normal_(module.attention_biases)
    return made


@pytest.fixture
def pictures() -> Tensor:
    return torch.randn(1, 3, 128, 128, generator=torch.Generator().manual_seed(1))


def their_names(encoder: TinyVitEncoder) -> dict[str, Tensor]:
    """The weights under the names of MobileSAM's checkpoint, which were read off the checkpoint itself."""
    result = {}
    for name, tensor in encoder.state_dict().items():
        parts = name.removeprefix("trunk.").split(".")
        if parts[0] == "patch_embed":
            parts[1:2] = ["seq", {"conv1": "0", "conv2": "2"}[parts[1]]]
        elif parts[0] == "stages":
            layer = int(parts[1]) - (parts[2] == "downsample")
            parts[:2] = ["layers", str(layer)]
        if len(parts) > 2 and parts[-2] == "conv":
            parts[-2] = "c"
        result[".".join(parts)] = tensor
    width = 320
    classifier = {"norm_head.weight": torch.ones(width), "norm_head.bias": torch.zeros(width)}
    return result | classifier | {"head.weight": torch.zeros(1000, width), "head.bias": torch.zeros(1000)}


def test_the_encoder_has_the_published_size() -> None:
    encoder = TinyVitEncoder()
    numbers = [weight.numel() for name, weight in encoder.named_parameters() if not name.startswith("neck")]
    assert 5.0e6 < sum(numbers) < 5.2e6, "the 5 M variant, without its classifier"
    assert encoder.img_size == 1024


def test_a_picture_becomes_a_sixteenth_a_side(encoder: TinyVitEncoder, pictures: Tensor) -> None:
    assert encoder(pictures).shape == (1, 32, 8, 8)


def test_names_of_the_checkpoint_become_ours(encoder: TinyVitEncoder) -> None:
    theirs = their_names(encoder)
    assert "layers.2.downsample.conv2.c.weight" in theirs and "layers.3.blocks.1.attn.qkv.bias" in theirs
    ours = renamed(theirs)
    assert ours.keys() == encoder.state_dict().keys()
    assert all(torch.equal(tensor, encoder.state_dict()[name]) for name, tensor in ours.items())


def test_folding_leaves_no_normalisation_and_the_same_output(encoder: TinyVitEncoder, pictures: Tensor) -> None:
    with torch.no_grad():
        expected = encoder(pictures)
        fold_norms(encoder)
        assert not [module for module in encoder.modules() if isinstance(module, (ConvNorm, nn.BatchNorm2d))]
        torch.testing.assert_close(encoder(pictures), expected, atol=2e-5, rtol=1e-4)


def test_what_is_faster_computes_the_same(encoder: TinyVitEncoder, pictures: Tensor) -> None:
    with torch.no_grad():
        expected = encoder(pictures)
        torch.testing.assert_close(speed_up(encoder)(pictures), expected, atol=2e-5, rtol=1e-4)


def test_fused_attention_equals_a_plain_softmax(encoder: TinyVitEncoder) -> None:
    attention = encoder.trunk.stages[1].blocks[0].attn
    tokens = torch.randn(3, 49, 128, generator=torch.Generator().manual_seed(2))
    with torch.no_grad():
        query, key, value = attention.qkv(attention.norm(tokens)).view(3, 49, 4, 96).split(32, dim=3)
        places = torch.tensor([(y, x) for y in range(7) for x in range(7)])
        apart = (places[:, None] - places[None]).abs()
        bias = attention.attention_biases[:, apart[..., 0] * 7 + apart[..., 1]]
        scores = torch.einsum("bqhd,bkhd->bhqk", query, key) / 32**0.5 + bias
        mixed = torch.einsum("bhqk,bkhd->bqhd", scores.softmax(-1), value).reshape(3, 49, 128)
        torch.testing.assert_close(attention(tokens), attention.proj(mixed), atol=1e-5, rtol=1e-4)


@pytest.fixture
def checkpoint(encoder: TinyVitEncoder, tmp_path: Path) -> Path:
    """A small decoder around the encoder, saved under MobileSAM's names."""
    prompts = PromptEncoder(embed_dim=32, image_embedding_size=(8, 8), input_image_size=(128, 128), mask_in_chans=16)
    transformer = TwoWayTransformer(depth=1, embedding_dim=32, num_heads=8, mlp_dim=64)
    decoder = MaskDecoder(transformer_dim=32, transformer=transformer, iou_head_hidden_dim=32)
    rest = Sam(nn.Identity(), prompts, decoder).state_dict()
    state = rest | {f"image_encoder.{name}": tensor for name, tensor in their_names(encoder).items()}
    torch.save(state, tmp_path / "mobile.pt")
    return tmp_path / "mobile.pt"


@pytest.mark.parametrize("fast", [True, False], ids=["fast", "as-saved"])
def test_a_checkpoint_under_their_names_is_loaded(
    checkpoint: Path, encoder: TinyVitEncoder, pictures: Tensor, fast: bool
) -> None:
    loaded = load_sam(checkpoint, image_size=128, fast=fast).image_encoder
    with torch.no_grad():
        torch.testing.assert_close(loaded(pictures), encoder(pictures), atol=2e-5, rtol=1e-4)


def test_a_smaller_input_has_a_smaller_grid(checkpoint: Path) -> None:
    sam = load_sam(checkpoint, image_size=96)
    assert sam.image_encoder.img_size == 96
    assert sam.prompt_encoder.image_embedding_size == (6, 6)
    assert sam.prompt_encoder.input_image_size == (96, 96)


def test_a_checkpoint_that_lacks_a_block_is_named(checkpoint: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    torch.save({name: tensor for name, tensor in state.items() if ".layers.3.blocks.1." not in name}, checkpoint)
    with pytest.raises(CheckpointError, match=r"stages\.3\.blocks\.1"):
        load_segmenter(checkpoint)
