"""What a model is made of, counted on the smallest real FLUX."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from diffusers import FluxPipeline

from refam_analysis.models import load_model
from refam_analysis.models.base import DiffusionModel
from refam_analysis.models.description import block_table, part_table


@pytest.fixture(scope="module", name="model")
def _model(tiny_flux_pipeline: Callable[..., FluxPipeline]) -> DiffusionModel:
    return load_model(tiny_flux_pipeline())


def test_parts_are_those_with_weights(model: DiffusionModel) -> None:
    parts = part_table(model)["class"].to_dict()
    assert parts == {
        "transformer": "FluxTransformer2DModel",
        "text_encoder": "CLIPTextModel",
        "text_encoder_2": "T5EncoderModel",
        "vae": "AutoencoderTiny",
    }


def test_parameters_of_a_part_are_all_of_its_weights(model: DiffusionModel) -> None:
    weights = model.transformer.state_dict().values()
    assert part_table(model).loc["transformer", "parameters"] == sum(weight.numel() for weight in weights)


def test_blocks_are_counted_over_both_types(model: DiffusionModel) -> None:
    table = block_table(model)
    assert table["blocks"].to_dict() == {"double": "0 to 1", "single": "2 to 3"}
    assert table[["number", "heads", "head_width", "width"]].to_numpy().tolist() == [[2, 2, 16, 32]] * 2


def test_blocks_hold_most_of_the_transformer(model: DiffusionModel) -> None:
    table = block_table(model)
    inside = (table["number"] * table["parameters_each"]).sum()
    total = part_table(model).loc["transformer", "parameters"]
    assert total / 2 < inside < total
