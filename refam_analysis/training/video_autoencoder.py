"""Training of the small autoencoder of clips, of Mochi's own class: one latent for 8 x 8 pixels of 6 frames.

Its loss is the mean absolute error of the frames, with a penalty that keeps every latent channel near zero mean and
unit spread, and a little noise on the latents that makes near latents decode to near frames. The class is variational:
its deviation is taught to be that noise, and what is used afterwards is the mean.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import AutoencoderKLMochi
from torch import Tensor
from torch.nn import functional

from refam_analysis.files import written_folder
from refam_analysis.scenes.sampling import Style
from refam_analysis.training.checkpoints import append_command, append_log
from refam_analysis.training.clips import clip_pixels, training_motion
from refam_analysis.training.rebuilding import train_rebuilding

LATENT_CHANNELS = 12
"""MochiPipeline's own number."""
NAME = "video_autoencoder"
_LATENT_NOISE = 0.05
_CROP = 48
_FRAMES = 7
_HELD_OUT = 10**7
"""The first clip that pictures of the training's end are judged on; no training is so long."""


def make_video_autoencoder() -> AutoencoderKLMochi:
    """The untrained autoencoder: half a million weights, no layer at the full resolution but linear ones."""
    return AutoencoderKLMochi(
        latent_channels=LATENT_CHANNELS,
        encoder_block_out_channels=(32, 32, 32, 32),
        decoder_block_out_channels=(32, 32, 32, 32),
        layers_per_block=(0, 1, 1, 1, 1),
        add_attention_block=(False,) * 5,
        latents_mean=(0.0,) * LATENT_CHANNELS,
        latents_std=(1.0,) * LATENT_CHANNELS,
        scaling_factor=1.0,
    )


def batch_of_crops(step: int, batch: int, size: int, seed: int, style: Style) -> Tensor:
    """The clips of one step, float32 (clip, 3, 7, 48, 48) in [-1, 1]: from every moving scene one crop."""
    rng = np.random.default_rng([seed, step])
    pixels = clip_pixels([training_motion(step * batch + i, style) for i in range(batch)], _FRAMES, size)
    corners = rng.integers(0, size - _CROP + 1, size=(batch, 2))
    return torch.stack([one[..., y : y + _CROP, x : x + _CROP] for one, (y, x) in zip(pixels, corners, strict=True)])


def loss(model: AutoencoderKLMochi, clips: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
    """Reconstruction error, and the penalty on the latents' moments and deviation."""
    posterior = model.encode(clips).latent_dist
    latents = posterior.mean
    rebuilt = model.decode(latents + _LATENT_NOISE * noise).sample
    axes = (0, 2, 3, 4)
    moments = latents.mean(axes).square().mean() + (latents.std(axes) - 1).square().mean()
    deviation = (posterior.logvar - 2 * math.log(_LATENT_NOISE)).square().mean()
    return functional.l1_loss(rebuilt, clips) + 0.5 * functional.mse_loss(rebuilt, clips), moments + 0.02 * deviation


def train(
    out: Path, *, minutes: float, steps: int, batch: int, size: int, seed: int, style: Style = "plain"
) -> AutoencoderKLMochi:
    """Train, or go on training, until ``steps`` or ``minutes`` are over; leaves a diffusers folder in ``out/vae``."""
    torch.manual_seed(seed)
    model = make_video_autoencoder()

    def step_loss(step: int) -> tuple[Tensor, Tensor]:
        clips = batch_of_crops(step, batch, size, seed, style)
        noise = torch.randn(batch, LATENT_CHANNELS, 1 + (_FRAMES - 1) // 6, _CROP // 8, _CROP // 8)
        return loss(model, clips, noise)

    train_rebuilding(out, NAME, model, step_loss, minutes=minutes, steps=steps)
    standardise(model, clip_pixels([training_motion(_HELD_OUT + i, style) for i in range(32)], _FRAMES, size))
    with written_folder(out / "vae") as place:
        model.eval().save_pretrained(place)
    return model


@torch.no_grad()
def standardise(model: AutoencoderKLMochi, clips: Tensor) -> None:
    """Write each latent channel's mean and spread into the configuration, where Mochi's pipeline reads them."""
    latents = model.encode(clips).latent_dist.mode()
    axes = (0, 2, 3, 4)
    model.register_to_config(latents_mean=latents.mean(axes).tolist(), latents_std=latents.std(axes).tolist())


@torch.no_grad()
def signal_to_noise(model: AutoencoderKLMochi, size: int, *, clips: int = 24, style: Style = "plain") -> float:
    """Peak signal-to-noise ratio of rebuilt frames of clips that no training shows, in decibels."""
    pixels = clip_pixels([training_motion(_HELD_OUT + 100 + i, style) for i in range(clips)], _FRAMES, size)
    rebuilt = model.decode(model.encode(pixels).latent_dist.mode()).sample.clamp(-1, 1)
    return float(10 * np.log10(4 / functional.mse_loss(rebuilt, pixels).item()))


def main(
    out: Annotated[Path, typer.Option(help="Working folder.")] = Path("runs/video"),
    minutes: Annotated[float, typer.Option(help="Stop after this time.")] = 25.0,
    steps: Annotated[int, typer.Option(help="Length of the learning-rate schedule.")] = 2000,
    batch: Annotated[int, typer.Option(help="Clips a step.")] = 8,
    size: Annotated[int, typer.Option(help="Height and width of the frames.")] = 64,
    seed: Annotated[int, typer.Option(help="Seed of weights and noise.")] = 0,
    scenes_style: Annotated[Style, typer.Option(help="plain or rich.")] = "plain",
) -> None:
    """Train the autoencoder of the video model."""
    append_command(out, NAME, minutes=minutes, steps=steps, batch=batch, size=size, seed=seed,
                   **({"scenes_style": scenes_style} if scenes_style != "plain" else {}))  # fmt: skip
    model = train(out, minutes=minutes, steps=steps, batch=batch, size=size, seed=seed, style=scenes_style)
    ratio = signal_to_noise(model, size, style=scenes_style)
    append_log(out, {"model": NAME, "psnr": ratio})
    print(f"Peak signal-to-noise ratio on held-out clips: {ratio:.1f} dB")


if __name__ == "__main__":
    typer.run(main)
