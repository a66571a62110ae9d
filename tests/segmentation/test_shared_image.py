"""Several sentences about one image: the same answers as one by one, at the cost of one image."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from families.case import FamilyCase
from families.mochi import CASE as MOCHI
from families.wan import CASE as WAN
from torch import nn

from refam_analysis.evaluation.items import hard_items
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.prompts import PromptTooLongError
from refam_analysis.segmentation import (
    ExpressionsError,
    HeatmapSettings,
    MaskChoiceError,
    segment,
    segment_expressions,
    sentence_points,
)
from refam_analysis.segmentation.mask_choice import agreement
from refam_analysis.segmentation.segmenters.sam import SamSegmenter

SENTENCES = ["the red circle", "a ring on the left", "the small square", "the red circle", "one"]
WAYS = {
    "default": HeatmapSettings(),
    "draws and levels": HeatmapSettings(seeds=2, noise_levels=(0.3, 0.7), aggregation="product"),
    "switches": HeatmapSettings("text_to_image", "map", noun_phrase=True, spatial_bias=0.7, upsampling="bicubic"),
    "suppress": HeatmapSettings(gas="suppress"),
    "redirect": HeatmapSettings(gas="redirect", seeds=2),
}


@contextmanager
def counted(*modules: nn.Module) -> Iterator[list[int]]:
    """Batch sizes of the calls of modules while the block runs."""
    calls: list[int] = []

    def count(_: nn.Module, positional: tuple, named: dict) -> None:
        calls.append(len(next(iter((*positional, *named.values())))))

    hooks = [module.register_forward_pre_hook(count, with_kwargs=True) for module in modules]
    yield calls
    for hook in hooks:
        hook.remove()


@pytest.mark.parametrize("settings", WAYS.values(), ids=WAYS)
def test_results_are_those_of_one_by_one(
    model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter, settings: HeatmapSettings
) -> None:
    options = {"magnets": (".", "blue"), "segmenter": segmenter, "settings": settings, "seed": 4}
    together = segment_expressions(model, picture, SENTENCES, **options)
    assert [result.stages["prompt"].expression for result in together] == SENTENCES
    for sentence, result in zip(SENTENCES, together, strict=True):
        alone = segment(model, picture, sentence, **options)
        largest = float(alone.heatmap.max())
        np.testing.assert_allclose(result.heatmap, alone.heatmap, atol=1e-5 * largest, rtol=0)
        assert result.point == alone.point
        np.testing.assert_array_equal(result.mask, alone.mask)
        np.testing.assert_allclose(result.stages["scores"], alone.stages["scores"], atol=1e-5)
        assert list(result.stages) == list(alone.stages)


def test_the_image_is_encoded_once_and_sentences_run_together(
    model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter
) -> None:
    settings, vae = HeatmapSettings(seeds=3), model.pipeline.vae.encoder
    fresh = picture[::-1].copy()
    with (
        counted(vae) as encodings,
        counted(model.transformer) as passes,
        counted(model.pipeline.text_encoder_2) as texts,
        counted(segmenter.predictor.model.image_encoder) as segmentings,
    ):
        segment_expressions(model, fresh, SENTENCES, segmenter=segmenter, settings=settings, magnets=())
    assert encodings == [1] and segmentings == [1]
    assert passes == [len(SENTENCES)] * 3 and texts == [len(SENTENCES)]


def test_sentences_run_in_batches_of_the_given_size(
    model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter
) -> None:
    with counted(model.transformer) as passes, counted(model.pipeline.vae.encoder) as encodings:
        found = segment_expressions(model, picture, SENTENCES, segmenter=segmenter, magnets=(), batch_size=2)
    assert passes == [2, 2, 1] and encodings == [1] and len(found) == 5


def test_no_sentence_has_no_result(model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter) -> None:
    assert segment_expressions(model, picture, [], segmenter=segmenter) == []


def test_a_single_string_is_no_list_of_sentences(model: DiffusionModel, picture: np.ndarray) -> None:
    with pytest.raises(ExpressionsError, match="call segment"):
        segment_expressions(model, picture, "the red circle")


def test_all_sentences_are_checked_before_anything_is_computed(
    model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter
) -> None:
    with counted(model.transformer) as passes, pytest.raises(PromptTooLongError):
        segment_expressions(model, picture, ["the ring", "the red circle " * 9], segmenter=segmenter, magnets=())
    assert passes == []


def test_an_unknown_choice_of_masks_is_answered_with_those_there_are(
    model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter
) -> None:
    with pytest.raises(MaskChoiceError, match="score or agreement"):
        segment(model, picture, "the ring", magnets=(), segmenter=segmenter, mask_choice="best")  # type: ignore[arg-type]


def test_the_model_is_left_as_it_was(model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter) -> None:
    before = dict(vars(model))
    segment_expressions(model, picture, SENTENCES, segmenter=segmenter, magnets=())
    assert vars(model) == before


def test_the_mask_that_the_heatmap_agrees_with_is_taken_when_asked(
    model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter
) -> None:
    found = segment(model, picture, "the ring", magnets=(), segmenter=segmenter, mask_choice="agreement")
    stages = found.stages
    best = int(agreement(stages["masks"], stages["heatmap"]).argmax())
    assert stages["chosen"] == best
    np.testing.assert_array_equal(found.mask, stages["masks"][best])


def test_sentences_with_sinks_of_their_own_are_answered_alike(segmenter: SamSegmenter) -> None:
    """A scene of the embedded model that has sinks: each sentence's are handled in passes of its own."""
    embedded, (item,) = load_model("embedded"), hard_items("validation", 1, skip=42)
    settings = HeatmapSettings(gas="suppress", blocks=(3, 4))
    sentences = [item.expression, "the circle", "the red one"]
    together = segment_expressions(embedded, item.image, sentences, settings=settings, segmenter=segmenter, seed=168)
    handled = [result.stages["sinks"].query("handled")["position"].tolist() for result in together]
    assert any(handled)
    for sentence, result in zip(sentences, together, strict=True):
        alone = segment(embedded, item.image, sentence, settings=settings, segmenter=segmenter, seed=168)
        np.testing.assert_allclose(result.heatmap, alone.heatmap, atol=1e-5 * float(alone.heatmap.max()))


@pytest.mark.parametrize("case", [MOCHI, WAN], ids=str)
def test_a_video_family_sees_a_picture_as_its_first_frame(
    case: FamilyCase, tmp_path: Path, picture: np.ndarray, segmenter: SamSegmenter
) -> None:
    """Mochi drops padding, so that its sentences have sequences of different lengths; Wan has cross-attention."""
    case.build().save_pretrained(tmp_path)
    (tmp_path / "refam.json").write_text(json.dumps(case.settings))
    video = load_model(tmp_path)
    settings = HeatmapSettings(normalisation="raw", noun_phrase=True, spatial_bias=0.5, upsampling="bilinear")
    options = {"magnets": (".",), "segmenter": segmenter, "settings": settings}
    together = segment_expressions(video, picture, SENTENCES[:2], **options)
    for sentence, result in zip(SENTENCES, together, strict=False):
        alone = segment(video, picture, sentence, **options)
        assert result.stages["token_maps"].sizes["token"] == len(result.stages["recordings"][0].tokens)
        assert result.stages["patch_heatmap"].dims[0] == "frame" and result.heatmap.dims == ("y", "x")
        assert result.point == alone.point == tuple(sentence_points(
            [result.stages["recordings"]], [settings], [picture.shape[:2]]
        )[0, 0])  # fmt: skip
