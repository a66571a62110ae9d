"""The graphs of the page, run by onnxruntime in Python, against the package's own recordings and masks."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch

import refam_analysis as ra
from refam_analysis.models import DiffusionModel
from refam_analysis.prompts import DEFAULT_MAGNETS, make_prompt
from refam_analysis.scenes import Scenes
from refam_analysis.segmentation import load_segmenter, token_maps
from refam_analysis.segmentation.segmenters.embedded import SamConfig, load_embedded_sam, small_sam
from refam_analysis.segmentation.segmenters.sam import SamSegmenter
from refam_analysis.segmentation.settings import HeatmapSettings
from refam_analysis.widgets.browser import gallery, site
from refam_analysis.widgets.browser.export import Attention, attention_of, browser_settings, export_model
from refam_analysis.widgets.browser.graphs import onnx_graph
from refam_analysis.widgets.browser.parts import BrowserModelError, SegmenterMaskPart, SegmenterPicturePart

TEXT = "the red circle on the left"


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return ra.load_model("embedded")


@pytest.fixture(scope="module")
def attention(model: DiffusionModel) -> Attention:
    return attention_of(model)


@pytest.fixture(scope="module")
def files(model: DiffusionModel, attention: Attention) -> dict[str, bytes]:
    return export_model(model, load_embedded_sam(), attention)


@pytest.fixture(scope="module")
def ask(files: dict[str, bytes]) -> Callable[..., list[np.ndarray]]:
    def run(name: str, **given: np.ndarray) -> list[np.ndarray]:
        session = onnxruntime.InferenceSession(files[f"{name}.onnx"])
        found: list[np.ndarray] = session.run(None, given)
        return found

    return run


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    return Scenes("test", length=3)[2].image


def as_pixels(picture: np.ndarray) -> np.ndarray:
    return picture.transpose(2, 0, 1)[None].astype(np.float32)


def test_maps_are_those_of_record(
    model: DiffusionModel, attention: Attention, ask: Callable[..., list[np.ndarray]], picture: np.ndarray,
    files: dict[str, bytes],
) -> None:  # fmt: skip
    settings, prompt = attention.settings, make_prompt(TEXT, DEFAULT_MAGNETS)
    recordings = [
        ra.record(model, picture, TEXT, magnets=DEFAULT_MAGNETS, noise_level=settings.noise_levels, seed=seed)
        for seed in range(settings.seeds)
    ]
    ids = {"clip_ids": (model.pipeline.tokenizer, model.pipeline.tokenizer_max_length),
           "t5_ids": (model.pipeline.tokenizer_2, model.text_length)}  # fmt: skip
    given = {
        name: np.array([one(prompt.text, padding="max_length", max_length=length)["input_ids"]])
        for name, (one, length) in ids.items()
    }
    text = dict(zip(attention.part.text, ask("sentence", **given), strict=True))
    (latents,) = ask("picture", pixels=as_pixels(picture))
    noise = np.frombuffer(files["noise.bin"], "<f4").reshape(attention.noise.shape)
    maps, block_maps, from_text, from_image = ask("attention", latents=latents, noise=noise, **text)
    np.testing.assert_allclose(maps, token_maps(recordings, settings).values.reshape(maps.shape), atol=1e-5)
    directed = [one[settings.direction].mean(("step", "branch", "head")).transpose("block", "token", "y", "x").values
                for one in recordings]  # fmt: skip
    np.testing.assert_allclose(block_maps, np.mean(directed, axis=0).reshape(block_maps.shape), atol=1e-5)
    for found, side in ((from_text, "text"), (from_image, "image")):
        received = [one[f"received_from_{side}"].mean(("step", "branch", "head")).values for one in recordings]
        np.testing.assert_allclose(found, np.mean(received, axis=0), atol=1e-3)


def test_masks_are_those_of_the_segmenter(ask: Callable[..., list[np.ndarray]], picture: np.ndarray) -> None:
    segmenter = load_segmenter("embedded")
    segmenter.set_image(picture)
    (embedding,) = ask("segmenter-picture", pixels=as_pixels(picture))
    for point in ((47.5, 31.5), (10.0, 80.0)):
        masks, scores = segmenter.predict([point])
        logits, guesses = ask("segmenter-mask", embedding=embedding, point=np.array(point, np.float32))
        np.testing.assert_allclose(guesses, scores[0], atol=1e-4)
        assert ((logits > 0) == masks[0]).mean() > 0.999


def test_segmenter_of_another_size_sees_the_picture_resized() -> None:
    rng = torch.Generator().manual_seed(0)
    torch.manual_seed(0)
    sam = small_sam(SamConfig(image_size=48, patch_size=12, depth=1))
    picture = torch.randint(0, 256, (64, 64, 3), generator=rng, dtype=torch.uint8).numpy()
    pixels = torch.from_numpy(as_pixels(picture))
    part = SegmenterPicturePart(sam, (48, 48))
    graph = onnx_graph(part, [pixels], takes=["pixels"], gives=["embedding"])
    (embedding,) = onnxruntime.InferenceSession(graph).run(None, {"pixels": pixels.numpy()})
    segmenter = SamSegmenter(sam)
    segmenter.set_image(picture)
    # Pillow rounds between its two steps, and noise is the hardest picture: a few pixels differ by one of 255.
    assert np.abs(embedding - segmenter.predictor.features.numpy()).mean() < 0.01
    answer = SegmenterMaskPart(sam, (48, 48), (64, 64))(torch.from_numpy(embedding), torch.tensor([20.0, 30.0]))
    assert answer[0].shape == (3, 64, 64)


def test_no_fused_attention_and_no_place_of_this_machine_is_in_the_files(files: dict[str, bytes]) -> None:
    for name in (name for name in files if name.endswith(".onnx")):
        graph = onnx.load_from_string(files[name])
        assert "Attention" not in {node.op_type for node in graph.graph.node}
        assert b".py" not in files[name] and str(Path(ra.__file__).parent).encode() not in files[name]


def test_positions_are_constants(files: dict[str, bytes]) -> None:
    operators = {node.op_type for node in onnx.load_from_string(files["attention.onnx"]).graph.node}
    assert operators.isdisjoint({"Sin", "Cos", "Range"})


def test_weights_are_in_half_precision(files: dict[str, bytes], model: DiffusionModel) -> None:
    shipped = ra.weights.embedded_folder("embedded-dit") / "transformer" / "diffusion_pytorch_model.safetensors"
    assert len(files["attention.onnx"]) < 1.3 * shipped.stat().st_size


def test_graph_is_the_same_in_every_run(model: DiffusionModel, files: dict[str, bytes]) -> None:
    again = export_model(model, load_embedded_sam(), attention_of(model))
    assert {name for name in files if again[name] != files[name]} == set()


@pytest.mark.parametrize(
    "change",
    [{"direction": "text_to_image", "normalisation": "map"}, {"normalisation": "share", "blocks": (1, 2)},
     {"noise_levels": (0.3, 0.7), "seeds": 2}],
    ids=["text-to-image", "shares-of-blocks", "two-levels"],
)  # fmt: skip
def test_network_follows_the_settings(model: DiffusionModel, picture: np.ndarray, change: dict[str, Any]) -> None:
    settings = dataclasses.replace(HeatmapSettings(), **change)
    attention = attention_of(model, settings)
    recordings = [
        ra.record(model, picture, TEXT, noise_level=settings.noise_levels, seed=seed) for seed in range(settings.seeds)
    ]
    with torch.no_grad():
        inputs = attention.inputs(model.encode_images([picture]), model.encode_prompts([make_prompt(TEXT)]))
        maps = attention.part(*inputs)[0].numpy()
    np.testing.assert_allclose(maps, token_maps(recordings, settings).values.reshape(maps.shape), atol=1e-5)


def test_gallery_has_fifty_scenes_with_sentences_and_answers(model: DiffusionModel, attention: Attention) -> None:
    scenes = gallery.gallery(model)
    assert len(scenes) >= 50
    samples = [scenes[0], scenes[1]]
    assert len(gallery.pixels_of(samples)) == 2 * samples[0].image.size
    for sample, found in zip(samples, gallery.answers(model, attention, samples), strict=True):
        assert set(found["answers"]) == {expression.text for expression in sample.expressions}
        for text, answer in found["answers"].items():
            expected = ra.segment(model, sample.image, text, settings=attention.settings)
            assert answer["point"] == list(expected.point)
            assert len(answer["received"]["text"]) == len(attention.part.sites)


def test_another_family_is_refused(model: DiffusionModel) -> None:
    class Other:
        family = model.family

    with pytest.raises(BrowserModelError, match="A page runs models of the family flux"):
        attention_of(Other())  # type: ignore[arg-type]


def test_page_without_the_runtime_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(site.MissingRuntimeError, match="make _build/npm/.installed"):
        site.kept_site(tmp_path / "cache", tmp_path)


def test_about_says_how_the_page_reads(files: dict[str, bytes], model: DiffusionModel) -> None:
    about = json.loads(files["about.json"])
    assert about["settings"] == json.loads(json.dumps(browser_settings(model).to_dict()))
    assert about["magnets"] == list(DEFAULT_MAGNETS) and about["maskChoice"] in ("score", "agreement")
