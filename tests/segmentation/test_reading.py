"""The arithmetic of heatmaps on random tensors, against loops and SciPy's means."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy.stats import gmean

from refam_analysis.segmentation import reading

WORDS = hnp.arrays(
    np.float32, st.tuples(st.integers(1, 5), st.integers(1, 7)), elements=st.floats(2**-10, 1.0, width=32)
)  # fmt: skip
FACTORS = st.lists(st.floats(0.125, 8, width=32), min_size=5, max_size=5)


@given(WORDS)
def test_the_product_is_the_geometric_mean_of_maps_that_sum_to_1(words: np.ndarray) -> None:
    found = reading.aggregate(torch.from_numpy(words), torch.ones(len(words), dtype=torch.bool), "product")
    expected = gmean(words.astype(np.float64) / words.sum(axis=1, keepdims=True, dtype=np.float64), axis=0)
    np.testing.assert_allclose(found, expected, rtol=1e-4)


@given(WORDS, FACTORS)
def test_the_product_does_not_care_how_strong_each_word_is(words: np.ndarray, factors: list[float]) -> None:
    maps, present = torch.from_numpy(words), torch.ones(len(words), dtype=torch.bool)
    scaled = maps * torch.tensor(factors[: len(words)])[:, None]
    torch.testing.assert_close(
        reading.aggregate(scaled, present, "product"), reading.aggregate(maps, present, "product"), rtol=1e-4, atol=1e-7
    )


@pytest.mark.parametrize("aggregation", ["mean", "product"])
@given(words=WORDS)
def test_words_that_an_item_lacks_do_not_count(aggregation: str, words: np.ndarray) -> None:
    """Two rows of noise, marked as missing, are appended."""
    alone = reading.aggregate(torch.from_numpy(words), torch.ones(len(words), dtype=torch.bool), aggregation)  # type: ignore[arg-type]
    padded = torch.cat([torch.from_numpy(words), torch.full((2, words.shape[1]), torch.nan)])
    present = torch.arange(len(padded)) < len(words)
    torch.testing.assert_close(reading.aggregate(padded, present, aggregation), alone)  # type: ignore[arg-type]


def test_a_patch_that_one_word_leaves_out_is_lost_to_the_product() -> None:
    words = torch.tensor([[0.9, 0.1, 0.0], [0.0, 0.1, 0.9]])
    product = reading.aggregate(words, torch.tensor([True, True]), "product")
    assert product.argmax() == 1
    assert product[0] < 1e-10 and product[2] < 1e-10


def test_sites_are_averaged_as_weighted() -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(2, 3, 4, 5, 6, generator=generator)
    weights = torch.rand(7, 3, 4, generator=generator)
    found = reading.average_sites(maps, weights)
    assert found.shape == (2, 7, 5, 6)
    for item, choice in np.ndindex(2, 7):
        expected = sum(weights[choice, b, h] * maps[item, b, h] for b, h in np.ndindex(3, 4))
        torch.testing.assert_close(found[item, choice], expected)


@pytest.mark.parametrize("axes", [1, 2, 3], ids=lambda n: f"{n} more axes")
def test_tokens_are_averaged_in_every_block_and_head(axes: int) -> None:
    generator = torch.Generator().manual_seed(0)
    maps = torch.rand(2, *[3] * (axes - 1), 4, 6, generator=generator)
    weights = torch.zeros(2, 2, 4)
    weights[0, 0, [1, 3]], weights[0, 1, 0], weights[1, 0, 2] = 0.5, 1.0, 1.0
    found = reading.average_tokens(maps, weights)
    torch.testing.assert_close(found[0, ..., 0, :], (maps[0, ..., 1, :] + maps[0, ..., 3, :]) / 2)
    torch.testing.assert_close(found[0, ..., 1, :], maps[0, ..., 0, :])
    torch.testing.assert_close(found[1, ..., 0, :], maps[1, ..., 2, :])
    assert not found[1, ..., 1, :].any()
