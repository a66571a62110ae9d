"""Points of many sentences at once are those of each by itself."""

from __future__ import annotations

import numpy as np
import pytest

from refam_analysis.models import DiffusionModel
from refam_analysis.recording import Recording
from refam_analysis.segmentation import HeatmapSettings, HeatmapSettingsError, heatmap, segment, sentence_points
from refam_analysis.segmentation.point import peak
from refam_analysis.segmentation.segmenters.sam import SamSegmenter

LEVELS = (0.3, 0.7)
MANY = [
    HeatmapSettings(noise_levels=LEVELS, seeds=2),
    HeatmapSettings("text_to_image", "map", noise_levels=LEVELS, seeds=2, spatial_bias=1.0),
    HeatmapSettings(normalisation="raw", noise_levels=LEVELS, seeds=2, noun_phrase=True, upsampling="bicubic"),
    HeatmapSettings(noise_levels=LEVELS, seeds=2, noun_phrase=True, spatial_bias=0.5, upsampling="bilinear"),
    HeatmapSettings(heads=((1, 0), (2, 1)), noise_levels=LEVELS, seeds=2, aggregation="product", spatial_bias=0.5),
]


def test_points_are_the_peaks_of_the_heatmaps(groups: list[list[Recording]]) -> None:
    sizes = [(60, 90), (30, 45)]
    points = sentence_points(groups, MANY, sizes)
    for item, (group, size) in enumerate(zip(groups, sizes, strict=True)):
        for way, settings in enumerate(MANY):
            assert tuple(points[item, way]) == peak(heatmap(group, settings), size)


def test_switches_move_points(groups: list[list[Recording]]) -> None:
    """So that the test above compares something."""
    first = sentence_points(groups, MANY, [(60, 90)] * 2)[0]
    assert len({tuple(point) for point in first}) > 2


@pytest.mark.parametrize("settings", MANY, ids=range(len(MANY)))
def test_points_are_those_of_segment(
    model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter, settings: HeatmapSettings
) -> None:
    found = segment(model, picture, "the red circle on the left", settings=settings, segmenter=segmenter, magnets=())
    group = found.stages["recordings"]
    assert tuple(sentence_points([group], [settings], [(60, 90)])[0, 0]) == found.point


def test_blocks_that_were_not_recorded_are_named(groups: list[list[Recording]]) -> None:
    with pytest.raises(HeatmapSettingsError, match="9"):
        sentence_points(groups, [HeatmapSettings(blocks=(9,))], [(60, 90)] * 2)
