"""The table of named weights says enough of each to fetch and to trust it."""

from __future__ import annotations

import re

import pytest

from refam_analysis.segmentation.segmenters import SEGMENTERS
from refam_analysis.weights import WEIGHTS, WeightsFile, WeightsRepository
from refam_analysis.weights.table import Address, HubFile, PackagedFile

FILES = [entry for entry in WEIGHTS.values() if isinstance(entry, WeightsFile)]


def test_mobile_sam_is_the_official_file() -> None:
    entry = WEIGHTS["mobile-sam"]
    assert isinstance(entry, WeightsFile)
    assert entry.size == 40_728_226
    assert entry.sha256 == "6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f"
    assert entry.licence == "Apache-2.0"
    assert [type(source) for source in entry.sources] == [HubFile, Address, PackagedFile]


@pytest.mark.parametrize("entry", FILES, ids=lambda entry: entry.name)
def test_a_file_has_a_sum_a_size_and_several_sources(entry: WeightsFile) -> None:
    assert re.fullmatch(r"[0-9a-f]{64}", entry.sha256)
    assert entry.size > 1e7 and len(entry.sources) >= 2
    assert all(not isinstance(source, Address) or source.url.startswith("https://") for source in entry.sources)


@pytest.mark.parametrize("name", WEIGHTS)
def test_all_weights_are_segmenters(name: str) -> None:
    assert name in SEGMENTERS and WEIGHTS[name].name == name and WEIGHTS[name].licence and WEIGHTS[name].about


def test_sam_2_comes_from_its_authors() -> None:
    repositories = {entry.repository for entry in WEIGHTS.values() if isinstance(entry, WeightsRepository)}
    assert len(repositories) == 8 and {name.partition("/")[0] for name in repositories} == {"facebook"}
