"""What of a caption the loss feels: what is exchanged, that nothing else is, and that it is the training's own loss."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch

from refam_analysis.experiments import exchange
from refam_analysis.experiments.provenance import load_result
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.models.base import EMPTY_PROMPT
from refam_analysis.prompts import make_prompt
from refam_analysis.scenes import render
from refam_analysis.scenes.expressions import PLACES
from refam_analysis.scenes.sampling import Style
from refam_analysis.training.dit import image_positions, pack

LEVELS = (0.6, 0.9)


@pytest.fixture(scope="module")
def model() -> DiffusionModel:
    return load_model("embedded")


@pytest.fixture(scope="module")
def losses(model: DiffusionModel) -> pd.DataFrame:
    return exchange.measure(model, exchange.exchange_scenes(24), LEVELS, seed=3)


@pytest.mark.parametrize("style", ["plain", "rich"])
def test_exactly_one_thing_is_exchanged_and_is_then_untrue(style: Style) -> None:
    rng = np.random.default_rng(0)
    for scene in exchange.exchange_scenes(30, style=style):
        said = exchange.captions(scene, rng)
        true = said[exchange.TRUE].split()
        kinds = {"size", "colour", "shape", "place"} | ({"material"} if style == "rich" else set())
        assert set(said) == {exchange.TRUE, "no caption", "colours swapped", "places swapped", *kinds}
        for kind in kinds - {"place"}:
            changed = [i for i, (a, b) in enumerate(zip(true, said[kind].split(), strict=True)) if a != b]
            assert len(changed) == 1
            assert said[kind].split()[changed[0]] not in (getattr(item, kind) for item in scene.objects[:1])
        for kind in ("colours swapped", "places swapped"):
            assert sorted(said[kind].split()) == sorted(true) and said[kind].split() != true
        look = str(replace(exchange.named(scene)[0], place=""))
        place, _ = said["place"].removeprefix(f"{look} ").split(" and ")
        assert not PLACES[place](scene.objects[0].x, scene.objects[0].y)


def test_places_are_true_of_one_object_alone() -> None:
    for scene in exchange.exchange_scenes(20):
        for said, item, other in zip(exchange.named(scene), scene.objects, scene.objects[::-1], strict=True):
            holds = PLACES[said.place]
            assert holds(item.x, item.y) and not holds(other.x, other.y)


def test_the_loss_is_that_of_the_training(model: DiffusionModel, losses: pd.DataFrame) -> None:
    (scene,) = exchange.exchange_scenes(1)
    picture = torch.from_numpy(render([scene], size=96).pictures()).permute(0, 3, 1, 2) / 255 * 2 - 1
    with torch.no_grad():
        clean = model.encode_pixels(picture)
        noise = torch.randn(clean.shape[1:], generator=torch.Generator().manual_seed(3))[None]
        said = exchange.captions(scene, np.random.default_rng([3, 0]))[exchange.TRUE]
        text = model.encode_prompts([make_prompt(said)]).inputs["encoder_hidden_states"]
        config = model.transformer.config
        velocity = model.transformer(
            hidden_states=pack(torch.lerp(clean, noise, 0.9)), timestep=torch.tensor([0.9]), encoder_hidden_states=text,
            pooled_projections=torch.zeros(1, config.pooled_projection_dim), txt_ids=torch.zeros(text.shape[1], 3),
            img_ids=image_positions(12), return_dict=False,
        )[0]  # fmt: skip
    expected = (velocity - pack(noise - clean)).square().mean().item()
    row = losses.query("scene == 0 and exchange == @exchange.TRUE and noise_level == 0.9").iloc[0]
    assert row["caption"] == said
    assert row["loss"] == pytest.approx(expected, rel=1e-4)


def test_the_small_model_feels_colours_most_and_reads_places(losses: pd.DataFrame) -> None:
    found = exchange.summary(losses).query("noise_level == 0.9").set_index("exchange")["growth"]
    assert found["colour"] > found["size"] > 0 and found["place"] > 0 and found["no caption"] > 0
    assert found[exchange.TRUE] == 0


def test_a_model_that_hears_nothing_feels_nothing() -> None:
    deaf = load_model("embedded")
    torch.nn.init.zeros_(deaf.pipeline.text_encoder_2.encoder.final_layer_norm.weight)
    table = exchange.measure(deaf, exchange.exchange_scenes(3), (0.8,))
    np.testing.assert_allclose(exchange.summary(table)["growth"], 0.0, atol=1e-7)


def test_the_noise_of_a_scene_does_not_depend_on_its_part(model: DiffusionModel, losses: pd.DataFrame) -> None:
    scenes = exchange.exchange_scenes(6)
    again = exchange.measure(model, scenes[4:], (0.6,), first=4, seed=3)
    same = losses.query("scene in (4, 5) and noise_level == 0.6")
    pd.testing.assert_series_equal(
        again.set_index(["scene", "exchange"])["loss"].sort_index(),
        same.set_index(["scene", "exchange"])["loss"].sort_index(), rtol=1e-4,
    )  # fmt: skip


def test_no_caption_is_the_unconditional_prompt(model: DiffusionModel) -> None:
    empty, said = model.encode_prompts([EMPTY_PROMPT]), model.encode_empty(1)
    for name, value in empty.inputs.items():
        torch.testing.assert_close(torch.as_tensor(value), torch.as_tensor(said.inputs[name]))


def test_a_stopped_run_goes_on_and_writes_its_result(tmp_path: Path) -> None:
    test = exchange.ExchangeTest(scenes=5, noise_levels=(0.8,), batch_size=2)
    result = exchange.run(test, results=tmp_path)
    assert set(result["losses"]["scene"]) == set(range(5))
    loaded = load_result(exchange.NAME, results=tmp_path)
    assert loaded.provenance.command == "refam experiment exchange --scenes 5 --seed 0"
    pd.testing.assert_frame_equal(loaded["summary"], exchange.summary(result["losses"]))
