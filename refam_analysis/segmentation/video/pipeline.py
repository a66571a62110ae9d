"""A sentence and a clip in, a mask a frame out, with every step on the way kept by name.

The first frame's heatmap and point are read as on an image (`first_frame`), a propagator follows the object
(`propagation`), and masks are kept or written as they come (`store`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray
from tqdm.auto import tqdm

from refam_analysis.models.base import DiffusionModel
from refam_analysis.models.fingerprint import networks_of, transformers_fingerprint, weights_fingerprint
from refam_analysis.prompts import DEFAULT_MAGNETS, Prompt, make_prompt
from refam_analysis.segmentation.heatmap import content_words
from refam_analysis.segmentation.mask_choice import MASK_CHOICES, MaskChoice, choose_mask
from refam_analysis.segmentation.pipeline import MaskChoiceError, chosen_settings
from refam_analysis.segmentation.result import SegmentationResult
from refam_analysis.segmentation.segmenters import Segmenter, chosen_segmenter
from refam_analysis.segmentation.settings import Gas, HeatmapSettings
from refam_analysis.segmentation.video.files import Frame, Frames, FrameSource, open_frames
from refam_analysis.segmentation.video.first_frame import (
    chosen_frames,
    clip_numbers,
    look,
    maps_as_arrays,
    stages_from_arrays,
)
from refam_analysis.segmentation.video.propagation import Propagator, load_propagator
from refam_analysis.segmentation.video.reprompting import Reprompting
from refam_analysis.segmentation.video.store import FolderStore, Masks, MemoryStore


@dataclass(frozen=True)
class VideoResult:
    """What :func:`segment_video` found.

    Attributes:
        masks: one a frame, bool (height, width); empty where the object is out of sight. ``np.asarray(masks)`` is
            (frame, height, width).
        point: (x, y) in pixels of the first frame, SAM's convention.
        heatmap: axes (y, x), of the first frame.
        frame_heatmaps: axes (frame, y, x): of all that a video model saw, with the numbers of the frames; the first is
            ``heatmap``.
        scores: (frame,), in [0, 1]: the propagator's own guess of how well it follows.
        visible: bool (frame,): whether the object was in sight.
        events: a row an event: ``frame``, ``event`` ("started", "lost", "found"), ``score``.
        stages: every intermediate of the first frame, by name, as
            :class:`~refam_analysis.segmentation.result.SegmentationResult` has them. After a run that went on from a
            folder only ``image``, ``prompt``, ``settings``, ``clip``, the heatmaps and the point are there.
    """

    masks: Masks
    point: tuple[float, float]
    heatmap: xr.DataArray
    frame_heatmaps: xr.DataArray
    scores: NDArray[np.float64]
    visible: NDArray[np.bool_]
    events: pd.DataFrame
    stages: Mapping[str, Any]

    def to_dict(self) -> dict[str, Any]:
        """Everything as plain values, for JSON; masks as run lengths.

        Returns:
            ``first_frame``: its stages, as ``SegmentationResult.to_dict`` writes them; ``frames``: a row a frame.
        """
        first = SegmentationResult(self.masks[0], self.point, self.heatmap, {**self.stages, "mask": self.masks[0]})
        events = dict(zip(self.events["frame"], self.events["event"], strict=True))
        frames = [
            {"frame": i, "score": float(score), "visible": bool(seen), "event": events.get(i)}
            for i, (score, seen) in enumerate(zip(self.scores, self.visible, strict=True))
        ]
        return {"first_frame": first.to_dict(), "frames": frames}


def segment_video(
    model: DiffusionModel,
    frames: FrameSource | Frames,
    expression: str,
    *,
    magnets: Sequence[str] = DEFAULT_MAGNETS,
    segmenter: str | Path | Segmenter | None = None,
    propagation: str | Path | Propagator = "reprompting",
    settings: HeatmapSettings | None = None,
    gas: Gas | None = None,
    noun_phrase: bool | None = None,
    spatial_bias: bool | float | None = None,
    mask_choice: MaskChoice = "score",
    clip: int | None = 1,
    ask_again: bool = False,
    seed: int = 0,
    store: str | Path | None = None,
    progress: bool = False,
) -> VideoResult:
    """Find the object that a sentence refers to in the first frame, and follow it through a clip.

    Frames are read one after the other and masks kept as run lengths, or written to ``store``, so that memory hardly
    grows with the length of the clip. Where the object gets out of sight its mask is empty, and ``visible`` and
    ``events`` say so.

    Args:
        model: from ``load_model``, of images or of videos.
        frames: an array (frame, height, width, 3), a list of images, a folder of them, or a video file; see
            :func:`~refam_analysis.segmentation.video.files.open_frames`.
        expression: what to look for, true of the first frame.
        segmenter: what ``load_segmenter`` takes; for the first frame, and with "reprompting" for all others. None for
            the one that ships for the scenes that the model knows.
        propagation: "reprompting", or a SAM 2 video model by hub id or folder, which is given the point alone; see
            :func:`~refam_analysis.segmentation.video.propagation.load_propagator`.
        clip: how many frames the model is shown, the first of them the clip's first, the others evenly spread. 1 as in
            the paper. A video model takes more, if its autoencoder can; None for as many as it is made for.
        ask_again: with "reprompting", ask the model with the expression anew while the object is lost.
        store: folder that masks are written to as they come, as indexed PNGs. The same call on it goes on where an
            interrupted one stopped.
        progress: show a bar over the frames.
        magnets, settings, gas, noun_phrase, spatial_bias, mask_choice, seed: as
            :func:`~refam_analysis.segmentation.pipeline.segment` takes them.

    Returns:
        Masks a frame, where the object is visible, and what happened to it.

    Raises:
        FramesError, FrameSizeError, ImageError: the clip cannot be read, or its frames differ in size.
        ClipLengthError: the model cannot take ``clip`` frames.
        UnknownPropagatorError, Sam2VideoSourceError: there is no such propagation.
        OtherVideoError, VideoStoreError: ``store`` holds another run, or cannot be used.
        NoContentWordsError, MaskChoiceError and others: as ``segment``.

    Source: RefAM, section 3: the point of the first frame, given to SAM 2 and propagated.
    """
    video, prompt = open_frames(frames), make_prompt(expression, magnets)
    content_words(model.tokens(prompt))
    if mask_choice not in MASK_CHOICES:
        raise MaskChoiceError(mask_choice)
    chosen = chosen_settings(model, settings, gas=gas, noun_phrase=noun_phrase, spatial_bias=spatial_bias)
    ask = partial(_ask, model, prompt=prompt, settings=chosen, seed=seed) if ask_again else None
    masking = chosen_segmenter(model, segmenter)
    propagator = load_propagator(propagation, segmenter=masking, ask=ask, device=model.device)
    numbers = clip_numbers(model, len(video), clip)
    run = _Run(video, propagator, mask_choice, progress)
    if store is None:
        kept = MemoryStore()
        stages = look(model, chosen_frames(video, numbers), prompt, chosen, numbers=numbers, seed=seed)
        run.through(kept, stages, None)
        return _result(kept, stages, video)
    about = {
        **_about(model, video, prompt, chosen, seed),
        "clip": numbers,
        "ask_again": ask_again,
        "mask_choice": mask_choice,
        "propagation": _about_propagator(propagator),
    }
    folder = FolderStore(store, about)
    stages = {"image": next(video.read()), "prompt": prompt, "settings": chosen, "clip": tuple(numbers)}
    if (known := folder.first) is not None:
        stages |= stages_from_arrays(known)
    else:
        stages = look(model, chosen_frames(video, numbers), prompt, chosen, numbers=numbers, seed=seed)
        folder.first = maps_as_arrays(stages)
    run.through(folder, stages, folder.resume())
    return _result(folder, stages, video)


@dataclass(frozen=True)
class _Run:
    """One pass through the frames."""

    video: Frames
    propagator: Propagator
    mask_choice: MaskChoice
    progress: bool

    def through(self, kept: MemoryStore | FolderStore, stages: dict[str, Any], state: Any) -> None:
        """Follow the object through all frames that are not done, and add what was found to the stages."""
        done = len(kept.rows)
        if done == len(self.video):
            return
        if state is not None:
            self.propagator.restore(state)
        with tqdm(total=len(self.video), initial=done, desc="frames", disable=not self.progress) as bar:
            for frame in self.video.read(done):
                started = bool(kept.rows)
                followed = self.propagator.follow(frame) if started else self._begin(frame, stages)
                kept.add(followed, self.propagator.state)
                bar.update()

    def _begin(self, frame: Frame, stages: dict[str, Any]) -> Any:
        """The first frame; where an image segmenter is asked, its answers become stages."""
        mask = None
        if isinstance(self.propagator, Reprompting):
            self.propagator.segmenter.set_image(frame)
            (masks,), (scores,) = self.propagator.segmenter.predict([stages["point"]])
            best = choose_mask(masks, scores, stages["heatmap"], by=self.mask_choice)
            mask = masks[best]
            stages |= {"masks": masks, "scores": scores, "chosen": best}
        return self.propagator.begin(frame, stages["point"], mask)


def _ask(
    model: DiffusionModel, frame: Frame, *, prompt: Prompt, settings: HeatmapSettings, seed: int
) -> tuple[float, float]:
    x, y = look(model, [frame], prompt, settings, seed=seed)["point"]
    return x, y


def _result(kept: MemoryStore | FolderStore, stages: dict[str, Any], video: Frames) -> VideoResult:
    height, width = stages["image"].shape[:2]
    events = [(i, row.event, row.score) for i, row in enumerate(kept.rows) if row.event is not None]
    return VideoResult(
        masks=kept.masks((height, width)),
        point=stages["point"],
        heatmap=stages["heatmap"],
        frame_heatmaps=stages["frame_heatmaps"],
        scores=np.array([row.score for row in kept.rows]),
        visible=np.array([row.visible for row in kept.rows], dtype=bool),
        events=pd.DataFrame(events, columns=["frame", "event", "score"]),
        stages=stages,
    )


def _about(
    model: DiffusionModel, video: Frames, prompt: Prompt, settings: HeatmapSettings, seed: int
) -> dict[str, Any]:
    """What the masks follow from, on the model's side and the clip's."""
    first = next(video.read())
    return {
        "model": model.name,
        "weights": transformers_fingerprint(model, settings.noise_levels),
        "expression": prompt.expression,
        "magnets": list(prompt.magnets),
        "settings": settings.to_dict(),
        "seed": seed,
        "frames": len(video),
        "size": list(first.shape[:2]),
        "first_frame": hashlib.sha256(first.tobytes()).hexdigest(),
    }


def _about_propagator(propagator: Propagator) -> dict[str, Any]:
    """Its class, its settings and its weights."""
    about: dict[str, Any] = {"class": type(propagator).__name__}
    if isinstance(propagator, Reprompting):
        about |= {"settings": asdict(propagator.settings), "segmenter": type(propagator.segmenter).__name__}
    networks = networks_of(getattr(propagator, "segmenter", propagator))
    return {**about, "weights": weights_fingerprint(*networks) if networks else None}
