"""The whole training of a model, stage after stage, in one resumable command.

    python -m refam_analysis.training.all --style rich --minutes 170

takes up the first stage that is not finished, goes on for so many minutes, and says what is left; the same command
again goes on from there. Ctrl-C ends it after the step that is running. The stages of an image model, see `plans`, with
the minutes that they take on two free cores (the plain transformer's with ``--compile``; the rich one's, estimated from
the rates beside `dit.CONFIGURATIONS`, with ``--bfloat16`` too):

==========================  ===================================================  =====  ====
stage                       what it does                                         plain  rich
==========================  ===================================================  =====  ====
autoencoder                 pictures to latents and back                            10    30
transformer, six, 64 px     draws scenes, in six blocks                             30
transformer, complete, 64   twelve, grown from the six, with captions that say all  75
transformer, mixed or       goes on, or begins, with captions of all kinds          55   180
whole, 64 px
transformer, the same, 96   the same schedule to its end                            70    45
segmenter                   masks from clicks                                       45    45
==========================  ===================================================  =====  ====

With ``--taught`` the rich transformer is grown from one of six blocks that an easy lesson is given first, see `data`
and `deepening` (25 and 30 minutes, and no stage at 96 px). With ``--video`` those of the video model instead: its
autoencoder (15), and the transformer, first on first frames alone and then on clips (60 with ``--compile --bfloat16``,
100 without). With ``--start`` the last course of the transformer is taken alone, and begins with the weights of a model
that was exported, whose autoencoder is kept. What is finished is written, in half precision, into the folder
``shipped`` of the working folder. To ship it, copy its folders over those of ``refam_analysis/weights/data``, then make
everything that is measured again: ``refam experiment all`` (it takes the scenes that the models say they know), ``refam
claims``, and ``python -m refam_analysis.training.card``.
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
from refam_analysis.training.plans import PLANS, TAUGHT, Course, Plan
from refam_analysis.training.text import load_tokenizers
from refam_analysis.weights import embedded_folder

SHIPPED = "shipped"
"""Folder, in the working folder, of what is finished."""
SLOW: Mapping[str, Any] = {}
"""Neither compiled nor in bfloat16: what every machine can do."""


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
        start: folder of an exported model that the plan's last course begins with, without those before it; its
            autoencoder is kept as it is.
    """
    rebuilding = Stage(
        "autoencoder",
        "autoencoder",
        plan.autoencoder_steps,
        lambda minutes: autoencoder.main(
            out=out, minutes=minutes, steps=plan.autoencoder_steps, size=plan.sizes[1], seed=seed, scenes_style=style
        ),
    )
    stages = [rebuilding] if start is None else []
    courses = plan.courses if start is None else plan.courses[-1:]
    for before, course in zip((None, *courses), courses, strict=False):
        begin = partial(_trained, out, before) if before else (lambda: start)
        stages += _course_stages(out, style, plan, course, begin, dict(fast, seed=seed))
    return [*stages, Stage("segmenter", "sam", plan.sam_steps, partial(_train_segmenter, out, style, plan, seed))]


def _course_stages(
    out: Path, style: Style, plan: Plan, course: Course, begin: Callable[[], Path | None], further: Mapping[str, Any]
) -> list[Stage]:
    """Those of one course of the transformer, which begins with the exported model that ``begin`` gives."""
    folder = "" if course is plan.courses[-1] else course.name
    first, whole = course.steps

    def run(size: int, scenes: int, until: int, minutes: float) -> None:
        if folder:
            load_tokenizers(out, style)
        dit.main(
            out=out / folder, parts=out if folder else None, start=begin(), configuration=course.configuration,
            size=size, scenes=scenes, batch=plan.batch, steps=course.schedule or whole, until=until, minutes=minutes,
            peak=course.peak, scenes_style=style, lesson=course.lesson, **further,
        )  # fmt: skip

    sizes = zip(plan.sizes, course.scenes, course.steps, strict=True)
    return [
        Stage(f"transformer, {course.name}, {size} px", "dit", until, partial(run, size, scenes, until), folder)
        for size, scenes, until in list(sizes)[: 2 if whole > first else 1]
    ]


def _trained(out: Path, course: Course) -> Path:
    """What the next course begins with, written where it is not there yet."""
    folder = out / course.name / "model"
    if not folder.exists():
        export(out / course.name, folder, configuration=course.configuration)
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
        export(out, folder, configuration=plan.courses[-1].configuration)
    print(f"{folder} is written: see the head of refam_analysis/training/all.py for how it is shipped.")
    return True


if __name__ == "__main__":
    typer.run(main)
