"""The video model's training: captions of motion, exact resumption, learning, a folder that is recorded."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKLMochi

import refam_analysis as ra
from refam_analysis.evaluation import (
    SearchSpace,
    choose_settings,
    grounding_accuracy,
    moving_accuracy,
    moving_items,
)
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.prompts import make_prompt
from refam_analysis.scenes import MovingScenes, Scene, SceneObject
from refam_analysis.segmentation import HeatmapSettings
from refam_analysis.segmentation.segmenters import load_segmenter
from refam_analysis.training.clips import LatentClips, clip_pixels, describe_motion, training_motion
from refam_analysis.training.probe import READING
from refam_analysis.training.video import CONFIGURATIONS, VideoTrainer, export_video, probe_video, video_loss
from refam_analysis.training.video_autoencoder import make_video_autoencoder, standardise
from refam_analysis.training.video_autoencoder import train as train_autoencoder

CPU = torch.device("cpu")
Exported = tuple[VideoTrainer, DiffusionModel, list[float]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A working folder with an autoencoder that has learnt nothing, and the latents of a few clips."""
    folder = tmp_path_factory.mktemp("video")
    torch.manual_seed(0)
    vae = make_video_autoencoder()
    standardise(vae, clip_pixels([training_motion(i) for i in range(4)], 7, 32))
    vae.eval().save_pretrained(folder / "vae")
    return folder


@pytest.fixture(scope="module")
def data(folder: Path) -> LatentClips:
    vae = AutoencoderKLMochi.from_pretrained(folder / "vae").eval()
    return LatentClips(folder, vae, number=6, frames=7, size=32, device=CPU)


def trainer(folder: Path, *, peak: float = 1e-3) -> VideoTrainer:
    return VideoTrainer(folder, configuration=CONFIGURATIONS["small"], seed=0, peak=peak)


@pytest.fixture(scope="module")
def exported(folder: Path, data: LatentClips) -> Exported:
    """A training that learnt, stopped, and was written out; its checkpoint stays."""
    learner = trainer(folder, peak=3e-3)
    losses = [learner.update(data, 6, 400) for _ in range(30)]
    learner.average.load_state_dict({k: v.half().float() for k, v in learner.average.state_dict().items()})
    learner.save()
    export_video(folder, folder / "exported", configuration="small", size=32, frames=7)
    return learner, load_model(folder / "exported"), losses


def test_captions_name_the_direction_of_what_moves_and_of_nothing_else() -> None:
    moving = SceneObject("ring", "red", "large", 0.2, 0.5, 0.16, velocity=(0.0, -0.02))
    still = SceneObject("star", "blue", "small", 0.8, 0.5, 0.1)
    captions = [describe_motion(Scene((moving, still), "navy"), np.random.default_rng(i)) for i in range(300)]
    told = [caption for caption in captions if "moving" in caption]
    assert 90 < len(told) < 200
    assert all(caption.count("moving") == caption.count("moving up") == 1 for caption in told)
    assert not any("blue star moving" in caption for caption in told)


def test_training_clips_move_and_are_the_same_every_time() -> None:
    motion = training_motion(5)
    assert motion == training_motion(5) != training_motion(6)
    pixels = clip_pixels([motion], 7, 32)
    assert pixels.shape == (1, 3, 7, 32, 32) and pixels.abs().max() <= 1
    assert (pixels[0, :, 0] - pixels[0, :, 6]).abs().max() > 0.2


def test_latents_are_standardised_and_cached(folder: Path, data: LatentClips) -> None:
    assert data.latents.shape == (6, 12, 2, 4, 4)
    latents, captions = data.batch(6, np.random.default_rng(0))
    assert latents.dtype == torch.float32 and len(captions) == 6
    again = LatentClips(folder, make_video_autoencoder(), number=6, frames=7, size=32, device=CPU)
    np.testing.assert_array_equal(again.latents, data.latents)


def test_a_resumed_run_equals_an_undisturbed_one(folder: Path, data: LatentClips, tmp_path: Path) -> None:
    undisturbed = trainer(tmp_path)
    for _ in range(2):
        undisturbed.update(data, 2, 100)
    undisturbed.save()
    losses = [undisturbed.update(data, 2, 100) for _ in range(2)]
    resumed = trainer(tmp_path)
    assert [resumed.update(data, 2, 100) for _ in range(2)] == losses
    for kept, again in zip(undisturbed.average.parameters(), resumed.average.parameters(), strict=True):
        assert torch.equal(kept, again)


def test_the_loss_falls(exported: Exported) -> None:
    losses = exported[2]
    assert sum(losses[-8:]) < 0.85 * sum(losses[:8])


def test_the_text_reaches_the_model_through_attention_alone(exported: Exported) -> None:
    embed = exported[0].model.transformer.time_embed
    ids, mask = exported[0].tokens(["a red ring", "a blue star moving up on the left"])
    states = exported[0].model.t5(ids, attention_mask=mask)[0]
    modulation, _ = embed(torch.tensor([500.0, 500.0]), states, mask, hidden_dtype=torch.float32)
    assert torch.equal(modulation[0], modulation[1])


def test_the_exported_folder_predicts_what_was_trained(exported: Exported) -> None:
    learner, model, _ = exported
    latents = torch.randn(1, 12, 2, 4, 4, generator=torch.Generator().manual_seed(1))
    prompt = make_prompt("a red circle moving to the left")
    inputs = model.forward_inputs(latents, model.encode_prompts([prompt]), noise_level=0.6, seeds=[3])
    ids, mask = learner.tokens([prompt.text])
    with torch.inference_mode():
        predicted = model.transformer(**inputs.kwargs)[0]
        expected = learner.average(inputs.kwargs["hidden_states"], torch.tensor([0.6]), ids, mask)
    torch.testing.assert_close(predicted, expected, atol=2e-4, rtol=1e-3)


