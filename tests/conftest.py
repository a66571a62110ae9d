"""Fixtures that more than one room uses: the smallest real FLUX pipelines, and the whole softmax as a reference."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from families.parts import TINY_IMAGE_SIZE, TINY_TEXT_LENGTH, make_tiny_flux
from PIL import Image

from refam_analysis.segmentation.segmenters.embedded import SamConfig, save_embedded_sam, small_sam


@pytest.fixture(scope="session")
def tiny_flux_pipeline() -> Callable[..., FluxPipeline]:
    """The builder: ``tiny_flux_pipeline(autoencoder="tiny" | "kl", guidance=False)`` gives a fresh pipeline."""
    return make_tiny_flux


@pytest.fixture(scope="session")
def tiny_flux_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny FLUX pipeline with a ``refam.json``, for ``ra.load_model(folder)``. Do not write into it."""
    folder = tmp_path_factory.mktemp("tiny-flux")
    make_tiny_flux().save_pretrained(folder)
    defaults = {"image_size": TINY_IMAGE_SIZE, "text_length": TINY_TEXT_LENGTH, "steps": 2, "guidance": 1.0}
    (folder / "refam.json").write_text(json.dumps(defaults))
    return folder


@pytest.fixture(scope="session")
def tiny_sam(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A saved tiny ``Sam`` that has learnt nothing, for ``load_segmenter(folder)``. Do not write into it."""
    config = SamConfig(image_size=48, patch_size=8, width=24, depth=1, heads=2)
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("tiny-sam")
    save_embedded_sam(small_sam(config), config, folder)
    return folder


@pytest.fixture(scope="session")
def noise_png(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A picture of noise, 60 x 90. Do not write into it."""
    path = tmp_path_factory.mktemp("picture") / "scene.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), dtype=np.uint8)).save(path)
    return path


def _plain_attention(
    query: torch.Tensor,
    key: torch.Tensor,
    *,
    mask: torch.Tensor | None = None,
    causal: bool = False,
    scale: float | None = None,
) -> torch.Tensor:
    """Probabilities (batch, head, query, key) in float64; zeros where a query may attend to nothing."""
    key = key.repeat_interleave(query.shape[1] // key.shape[1], dim=1)
    scores = query.double() @ key.double().mT * (query.shape[-1] ** -0.5 if scale is None else scale)
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool).tril()
    if mask is not None and mask.dtype == torch.bool:
        scores = scores.masked_fill(~mask, float("-inf"))
    elif mask is not None:
        scores = scores + mask.double()
    return torch.softmax(scores, -1).nan_to_num(0.0)


def _plain_quantity(
    name: str, attention: torch.Tensor, text: slice, image: slice, *, mask: torch.Tensor | None = None
) -> torch.Tensor:
    """A quantity by its definition, (batch, head, ...), in float64.

    Args:
        mask: of the model; bool, or what is added to the scores, where a key at -1000 or less is masked.
    """
    sides = {"text": text, "image": image}
    if name == "full":
        return attention
    if name == "entropy":
        return torch.special.entr(attention).sum(-1)
    if name.startswith("entropy_over"):
        part = attention[..., sides[name.rsplit("_", 1)[1]]]
        mass = part.sum(-1, keepdim=True)
        return torch.special.entr(part / mass.where(mass > 0, 1.0)).sum(-1)
    if name == "mass_on_text":
        return attention[..., text].sum(-1)
    if "_to_" in name:
        rows, columns = name.split("_to_")
        return attention[..., sides[rows], :][..., sides[columns]]
    queries = sides[name.rsplit("_", 1)[1]]
    rows = attention[..., queries, :]
    if name.startswith("received"):
        if mask is None:
            return rows.mean(-2) * rows.shape[-1]
        allowed = (mask if mask.dtype == torch.bool else mask > -1000).expand(attention.shape)[..., queries, :]
        share = rows * allowed.count_nonzero(-1)[..., None]  # of what each query would give to each key it may choose
        return share.sum(-2) / rows.shape[-2]
    column = rows / rows.sum(-2, keepdim=True)
    return torch.special.entr(column).sum(-2).exp() / rows.shape[-2]


@pytest.fixture(scope="session")
def plain_attention() -> Callable[..., torch.Tensor]:
    """``plain_attention(query, key, *, mask, causal, scale)``: the whole softmax in float64."""
    return _plain_attention


@pytest.fixture(scope="session")
def plain_quantity() -> Callable[..., torch.Tensor]:
    """``plain_quantity(name, attention, text, image, mask=None)``: a quantity by its definition."""
    return _plain_quantity
