"""From a training run to the folder that ships: a FluxPipeline in half precision, its defaults, its model card."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from diffusers import AutoencoderTiny, FluxPipeline
from torch import Tensor

from refam_analysis.files import put_back, written_folder
from refam_analysis.training.assembly import GUIDANCE, IMAGE_SIZE, STEPS, as_pipeline
from refam_analysis.training.checkpoints import load_checkpoint
from refam_analysis.training.dit import CONFIGURATIONS, TrainedParts
from refam_analysis.training.text import TEXT_LENGTH, load_tokenizers, share_case

_HALF = torch.float16
DEFAULTS: dict[str, Any] = {
    "image_size": [IMAGE_SIZE, IMAGE_SIZE],
    "text_length": TEXT_LENGTH,
    "steps": STEPS,
    "guidance": GUIDANCE,
}


def assemble(run: Path, configuration: str, *, step: int | None = None) -> FluxPipeline:
    """The pipeline of a run's averaged weights, in float32.

    Args:
        run: the training's working folder.
        configuration: which of ``CONFIGURATIONS`` was trained.
        step: one whose weights were put aside; None for the newest.

    Raises:
        FileNotFoundError: the run has no such checkpoint.
    """
    tensors, _ = _checkpoint(run, step)
    t5, clip = load_tokenizers(run)
    parts = TrainedParts(CONFIGURATIONS[configuration], t5, clip)
    parts.load_state_dict({k.removeprefix("average."): v for k, v in tensors.items() if k.startswith("average.")})
    share_case(parts.t5, t5)
    return as_pipeline(
        parts.transformer,
        parts.t5,
        parts.clip,
        t5_tokenizer=t5,
        clip_tokenizer=clip,
        vae=AutoencoderTiny.from_pretrained(run / "vae"),
    )


def _checkpoint(run: Path, step: int | None) -> tuple[dict[str, Tensor], dict[str, Any]]:
    found = load_checkpoint(run, "dit" if step is None else f"dit-{step}")
    if found is None and step is not None:
        raise FileNotFoundError(f"{run} holds no weights of step {step}: train with --keep {step}.")
    if found is None:
        raise FileNotFoundError(
            f"{run} holds no checkpoint: run python -m refam_analysis.training.dit --out {run} first."
        )
    return found


def export(
    run: Path, out: Path, *, configuration: str, step: int | None = None, grounding: dict[str, Any] | None = None
) -> None:
    """Write the folder that ``FluxPipeline.from_pretrained`` and ``ra.load_model`` read.

    Its ``refam.json`` says which scenes the model was trained on, unless they were plain.

    Args:
        run: the training's working folder.
        out: where to; files of an earlier export are replaced.
        configuration: which of ``CONFIGURATIONS`` was trained.
        step: one whose weights were put aside; None for the newest.
        grounding: the heatmap settings that a search on validation scenes chose; those of the earlier export are
            kept when left out.
    """
    put_back(out)
    earlier = out / "refam.json"
    if grounding is None and earlier.exists():
        grounding = json.loads(earlier.read_text()).get("grounding")
    pipeline = assemble(run, configuration, step=step).to(dtype=_HALF)
    style = _checkpoint(run, step)[1].get("style", "plain")
    said = {"scenes": style if style != "plain" else None, "grounding": grounding}
    settings = DEFAULTS | {name: value for name, value in said.items() if value}
    with written_folder(out) as place:
        pipeline.save_pretrained(place)
        (place / "refam.json").write_text(json.dumps(settings, indent=2) + "\n")
        if (card := out / "README.md").exists():
            shutil.copy(card, place / "README.md")


def main(
    run: Annotated[Path, typer.Option(help="The training's working folder.")] = Path("runs/embedded"),
    out: Annotated[Path, typer.Option(help="Where to write.")] = Path("refam_analysis/weights/data/embedded-dit"),
    configuration: Annotated[str, typer.Option(help=f"One of {', '.join(CONFIGURATIONS)}.")] = "small",
    step: Annotated[int | None, typer.Option(help="One whose weights were put aside; the newest by default.")] = None,
) -> None:
    """Write the trained embedded model in the form in which it ships."""
    export(run, out, configuration=configuration, step=step)
    weights = sum(file.stat().st_size for file in out.rglob("*.safetensors"))
    print(f"{out}: {weights / 1e6:.1f} MB of weights, {dataclasses.asdict(CONFIGURATIONS[configuration])}")


if __name__ == "__main__":
    typer.run(main)
