"""The whole training of a model, stage after stage, in one resumable command.

    python -m refam_analysis.training.all --style rich --minutes 170

takes up the first stage that is not finished, goes on for so many minutes, and says what is left; the same command
again goes on from there. Ctrl-C ends it after the step that is running. The stages of an image model, with the minutes
that they take on two free cores (estimated from the rates beside `dit.CONFIGURATIONS` and in the other modules; the
rich transformer's with ``--compile --bfloat16``):

=====================  ===========================================  ======  =====
stage                  what it does                                 plain   rich
=====================  ===========================================  ======  =====
autoencoder            pictures to latents and back                     10     30
transformer, 64 px     draws the scenes, then the longer part           60    180
transformer, 96 px     the same schedule to its end                     60     45
segmenter              masks from clicks                                45     45
=====================  ===========================================  ======  =====

With ``--taught`` the rich transformer is grown from one of six blocks that an easy lesson is given first, see `data`
and `deepening` (25 and 30 minutes, and no stage at 96 px). With ``--video`` those of the video model instead: its
autoencoder (15), and the transformer, first on first frames alone and then on clips (60 with ``--compile --bfloat16``,
100 without). With ``--start`` the transformer begins with the weights of a model that was exported, and that one's
autoencoder is kept. What is finished is written, in half precision, into the folder ``shipped`` of the working folder.
To ship it, copy its folders over those of ``refam_analysis/weights/data``, then make everything that is measured again:
``refam experiment all`` (it takes the scenes that the models say they know), ``refam claims``, and ``python -m
refam_analysis.training.card``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import typer

from refam_analysis.models.loading import EMBEDDED_MODELS
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.segmenters import EMBEDDED_SEGMENTERS, embedded_segmenter
from refam_analysis.segmentation.segmenters.embedded import SamConfig, save_embedded_sam
from refam_analysis.training import autoencoder, dit, sam, video, video_autoencoder
from refam_analysis.training.checkpoints import append_command, load_checkpoint
from refam_analysis.training.export import export
from refam_analysis.training.text import load_tokenizers
from refam_analysis.weights import embedded_folder

SHIPPED = "shipped"
"""Folder, in the working folder, of what is finished."""
EASY = "easy"
"""Likewise, of the shallow transformer."""
SLOW: Mapping[str, Any] = {}
"""Neither compiled nor in bfloat16: what every machine can do."""


@dataclass(frozen=True)
class Plan:
    """How long and how large everything is.

    Attributes:
        configuration: of the image transformer, one of ``dit.CONFIGURATIONS``.
        easy_configuration: of a shallow one that is taught an easy lesson first, and that the image transformer is
            grown from; see `deepening`.
        autoencoder_steps: of the image autoencoder.
        scenes: that the transformer is trained on at the small size, and at the full one.
        easy_steps: of the shallow one; 0 where there is none.
        lesson: of the image transformer, one of ``data.LESSONS``; None for the usual one of the style.
        dit_steps: of the transformer's schedule at the small size, and in all.
        sizes: small and full height and width of the pictures.
        batch: samples a step of the transformers.
        peak: learning rate of the image transformers.
        sam_steps: of the segmenter.
        sam_start: that it begins with, one of those that ship; None for weights drawn anew.
        video_autoencoder_steps: of the autoencoder of clips.
        clips: that the video model is trained on: first frames alone, and whole ones.
        video_steps: of its transformer's schedule on first frames alone, and in all. Where words are is learnt from
            these three times as fast.
        frames: of a clip.
    """

    configuration: str = "small"
    easy_configuration: str = "small"
    autoencoder_steps: int = 3000
    scenes: tuple[int, int] = (40_000, 20_000)
    easy_steps: int = 0
    lesson: str | None = None
    dit_steps: tuple[int, int] = (8000, 11_000)
    sizes: tuple[int, int] = (64, 96)
    batch: int = 64
    peak: float = 1e-3
    sam_steps: int = 8000
    sam_start: str | None = None
    video_autoencoder_steps: int = 4000
    clips: tuple[int, int] = (40_000, 16_000)
    video_steps: tuple[int, int] = (8000, 18_000)
    frames: int = video.FRAMES


PLANS: dict[Style, Plan] = {
    "plain": Plan(),
    "rich": Plan(
        configuration="deep-wide", autoencoder_steps=5000, dit_steps=(14_000, 15_500), sam_steps=5000,
        sam_start="embedded",
    ),
}  # fmt: skip
TAUGHT = Plan(
    configuration="tall", autoencoder_steps=5000, easy_steps=8000, scenes=(48_000, 16_000), lesson="rich-complete",
    dit_steps=(6000, 6000), peak=1.5e-3, sam_steps=5000, sam_start="embedded",
)  # fmt: skip
"""Of rich scenes in two lessons; what the first one teaches is in the book (chapter 5)."""


@dataclass(frozen=True)
class Stage:
    """One part of the training.

    Attributes:
        title: for a reader.
        checkpoint: its name in the working folder.
        steps: that the checkpoint has when the stage is finished.
        run: trains for so many minutes, or until the stage is finished.
        folder: in the working folder, where the stage has one of its own.
    """

    title: str
    checkpoint: str
    steps: int
    run: Callable[[float], None]
    folder: str = ""

    def done(self, out: Path) -> int:
        """How many of the steps are taken."""
        found = load_checkpoint(out / self.folder, self.checkpoint)
        return 0 if found is None else min(self.steps, int(found[1]["step"]))


def image_stages(
    out: Path, style: Style, plan: Plan, *, seed: int = 0, fast: Mapping[str, Any] = SLOW, start: Path | None = None
) -> list[Stage]:
    """Those of an image model and of its segmenter, in their order.

    Args:
        out: the working folder.
        style: of the scenes.
        plan: how long and how large everything is.
        seed: of weights, noise and captions.
        fast: ``compiled`` and ``bfloat16`` of :class:`refam_analysis.training.trainer.Hardware`.
        start: folder of an exported model that the transformer begins with; its autoencoder is kept as it is.
    """
    small, full = plan.sizes
    first, whole = plan.dit_steps
    taught = start is None and plan.easy_steps > 0

    def transformer(size: int, scenes: int, until: int | None, minutes: float) -> None:
        begin = _shallow_model(out, plan) if taught else start
        dit.main(
            out=out, configuration=plan.configuration, size=size, scenes=scenes, batch=plan.batch, steps=whole,
            minutes=minutes, until=until, peak=plan.peak, seed=seed, scenes_style=style, lesson=plan.lesson,
            start=begin, **fast,
        )  # fmt: skip

    rebuilding = Stage(
        "autoencoder",
        "autoencoder",
        plan.autoencoder_steps,
        lambda minutes: autoencoder.main(
            out=out, minutes=minutes, steps=plan.autoencoder_steps, size=full, seed=seed, scenes_style=style
        ),
    )
    finishing = Stage(f"transformer, {full} px", "dit", whole, partial(transformer, full, plan.scenes[1], None))
    return [
        *([rebuilding] if start is None else []),
        *([_easy_stage(out, style, plan, seed, fast)] if taught else []),
        Stage(f"transformer, {small} px", "dit", first, partial(transformer, small, plan.scenes[0], first)),
        *([finishing] if whole > first else []),
        Stage("segmenter", "sam", plan.sam_steps, partial(_train_segmenter, out, style, plan, seed)),
    ]


def _easy_stage(out: Path, style: Style, plan: Plan, seed: int, fast: Mapping[str, Any]) -> Stage:
    """The shallow transformer, in a folder of its own."""

    def run(minutes: float) -> None:
        load_tokenizers(out, style)
        # The rate need not fall to its end: the training goes on, in the deep one.
        schedule = 3 * plan.easy_steps // 2
        dit.main(
            out=out / EASY, parts=out, configuration=plan.easy_configuration, size=plan.sizes[0],
            scenes=plan.scenes[0], batch=plan.batch, steps=schedule, until=plan.easy_steps, minutes=minutes,
            peak=plan.peak, seed=seed, scenes_style=style, lesson=f"{style}-easy", **fast,
        )  # fmt: skip

    return Stage(f"transformer, easy lesson, {plan.sizes[0]} px", "dit", plan.easy_steps, run, folder=EASY)


def _shallow_model(out: Path, plan: Plan) -> Path:
    """What the deep transformer begins with, written where it is not there yet."""
    folder = out / EASY / "model"
    if not folder.exists():
        export(out / EASY, folder, configuration=plan.easy_configuration)
    return folder


def video_stages(
    out: Path, style: Style, plan: Plan, *, seed: int = 0, fast: Mapping[str, Any] = SLOW, start: Path | None = None
) -> list[Stage]:
    """Those of a video model, in their order; the arguments are those of :func:`image_stages`."""
    size, name = plan.sizes[0], video.VideoTrainer.name
    first, whole = plan.video_steps

    def transformer(frames: int, clips: int, batch: int, until: int | None, minutes: float) -> None:
        video.main(
            out=out, size=size, frames=frames, clips=clips, batch=batch, steps=whole, minutes=minutes, until=until,
            seed=seed, scenes_style=style, start=start, **fast,
        )  # fmt: skip

    rebuilding = Stage(
        "autoencoder of clips",
        video_autoencoder.NAME,
        plan.video_autoencoder_steps,
        lambda minutes: video_autoencoder.main(
            out=out, minutes=minutes, steps=plan.video_autoencoder_steps, size=size, seed=seed, scenes_style=style
        ),
    )
    return [
        *([rebuilding] if start is None else []),
        Stage(
            "video transformer, first frames", name, first,
            partial(transformer, 1, plan.clips[0], plan.batch, first),
        ),
        Stage(
            "video transformer, clips", name, whole,
            partial(transformer, plan.frames, plan.clips[1], plan.batch // 2, None),
        ),
    ]  # fmt: skip


def _train_segmenter(out: Path, style: Style, plan: Plan, seed: int, minutes: float) -> None:
    begin = None if plan.sam_start is None else EMBEDDED_SEGMENTERS[plan.sam_start]
    append_command(out, "sam", minutes=minutes, steps=plan.sam_steps, seed=seed,
                   **({"scenes_style": style} if style != "plain" else {}),
                   **({"start": f"refam_analysis/weights/data/{begin}"} if begin else {}))  # fmt: skip
    config = SamConfig()
    model = sam.train(
        out, minutes=minutes, steps=plan.sam_steps, batch=16, seed=seed, config=config, style=style,
        start=None if begin is None else embedded_folder(begin),
    )  # fmt: skip
    folder = out / SHIPPED / EMBEDDED_SEGMENTERS[embedded_segmenter(style)]
    save_embedded_sam(model, config, folder, scenes=style)


def run_stages(out: Path, stages: list[Stage], *, minutes: float) -> bool:
    """Run the stages that are not finished, until the time is over.

    Args:
        out: the working folder.
        stages: in their order.
        minutes: for all of them together.

    Returns:
        Whether all are finished.
    """
    end = time.monotonic() + 60 * minutes
    for stage in stages:
        if (done := stage.done(out)) < stage.steps and time.monotonic() < end:
            print(f"{stage.title}: step {done:,} of {stage.steps:,}")
            stage.run((end - time.monotonic()) / 60)
            done = stage.done(out)
        if done < stage.steps:
            print(f"{stage.title}: stopped at step {done:,} of {stage.steps:,}. The same command goes on from here.")
            return False
        print(f"{stage.title}: finished")
    return True


def main(
    style: Annotated[Style, typer.Option(help="Of the scenes: plain or rich.")] = "rich",
    minutes: Annotated[float, typer.Option(help="Of this call, for all stages together.")] = 150.0,
    out: Annotated[Path | None, typer.Option(help="Working folder; runs/<style>, or runs/<style>-video.")] = None,
    clips: Annotated[bool, typer.Option("--video", help="The video model, instead of the image model.")] = False,
    seed: Annotated[int, typer.Option(help="Of weights, noise and captions.")] = 0,
    compiled: Annotated[bool, typer.Option("--compile", help="Compile the steps; needs a C++ compiler.")] = False,
    bfloat16: Annotated[bool, typer.Option("--bfloat16", help="Matrix products in bfloat16.")] = False,
    start: Annotated[Path | None, typer.Option(help="Exported model whose weights to begin with.")] = None,
    taught: Annotated[bool, typer.Option("--taught", help="Rich scenes in two lessons, and six blocks first.")] = False,
) -> None:
    """Train a model from the first stage to the last, or go on with it."""
    if taught and (style != "rich" or clips):
        raise typer.BadParameter("only the image model of rich scenes has lessons: leave --taught out.")
    plan = TAUGHT if taught else PLANS[style]
    fast = {"compiled": compiled, "bfloat16": bfloat16}
    train_all(style, minutes=minutes, out=out, clips=clips, plan=plan, seed=seed, fast=fast, start=start)


def train_all(
    style: Style,
    *,
    minutes: float,
    plan: Plan,
    out: Path | None = None,
    clips: bool = False,
    seed: int = 0,
    fast: Mapping[str, Any] = SLOW,
    start: Path | None = None,
) -> bool:
    """Run the stages of a plan and write what is finished into the folder ``shipped``.

    Args:
        style: of the scenes.
        minutes: of this call.
        plan: how long and how large everything is.
        out: the working folder; None for the one that is named after the style.
        clips: whether the model is one of clips.
        seed: of weights, noise and captions.
        fast: see :func:`image_stages`.
        start: likewise.

    Returns:
        Whether all is finished.
    """
    out = out or Path("runs") / (f"{style}-video" if clips else style)
    make = video_stages if clips else image_stages
    stages = make(out, style, plan, seed=seed, fast=fast, start=start)
    if not run_stages(out, stages, minutes=minutes):
        return False
    if clips:
        folder = out / SHIPPED / "embedded-video"
        video.export_video(out, folder, configuration="small", size=plan.sizes[0], frames=plan.frames)
    else:
        folder = out / SHIPPED / EMBEDDED_MODELS["embedded" if style == "plain" else f"embedded-{style}"]
        export(out, folder, configuration=plan.configuration)
    print(f"{folder} is written: see the head of refam_analysis/training/all.py for how it is shipped.")
    return True


if __name__ == "__main__":
    typer.run(main)
