"""The small Sam in its folder, and any Sam behind the protocol, on random weights of a very small size."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from segment_anything import SamPredictor
from segment_anything.modeling import Sam

from refam_analysis.models import load_model
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.segmenters import (
    Segmenter,
    SegmenterInputError,
    UnknownSegmenterError,
    device_beside,
    load_segmenter,
    load_segmenter_for,
)
from refam_analysis.segmentation.segmenters.base import NoImageError
from refam_analysis.segmentation.segmenters.embedded import (
    SamConfig,
    SamConfigError,
    SegmenterFolderError,
    load_embedded_sam,
    save_embedded_sam,
    scenes_of_segmenter,
    small_sam,
)
from refam_analysis.segmentation.segmenters.sam import SamSegmenter

TINY = SamConfig(image_size=48, patch_size=8, width=24, depth=1, heads=2, embedding=32, decoder_depth=1)


@pytest.fixture(scope="module")
def sam() -> Sam:
    torch.manual_seed(0)
    return small_sam(TINY)


@pytest.fixture
def image() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (30, 50, 3), dtype=np.uint8)


def test_the_default_is_a_sam_under_8_megabytes_that_draws_64_pixel_masks() -> None:
    config = SamConfig()
    model = small_sam(config)
    assert isinstance(model, Sam) and not model.training
    assert sum(weight.numel() for weight in model.parameters()) * 4 < 8e6
    assert model.image_encoder(torch.zeros(1, 3, 96, 96)).shape == (1, 64, config.grid, config.grid)
    assert model.prompt_encoder.mask_input_size == (config.mask_size, config.mask_size) == (64, 64)


def test_a_segmenter_is_put_where_the_model_is_unless_it_ships_or_is_loaded(sam: Sam) -> None:
    class OnTheGpu:
        device = torch.device("cuda", 1)

    model: Any = OnTheGpu()
    assert device_beside(model, "sam-vit-h") == device_beside(model, Path("sam.pth")) == torch.device("cuda", 1)
    assert device_beside(model, "embedded") is None and device_beside(model, SamSegmenter(sam)) is None


@pytest.mark.parametrize("name", ["embedded", "embedded-rich"])
def test_the_segmenter_of_a_model_s_own_scenes_goes_with_it(name: str, image: np.ndarray) -> None:
    ours, named = load_segmenter_for(load_model(name)), load_segmenter(name)
    for segmenter in (ours, named):
        segmenter.set_image(image)
    for own, asked in zip(ours.predict([(20.0, 10.0)]), named.predict([(20.0, 10.0)]), strict=True):
        np.testing.assert_array_equal(own, asked)


def test_another_segmenter_may_be_asked_for(sam: Sam) -> None:
    other = SamSegmenter(sam)
    assert load_segmenter_for(load_model("embedded-rich"), other) is other


def test_a_seed_repeats_the_random_weights() -> None:
    states = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        states.append(torch.cat([tensor.flatten() for tensor in small_sam(TINY).state_dict().values()]))
    assert torch.equal(states[0], states[1]) and not torch.equal(states[0], states[2])


def test_what_was_saved_is_loaded_up_to_half_precision(sam: Sam, tmp_path: Path) -> None:
    save_embedded_sam(sam, TINY, tmp_path / "new" / "folder")
    loaded = load_embedded_sam(tmp_path / "new" / "folder")
    assert not loaded.training
    for name, tensor in sam.state_dict().items():
        assert loaded.state_dict()[name].dtype == torch.float32
        torch.testing.assert_close(loaded.state_dict()[name], tensor, rtol=1e-3, atol=1e-7)


@pytest.mark.parametrize("style", ["plain", "rich"])
def test_a_folder_says_which_scenes_its_segmenter_knows(sam: Sam, tmp_path: Path, style: Style) -> None:
    save_embedded_sam(sam, TINY, tmp_path, scenes=style)
    assert scenes_of_segmenter(tmp_path) == style
    load_embedded_sam(tmp_path)


def test_scenes_that_there_are_not_are_named(sam: Sam, tmp_path: Path) -> None:
    save_embedded_sam(sam, TINY, tmp_path)
    entries = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(entries | {"scenes": "baroque"}))
    with pytest.raises(SegmenterFolderError, match="baroque"):
        scenes_of_segmenter(tmp_path)


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_folder_that_lacks_a_file_is_named(sam: Sam, tmp_path: Path, name: str) -> None:
    save_embedded_sam(sam, TINY, tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(SegmenterFolderError, match=f"{name} is missing"):
        load_embedded_sam(tmp_path)


@pytest.mark.parametrize("text", ["{", "[1]", '{"colour": 3}', '{"width": 25}', '{"depth": "2"}'], ids=str)
def test_a_config_that_cannot_be_used_is_named(sam: Sam, tmp_path: Path, text: str) -> None:
    save_embedded_sam(sam, TINY, tmp_path)
    (tmp_path / "config.json").write_text(text)
    with pytest.raises(SegmenterFolderError, match=r"config\.json cannot be used"):
        load_embedded_sam(tmp_path)


def test_a_cut_weights_file_is_named(sam: Sam, tmp_path: Path) -> None:
    save_embedded_sam(sam, TINY, tmp_path)
    weights = tmp_path / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(SegmenterFolderError, match="cannot be read"):
        load_embedded_sam(tmp_path)


def test_weights_of_another_size_are_named(sam: Sam, tmp_path: Path) -> None:
    save_embedded_sam(sam, TINY, tmp_path)
    config = json.loads((tmp_path / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config | {"width": 48}))
    with pytest.raises(SegmenterFolderError, match="does not fit"):
        load_embedded_sam(tmp_path)


@pytest.mark.parametrize(
    ("sizes", "says"),
    [
        ({"patch_size": 7}, "96 / 7"),
        ({"heads": 5}, "width by heads"),
        ({"embedding": 36}, "embedding by 8"),
        ({"decoder_heads": 3}, "decoder_heads"),
        ({"depth": 0}, "depth is 0"),
    ],
    ids=lambda value: str(value),
)
def test_sizes_that_do_not_fit_are_refused(sizes: dict[str, int], says: str) -> None:
    with pytest.raises(SamConfigError, match=says):
        SamConfig(**sizes)


def test_masks_are_those_of_sams_own_predictor(sam: Sam, image: np.ndarray) -> None:
    segmenter, predictor = SamSegmenter(sam), SamPredictor(sam)
    segmenter.set_image(image)
    predictor.set_image(image)
    points = [(3.0, 5.0), (40.5, 20.25)]
    masks, scores = segmenter.predict(points)
    assert masks.shape == (2, 3, 30, 50) and masks.dtype == bool
    assert masks.any() and not masks.all()
    for point, ours, guess in zip(points, masks, scores, strict=True):
        theirs, expected, _ = predictor.predict(np.array([point]), np.array([1]))
        np.testing.assert_allclose(guess, expected, rtol=1e-5, atol=1e-6)
        assert (ours == theirs).mean() > 0.999


def test_a_point_is_answered_alike_alone_and_among_others(sam: Sam, image: np.ndarray) -> None:
    segmenter = SamSegmenter(sam)
    segmenter.set_image(image)
    together, _ = segmenter.predict([(3, 5), (40, 20), (10, 29)])
    alone, _ = segmenter.predict([(40, 20)])
    assert (together[1] == alone[0]).mean() > 0.999


def test_the_same_image_is_encoded_once(sam: Sam, image: np.ndarray) -> None:
    segmenter, seen = SamSegmenter(sam), []
    hook = sam.image_encoder.register_forward_hook(lambda *_: seen.append(1))
    try:
        for picture in (image, image.copy(), image[:, ::-1], image):
            segmenter.set_image(np.ascontiguousarray(picture))
    finally:
        hook.remove()
    assert len(seen) == 3


def test_an_interrupted_encoding_leaves_no_image_behind(sam: Sam, image: np.ndarray) -> None:
    segmenter = SamSegmenter(sam)
    segmenter.set_image(image)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    hook = sam.image_encoder.register_forward_pre_hook(interrupt)
    with pytest.raises(KeyboardInterrupt):
        segmenter.set_image(image[::-1].copy())
    hook.remove()
    with pytest.raises(NoImageError):
        segmenter.predict([(0, 0)])
    segmenter.set_image(image)
    assert segmenter.predict([(0, 0)])[0].shape == (1, 3, 30, 50)


def test_predict_before_set_image_names_the_missing_call(sam: Sam) -> None:
    with pytest.raises(NoImageError, match="set_image"):
        SamSegmenter(sam).predict([(0, 0)])


@pytest.mark.parametrize("point", [(50, 3), (-1, 3), (3, 30), (float("nan"), 3)], ids=str)
def test_a_point_outside_the_image_is_refused(sam: Sam, image: np.ndarray, point: tuple[float, float]) -> None:
    segmenter = SamSegmenter(sam)
    segmenter.set_image(image)
    with pytest.raises(SegmenterInputError, match="50 x 30"):
        segmenter.predict([(0, 0), point])


@pytest.mark.parametrize("points", [(3, 5), [(1, 2, 3)], 7], ids=str)
def test_points_of_another_shape_are_refused(sam: Sam, image: np.ndarray, points: object) -> None:
    segmenter = SamSegmenter(sam)
    segmenter.set_image(image)
    with pytest.raises(SegmenterInputError, match=r"\(points, 2\)"):
        segmenter.predict(points)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)],
                         ids=["gray", "float", "empty"])  # fmt: skip
def test_an_image_of_another_form_is_refused(sam: Sam, wrong: np.ndarray) -> None:
    with pytest.raises(SegmenterInputError, match="uint8"):
        SamSegmenter(sam).set_image(wrong)


def test_a_segmenter_object_is_taken_as_it_is(sam: Sam) -> None:
    segmenter = SamSegmenter(sam)
    assert isinstance(segmenter, Segmenter)
    assert load_segmenter(segmenter) is segmenter


@pytest.mark.parametrize("source", ["sam3", 5, None], ids=str)
def test_an_unknown_segmenter_is_answered_with_those_there_are(source: object) -> None:
    with pytest.raises(UnknownSegmenterError, match="'embedded'"):
        load_segmenter(source)  # type: ignore[arg-type]
