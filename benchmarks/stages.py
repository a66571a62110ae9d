"""How long each stage of the pipeline takes: its functions are watched while it runs, and put back after."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch

from refam_analysis.models.base import DiffusionModel
from refam_analysis.segmentation import Segmenter, pipeline

STAGES = (
    "read image", "encode text", "latents", "transformer", "heatmap", "point", "segmenter encode", "decode", "the rest"
)  # fmt: skip
"""In the order of the pipeline. "transformer" is the forward passes while they are recorded; "the rest" is what no
stage has: checks, digests, and making recordings of what was kept."""


class Stopwatch:
    """Seconds by stage.

    A stage that runs within another one counts for itself alone.
    """

    def __init__(self) -> None:
        self.seconds = dict.fromkeys(STAGES, 0.0)
        self._running: list[str] = []
        self._since = 0.0

    @contextmanager
    def running(self, stage: str) -> Iterator[None]:
        """Count what happens meanwhile for a stage."""
        self._turn_over()
        self._running.append(stage)
        try:
            yield
        finally:
            self._turn_over()
            self._running.pop()

    @contextmanager
    def watching(self, owner: Any, name: str, stage: str) -> Iterator[None]:
        """Count the calls of a function, which is found under this name in an object or a module."""
        original, is_own = getattr(owner, name), name in vars(owner)

        def timed(*positional: Any, **named: Any) -> Any:
            with self.running(stage):
                return original(*positional, **named)

        setattr(owner, name, timed)
        try:
            yield
        finally:
            if is_own:
                setattr(owner, name, original)
            else:
                delattr(owner, name)

    def _turn_over(self) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        now = time.perf_counter()
        if self._running:
            self.seconds[self._running[-1]] += now - self._since
        self._since = now


@contextmanager
def by_stage(model: DiffusionModel, segmenter: Segmenter) -> Iterator[dict[str, float]]:
    """Seconds by stage of what is segmented meanwhile, with this model and this segmenter.

    Args:
        model: from ``load_model``.
        segmenter: a loaded one.

    Returns:
        Stage of :data:`STAGES` -> seconds; they sum to the time that the block took.
    """
    watch = Stopwatch()
    watched = [
        (pipeline, "load_image", "read image"),
        (model, "tokens", "encode text"),
        (model, "encode_prompts", "encode text"),
        (model, "encode_images", "latents"),
        (model.transformer, "forward", "transformer"),
        (pipeline, "sentence_maps", "heatmap"),
        (pipeline, "upsampled", "heatmap"),
        (pipeline, "prior", "heatmap"),
        (pipeline, "peak", "point"),
        (segmenter, "set_image", "segmenter encode"),
        (segmenter, "predict", "decode"),
    ]
    with ExitStack() as stack:
        for owner, name, stage in watched:
            stack.enter_context(watch.watching(owner, name, stage))
        with watch.running("the rest"):
            yield watch.seconds
