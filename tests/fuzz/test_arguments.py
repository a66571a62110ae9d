"""Any arguments of a recording, of how heatmaps are read, and of the probe's app: a result, or one of our sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from fuzz.mutating import examples, junk, texts
from refam_analysis.errors import RefamError
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.recording import Recording, estimate, record
from refam_analysis.segmentation import HeatmapSettings
from refam_analysis.widgets.server_settings import ServerSettings

IMAGE = np.zeros((40, 50, 3), np.uint8)
numbers = st.sampled_from([-(10**30), -1, 0, 1, 7, 33, 2**31, 2**63, 2**64, 10**30])
sizes = st.none() | st.tuples(numbers, numbers) | st.sampled_from([(32, 40), (33, 41)])
levels = st.floats() | st.lists(st.floats(), max_size=2) | st.just(0.5)


@pytest.fixture(scope="module")
def model(tiny_flux_folder: Path) -> DiffusionModel:
    return load_model(tiny_flux_folder)


@given(
    expression=texts,
    level=levels,
    seed=numbers,
    size=sizes,
    keep=st.none() | st.lists(st.sampled_from(["entropy", "full", "none"]) | texts, max_size=2),
    blocks=st.none() | st.lists(numbers, max_size=2),
)
@example(expression="a ring", level=0.5, seed=10**30, size=None, keep=None, blocks=None)
@example(expression="a ring", level=0.5, seed=-1, size=None, keep=None, blocks=None)
@example(expression="a ring", level=0.5, seed=0, size=(2**31, 2**31), keep=None, blocks=None)
@examples(40)
def test_any_arguments_of_a_recording(
    model: DiffusionModel, expression: str, level: Any, seed: int, size: Any, keep: Any, blocks: Any
) -> None:
    for run in (
        lambda: record(model, IMAGE, expression, noise_level=level, seed=seed, size=size, keep=keep, blocks=blocks),
        lambda: estimate(model, size=size, keep=keep, blocks=blocks, measure=False),
    ):
        try:
            found = run()
        except RefamError as error:
            assert str(error).endswith(".")
        else:
            assert not isinstance(found, Recording) or found.kept


FIELDS = ("direction", "normalisation", "blocks", "heads", "noise_levels", "seeds", "aggregation", "gas", "noun_phrase",
          "upsampling", "spatial_bias", "other")  # fmt: skip


@given(entries=st.dictionaries(st.sampled_from(FIELDS), junk, max_size=3))
@examples(300)
def test_any_settings_of_heatmaps(entries: dict[str, Any]) -> None:
    try:
        HeatmapSettings.from_dict(entries)
    except RefamError as error:
        assert str(error).endswith(".")


@given(
    host=texts,
    port=numbers,
    visitors=numbers,
    minutes=st.floats(),
    token=st.none() | texts,
    address=st.none()
    | texts
    | st.sampled_from(["http://[", "https://a:b/", "http://a/?b"])
    | texts.map("https://".__add__),
)
@example(host="a", port=1, visitors=1, minutes=1.0, token="t", address="http://[")  # no IPv6 address
@examples(150)
def test_any_settings_of_the_app(
    host: str, port: int, visitors: int, minutes: float, token: str | None, address: str | None
) -> None:
    try:
        settings = ServerSettings(
            host=host, port=port, visitors=visitors, idle_minutes=minutes, token=token, public_address=address
        )
        assert settings.base_url and settings.known_hosts and settings.address(settings.port)
    except RefamError as error:
        assert str(error).endswith(".")
