"""Training of the embedded diffusion transformer, with nothing but the diffusion loss.

The model is a small FLUX: ``FluxTransformer2DModel`` with double- and single-stream blocks and a T5 encoder for the
token states, trained together by flow matching (velocity target) on captioned scenes. The pooled vector that FLUX also
takes, from CLIP, is silent (see `text`). Nothing here sees a mask, an expression's target or an attention map:
where the words end up looking is the model's own doing, and the claims of the book rest on that.

Training at a low resolution first is cheaper. There the image positions are stretched, so that a place in the picture
has the same coordinates at every resolution.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar

import torch
import typer
from diffusers import AutoencoderTiny, FluxPipeline, FluxTransformer2DModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import CLIPTokenizer, T5Tokenizer

from refam_analysis.scenes.sampling import Style
from refam_analysis.training.assembly import IMAGE_SIZE, as_model, as_pipeline
from refam_analysis.training.autoencoder import LATENT_CHANNELS
from refam_analysis.training.checkpoints import append_command
from refam_analysis.training.data import LESSONS, LatentScenes
from refam_analysis.training.deepening import deepened
from refam_analysis.training.probe import probe
from refam_analysis.training.text import (
    load_tokenizers,
    make_clip_encoder,
    make_t5_encoder,
)
from refam_analysis.training.trainer import DEFAULT_HARDWARE, FlowTrainer, Hardware, copy_parts


@dataclass(frozen=True)
class Configuration:
    """Size of the transformer and of its text encoders."""

    double_blocks: int = 2
    single_blocks: int = 4
    heads: int = 3
    head_width: int = 32
    text_width: int = 64
    text_layers: int = 1
    pooled_width: int = 32
    latent_channels: int = LATENT_CHANNELS


RUN = Path("runs/embedded")
_UNTRAINED = ("vae", "tokenizer", "tokenizer_2")
"""Parts of the pipeline that this training takes as they are."""

CONFIGURATIONS = {
    # Samples in a second of one core's time, at 8 x 8 tokens and batches of 64: small 105, deep 51, deep-wide 36;
    # compiled, small 143 and deep 69. On two cores with matrix units, compiled and in bfloat16, small 350, tall 190 and
    # deep-wide 140.
    # Parameters with the text encoder: 1.5, 3.0 and 5.2 million.
    "small": Configuration(),
    "large": Configuration(double_blocks=4, single_blocks=12, heads=6, text_width=192, text_layers=4, pooled_width=64),
    "tall": Configuration(double_blocks=4, single_blocks=8),
    "deep": Configuration(double_blocks=4, single_blocks=8, text_width=96, text_layers=2),
    "deep-wide": Configuration(double_blocks=4, single_blocks=8, heads=4, text_width=128, text_layers=2),
    "deep-fine": Configuration(double_blocks=4, single_blocks=8, text_width=96, text_layers=2, latent_channels=8),
}


class TrainedParts(nn.Module):
    """What the diffusion loss trains (transformer and T5 encoder), and the silent pooled encoder."""

    def __init__(self, configuration: Configuration, t5: T5Tokenizer, clip: CLIPTokenizer) -> None:
        super().__init__()
        width = configuration.head_width
        self.transformer = FluxTransformer2DModel(
            in_channels=4 * configuration.latent_channels,
            num_layers=configuration.double_blocks,
            num_single_layers=configuration.single_blocks,
            attention_head_dim=width,
            num_attention_heads=configuration.heads,
            joint_attention_dim=configuration.text_width,
            pooled_projection_dim=configuration.pooled_width,
            guidance_embeds=False,
            axes_dims_rope=(width // 4, 3 * width // 8, 3 * width // 8),
        )
        self.t5 = make_t5_encoder(t5, width=configuration.text_width, layers=configuration.text_layers)
        self.clip = make_clip_encoder(clip, width=configuration.pooled_width)

    def forward(self, noisy: Tensor, level: Tensor, t5_ids: Tensor, positions: Tensor) -> Tensor:
        """Velocity (item, token, 16) of packed latents at noise levels (item,)."""
        return self.transformer(
            hidden_states=noisy,
            timestep=level,
            encoder_hidden_states=self.t5(t5_ids)[0],
            pooled_projections=noisy.new_zeros(len(noisy), self.clip.config.hidden_size),
            txt_ids=torch.zeros(t5_ids.shape[1], 3, device=noisy.device),
            img_ids=positions,
            return_dict=False,
        )[0]


def pack(latents: Tensor) -> Tensor:
    """(item, channels, h, w) to tokens (item, h / 2 * w / 2, 4 * channels), in FLUX's order."""
    items, channels, height, width = latents.shape
    blocks = latents.view(items, channels, height // 2, 2, width // 2, 2).permute(0, 2, 4, 1, 3, 5)
    return blocks.reshape(items, height * width // 4, 4 * channels)


def image_positions(side: int, *, full: int = IMAGE_SIZE // 8) -> Tensor:
    """Position ids (token, 3) of a ``side`` x ``side`` grid, stretched to the coordinates of the full grid."""
    axis = (torch.arange(side) + 0.5) * full / side - 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    return torch.stack((torch.zeros_like(y), y, x), -1).reshape(-1, 3)


def flow_matching_loss(parts: Callable[..., Tensor], latents: Tensor, ids: Tensor, draws: torch.Generator) -> Tensor:
    """Mean squared error of the velocity, at noise levels where the text matters most.

    They are sigmoid(normal + 0.4) on 8 x 8 tokens. The logarithm of the side is added on larger grids, where more
    tokens show the same object and so as much noise hides less of it (the shift of SD3, Esser et al. 2024, eq. 23).
    """
    clean = pack(latents)
    side = latents.shape[-1] // 2
    draw = torch.randn(len(clean), generator=draws)
    level = torch.sigmoid(draw + 0.4 + math.log(side / 8)).to(clean.device)
    noise = torch.randn(clean.shape, generator=draws).to(clean.device)
    noisy = torch.lerp(clean, noise, level[:, None, None])
    positions = image_positions(side).to(clean.device)
    return functional.mse_loss(parts(noisy, level, ids, positions), noise - clean)


class Trainer(FlowTrainer):
    """A training of the FLUX in one folder; :meth:`run` goes on from the newest checkpoint."""

    name: ClassVar[str] = "dit"

    def __init__(
        self,
        out: Path,
        *,
        configuration: Configuration,
        seed: int,
        peak: float,
        hardware: Hardware = DEFAULT_HARDWARE,
        style: Style = "plain",
    ) -> None:
        t5, clip = load_tokenizers(out, style)
        self.clip_tokenizer = clip
        super().__init__(
            out, lambda: TrainedParts(configuration, t5, clip), t5, seed=seed, peak=peak,
            hardware=hardware, style=style,
        )  # fmt: skip

    def exported(self, folder: Path) -> tuple[nn.Module, nn.Module]:
        """Of a folder that :func:`refam_analysis.training.export.export` wrote, deepened to this training's blocks."""
        shipped = FluxPipeline.from_pretrained(folder, dtype=torch.float32)
        own = self.model.transformer.config
        deep = deepened(shipped.transformer, double=own.num_layers, single=own.num_single_layers)
        return deep, shipped.text_encoder_2

    def loss(self, latents: Tensor, captions: list[str], draws: torch.Generator) -> Tensor:
        """See :func:`flow_matching_loss`."""
        return flow_matching_loss(self.forward, latents, self.tokens(captions)[0], draws)

    def probe(self, vae: AutoencoderTiny) -> dict[str, float]:
        """Where the words of the averaged weights point, see :func:`refam_analysis.training.probe.probe`."""
        average = self.average
        pipeline = as_pipeline(
            average.transformer, average.t5, average.clip,
            t5_tokenizer=self.tokenizer, clip_tokenizer=self.clip_tokenizer, vae=vae.to(self.device),
        )  # fmt: skip
        return probe(as_model(pipeline), style=self.style)


def main(
    out: Annotated[Path, typer.Option(help="Working folder; holds vae/ from the autoencoder's training.")] = RUN,
    configuration: Annotated[str, typer.Option(help=f"One of {', '.join(CONFIGURATIONS)}.")] = "small",
    size: Annotated[int, typer.Option(help="Height and width of the pictures; a multiple of 8.")] = IMAGE_SIZE,
    scenes: Annotated[int, typer.Option(help="Number of training scenes.")] = 40_000,
    batch: Annotated[int, typer.Option(help="Samples a step.")] = 64,
    steps: Annotated[int, typer.Option(help="Length of the learning-rate schedule, over all runs.")] = 8000,
    minutes: Annotated[float, typer.Option(help="Stop after this time.")] = 150.0,
    until: Annotated[int | None, typer.Option(help="Stop at this step of the schedule.")] = None,
    peak: Annotated[float, typer.Option(help="Peak learning rate.")] = 1e-3,
    seed: Annotated[int, typer.Option(help="Seed of weights, noise, captions.")] = 0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    probe_every: Annotated[int, typer.Option(help="Steps between looks at where words point; 0 for none.")] = 2000,
    keep: Annotated[list[int] | None, typer.Option(help="A step whose weights are put aside; give several.")] = None,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the step; needs a C++ compiler.")] = False,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Matrix products in bfloat16.")] = False,
    start: Annotated[Path | None, typer.Option(help="Folder of a model whose weights to begin with.")] = None,
    parts: Annotated[Path | None, typer.Option(help="Of a model whose autoencoder and tokenizers to take.")] = None,
    scenes_style: Annotated[Style, typer.Option(help="plain or rich.")] = "plain",
    lesson: Annotated[str | None, typer.Option(help=f"{', '.join(LESSONS)}; by default the style's own.")] = None,
) -> None:
    """Train the embedded diffusion transformer, or go on training it."""
    append_command(out, "dit", configuration=configuration, size=size, scenes=scenes, batch=batch, steps=steps,
                   minutes=minutes, peak=peak, seed=seed, device=device,
                   **({"until": until} if until else {}), **({"compile": ""} if compiled else {}),
                   **({"bfloat16": ""} if bfloat16 else {}), **({"start": start} if start else {}),
                   **({"parts": parts} if parts else {}),
                   **({"scenes_style": scenes_style} if scenes_style != "plain" else {}),
                   **({"lesson": lesson} if lesson else {}))  # fmt: skip
    if (taken := start or parts) is not None:
        copy_parts(taken, out, _UNTRAINED)
    on = torch.device(device)
    vae = AutoencoderTiny.from_pretrained(out / "vae").eval()
    data = LatentScenes(out, vae, number=scenes, size=size, device=on, lesson=lesson or scenes_style)
    trainer = Trainer(out, configuration=CONFIGURATIONS[configuration], seed=seed, peak=peak,
                      hardware=Hardware(device, compiled, bfloat16), style=scenes_style)  # fmt: skip
    if start is not None:
        trainer.begin_with(start)
    look = partial(trainer.probe, vae)
    trainer.run(data, batch=batch, steps=steps, minutes=minutes, until=until, probe=look, probe_every=probe_every,
                keep=keep or ())  # fmt: skip


if __name__ == "__main__":
    typer.run(main)
