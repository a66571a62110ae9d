"""From a sentence to a mask: every stage follows from the one before, and bad input is answered in a sentence."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from refam_analysis.errors import RefamError
from refam_analysis.evaluation import hard_items
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.recording import UnknownBlockError, record
from refam_analysis.segmentation import HeatmapSettings, HeatmapSettingsError, SegmentationResult, segment
from refam_analysis.segmentation.heatmap import NoContentWordsError, heatmap
from refam_analysis.segmentation.pipeline import default_settings
from refam_analysis.segmentation.point import peak
from refam_analysis.segmentation.segmenters.sam import SamSegmenter

SENTENCE = "the red circle"


@pytest.fixture(scope="module")
def result(model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter) -> SegmentationResult:
    return segment(model, picture, SENTENCE, magnets=(".", "blue"), segmenter=segmenter, seed=3)


def test_the_mask_has_the_size_of_the_given_image(result: SegmentationResult, picture: np.ndarray) -> None:
    assert result.mask.shape == picture.shape[:2] == (60, 90)
    assert result.mask.dtype == bool
    assert result.heatmap.dims == ("y", "x") and result.heatmap.shape == (4, 5)


def test_every_stage_follows_from_the_one_before(
    result: SegmentationResult, model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter
) -> None:
    stages = result.stages
    np.testing.assert_array_equal(stages["image"], picture)
    assert stages["prompt"].text == "the red circle . blue"
    again = record(model, picture, SENTENCE, magnets=(".", "blue"), noise_level=0.6, seed=3)
    np.testing.assert_allclose(stages["recordings"][0]["image_to_text"], again["image_to_text"], atol=1e-6)
    np.testing.assert_allclose(result.heatmap, heatmap(again), atol=1e-6)
    np.testing.assert_allclose(stages["word_maps"].mean("word"), result.heatmap, rtol=1e-5)
    assert stages["token_maps"].sizes["token"] == model.text_length
    assert result.point == stages["point"] == peak(result.heatmap, (60, 90))
    segmenter.set_image(picture)
    masks, scores = segmenter.predict([result.point])
    np.testing.assert_array_equal(stages["masks"], masks[0])
    np.testing.assert_array_equal(result.mask, masks[0, np.argmax(scores[0])])


def test_a_seed_repeats_the_heatmap_and_another_does_not(
    result: SegmentationResult, model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter
) -> None:
    maps = [
        segment(model, picture, SENTENCE, magnets=(".", "blue"), segmenter=segmenter, seed=seed).heatmap
        for seed in (3, 4)
    ]
    np.testing.assert_array_equal(maps[0], result.heatmap)
    assert not np.allclose(maps[1], result.heatmap)


def test_noise_levels_and_seeds_are_averaged(
    model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter
) -> None:
    settings = HeatmapSettings(noise_levels=(0.2, 0.9), seeds=2)
    found = segment(model, picture, SENTENCE, magnets=(), segmenter=segmenter, settings=settings, seed=7)
    assert [recording.attrs["seed"] for recording in found.stages["recordings"]] == [7, 8]
    single = [
        heatmap(record(model, picture, SENTENCE, noise_level=level, seed=seed))
        for level in (0.2, 0.9) for seed in (7, 8)
    ]  # fmt: skip
    np.testing.assert_allclose(found.heatmap, np.mean(single, axis=0), rtol=1e-4)


def test_only_the_blocks_that_are_read_are_recorded(
    model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter
) -> None:
    settings = HeatmapSettings(heads=((1, 0), (3, 1)), direction="text_to_image")
    found = segment(model, picture, SENTENCE, magnets=(), segmenter=segmenter, settings=settings)
    (recording,) = found.stages["recordings"]
    assert recording.kept == ("text_to_image",)
    assert recording["text_to_image"]["block"].values.tolist() == [1, 3]


def test_a_model_folder_brings_its_own_settings(tiny_flux_folder: Path, tmp_path: Path) -> None:
    shutil.copytree(tiny_flux_folder, tmp_path / "model")
    about = tmp_path / "model" / "refam.json"
    own = {"blocks": [1], "noise_levels": [0.4], "aggregation": "product"}
    about.write_text(json.dumps({**json.loads(about.read_text()), "grounding": own}))
    assert default_settings(load_model(tmp_path / "model")) == HeatmapSettings.from_dict(own)
    about.write_text(json.dumps({**json.loads(about.read_text()), "grounding": {"blocks": []}}))
    with pytest.raises(HeatmapSettingsError, match="nothing is read"):
        default_settings(load_model(tmp_path / "model"))


def test_masks_are_by_default_of_the_segmenter_that_knows_the_model_s_scenes() -> None:
    (item,) = hard_items("test", 1, style="rich")
    rich = load_model("embedded-rich")
    masks = {
        name: segment(rich, item.image, item.expression, segmenter=name).mask
        for name in (None, "embedded-rich", "embedded")
    }
    np.testing.assert_array_equal(masks[None], masks["embedded-rich"])
    assert (masks[None] != masks["embedded"]).any()


def test_a_model_without_settings_takes_the_documented_ones(model: DiffusionModel) -> None:
    assert default_settings(model) == HeatmapSettings()


def test_blocks_that_the_model_lacks_are_named(
    model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter
) -> None:
    with pytest.raises(UnknownBlockError, match="9"):
        segment(model, picture, SENTENCE, segmenter=segmenter, magnets=(), settings=HeatmapSettings(blocks=(9,)))


def test_a_magnet_that_the_tokenizer_splits_is_one_magnet_and_is_never_read(
    model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter
) -> None:
    found = segment(model, picture, SENTENCE, magnets=("xyzzy",), segmenter=segmenter)
    magnets = [token for token in found.stages["recordings"][0].tokens if token.kind == "magnet"]
    assert len(magnets) > 1 and {token.word for token in magnets} == {"xyzzy"}
    assert found.stages["word_maps"]["text"].values.tolist() == ["red", "circle"]


BAD_SENTENCES = {
    "empty": ("", (), "'' is empty"),
    "blank": (" \t\n", (), "is empty"),
    "only stop words": ("is it the", ("red",), "holds only stop words"),
    "only punctuation": ("?!", (), "only stop words and punctuation"),
    "too long": ("the large red circle " * 8, (), "would be cut"),
    "too long with magnets": ("the red circle", ("xylophone",) * 4, "fewer magnets"),
    "empty magnet": ("the red circle", ("",), "magnet '' is empty"),
}


@pytest.mark.parametrize(("sentence", "magnets", "says"), BAD_SENTENCES.values(), ids=BAD_SENTENCES)
def test_a_sentence_that_cannot_be_used_is_answered_with_why(
    model: DiffusionModel,
    picture: np.ndarray,
    segmenter: SamSegmenter,
    sentence: str,
    magnets: tuple[str, ...],
    says: str,
) -> None:
    with pytest.raises(RefamError, match=says):
        segment(model, picture, sentence, magnets=magnets, segmenter=segmenter)


def test_only_stop_words_are_refused_before_anything_is_computed(model: DiffusionModel, picture: np.ndarray) -> None:
    """The segmenter does not exist either, but the sentence is what the caller hears of."""
    with pytest.raises(NoContentWordsError):
        segment(model, picture, "the", magnets=(), segmenter="none")


def with_nan() -> np.ndarray:
    values = np.full((16, 16, 3), 0.5)
    values[3, 4] = np.nan
    return values


BAD_IMAGES = {
    "one pixel": (np.zeros((1, 1, 3), np.uint8), "1 x 1 pixels"),
    "nothing": (np.zeros((0, 5, 3), np.uint8), "5 x 0 pixels"),
    "NaN": (with_nan(), "3 values of the image are NaN"),
    "no file": ("nowhere.png", "no such file"),
    "no picture": (None, "NoneType"),
}


@pytest.mark.parametrize(("image", "says"), BAD_IMAGES.values(), ids=BAD_IMAGES)
def test_an_image_that_cannot_be_used_is_answered_with_why(
    model: DiffusionModel, segmenter: SamSegmenter, image: object, says: str
) -> None:
    with pytest.raises(RefamError, match=says):
        segment(model, image, SENTENCE, magnets=(), segmenter=segmenter)  # type: ignore[arg-type]


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n cut"], ids=["empty", "text", "cut"])
def test_a_file_that_is_no_picture_is_named(
    model: DiffusionModel, segmenter: SamSegmenter, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "bad.png"
    path.write_bytes(content)
    with pytest.raises(RefamError, match=r"bad\.png.* cannot be read"):
        segment(model, path, SENTENCE, magnets=(), segmenter=segmenter)


@pytest.mark.parametrize("mode", ["CMYK", "P", "L", "LA", "RGBA", "1", "I;16"])
def test_pictures_of_every_mode_are_segmented(
    model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter, tmp_path: Path, mode: str
) -> None:
    image = Image.fromarray(picture)
    image = image.convert("L").convert("I;16") if mode == "I;16" else image.convert(mode)
    path = tmp_path / "picture.tiff"
    image.save(path)
    found = segment(model, path, SENTENCE, magnets=(), segmenter=segmenter)
    assert found.mask.shape == (60, 90) and found.stages["image"].shape == (60, 90, 3)


def test_a_rotated_photograph_is_segmented_upright(
    model: DiffusionModel, picture: np.ndarray, segmenter: SamSegmenter, tmp_path: Path
) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # turned by 90 degrees
    Image.fromarray(picture).save(tmp_path / "turned.png", exif=exif)
    found = segment(model, tmp_path / "turned.png", SENTENCE, magnets=(), segmenter=segmenter)
    assert found.mask.shape == (90, 60)
    np.testing.assert_array_equal(found.stages["image"], np.rot90(picture, -1))


@pytest.mark.parametrize("part", ["transformer", "vae", "text_encoder", "text_encoder_2", "tokenizer_2", "scheduler"])
def test_a_model_folder_that_lacks_a_part_is_answered_with_its_name(
    tiny_flux_folder: Path, tmp_path: Path, part: str
) -> None:
    shutil.copytree(tiny_flux_folder, tmp_path / "model")
    shutil.rmtree(tmp_path / "model" / part)
    with pytest.raises(RefamError, match=part):
        load_model(tmp_path / "model")
