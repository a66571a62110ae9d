"""Maps of information: that they are the difference of the training's losses, patch by patch, and find objects."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from refam_analysis.evaluation import (
    ESTIMATES,
    NoNoiseError,
    hard_items,
    hits,
    information_maps,
    information_of_each,
)
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.models.base import EMPTY_PROMPT, BatchError
from refam_analysis.prompts import make_prompt
from refam_analysis.segmentation.point import peaks
from refam_analysis.training.dit import image_positions, pack

SEED, LEVEL = 5, 0.8


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return load_model("embedded")


def velocity(model: DiffusionModel, noisy: torch.Tensor, prompt: Any) -> torch.Tensor:
    text = model.encode_prompts([prompt]).inputs["encoder_hidden_states"]
    pooled = torch.zeros(1, model.transformer.config.pooled_projection_dim)
    with torch.no_grad():
        return model.transformer(
            hidden_states=pack(noisy), timestep=torch.tensor([LEVEL]), encoder_hidden_states=text,
            pooled_projections=pooled, txt_ids=torch.zeros(text.shape[1], 3), img_ids=image_positions(12),
            return_dict=False,
        )[0]  # fmt: skip


def test_maps_are_differences_of_the_training_loss(model: DiffusionModel) -> None:
    item = hard_items("validation", 1)[0]
    maps = information_maps(model, [item.image], [item.expression], noise_levels=[LEVEL], draws=2, seed=SEED)
    clean = model.encode_images([item.image])
    expected = dict.fromkeys(ESTIMATES, torch.zeros(144))
    for k in range(2):
        noise = torch.randn(clean.shape[1:], generator=torch.Generator().manual_seed(SEED + k))[None]
        noisy, true = torch.lerp(clean, noise, LEVEL), pack(noise - clean)
        told, untold = (velocity(model, noisy, said) for said in (make_prompt(item.expression), EMPTY_PROMPT))
        gain = (untold - true).square() - (told - true).square()
        expected["gain"] = expected["gain"] + gain.mean(-1)[0] / 2
        expected["change"] = expected["change"] + (told - untold).square().mean(-1)[0] / 2
    for name in ESTIMATES:
        np.testing.assert_allclose(maps[name], expected[name].view(1, 12, 12), rtol=1e-3, atol=1e-5)


def test_an_item_does_not_depend_on_its_batch(model: DiffusionModel) -> None:
    items = hard_items("validation", 3)
    said = [item.expression for item in items]
    together = information_maps(model, [item.image for item in items], said, draws=2, seed=1)
    alone = information_maps(model, [items[2].image], said[2:], draws=2, seed=1 + 2 * 2)
    for name in ESTIMATES:
        np.testing.assert_allclose(together[name][2:], alone[name], rtol=1e-3, atol=1e-5)


def test_each_of_several_sayings_has_the_maps_that_it_has_alone(model: DiffusionModel) -> None:
    items = hard_items("validation", 2)
    images, own = [item.image for item in items], [item.expression for item in items]
    sayings = [own, own[::-1]]
    together = information_of_each(model, images, sayings, draws=2, seed=1)
    for saying, maps in zip(sayings, together, strict=True):
        alone = information_maps(model, images, saying, draws=2, seed=1)
        for name in ESTIMATES:
            np.testing.assert_array_equal(maps[name], alone[name])


def test_no_sentence_says_nothing(model: DiffusionModel) -> None:
    deaf = load_model("embedded")
    torch.nn.init.zeros_(deaf.pipeline.text_encoder_2.encoder.final_layer_norm.weight)
    item = hard_items("validation", 1)[0]
    maps = information_maps(deaf, [item.image], [item.expression], draws=1)
    for values in maps.values():
        np.testing.assert_allclose(values, 0.0, atol=1e-6)


def test_peaks_find_objects_that_another_scene_s_sentence_does_not(model: DiffusionModel) -> None:
    items = hard_items("validation", 24)
    images = [item.image for item in items]
    found = {}
    for name, shift in (("own", 0), ("other", 1)):
        said = [items[(i + shift) % len(items)].expression for i in range(len(items))]
        gain = information_maps(model, images, said, draws=3)["gain"]
        found[name] = hits(items, peaks(gain, items[0].image.shape[:2]))[:, 0].mean()
    assert found["own"] > 0.4 > 2 * found["other"] - 0.2


def test_clips_have_maps_over_time() -> None:
    model = load_model("embedded-video")
    frames = np.zeros((model.defaults.frames, 64, 64, 3), dtype=np.uint8)
    maps = information_maps(model, [list(frames)], ["the red ring"], noise_levels=[0.8], draws=1)
    assert maps["gain"].shape == (1, 3, 8, 8) and np.isfinite(maps["gain"]).all()


def test_without_noise_there_is_nothing_to_tell(model: DiffusionModel) -> None:
    with pytest.raises(NoNoiseError, match="levels above 0"):
        information_maps(model, [np.zeros((96, 96, 3), dtype=np.uint8)], ["one"], noise_levels=[0.5, 0.0])


def test_as_many_sentences_as_pictures(model: DiffusionModel) -> None:
    with pytest.raises(BatchError):
        information_maps(model, [np.zeros((96, 96, 3), dtype=np.uint8)], ["one", "two"], draws=1)
