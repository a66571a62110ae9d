"""The weights that ship: they load by the stock classes and by ours, they are small, and they say what they are."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline, MochiPipeline
from safetensors import safe_open

import refam_analysis as ra
from refam_analysis.experiments.provenance import SHIPPED_WEIGHTS
from refam_analysis.segmentation import load_segmenter
from refam_analysis.segmentation.segmenters import EMBEDDED_SEGMENTERS, embedded_segmenter
from refam_analysis.segmentation.segmenters.embedded import scenes_of_segmenter

FOLDERS = tuple(sorted(path.name for path in SHIPPED_WEIGHTS.iterdir() if path.is_dir()))
SAFETENSORS = sorted(SHIPPED_WEIGHTS.rglob("*.safetensors"))
LEAST_BLOCKS = 6
LEAST_GRID = 12


def shipped(name: str) -> Path:
    folder = SHIPPED_WEIGHTS / name
    if not folder.is_dir():
        pytest.skip(f"{name} does not ship yet")
    return folder


def test_weights_lie_where_the_package_looks_for_them() -> None:
    from refam_analysis.weights import embedded_folder

    assert embedded_folder("embedded-dit") == SHIPPED_WEIGHTS / "embedded-dit"


def test_the_stock_pipeline_loads_the_transformer_and_draws() -> None:
    pipeline = FluxPipeline.from_pretrained(shipped("embedded-dit"), dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(
        "a red circle", height=96, width=96, num_inference_steps=2, max_sequence_length=32, true_cfg_scale=3.0,
        negative_prompt="", generator=torch.Generator().manual_seed(0),
    ).images[0]  # fmt: skip
    ours = ra.load_model("embedded").generate("a red circle", steps=2, guidance=3.0)
    np.testing.assert_array_equal(np.asarray(drawn), np.asarray(ours))


def test_the_stock_video_pipeline_loads_the_transformer_and_draws() -> None:
    pipeline = MochiPipeline.from_pretrained(
        shipped("embedded-video"), dtype=torch.float32, force_zeros_for_empty_prompt=False
    )
    pipeline.set_progress_bar_config(disable=True)
    drawn = pipeline(
        "a red circle", height=64, width=64, num_frames=13, num_inference_steps=2, max_sequence_length=32,
        guidance_scale=3.0, generator=torch.Generator().manual_seed(0), output_type="pil",
    ).frames[0]  # fmt: skip
    ours = ra.load_model("embedded-video").generate("a red circle", steps=2, guidance=3.0)
    assert len(drawn) == len(ours) == 13
    for frame, other in zip(drawn, ours, strict=True):
        np.testing.assert_array_equal(np.asarray(frame), np.asarray(other))


def test_the_embedded_model_has_the_size_that_was_asked_for() -> None:
    model = ra.load_model("embedded")
    blocks = len(model.transformer.transformer_blocks), len(model.transformer.single_transformer_blocks)
    assert min(blocks) >= 1 and sum(blocks) >= LEAST_BLOCKS
    assert all(side // model.pixels_per_token >= LEAST_GRID for side in model.default_size)
    config = model.transformer.config
    assert config.in_channels < config.num_attention_heads * config.attention_head_dim / 2


def test_any_english_text_can_be_asked() -> None:
    model = ra.load_model("embedded")
    tokens = model.tokens(ra.make_prompt("The crimson Zeppelin, isn't it?"))
    assert len(tokens) == model.text_length
    assert {"crimson", "Zeppelin"} <= {token.word for token in tokens}
    assert all("unk" not in token.text for token in tokens)


@pytest.mark.parametrize("name", EMBEDDED_SEGMENTERS)
def test_embedded_segmenters_answer(name: str) -> None:
    shipped(EMBEDDED_SEGMENTERS[name])
    segmenter = load_segmenter(name)
    segmenter.set_image(np.zeros((96, 96, 3), np.uint8))
    masks, scores = segmenter.predict([(20, 30)])
    assert masks.shape == (1, 3, 96, 96) and scores.shape == (1, 3)


@pytest.mark.parametrize("path", SAFETENSORS, ids=lambda path: path.relative_to(SHIPPED_WEIGHTS).as_posix())
def test_weights_are_half_precision(path: Path) -> None:
    with safe_open(path, framework="pt") as opened:
        kinds = {str(opened.get_tensor(name).dtype) for name in opened.keys()}
    assert kinds - {"torch.int64"} == {"torch.float16"}


def test_weights_are_small() -> None:
    assert sum(path.stat().st_size for path in SAFETENSORS) < 40e6
    for folder in EMBEDDED_SEGMENTERS.values():
        assert sum(path.stat().st_size for path in (SHIPPED_WEIGHTS / folder).rglob("*.safetensors")) < 8e6


def test_a_segmenter_knows_the_scenes_that_it_ships_for() -> None:
    for style in ("plain", "rich"):
        assert scenes_of_segmenter(shipped(EMBEDDED_SEGMENTERS[embedded_segmenter(style)])) == style


@pytest.mark.parametrize("name", FOLDERS)
def test_a_model_card_says_what_it_is(name: str) -> None:
    card = shipped(name) / "README.md"
    assert card.is_file(), "python -m refam_analysis.training.card writes it"
    text = card.read_text(encoding="utf-8")
    assert text.startswith("---\nlicense: apache-2.0")
    for part in ("## Data", "## Training", "steps", "## Limits", "refam experiment"):
        assert part in text
