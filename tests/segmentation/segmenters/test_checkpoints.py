"""Checkpoint files become models: small random ones of the real classes, saved and loaded as the official ones are."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from segment_anything import sam_model_registry
from segment_anything.modeling import ImageEncoderViT, MaskDecoder, PromptEncoder, Sam, TwoWayTransformer
from torch import nn

from refam_analysis.segmentation.segmenters import UnknownSegmenterError, load_segmenter
from refam_analysis.segmentation.segmenters.checkpoints import CheckpointError, load_sam
from refam_analysis.segmentation.segmenters.sam import SamSegmenter


def decoder(candidates: int = 3) -> MaskDecoder:
    transformer = TwoWayTransformer(depth=2, embedding_dim=64, num_heads=8, mlp_dim=128)
    return MaskDecoder(
        transformer_dim=64, transformer=transformer, num_multimask_outputs=candidates, iou_head_hidden_dim=32
    )


@pytest.fixture(scope="module")
def vit() -> Sam:
    """Window attention and global attention in turn, as in ViT-B; everything else small."""
    torch.manual_seed(0)
    encoder = ImageEncoderViT(
        img_size=128, patch_size=8, embed_dim=48, depth=4, num_heads=3, out_chans=64, use_rel_pos=True, window_size=6,
        global_attn_indexes=(1, 3), norm_layer=partial(nn.LayerNorm, eps=1e-6),
    )  # fmt: skip
    for name, weight in encoder.named_parameters():
        if "rel_pos" in name or "pos_embed" in name:
            nn.init.normal_(weight, std=0.2)  # they start at zero, where a wrong window would not show
    prompts = PromptEncoder(embed_dim=64, image_embedding_size=(16, 16), input_image_size=(128, 128), mask_in_chans=16)
    return Sam(encoder, prompts, decoder()).eval()


@pytest.fixture
def checkpoint(vit: Sam, tmp_path: Path) -> Path:
    torch.save(vit.state_dict(), tmp_path / "vit.pth")
    return tmp_path / "vit.pth"


@pytest.fixture(scope="module")
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (90, 120, 3), dtype=np.uint8)


def test_a_saved_model_is_loaded_and_draws_the_same_masks(vit: Sam, checkpoint: Path, image: np.ndarray) -> None:
    answers = []
    for segmenter in (SamSegmenter(vit), load_segmenter(checkpoint)):
        segmenter.set_image(image)
        answers.append(segmenter.predict([(30, 20), (100.5, 80)]))
    np.testing.assert_array_equal(answers[0][0], answers[1][0])
    np.testing.assert_allclose(answers[0][1], answers[1][1], rtol=1e-6)


@pytest.mark.parametrize(
    ("size", "width", "depth", "heads", "everywhere"),
    [("vit_b", 768, 12, 12, [2, 5, 8, 11]), ("vit_l", 1024, 24, 16, [5, 11, 17, 23]),
     ("vit_h", 1280, 32, 16, [7, 15, 23, 31])],
    ids=["vit_b", "vit_l", "vit_h"],
)  # fmt: skip
def test_official_sizes_are_read_off_the_tensors(
    size: str, width: int, depth: int, heads: int, everywhere: list[int]
) -> None:
    from refam_analysis.segmentation.segmenters.checkpoints import _vit_sam

    with torch.device("meta"):
        official = sam_model_registry[size]()
        ours = _vit_sam(official.state_dict())
    assert {name: tensor.shape for name, tensor in ours.state_dict().items()} == {
        name: tensor.shape for name, tensor in official.state_dict().items()
    }
    blocks = ours.image_encoder.blocks
    assert (len(blocks), blocks[0].attn.num_heads, ours.image_encoder.img_size) == (depth, heads, 1024)
    assert [i for i, block in enumerate(blocks) if block.window_size == 0] == everywhere
    assert {block.window_size for block in blocks} == {0, 14}
    assert ours.mask_decoder.transformer.num_heads == official.mask_decoder.transformer.num_heads
    assert official.image_encoder.pos_embed.shape[-1] == width


def test_only_mobile_sam_takes_another_size(checkpoint: Path) -> None:
    with pytest.raises(CheckpointError, match="image_size=512"):
        load_sam(checkpoint, image_size=512)


class Bomb:
    def __reduce__(self) -> tuple:
        return (print, ("boom",))


def test_a_pickle_with_code_is_not_opened(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    torch.save({"image_encoder.a": Bomb()}, tmp_path / "bomb.pth")
    with pytest.raises(CheckpointError, match="more than tensors"):
        load_segmenter(tmp_path / "bomb.pth")
    assert "boom" not in capsys.readouterr().out


def test_a_cut_file_is_named(checkpoint: Path) -> None:
    checkpoint.write_bytes(checkpoint.read_bytes()[:5000])
    with pytest.raises(CheckpointError, match="cannot be read"):
        load_segmenter(checkpoint)


def test_a_file_of_text_is_named(tmp_path: Path) -> None:
    (tmp_path / "notes.pth").write_text("not a model")
    with pytest.raises(CheckpointError, match="cannot be used"):
        load_segmenter(tmp_path / "notes.pth")


def test_tensors_of_another_model_are_named(tmp_path: Path) -> None:
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(CheckpointError, match="image_encoder"):
        load_segmenter(tmp_path / "other.pt")


def test_a_list_of_tensors_is_named(tmp_path: Path) -> None:
    torch.save([torch.zeros(2)], tmp_path / "list.pt")
    with pytest.raises(CheckpointError, match="no state dictionary"):
        load_segmenter(tmp_path / "list.pt")


def test_a_missing_tensor_is_named(vit: Sam, tmp_path: Path) -> None:
    state = vit.state_dict()
    del state["mask_decoder.iou_token.weight"]
    torch.save(state, tmp_path / "less.pth")
    with pytest.raises(CheckpointError, match="iou_token"):
        load_segmenter(tmp_path / "less.pth")


def test_a_tensor_too_many_is_named(vit: Sam, tmp_path: Path) -> None:
    torch.save(vit.state_dict() | {"mask_decoder.extra": torch.zeros(1)}, tmp_path / "more.pth")
    with pytest.raises(CheckpointError, match=r"mask_decoder\.extra"):
        load_segmenter(tmp_path / "more.pth")


def test_safetensors_are_loaded_too(vit: Sam, tmp_path: Path) -> None:
    save_file({name: tensor.contiguous() for name, tensor in vit.state_dict().items()}, tmp_path / "vit.safetensors")
    loaded = load_sam(tmp_path / "vit.safetensors").state_dict()
    assert all(torch.equal(tensor, loaded[name]) for name, tensor in vit.state_dict().items())


@pytest.mark.parametrize("name", ["gone.pth", "runs/gone.pt", "/nowhere/gone.pth"])
def test_a_missing_checkpoint_is_said_to_be_missing(name: str) -> None:
    with pytest.raises(UnknownSegmenterError, match="there is no such file"):
        load_segmenter(name)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_segmenter_computes_where_it_is_told(checkpoint: Path, image: np.ndarray) -> None:
    segmenter = load_segmenter(checkpoint, device="cuda")
    segmenter.set_image(image)
    assert segmenter.predictor.device.type == "cuda"
    assert segmenter.predict([(3, 3)])[0].shape == (1, 3, 90, 120)
