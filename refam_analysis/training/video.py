"""Training of the small video model, a Mochi, on moving scenes, with nothing but the diffusion loss.

``MochiTransformer3DModel`` with patches of one latent, so that a token is 8 x 8 pixels of one latent frame, and a T5,
trained together by flow matching. Mochi also pools the text into a vector that modulates every block; here that
vector is silent (its last layer gives zeros and is not trained), so that all that the text says must pass through
attention, which is what is studied. Mochi's RoPE divides positions by the picture's area: what is learnt at a
low resolution holds at a higher one.
"""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any, ClassVar

import numpy as np
import torch
import typer
from diffusers import AutoencoderKLMochi, FlowMatchEulerDiscreteScheduler, MochiPipeline, MochiTransformer3DModel
from torch import Tensor, nn
from torch.nn import functional
from transformers import T5Tokenizer

from refam_analysis.evaluation.items import moving_options
from refam_analysis.evaluation.metrics import points_on
from refam_analysis.files import written_folder
from refam_analysis.models.base import DiffusionModel
from refam_analysis.models.family import ModelDefaults
from refam_analysis.models.mochi import MochiModel
from refam_analysis.prompts import make_prompt
from refam_analysis.scenes import MovingScenes
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.video.first_frame import look
from refam_analysis.training.checkpoints import append_command, load_checkpoint
from refam_analysis.training.clips import MOTION_WORDS, LatentClips
from refam_analysis.training.mochi_attention import attend_in_batches
from refam_analysis.training.probe import READING as READING_OF_IMAGES
from refam_analysis.training.text import TEXT_LENGTH, make_t5_encoder, make_t5_tokenizer, share_case
from refam_analysis.training.trainer import DEFAULT_HARDWARE, FlowTrainer, Hardware, copy_parts
from refam_analysis.training.video_autoencoder import LATENT_CHANNELS

RUN = Path("runs/video")
FRAMES, SIZE = 13, 64
STILL_SHARE = 0.25
"""Of the batches: their clips are cut to the first latent frame, which stands for the first frame alone."""
READING = replace(READING_OF_IMAGES, blocks=None, aggregation="mean")
"""Of all blocks: the first one, by which models of images are watched, showed nothing in a training that went well."""
STEPS, GUIDANCE = 32, 4.0
"""Of drawing, where the caller does not say; not searched."""


@dataclass(frozen=True)
class VideoConfiguration:
    """Size of the transformer and of its text encoder; ``text_width`` divides by 8, the heads of Mochi's pool."""

    blocks: int = 6
    heads: int = 3
    head_width: int = 32
    text_width: int = 64
    text_layers: int = 1


CONFIGURATIONS = {
    # Samples a second on two cores, at 8 x 8 tokens a latent frame: small 240 of first frames alone (batches of 64) and
    # 90 of 13 frames (batches of 32); compiled and in bfloat16 465 and 155. Small has 1.6 million parameters.
    "small": VideoConfiguration(),
    "deep": VideoConfiguration(blocks=12),
}


