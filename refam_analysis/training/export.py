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
    found = load_checkpoint(run, "dit" if step is None else f"dit-{step}")
    if found is None and step is not None:
        raise FileNotFoundError(f"{run} holds no weights of step {step}: train with --keep {step}.")
    if found is None:
        raise FileNotFoundError(
            f"{run} holds no checkpoint: run python -m refam_analysis.training.dit --out {run} first."
        )
    t5, clip = load_tokenizers(run)
    parts = TrainedParts(CONFIGURATIONS[configuration], t5, clip)
    parts.load_state_dict({k.removeprefix("average."): v for k, v in found[0].items() if k.startswith("average.")})
    share_case(parts.t5, t5)
    return as_pipeline(
        parts.transformer,
        parts.t5,
        parts.clip,
        t5_tokenizer=t5,
        clip_tokenizer=clip,
        vae=AutoencoderTiny.from_pretrained(run / "vae"),
    )


def export(
    run: Path, out: Path, *, configuration: str, step: int | None = None, grounding: dict[str, Any] | None = None
) -> None:
    """Write the folder that ``FluxPipeline.from_pretrained`` and ``ra.load_model`` read.

    Args:
        run: the training's working folder.
        out: where to; files of an earlier export are replaced.
        configuration: which of ``CONFIGURATIONS`` was trained.
        step: one whose weights were put aside; None for the newest.
        grounding: the heatmap settings that a search on validation scenes chose; those of the earlier export are
            kept when left out.
    """
    earlier = out / "refam.json"
    if grounding is None and earlier.exists():
        grounding = json.loads(earlier.read_text()).get("grounding")
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    assemble(run, configuration, step=step).to(dtype=_HALF).save_pretrained(partial)
    settings = DEFAULTS | ({"grounding": grounding} if grounding else {})
    (partial / "refam.json").write_text(json.dumps(settings, indent=2) + "\n")
    if (card := out / "README.md").exists():
        shutil.copy(card, partial / "README.md")
    shutil.rmtree(out, ignore_errors=True)
    partial.replace(out)


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
