"""The transformer's training: FLUX's packing, exact resumption, learning, and export to a stock pipeline."""

from __future__ import annotations

import itertools
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderTiny, FluxPipeline

from refam_analysis.models import load_model
from refam_analysis.prompts import make_prompt
from refam_analysis.scenes import Scene, SceneObject
from refam_analysis.training.data import LatentScenes, training_scenes
from refam_analysis.training.dit import (
    Configuration,
    Trainer,
    flow_matching_loss,
    image_positions,
    pack,
)
from refam_analysis.training.export import assemble, export
from refam_analysis.training.trainer import Hardware, learning_rate

CPU = torch.device("cpu")


def trainer(folder: Path, *, peak: float = 1e-3, **further: Any) -> Trainer:
    return Trainer(folder, configuration=Configuration(), seed=0, peak=peak, **further)


@pytest.fixture
def data(run_folder: Path) -> LatentScenes:
    vae = AutoencoderTiny.from_pretrained(run_folder / "vae").float().eval()
    return LatentScenes(run_folder, vae, number=8, size=32, device=CPU)


def test_latents_are_packed_as_flux_packs_them() -> None:
    latents = torch.randn(2, 4, 6, 8)
    expected = FluxPipeline._pack_latents(latents, 2, 4, 6, 8)
    assert torch.equal(pack(latents), expected)


def test_positions_of_the_full_grid_are_those_of_flux() -> None:
    expected = FluxPipeline._prepare_latent_image_ids(1, 12, 12, CPU, torch.float32)
    torch.testing.assert_close(image_positions(12), expected)


def test_positions_of_a_small_grid_cover_the_same_picture() -> None:
    small = image_positions(8)[:, 1:]
    centres = (small + 0.5) / 12
    expected = (torch.arange(8) + 0.5) / 8
    torch.testing.assert_close(centres.reshape(8, 8, 2)[:, 0, 0], expected)
    torch.testing.assert_close(centres.reshape(8, 8, 2)[0, :, 1], expected)


def test_a_resumed_run_equals_an_undisturbed_one(run_folder: Path, data: LatentScenes) -> None:
    undisturbed = trainer(run_folder)
    for _ in range(2):
        undisturbed.update(data, 2, 100)
    undisturbed.save()
    losses = [undisturbed.update(data, 2, 100) for _ in range(2)]
    resumed = trainer(run_folder)
    assert (resumed.step, resumed.samples) == (2, 4)
    assert [resumed.update(data, 2, 100) for _ in range(2)] == losses
    for kept, again in zip(undisturbed.average.parameters(), resumed.average.parameters(), strict=True):
        assert torch.equal(kept, again)


def test_the_loss_falls(run_folder: Path, data: LatentScenes) -> None:
    learner = trainer(run_folder, peak=3e-3)
    losses = [learner.update(data, 8, 400) for _ in range(60)]
    assert sum(losses[-10:]) < 0.75 * sum(losses[:10])


def test_a_training_in_bfloat16_follows_that_in_float32(run_folder: Path, data: LatentScenes) -> None:
    exact, rounded = trainer(run_folder), trainer(run_folder, hardware=Hardware(bfloat16=True))
    losses = [[learner.update(data, 8, 100) for _ in range(5)] for learner in (exact, rounded)]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=5e-3)
    assert {weights.dtype for weights in rounded.model.parameters()} == {torch.float32}


def test_a_training_begins_with_an_exported_model_only_once(
    run_folder: Path, data: LatentScenes, six_blocks: Path
) -> None:
    learner = trainer(run_folder)
    learner.begin_with(six_blocks)
    shipped = FluxPipeline.from_pretrained(six_blocks, dtype=torch.float32)
    for parts in (learner.model, learner.average):
        assert all(map(torch.equal, parts.transformer.parameters(), shipped.transformer.parameters()))
        assert all(map(torch.equal, parts.t5.parameters(), shipped.text_encoder_2.parameters()))
    learner.update(data, 2, 100)
    trained = [weights.clone() for weights in learner.model.parameters()]
    learner.begin_with(six_blocks)
    assert all(map(torch.equal, learner.model.parameters(), trained))


def test_a_run_stops_at_its_last_step_and_leaves_a_checkpoint(run_folder: Path, data: LatentScenes) -> None:
    trainer(run_folder).run(data, batch=2, steps=3, minutes=5)
    assert trainer(run_folder).step == 3