def test_the_exported_folder_is_recorded_frame_by_frame(exported: Exported) -> None:
    model = exported[1]
    assert (model.defaults.frames, model.default_size, model.frames_per_latent) == (7, (32, 32), 6)
    frames = [frame.numpy() for frame in (clip_pixels([training_motion(0)], 7, 32)[0].permute(1, 2, 3, 0) + 1) * 127]
    recording = ra.record(model, [frame.astype(np.uint8) for frame in frames], "the ring moving up", noise_level=0.6)
    maps = recording["image_to_text"]
    assert maps.dims[-4:] == ("frame", "y", "x", "token") and maps.shape[-4:-1] == (2, 4, 4)
    assert [token.text for token in recording.tokens][:4] == ["the", "ring", "moving", "up"]


def test_where_words_point_is_a_share_of_clips(exported: Exported) -> None:
    assert probe_video(exported[1], clips=2)["probe_target"] in (0.0, 0.5, 1.0)


def test_an_object_is_followed_from_where_the_exported_model_points(exported: Exported, tiny_sam: Path) -> None:
    frames = [
        (frame * 127.5 + 127.5).byte().numpy()
        for frame in clip_pixels([training_motion(0)], 9, 48)[0].permute(1, 2, 3, 0)
    ]
    segmenter = load_segmenter(tiny_sam)
    for clip, latents in ((1, 1), (None, 2)):
        found = ra.segment_video(exported[1], frames, "the ring moving up", segmenter=segmenter, clip=clip)
        assert len(found.masks) == 9
        assert found.stages["frame_heatmaps"].sizes["frame"] == latents


def test_the_points_of_an_exported_model_are_those_of_its_clips(exported: Exported, tiny_sam: Path) -> None:
    model = exported[1]
    clips = MovingScenes("test", length=3, size=48, kinds=("attribute", "location"))
    report = moving_accuracy(model, clips, segmenter=load_segmenter(tiny_sam), settings=READING, magnets=())
    asked = grounding_accuracy(model, moving_items("test", 3, frames=7, size=48), READING, sources=["model"])
    places = [table[["x", "y"]].to_numpy() for table in (report.outcomes.query("source == 'pipeline'"), asked.outcomes)]
    np.testing.assert_allclose(*places)


def test_the_reading_of_a_video_model_is_searched_on_clips(exported: Exported) -> None:
    space = SearchSpace(noise_levels=(0.6,), longest_run=1, head_counts=())
    items = moving_items("validation", 2, frames=7, size=48)
    found = choose_settings(exported[1], items, space).table
    first = HeatmapSettings.from_dict(json.loads(found["settings"][0]))
    again = grounding_accuracy(exported[1], items, first, sources=["model"]).outcomes
    assert found["target"][0] == again["target"].mean()


def test_words_of_motion_are_single_tokens_that_no_caption_strews(folder: Path) -> None:
    learner = trainer(folder)
    assert [len(learner.tokenizer.tokenize(word)) for word in ("moving", "up", "down", "left")] == [1, 1, 1, 1]
    assert not {"moving", "up", "down"} & set(learner.strewn)


def test_more_tokens_are_given_more_noise() -> None:
    levels: dict[int, torch.Tensor] = {}

    def note(noisy: torch.Tensor, level: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        levels[noisy.shape[2]] = level
        return noisy

    for frames in (1, 4):
        video_loss(
            note, torch.zeros(300, 2, frames, 8, 8), torch.zeros(1), torch.zeros(1), torch.Generator().manual_seed(0)
        )
    shift = torch.logit(levels[4]) - torch.logit(levels[1])
    torch.testing.assert_close(shift, torch.full_like(shift, np.log(2.0)), atol=1e-3, rtol=0)


def test_an_autoencoder_that_was_trained_goes_on_from_its_checkpoint(tmp_path: Path) -> None:
    once, again = (train_autoencoder(tmp_path, minutes=5, steps=2, batch=2, size=48, seed=0) for _ in range(2))
    fresh = make_video_autoencoder()
    for one, other in zip(once.parameters(), again.parameters(), strict=True):
        assert torch.equal(one, other)
    assert not torch.equal(once.encoder.proj_out.weight, fresh.encoder.proj_out.weight)
    assert len(again.config.latents_mean) == 12 and min(again.config.latents_std) > 0


def test_a_clip_that_the_autoencoder_rebuilds_has_its_frames(folder: Path) -> None:
    vae = AutoencoderKLMochi.from_pretrained(folder / "vae").eval()
    clip = clip_pixels([training_motion(0)], 13, 32)
    with torch.inference_mode():
        assert vae.decode(vae.encode(clip).latent_dist.mode()).sample.shape == clip.shape


def test_the_first_latent_frame_is_that_of_the_first_frame_alone(folder: Path) -> None:
    vae = AutoencoderKLMochi.from_pretrained(folder / "vae").eval()
    clip = clip_pixels([training_motion(0)], 7, 32)
    with torch.inference_mode():
        together, alone = (vae.encode(pixels).latent_dist.mode() for pixels in (clip, clip[:, :, :1]))
    torch.testing.assert_close(together[:, :, :1], alone, atol=1e-4, rtol=1e-4)


def test_a_run_logs_where_its_words_point_and_leaves_a_checkpoint(data: LatentClips, tmp_path: Path) -> None:
    learner = trainer(tmp_path)
    said = {"probe_target": 0.5}
    learner.run(data, batch=2, steps=2, minutes=5, probe=lambda: said, probe_every=2)
    assert '"model": "video", "step": 2, "samples": 4, "probe_target": 0.5' in (tmp_path / "log.jsonl").read_text()
    assert trainer(tmp_path).step == 2
