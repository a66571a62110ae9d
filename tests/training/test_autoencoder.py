"""The shipped autoencoder carries a scene through its latents; the untrained one learns to."""

from __future__ import annotations

from pathlib import Path

import torch
from diffusers import AutoencoderTiny

from refam_analysis.training.autoencoder import signal_to_noise, train
from refam_analysis.weights import embedded_folder


def test_the_shipped_autoencoder_rebuilds_held_out_pictures() -> None:
    model = AutoencoderTiny.from_pretrained(embedded_folder("embedded-dit") / "vae").float().eval()
    assert signal_to_noise(model) > 28, "decibels; the pictures' own noise allows about 33"


def test_training_writes_a_folder_and_learns(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = signal_to_noise(train(tmp_path / "untrained", minutes=0, steps=60, batch=4, size=64, seed=0), 64)
    after = signal_to_noise(train(tmp_path / "trained", minutes=5, steps=60, batch=4, size=64, seed=0), 64)
    assert after > before + 2
    assert AutoencoderTiny.from_pretrained(tmp_path / "trained" / "vae").config.latent_channels == 4