class VideoParts(nn.Module):
    """What the diffusion loss trains: transformer and T5 encoder."""

    def __init__(self, configuration: VideoConfiguration, tokenizer: T5Tokenizer) -> None:
        super().__init__()
        self.transformer = MochiTransformer3DModel(
            patch_size=1,
            num_attention_heads=configuration.heads,
            attention_head_dim=configuration.head_width,
            num_layers=configuration.blocks,
            pooled_projection_dim=configuration.text_width,
            in_channels=LATENT_CHANNELS,
            text_embed_dim=configuration.text_width,
            time_embed_dim=configuration.text_width,
            max_sequence_length=TEXT_LENGTH,
        )
        pooler = self.transformer.time_embed.pooler.requires_grad_(False)
        for weights in pooler.to_out.parameters():
            weights.zero_()
        self.t5 = make_t5_encoder(tokenizer, width=configuration.text_width, layers=configuration.text_layers)

    def forward(self, noisy: Tensor, level: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """What Mochi predicts, clean - noise, of latents (item, channel, frame, y, x) at noise levels (item,)."""
        return self.transformer(
            hidden_states=noisy,
            encoder_hidden_states=self.t5(ids, attention_mask=mask)[0],
            timestep=(1 - level) * 1000,
            encoder_attention_mask=mask,
            return_dict=False,
        )[0]


def video_loss(
    parts: Callable[..., Tensor], latents: Tensor, ids: Tensor, mask: Tensor, draws: torch.Generator
) -> Tensor:
    """Mean squared error of the predicted clean - noise, at noise levels where the text matters most.

    They are sigmoid(normal + 0.4) on 8 x 8 tokens of one frame. Half the logarithm of how many times more tokens there
    are is added, since more tokens show the same object (the shift of SD3, Esser et al. 2024, eq. 23).
    """
    tokens = math.prod(latents.shape[2:])
    draw = torch.randn(len(latents), generator=draws)
    level = torch.sigmoid(draw + 0.4 + 0.5 * math.log(tokens / 64)).to(latents.device)
    noise = torch.randn(latents.shape, generator=draws).to(latents.device)
    noisy = torch.lerp(latents, noise, level[:, None, None, None, None])
    return functional.mse_loss(parts(noisy, level, ids, mask), latents - noise)


class VideoTrainer(FlowTrainer):
    """A training of the Mochi in one folder; :meth:`run` goes on from the newest checkpoint."""

    name: ClassVar[str] = "video"

    def __init__(
        self,
        out: Path,
        *,
        configuration: VideoConfiguration,
        seed: int,
        peak: float,
        hardware: Hardware = DEFAULT_HARDWARE,
        style: Style = "plain",
    ) -> None:
        tokenizer = load_video_tokenizer(out, style)
        super().__init__(
            out, lambda: VideoParts(configuration, tokenizer), tokenizer, seed=seed, peak=peak,
            hardware=hardware, style=style,
        )  # fmt: skip
        attend_in_batches(self.model.transformer)
        self.strewn = [word for word in self.strewn if word not in MOTION_WORDS]

    def exported(self, folder: Path) -> tuple[nn.Module, nn.Module]:
        """Of a folder that :func:`export_video` wrote."""
        shipped = MochiPipeline.from_pretrained(folder, dtype=torch.float32)
        return shipped.transformer, shipped.text_encoder

    def loss(self, latents: Tensor, captions: list[str], draws: torch.Generator) -> Tensor:
        """See :func:`video_loss`. A quarter of the batches are of first frames alone, as pictures are asked about."""
        alone = float(torch.rand(1, generator=draws)) < STILL_SHARE
        return video_loss(self.forward, latents[:, :, :1] if alone else latents, *self.tokens(captions), draws)

    def probe(self, vae: AutoencoderKLMochi, *, size: int, frames: int) -> dict[str, float]:
        """Where the words of the averaged weights point, see :func:`probe_video`."""
        pipeline = as_video_pipeline(self.average, self.tokenizer, vae.to(self.device))
        return probe_video(as_video_model(pipeline, size=size, frames=frames, style=self.style))


def load_video_tokenizer(folder: Path, style: Style = "plain") -> T5Tokenizer:
    """The tokenizer from a working folder; made for moving scenes of a style, and saved there, the first time."""
    if not (folder / "tokenizer").exists():
        with written_folder(folder / "tokenizer") as place:
            make_t5_tokenizer(style, also=MOTION_WORDS).save_pretrained(place)
    return T5Tokenizer.from_pretrained(folder / "tokenizer")


def as_video_pipeline(parts: VideoParts, tokenizer: T5Tokenizer, vae: AutoencoderKLMochi) -> MochiPipeline:
    """The pipeline of these very parts: nothing is copied, everything is set to evaluation."""
    return MochiPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(invert_sigmas=True),
        vae=vae.eval(),
        text_encoder=parts.t5.eval(),
        tokenizer=tokenizer,
        transformer=parts.transformer.eval(),
        force_zeros_for_empty_prompt=False,
    )


def as_video_model(
    pipeline: MochiPipeline, *, size: int = SIZE, frames: int = FRAMES, style: Style = "plain"
) -> DiffusionModel:
    """The pipeline with the size of its clips, the length of its prompts and the scenes that it knows."""
    defaults = ModelDefaults(
        image_size=(size, size), text_length=TEXT_LENGTH, steps=STEPS, guidance=GUIDANCE, frames=frames, scenes=style
    )
    return MochiModel(pipeline, defaults, name="in training")


def probe_video(model: DiffusionModel, *, clips: int = 24) -> dict[str, float]:
    """How often words point at their object in the first frame of validation clips, read in one fixed way.

    Args:
        model: of clips.
        clips: attribute and location expressions in turn, and nothing planned to happen.

    Returns:
        ``probe_target``, a share of points.
    """
    split = MovingScenes(
        "validation", length=clips, size=model.default_size[0], options=moving_options(model.scene_style),
        kinds=("attribute", "location"), events=("free",),
    )  # fmt: skip
    hits = []
    for number, clip in enumerate(split):
        frames = list(clip.frames[: model.defaults.frames])
        seen = look(model, frames, make_prompt(clip.expression.text), READING, numbers=range(len(frames)), seed=number)
        hits.append(points_on([seen["point"]], [clip.truth[0]])[0])
    return {"probe_target": round(float(np.mean(hits)), 4)}


