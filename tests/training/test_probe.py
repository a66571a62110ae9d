"""The probe during training: what it says is a plain measurement, and the training does not feel it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from diffusers import AutoencoderTiny

from refam_analysis.evaluation.grounding import grounding_accuracy
from refam_analysis.evaluation.items import hard_items
from refam_analysis.models import load_model
from refam_analysis.training.data import LatentScenes
from refam_analysis.training.dit import CONFIGURATIONS, Trainer
from refam_analysis.training.probe import READING, probe

CPU = torch.device("cpu")


def trained(run: Path, *, probe_every: int) -> Trainer:
    """Three steps on eight pictures of 64 pixels."""
    vae = AutoencoderTiny.from_pretrained(run / "vae").float().eval()
    data = LatentScenes(run, vae, number=8, size=64, device=CPU)
    trainer = Trainer(run, configuration=CONFIGURATIONS["small"], seed=0, peak=1e-3)
    looks = iter(range(10))

    def look() -> dict[str, float]:
        return trainer.probe(vae) if next(looks) == 0 else {"probe_target": 0.0}

    trainer.run(data, batch=4, steps=3, minutes=5, probe=look, probe_every=probe_every)
    return trainer


def test_training_does_not_feel_the_probe(run_folder: Path) -> None:
    probed = trained(run_folder, probe_every=2)
    (run_folder / "dit.safetensors").unlink()
    left_alone = trained(run_folder, probe_every=0)
    for name, weights in probed.model.state_dict().items():
        torch.testing.assert_close(weights, left_alone.model.state_dict()[name], rtol=0, atol=0)
    entries = [json.loads(line) for line in (run_folder / "log.jsonl").read_text().splitlines()]
    (entry,) = [entry for entry in entries if "probe_target" in entry]
    assert (entry["model"], entry["step"], entry["samples"]) == ("dit", 2, 8)
    assert {"probe_distractor", "probe_attribute", "probe_location"} <= set(entry)


def test_the_probe_is_a_plain_measurement_at_full_size() -> None:
    model = load_model("embedded")
    said = probe(model, items=4)
    outcomes = grounding_accuracy(model, hard_items("validation", 4, size=96), READING, sources=["model"]).outcomes
    assert said["probe_target"] == pytest.approx(outcomes["target"].mean(), abs=1e-4)
    by_kind = outcomes.groupby("kind")["target"].mean()
    assert said["probe_attribute"] == pytest.approx(by_kind["attribute"], abs=1e-4)
    assert said["probe_location"] == pytest.approx(by_kind["location"], abs=1e-4)
