"""The cost model: counted operations against formulas written from the architectures, parts against their definition,
and the page on clusters against both."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
from diffusers import FluxTransformer2DModel

from refam_analysis.evaluation import costs
from refam_analysis.evaluation.datasets.catalogue import BENCHMARKS

PAGE = (Path(__file__).parents[2] / "book" / "cluster.md").read_text(encoding="utf-8")
WIDTH, MLP = 3072, 4
VAL = BENCHMARKS["refcoco"].published["val"]


def by_hand(text: int, image: int, double: int, single: int) -> int:
    """The large products of FLUX.1's blocks, two operations a multiplication; embeddings and modulation left out."""
    tokens = text + image
    attention = 2 * 2 * tokens**2 * WIDTH
    projections = 2 * tokens * WIDTH * WIDTH
    a_double = 4 * projections + 2 * MLP * projections + attention
    a_single = 3 * projections + MLP * projections + (1 + MLP) * projections + attention
    return double * a_double + single * a_single


@pytest.mark.parametrize("size", [256, 512, 1024])
@pytest.mark.parametrize("blocks", [10, 30, 57], ids=lambda blocks: f"{blocks}-blocks")
def test_operations_of_the_transformer_are_those_of_its_products(size: int, blocks: int) -> None:
    double = min(19, blocks)
    expected = by_hand(512, (size // 16) ** 2, double, blocks - double)
    assert costs.flux_work(size, blocks=blocks).transformer == pytest.approx(expected, rel=0.01)


def test_operations_of_the_text_encoder_are_those_of_its_products() -> None:
    products = 24 * (4 * 4096 * 4096 + 3 * 4096 * 10240) * 512
    attention = 24 * 2 * 512**2 * 4096
    assert costs.flux_work(256).text == pytest.approx(2 * (products + attention), rel=0.001)


def test_counting_has_the_released_number_of_parameters() -> None:
    with torch.device("meta"):
        transformer = FluxTransformer2DModel(guidance_embeds=True)
    assert sum(weight.numel() for weight in transformer.parameters()) == 11_901_408_320


@pytest.mark.parametrize(("size", "blocks"), [(500, 57), (0, 57), (512, 0), (512, 58)])
def test_what_flux_does_not_have_is_refused(size: int, blocks: int) -> None:
    with pytest.raises(costs.CostError, match="give"):
        costs.flux_work(size, blocks=blocks)


def test_parts_by_their_definition() -> None:
    work = costs.Work(size=512, blocks=57, transformer=4 * 10**12, text=10**12, autoencoder=2 * 10**12)
    gpu = costs.Accelerator("half", peak=2e12, share=0.5, segmenter=0.3)
    parts = costs.seconds_by_part(work, gpu, expressions=2.0, passes=3, recording=1.1, recorded=19)
    moved = 3 * 19 * 4 * 512 * 1024 * 24 / 5e9
    expected = {"transformer": 12.0, "recording": 12 * 0.1 / 3, "moving": moved, "text": 1.0, "autoencoder": 1.0,
                "segmenter": 0.15, "mask": 0.004}  # fmt: skip
    assert parts == pytest.approx(expected)


def test_a_pass_that_ends_early_pays_for_recording_by_the_blocks_that_run() -> None:
    """All blocks of a pass are recorded: it takes as many times as long as recording costs, however many they are."""
    work = costs.Work(size=512, blocks=10, transformer=10**12, text=0, autoencoder=0)
    parts = costs.seconds_by_part(work, costs.A100, expressions=1.0, recording=1.1, recorded=10)
    assert parts["recording"] == pytest.approx(0.1 * parts["transformer"])


def test_bytes_of_recordings_are_those_of_their_shapes() -> None:
    kept = costs.recording_bytes(costs.flux_work(512), row=700.0)
    assert kept["maps"] == 2 * 57 * 24 * 512 * 32 * 32 * 4
    assert kept["maps"] == 24 * kept["maps, mean of heads"]
    assert kept["full"] == 57 * 24 * 1536 * 1536 * 4
    assert (kept["row"], kept["heatmap"]) == (700.0, 32 * 32 * 4)


@pytest.mark.parametrize("gpu", [costs.A100, costs.H100], ids=lambda gpu: gpu.name)
@pytest.mark.parametrize("size", [512, 1024])
def test_hours_on_the_page_are_those_of_the_formula(size: int, gpu: costs.Accelerator) -> None:
    (row,) = re.findall(rf"\| {size} x {size} \| ([\d.]+) \| ([\d.]+) \|", PAGE)
    told = float(row[0 if gpu is costs.A100 else 1])
    parts = costs.seconds_by_part(
        costs.flux_work(size), gpu, expressions=VAL.expressions[0] / VAL.items, recording=1.08, recorded=10
    )
    expected = VAL.expressions[0] * sum(parts.values()) / 3600 / 8 / 0.9
    assert told == pytest.approx(expected, abs=0.005)
    assert f"{VAL.expressions[0]:,}" in PAGE
