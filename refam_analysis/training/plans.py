"""How long and how large the trainings are that `all` runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from refam_analysis.scenes.sampling import Style
from refam_analysis.training.video import FRAMES


@dataclass(frozen=True)
class Course:
    """One run of an image transformer; the next course begins with the weights that it ends with.

    Attributes:
        name: of its folder, where another course follows; the last one's is the working folder itself.
        lesson: one of ``data.LESSONS``; None for the usual one of the style.
        configuration: one of ``dit.CONFIGURATIONS``. One with more blocks than the course before is grown from it, see
            `deepening`.
        scenes: that it is trained on at the small size, and at the full one.
        steps: at the small size, and in all.
        schedule: steps after which the learning rate would be at its end; None for all of its steps.
        peak: learning rate.
    """

    name: str
    lesson: str | None = None
    configuration: str = "small"
    scenes: tuple[int, int] = (40_000, 20_000)
    steps: tuple[int, int] = (8000, 11_000)
    schedule: int | None = None
    peak: float = 1.5e-3


@dataclass(frozen=True)
class Plan:
    """How long and how large everything is.

    Attributes:
        courses: of the image transformer, one after the other.
        autoencoder_steps: of the image autoencoder.
        sizes: small and full height and width of the pictures.
        batch: samples a step of the transformers.
        sam_steps: of the segmenter.
        sam_start: that it begins with, one of those that ship; None for weights drawn anew.
        video_autoencoder_steps: of the autoencoder of clips.
        clips: that the video model is trained on: first frames alone, and whole ones.
        video_steps: of its transformer's schedule on first frames alone, and in all. Where words are is learnt from
            these three times as fast.
        frames: of a clip.
    """

    courses: tuple[Course, ...]
    autoencoder_steps: int = 3000
    sizes: tuple[int, int] = (64, 96)
    batch: int = 64
    sam_steps: int = 8000
    sam_start: str | None = None
    video_autoencoder_steps: int = 4000
    clips: tuple[int, int] = (40_000, 16_000)
    video_steps: tuple[int, int] = (8000, 18_000)
    frames: int = FRAMES


PLANS: Mapping[Style, Plan] = MappingProxyType(
    {
        "plain": Plan(
            courses=(
                Course("six", steps=(4900, 4900), schedule=17_000),
                Course("complete", "plain-complete", "tall", steps=(7000, 7000)),
                Course("mixed", "plain-mixed", "tall", scenes=(40_000, 24_000), steps=(5000, 7600)),
            ),
        ),
        "rich": Plan(
            courses=(Course("whole", configuration="deep-wide", steps=(14_000, 15_500), peak=1e-3),),
            autoencoder_steps=5000, sam_steps=5000, sam_start="embedded",
        ),
    }
)  # fmt: skip
"""By the style of the scenes; that of the plain ones made the transformer that ships."""
TAUGHT = Plan(
    courses=(
        # The rate need not fall to its end: the training goes on, in the deep one.
        Course("easy", "rich-easy", scenes=(48_000, 16_000), steps=(8000, 8000), schedule=12_000),
        Course("complete", "rich-complete", "tall", scenes=(48_000, 16_000), steps=(6000, 6000)),
    ),
    autoencoder_steps=5000, sam_steps=5000, sam_start="embedded",
)  # fmt: skip
"""Of rich scenes in two lessons; what the first one teaches is in the book (chapter 5)."""
