"""Heatmap settings: what they refuse, and that they survive JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from refam_analysis.segmentation.settings import HeatmapSettings, HeatmapSettingsError

BLOCKS = st.none() | st.just("informative") | st.lists(st.integers(0, 56), min_size=1)
HEADS = st.none() | st.lists(st.tuples(st.integers(0, 56), st.integers(0, 23)), min_size=1)
SETTINGS = st.builds(
    lambda sites, **others: HeatmapSettings(**sites, **others),
    st.builds(lambda blocks: {"blocks": blocks}, BLOCKS) | st.builds(lambda heads: {"heads": heads}, HEADS),
    direction=st.sampled_from(["image_to_text", "text_to_image"]),
    normalisation=st.sampled_from(["raw", "map", "share"]),
    aggregation=st.sampled_from(["mean", "product"]),
    noise_levels=st.lists(st.floats(0, 1), min_size=1),
    seeds=st.integers(1, 5),
    gas=st.sampled_from(["none", "suppress", "redirect"]),
    noun_phrase=st.booleans(),
    upsampling=st.sampled_from(["none", "bilinear", "bicubic"]),
    spatial_bias=st.floats(0, 1),
)


@given(SETTINGS)
def test_settings_survive_json_and_can_be_used_as_keys(settings: HeatmapSettings) -> None:
    again = HeatmapSettings.from_dict(json.loads(json.dumps(settings.to_dict())))
    assert again == settings and hash(again) == hash(settings)


@given(HEADS.filter(bool))
def test_the_blocks_of_the_heads_are_recorded(heads: list[tuple[int, int]]) -> None:
    assert HeatmapSettings(heads=heads).recorded_blocks == tuple(sorted({block for block, _ in heads}))


@pytest.mark.parametrize(
    ("entries", "says"),
    [
        ({"direction": "sideways"}, "image_to_text or text_to_image"),
        ({"normalisation": "none"}, "raw or map or share"),
        ({"aggregation": "max"}, "mean or product"),
        ({"blocks": [0], "heads": [[0, 1]]}, "leave one out"),
        ({"blocks": []}, "nothing is read"),
        ({"heads": []}, "nothing is read"),
        ({"noise_levels": []}, "noise_levels"),
        ({"noise_levels": [1.1]}, "1.1"),
        ({"noise_levels": [float("nan")]}, "nan"),
        ({"noise_levels": 0.6}, "cannot be read"),
        ({"heads": [3]}, "cannot be read"),
        ({"blocks": ["a"]}, "cannot be read"),
        ({"seeds": 0}, "noise draws"),
        ({"seeds": 1.5}, "noise draws"),
        ({"blocks": "deep"}, "'informative'"),
        ({"blocks": "informative", "heads": [[0, 1]]}, "leave one out"),
        ({"gas": "some"}, "none or suppress or redirect"),
        ({"upsampling": "cubic"}, "none or bilinear or bicubic"),
        ({"noun_phrase": "yes"}, "true or false"),
        ({"spatial_bias": 1.5}, "from 0"),
        ({"spatial_bias": "strong"}, "cannot be read"),
        ({"block": 1}, "no block"),
    ],
    ids=str,
)
def test_settings_that_mean_nothing_are_refused(entries: dict[str, Any], says: str) -> None:
    with pytest.raises(HeatmapSettingsError, match=says):
        HeatmapSettings.from_dict(entries)


def test_a_number_in_the_place_of_a_list_is_refused_however_it_is_given() -> None:
    with pytest.raises(HeatmapSettingsError, match="noise_levels are lists of numbers"):
        HeatmapSettings(noise_levels=0.6)  # type: ignore[arg-type]
