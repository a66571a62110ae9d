"""Training on rich scenes: words, captions, latents, transformer, autoencoder and segmenter, from an empty folder."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderTiny
from transformers import T5Tokenizer

from refam_analysis.evaluation.clicks import click_accuracy
from refam_analysis.evaluation.grounding import grounding_accuracy
from refam_analysis.evaluation.items import scene_items
from refam_analysis.models import load_model
from refam_analysis.prompts import DEFAULT_MAGNETS
from refam_analysis.scenes import (
    HELD_OUT_SYNONYMS,
    MATERIALS,
    RICH_SHAPES,
    SYNONYMS,
    TEXTURES,
    SceneOptions,
    Scenes,
    caption_words,
    render,
)
from refam_analysis.scenes.expressions import rivals
from refam_analysis.segmentation.segmenters.embedded import SamConfig, small_sam
from refam_analysis.training.autoencoder import SOURCES, make_autoencoder
from refam_analysis.training.autoencoder import train as train_autoencoder
from refam_analysis.training.data import LESSONS, LatentScenes, training_scenes
from refam_analysis.training.dit import CONFIGURATIONS, Trainer
from refam_analysis.training.export import export
from refam_analysis.training.probe import READING, probe
from refam_analysis.training.sam import train as train_sam
from refam_analysis.training.text import TEXT_LENGTH, empty_words, make_t5_tokenizer
from refam_analysis.weights import embedded_folder

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def t5() -> T5Tokenizer:
    return make_t5_tokenizer("rich")


@pytest.fixture
def rich_folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    make_autoencoder().save_pretrained(tmp_path / "vae")
    return tmp_path


def latents(folder: Path, *, number: int = 8, size: int = 32) -> LatentScenes:
    return LatentScenes(folder, make_autoencoder().eval(), number=number, size=size, device=CPU, lesson="rich")


def deep_trainer(folder: Path) -> Trainer:
    return Trainer(folder, configuration=CONFIGURATIONS["deep"], seed=0, peak=3e-3, style="rich")


def test_every_word_of_a_caption_is_one_token(t5: T5Tokenizer) -> None:
    words = [*caption_words(), *DEFAULT_MAGNETS, "Red", "RING", "glossy", "Tangerine"]
    assert {word: len(t5.tokenize(word)) for word in words} == dict.fromkeys(words, 1)


def test_held_out_synonyms_fall_into_pieces(t5: T5Tokenizer) -> None:
    assert all(len(t5.tokenize(word)) > 1 for word in HELD_OUT_SYNONYMS.values())


@pytest.mark.parametrize("lesson", ["rich", "rich-easy", "rich-complete"])
def test_captions_with_strewn_words_fit_into_a_prompt(t5: T5Tokenizer, lesson: str) -> None:
    scenes, rng = training_scenes(400, 64, lesson), np.random.default_rng(0)
    lengths = [len(t5(LESSONS[lesson].describe(scene, rng)).input_ids) for scene in scenes]
    assert max(lengths) <= TEXT_LENGTH - 2


def test_empty_words_name_nothing_in_a_rich_scene() -> None:
    own = {*RICH_SHAPES, *MATERIALS, *TEXTURES, *HELD_OUT_SYNONYMS.values()}
    synonyms = {word for words in SYNONYMS.values() for word in words}
    assert not set(empty_words("rich")) & (own | synonyms)
    assert {"black", "the"} <= set(empty_words("rich"))


def test_every_other_scene_shares_a_colour_or_a_shape() -> None:
    scenes = training_scenes(80, 32, "rich")
    for scene in scenes[1::2]:
        pairs = itertools.combinations(scene.objects, 2)
        assert any((a.colour == b.colour) != (a.shape == b.shape) for a, b in pairs)
    assert {1, 6} <= {len(scene.objects) for scene in scenes}


def test_latents_of_rich_scenes_have_a_file_of_their_own(rich_folder: Path) -> None:
    data = latents(rich_folder)
    assert [path.name for path in rich_folder.glob("*.npy")] == ["latents-rich-32-8.npy"]
    encoded = make_autoencoder_from(rich_folder).encoder(render(data.scenes[:2], size=32).images * 2 - 1)
    assert data.latents[:2].shape == tuple(encoded.shape)
    captions = [c for seed in range(5) for c in data.batch(8, np.random.default_rng(seed))[1]]
    assert {word for caption in captions for word in caption.split()} & {*TEXTURES, "wooden", "stones", "rug"}


def test_the_easy_lesson_shows_few_whole_objects_on_faint_textures(rich_folder: Path) -> None:
    easy = LatentScenes(rich_folder, make_autoencoder().eval(), number=8, size=32, device=CPU, lesson="rich-easy")
    assert [path.name for path in rich_folder.glob("*.npy")] == ["latents-rich-easy-32-8.npy"]
    assert max(len(scene.objects) for scene in training_scenes(60, 32, "rich-easy")) == 3
    faint = render(easy.scenes[:2], size=32, texture=LESSONS["rich-easy"].texture).images
    encoded = make_autoencoder().eval().encoder(faint * 2 - 1)
    assert easy.latents[:2].shape == tuple(encoded.shape)
    assert "complete" in easy.lesson.describe.keywords  # type: ignore[attr-defined]


def make_autoencoder_from(folder: Path) -> torch.nn.Module:
    return make_autoencoder().from_pretrained(folder / "vae").eval()


def test_the_deep_transformer_learns_resumes_and_ships(rich_folder: Path) -> None:
    data = latents(rich_folder)
    learner = deep_trainer(rich_folder)
    losses = [learner.update(data, 4, 400) for _ in range(16)]
    assert sum(losses[-5:]) < 0.95 * sum(losses[:5])
    learner.save()
    following = learner.update(data, 4, 400)
    assert deep_trainer(rich_folder).update(data, 4, 400) == following
    export(rich_folder, rich_folder / "exported", configuration="deep")
    model = load_model(rich_folder / "exported")
    assert model.scene_style == "rich"
    assert len(model.transformer.transformer_blocks) + len(model.transformer.single_transformer_blocks) == 12


def test_the_autoencoder_sees_two_crops_a_picture_of_two_sizes() -> None:
    source = SOURCES["rich"]
    first, second = (source.batch(step, 4, 96, seed=0) for step in (0, 1))
    assert first.shape == second.shape == (4, 3, 48, 48)
    assert torch.equal(first, source.batch(0, 4, 96, seed=0))
    assert not torch.equal(first[:2], first[2:]), "two crops of one picture should differ"


def test_the_autoencoder_can_have_more_channels(tmp_path: Path) -> None:
    train_autoencoder(tmp_path, minutes=5, steps=2, batch=2, size=72, seed=0, style="rich", latent_channels=8)
    assert make_autoencoder_from(tmp_path).config.latent_channels == 8


def test_the_segmenter_trains_on_rich_scenes_and_is_measured(tmp_path: Path) -> None:
    small = SamConfig(image_size=48, patch_size=8, width=24, depth=1, embedding=32)
    model = train_sam(tmp_path, minutes=5, steps=2, batch=2, seed=0, config=small, style="rich")
    shown = click_accuracy(model, scenes=5, occlusion=0.5, style="rich")
    unlearnt = click_accuracy(small_sam(small), scenes=5, occlusion=0.5, style="rich")
    assert not np.allclose(unlearnt["iou"], shown["iou"])


def test_the_probe_asks_about_rich_scenes_that_need_more_than_one_attribute() -> None:
    said = probe(load_model("embedded"), items=4, style="rich")
    assert all(0 <= share <= 1 for share in said.values())
    options = SceneOptions(objects=(3, 3), shared_attribute=True, style="rich")
    scenes = Scenes("validation", length=4, options=options, kinds=("attribute", "location"), balanced=True)
    outcomes = grounding_accuracy(load_model("embedded"), scene_items(scenes), READING, sources=["model"]).outcomes
    assert said["probe_target"] == pytest.approx(outcomes["target"].mean(), abs=1e-4)
    for i in range(4):
        scene, (expression,) = scenes.draw(i)
        assert rivals(scene, expression.target)


def test_an_autoencoder_begins_with_the_weights_of_another(tmp_path: Path) -> None:
    start = embedded_folder("embedded-dit") / "vae"
    train_autoencoder(
        tmp_path, minutes=0, steps=9, batch=2, size=48, seed=0, style="rich", latent_channels=8, start=start
    )
    shipped = AutoencoderTiny.from_pretrained(start).float().eval()
    begun = make_autoencoder_from(tmp_path)
    picture = render(training_scenes(1, 48, "rich"), size=48).images * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(begun.encoder(picture)[:, :4], shipped.encoder(picture), atol=1e-5, rtol=1e-4)