def test_a_run_that_stops_early_goes_on_in_the_same_schedule(run_folder: Path, data: LatentScenes) -> None:
    trainer(run_folder).run(data, batch=2, steps=4, minutes=5, until=2)
    resumed = trainer(run_folder)
    assert resumed.step == 2
    resumed.run(data, batch=2, steps=4, minutes=5)
    assert trainer(run_folder).step == 4


def test_weights_that_were_put_aside_stay_those_of_their_step(run_folder: Path, data: LatentScenes) -> None:
    learner = trainer(run_folder)
    learner.run(data, batch=2, steps=4, minutes=5, until=2, keep=[1, 2])
    expected = [value.clone() for value in learner.average.transformer.parameters()]
    learner.run(data, batch=2, steps=4, minutes=5, keep=[1, 2])
    aside = assemble(run_folder, "small", step=2).transformer
    assert all(map(torch.equal, aside.parameters(), expected))
    assert not all(map(torch.equal, aside.parameters(), assemble(run_folder, "small", step=1).transformer.parameters()))
    with pytest.raises(FileNotFoundError, match="--keep 3"):
        assemble(run_folder, "small", step=3)


def test_more_tokens_are_given_more_noise() -> None:
    """The logarithm of the odds of a noise level rises by that of the grid's side."""
    levels: dict[int, torch.Tensor] = {}

    def note(noisy: torch.Tensor, level: torch.Tensor, *_: torch.Tensor) -> torch.Tensor:
        levels[noisy.shape[1]] = level
        return noisy

    for side in (8, 12):
        latents = torch.zeros(500, 4, 2 * side, 2 * side)
        flow_matching_loss(note, latents, torch.zeros(1), torch.Generator().manual_seed(0))
    shift = torch.logit(levels[144]) - torch.logit(levels[64])
    torch.testing.assert_close(shift, torch.full_like(shift, math.log(1.5)), atol=1e-4, rtol=0)
    assert levels[64].median().item() == pytest.approx(0.6, abs=0.05)


def test_every_other_training_scene_needs_more_than_one_attribute() -> None:
    scenes = training_scenes(40, 32)
    for scene in scenes[1::2]:
        first, second = (set(vars(item).items()) for item in sorted_by_likeness(scene))
        shared = {name for name, _ in first & second}
        assert ("colour" in shared) != ("shape" in shared)
    assert any(len(scene.objects) == 1 for scene in scenes[::2])


def sorted_by_likeness(scene: Scene) -> tuple[SceneObject, SceneObject]:
    """The two objects that share a colour or a shape."""
    pairs = itertools.combinations(scene.objects, 2)
    return next(pair for pair in pairs if (pair[0].colour == pair[1].colour) != (pair[0].shape == pair[1].shape))


def test_the_exported_folder_gives_the_velocity_that_was_trained(run_folder: Path, data: LatentScenes) -> None:
    learner = trainer(run_folder)
    for _ in range(2):
        learner.update(data, 2, 100)
    learner.average.load_state_dict({k: v.half().float() for k, v in learner.average.state_dict().items()})
    learner.save()
    export(run_folder, run_folder / "exported", configuration="small")
    model = load_model(run_folder / "exported")

    latents = torch.randn(1, 4, 24, 24, generator=torch.Generator().manual_seed(1))
    prompt = make_prompt("a red circle on the left")
    inputs = model.forward_inputs(latents, model.encode_prompts([prompt]), noise_level=0.6, seeds=[3])
    with torch.inference_mode():
        velocity = model.transformer(**inputs.kwargs)[0]
        ids = learner.tokens([prompt.text])[0]
        expected = learner.average(inputs.kwargs["hidden_states"], torch.tensor([0.6]), ids, image_positions(12))
    torch.testing.assert_close(velocity, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("step", "expected"),
    [(0, 1 / 200), (199, 1.0), (600, 1.0), (800, 0.5), (1000, 0.02)],
    ids=["first", "warm", "flat-ends", "half-decayed", "last"],
)
def test_learning_rate_warms_up_stays_and_decays(step: int, expected: float) -> None:
    assert learning_rate(step, 1000, 1.0) == pytest.approx(expected)