def assemble_video(run: Path, configuration: str, *, step: int | None = None) -> tuple[MochiPipeline, Style]:
    """The pipeline of a run's averaged weights, in float32, and the style of the scenes that it was trained on.

    Raises:
        FileNotFoundError: the run has no such checkpoint.
    """
    name = VideoTrainer.name if step is None else f"{VideoTrainer.name}-{step}"
    if (found := load_checkpoint(run, name)) is None:
        raise FileNotFoundError(
            f"{run} holds no {name}.safetensors: run python -m refam_analysis.training.video --out {run} first"
            f"{f', with --keep {step}' if step is not None else ''}."
        )
    tokenizer = load_video_tokenizer(run)
    parts = VideoParts(CONFIGURATIONS[configuration], tokenizer)
    parts.load_state_dict({k.removeprefix("average."): v for k, v in found[0].items() if k.startswith("average.")})
    share_case(parts.t5, tokenizer)
    style: Style = found[1].get("style", "plain")
    return as_video_pipeline(parts, tokenizer, AutoencoderKLMochi.from_pretrained(run / "vae")), style


def export_video(
    run: Path, out: Path, *, configuration: str, size: int = SIZE, frames: int = FRAMES, step: int | None = None
) -> None:
    """Write the folder, in half precision, that ``MochiPipeline.from_pretrained`` and ``ra.load_model`` read.

    Args:
        run: the training's working folder.
        out: where to; files of an earlier export are replaced.
        configuration: which of ``CONFIGURATIONS`` was trained.
        size: height and width in pixels of the clips that it was trained on last.
        frames: of these clips.
        step: one whose weights were put aside; None for the newest.
    """
    pipeline, style = assemble_video(run, configuration, step=step)
    settings: dict[str, Any] = {
        "image_size": [size, size], "text_length": TEXT_LENGTH, "steps": STEPS, "guidance": GUIDANCE, "frames": frames,
        **({"scenes": style} if style != "plain" else {}),
    }  # fmt: skip
    with written_folder(out) as place:
        pipeline.to(dtype=torch.float16).save_pretrained(place)
        (place / "refam.json").write_text(json.dumps(settings, indent=2) + "\n", encoding="utf-8")


def main(
    out: Annotated[Path, typer.Option(help="Working folder; holds vae/ from the autoencoder's training.")] = RUN,
    configuration: Annotated[str, typer.Option(help=f"One of {', '.join(CONFIGURATIONS)}.")] = "small",
    size: Annotated[int, typer.Option(help="Height and width of the frames; a multiple of 8.")] = SIZE,
    frames: Annotated[int, typer.Option(help="Of a clip: one more than a multiple of 6.")] = FRAMES,
    clips: Annotated[int, typer.Option(help="Number of training clips.")] = 12_000,
    batch: Annotated[int, typer.Option(help="Samples a step.")] = 32,
    steps: Annotated[int, typer.Option(help="Length of the learning-rate schedule, over all runs.")] = 10_000,
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
    export: Annotated[Path | None, typer.Option(help="Where to write the half-precision folder at the end.")] = None,
    scenes_style: Annotated[Style, typer.Option(help="plain or rich.")] = "plain",
) -> None:
    """Train the video model, or go on training it."""
    append_command(out, VideoTrainer.name, configuration=configuration, size=size, frames=frames, clips=clips,
                   batch=batch, steps=steps, minutes=minutes, peak=peak, seed=seed, device=device,
                   **({"until": until} if until else {}), **({"compile": ""} if compiled else {}),
                   **({"bfloat16": ""} if bfloat16 else {}), **({"start": start} if start else {}),
                   **({"scenes_style": scenes_style} if scenes_style != "plain" else {}))  # fmt: skip
    if start is not None:
        copy_parts(start, out, ("vae", "tokenizer"))
    on = torch.device(device)
    vae = AutoencoderKLMochi.from_pretrained(out / "vae").eval()
    data = LatentClips(out, vae, number=clips, frames=frames, size=size, device=on, style=scenes_style)
    chosen = CONFIGURATIONS[configuration]
    trainer = VideoTrainer(out, configuration=chosen, seed=seed, peak=peak,
                           hardware=Hardware(device, compiled, bfloat16), style=scenes_style)  # fmt: skip
    if start is not None:
        trainer.begin_with(start)
    look_at = partial(trainer.probe, vae, size=size, frames=frames)
    trainer.run(data, batch=batch, steps=steps, minutes=minutes, until=until, probe=look_at, probe_every=probe_every,
                keep=keep or ())  # fmt: skip
    if export is not None:
        export_video(out, export, configuration=configuration, size=size, frames=frames)
        weights = sum(file.stat().st_size for file in export.rglob("*.safetensors"))
        print(f"{export}: {weights / 1e6:.1f} MB of weights, {dataclasses.asdict(chosen)}")


if __name__ == "__main__":
    typer.run(main)
