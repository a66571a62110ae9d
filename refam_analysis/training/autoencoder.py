"""Training of the small autoencoder: pictures of scenes to latents at a quarter of the resolution, and back.

The diffusion transformer works on these latents, packed 2 x 2 as FLUX does, so that a token stands for 8 x 8 pixels and
holds 16 numbers. What a token must carry has to fit easily into the transformer's width, or nothing is learnt at all.
Its loss is the mean absolute error of the picture, with a penalty that keeps every latent channel near zero mean and
unit spread, and a little noise on the latents that makes near latents decode to near pictures.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from diffusers import AutoencoderTiny
from torch import Tensor
from torch.nn import functional

from refam_analysis.files import written_folder
from refam_analysis.scenes import SceneOptions, Scenes, render
from refam_analysis.scenes.sampling import Style
from refam_analysis.training.checkpoints import append_command, append_log
from refam_analysis.training.rebuilding import train_rebuilding

LATENT_CHANNELS = 4
_LATENT_NOISE = 0.05
_CROP = 48
"""Side of the crops that one step sees; the network is convolutional and is used on whole pictures afterwards."""


def make_autoencoder(latent_channels: int = LATENT_CHANNELS) -> AutoencoderTiny:
    """The untrained autoencoder: about 0.2 million weights, a quarter of the resolution."""
    return AutoencoderTiny(
        encoder_block_out_channels=(32, 32, 32),
        decoder_block_out_channels=(32, 32, 32),
        num_encoder_blocks=(0, 1, 3),
        num_decoder_blocks=(3, 2, 0),
        latent_channels=latent_channels,
        scaling_factor=1.0,
        shift_factor=0.0,
    )


def pictures(first: int, number: int, size: int, options: SceneOptions) -> Tensor:
    """Training pictures ``first`` to ``first + number``, float32 (picture, 3, size, size) in [-1, 1]."""
    scenes = Scenes("train", length=first + number, size=size, options=options, kinds=())
    drawn = [scenes.draw(first + i)[0] for i in range(number)]
    return render(drawn, size=size).images * 2 - 1


def _crops(images: Tensor, rng: np.random.Generator, each: int = 1) -> Tensor:
    images = images.repeat(each, 1, 1, 1)
    corners = rng.integers(0, images.shape[-1] - _CROP + 1, size=(len(images), 2))
    cut = [picture[:, y : y + _CROP, x : x + _CROP] for picture, (y, x) in zip(images, corners, strict=True)]
    return torch.stack(cut).to(memory_format=torch.channels_last)


def loss(model: AutoencoderTiny, images: Tensor, noise: Tensor, *, hue: float = 0.0) -> tuple[Tensor, Tensor]:
    """Reconstruction error (mean absolute, on [-1, 1]) and the penalty on the latents' moments.

    ``hue`` is the weight of the error in red against green and in blue against both. A texture's detail is light and
    dark and takes most of the error; without that weight the colours of objects pay for it.
    """
    latents = model.encoder(images)
    rebuilt = model.decoder(latents + _LATENT_NOISE * noise)
    moments = latents.mean((0, 2, 3)).square().mean() + (latents.std((0, 2, 3)) - 1).square().mean()
    error = functional.l1_loss(rebuilt, images) + 0.5 * functional.mse_loss(rebuilt, images)
    if hue:
        error = error + hue * functional.l1_loss(_opponents(rebuilt), _opponents(images))
    return error, moments


def _opponents(images: Tensor) -> Tensor:
    red, green, blue = images.unbind(1)
    return torch.stack((red - green, blue - (red + green) / 2), 1)


@dataclass(frozen=True)
class PictureSource:
    """Which pictures the autoencoder learns from.

    Attributes:
        options: of the scenes.
        crops: cut out of every picture. Two halve the time that drawing takes, which is long for rich scenes.
        sizes: of the pictures, in turn, as shares of the largest: textures have a finer grain in small pictures.
        hue: weight of colours in the loss.
    """

    options: SceneOptions
    crops: int = 1
    sizes: tuple[float, ...] = (1.0,)
    hue: float = 0.0

    def batch(self, step: int, batch: int, size: int, seed: int) -> Tensor:
        """The crops of one step, float32 (crop, 3, 48, 48) in [-1, 1]."""
        number = batch // self.crops
        side = round(size * self.sizes[step % len(self.sizes)])
        drawn = pictures(step * number, number, side, self.options)
        return _crops(drawn, np.random.default_rng([seed, step]), self.crops)


SOURCES: dict[Style, PictureSource] = {
    "plain": PictureSource(SceneOptions(objects=(1, 4), occlusion=0.2)),
    "rich": PictureSource(
        SceneOptions(objects=(1, 6), occlusion=0.4, style="rich"), crops=2, sizes=(1.0, 2 / 3), hue=1.0
    ),
}


def train(
    out: Path,
    *,
    minutes: float,
    steps: int,
    batch: int,
    size: int,
    seed: int,
    style: Style = "plain",
    latent_channels: int = LATENT_CHANNELS,
    start: Path | None = None,
) -> AutoencoderTiny:
    """Train, or go on training, until ``steps`` or ``minutes`` are over; leaves a diffusers folder in ``out/vae``.

    A training that has no checkpoint yet begins with the weights of the autoencoder in the folder ``start``, if given.
    """
    torch.manual_seed(seed)
    model = make_autoencoder(latent_channels)
    if start is not None:
        _begin_with(model, AutoencoderTiny.from_pretrained(start))
    model = model.to(memory_format=torch.channels_last)
    source = SOURCES[style]

    def step_loss(step: int) -> tuple[Tensor, Tensor]:
        images = source.batch(step, batch, size, seed)
        noise = torch.randn(len(images), latent_channels, _CROP // 4, _CROP // 4)
        return loss(model, images, noise, hue=source.hue)

    train_rebuilding(out, "autoencoder", model, step_loss, minutes=minutes, steps=steps)
    _standardise(model, pictures(10**6, 256, size, source.options))
    with written_folder(out / "vae") as place:
        model.eval().save_pretrained(place)
    return model


@torch.no_grad()
def _begin_with(model: AutoencoderTiny, other: AutoencoderTiny) -> None:
    """Copy the weights of another autoencoder; where it has fewer latent channels, those that it has."""
    given = other.state_dict()
    for name, weights in model.state_dict().items():
        known = tuple(slice(0, min(a, b)) for a, b in zip(weights.shape, given[name].shape, strict=True))
        weights[known] = given[name][known]


@torch.no_grad()
def _standardise(model: AutoencoderTiny, images: Tensor) -> None:
    """Write the scale and the shift that give the latents unit spread and zero mean into the configuration."""
    latents = model.encoder(images)
    model.register_to_config(scaling_factor=float(1 / latents.std()), shift_factor=float(latents.mean()))


@torch.no_grad()
def signal_to_noise(model: AutoencoderTiny, size: int = 96, *, style: Style = "plain") -> float:
    """Peak signal-to-noise ratio of rebuilt held-out pictures, in decibels."""
    scenes = Scenes("validation", length=128, size=size, options=SceneOptions(style=style), kinds=())
    images = render([scenes.draw(i)[0] for i in range(128)], size=size).images * 2 - 1
    rebuilt = model.decoder(model.encoder(images)).clamp(-1, 1)
    return float(10 * np.log10(4 / functional.mse_loss(rebuilt, images).item()))


def main(
    out: Annotated[Path, typer.Option(help="Working folder.")] = Path("runs/embedded"),
    minutes: Annotated[float, typer.Option(help="Stop after this time.")] = 10.0,
    steps: Annotated[int, typer.Option(help="Length of the learning-rate schedule.")] = 3000,
    batch: Annotated[int, typer.Option(help="Pictures a step.")] = 16,
    size: Annotated[int, typer.Option(help="Height and width of the pictures.")] = 96,
    seed: Annotated[int, typer.Option(help="Seed of weights and noise.")] = 0,
    scenes_style: Annotated[Style, typer.Option(help="plain or rich.")] = "plain",
    latent_channels: Annotated[int, typer.Option(help="Numbers a latent pixel.")] = LATENT_CHANNELS,
    start: Annotated[Path | None, typer.Option(help="Folder of an autoencoder whose weights to begin with.")] = None,
) -> None:
    """Train the autoencoder of the embedded model."""
    further: dict[str, object] = {} if scenes_style == "plain" else {"scenes_style": scenes_style}
    if latent_channels != LATENT_CHANNELS:
        further["latent_channels"] = latent_channels
    if start is not None:
        further["start"] = start
    append_command(out, "autoencoder", minutes=minutes, steps=steps, batch=batch, size=size, seed=seed, **further)
    model = train(out, minutes=minutes, steps=steps, batch=batch, size=size, seed=seed, style=scenes_style,
                  latent_channels=latent_channels, start=start)  # fmt: skip
    ratio = signal_to_noise(model, size, style=scenes_style)
    append_log(out, {"model": "autoencoder", "psnr": ratio})
    print(f"Peak signal-to-noise ratio on held-out pictures: {ratio:.1f} dB")


if __name__ == "__main__":
    typer.run(main)
