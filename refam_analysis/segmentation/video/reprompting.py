"""Follow an object with an image segmenter alone: in every frame it is asked anew, where the frame before says.

In the first frame the object's colours and outline are learnt. In every further one, points are put inside what has
the object's colours near where it should be by now, and of the segmenter's answers the one is kept that agrees best
with its colours and its place. A segmenter asked about the visible rest of something draws what stands in front of it
too; so an answer that is not all of the object's colours is also offered cut down to them, and the visible pieces
themselves. If nothing agrees well enough the object is lost, and the mask is empty. Then it is looked for where its
motion would have brought it, and, by its colours, in the whole frame, until an answer agrees with its outline.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

from refam_analysis.errors import RefamError
from refam_analysis.segmentation.point import pixel_of
from refam_analysis.segmentation.segmenters import Segmenter
from refam_analysis.segmentation.video.appearance import (
    Colours,
    Mask,
    centre,
    deepest,
    overlap,
    pieces,
    same_outline,
    shifted,
)
from refam_analysis.segmentation.video.propagation import Ask, Followed, FrameSizeError, NotBegunError

Frame = NDArray[np.uint8]
Points = tuple[tuple[float, float], ...]
Likely = NDArray[np.float32]
"""(height, width): how likely each pixel is the object's by its colour."""
Answer = tuple[Mask, float]
"""A mask, and the segmenter's guess of its IoU."""

ASK_EVERY = 4
"""While an object is lost, the model is asked again in every such frame: a pass through it costs more than a frame."""

_SMALLEST_SHARE = 0.05
"""Of the object's area; pieces of its colours smaller than this are not asked about."""
_SEARCHED_SHARE = 0.25
"""The same while it is lost, in the whole frame."""
_MOST_PIECES = 3
_SEARCHED_PIECES = 4
_LIKELY = 0.5
_PURE = 0.7
"""An answer with a smaller mean likelihood holds something else as well."""
_PIECES_GUESS = 0.5
"""Stands for the segmenter's guess where the mask is not one of its answers."""
_WHOLE = (0.8, 1.25)
"""An answer of this share of the object's area, and with this overlap with the expected place, shows it whole."""


class FollowSettingsError(RefamError, ValueError):
    """Settings that mean nothing."""


@dataclass(frozen=True)
class FollowSettings:
    """How answers are judged. All agreements are in [0, 1].

    Attributes:
        place: how much the overlap with the expected place counts beside the colours, as an exponent.
        guess: how much the segmenter's own guess counts, as an exponent.
        lost: with less agreement of colours, place and guess than this, the object is lost.
        found: with this much agreement of colours, outline and guess it is found again, wherever it is.
        outline: how much the outline counts there, as an exponent.
        reach: how far around the expected place is looked, in units of the root of the object's area.
        momentum: how much of the motion is taken over from one frame to the next, against the newest displacement.
        growth: an answer of more than so many times the object's area is none.
        patience: frames for which a lost object is looked for where its motion would have brought it.

    The defaults did best on validation clips, see :mod:`refam_analysis.experiments.video`.
    """

    place: float = 0.5
    guess: float = 0.0
    lost: float = 0.15
    found: float = 0.6
    outline: float = 1.0
    reach: float = 0.5
    momentum: float = 0.25
    growth: float = 1.4
    patience: int = 24

    def __post_init__(self) -> None:
        """Refuse what means nothing."""
        for name in ("lost", "found", "momentum"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise FollowSettingsError(f"{name}={getattr(self, name)!r} must be a number from 0 to 1.")
        for name in ("place", "guess", "outline", "reach", "growth", "patience"):
            if not getattr(self, name) >= 0:
                raise FollowSettingsError(f"{name}={getattr(self, name)!r} must not be negative.")


@dataclass
class _Track:
    """Where the propagator stands.

    Attributes:
        colours: learnt in the first frame.
        whole: the last mask in which the object was seen whole, or nearly so.
        last: the last mask that was not empty.
        motion: (2,): displacement in x and y a frame, in pixels.
        offset: (2,): how far the object has moved since ``whole``.
        lost_for: frames since the object was last seen; 0 while it is in sight.
    """

    colours: Colours
    whole: Mask
    last: Mask
    motion: NDArray[np.float64]
    offset: NDArray[np.float64]
    lost_for: int = 0


class Reprompting:
    """A :class:`~refam_analysis.segmentation.video.propagation.Propagator` around an image segmenter.

    Args:
        segmenter: from ``load_segmenter``.
        settings: None for the defaults.
        ask: if given, the model itself is asked where the object is, now and then while it is lost.
    """

    def __init__(self, segmenter: Segmenter, settings: FollowSettings | None = None, *, ask: Ask | None = None) -> None:
        self.segmenter = segmenter
        self.settings = settings or FollowSettings()
        self.ask = ask
        self._track: _Track | None = None
        self._frame = 0

    def begin(self, frame: Frame, point: tuple[float, float], mask: Mask | None = None) -> Followed:
        """Learn the object's colours and outline; see the protocol."""
        if mask is None:
            self.segmenter.set_image(frame)
            masks, scores = self.segmenter.predict([point])
            mask = masks[0, scores[0].argmax()]
        if not mask.any():  # a segmenter may answer with nothing; then the point alone is known
            mask = mask.copy()
            mask[tuple(pixel_of(point, mask.shape))] = True
        self._frame = 0
        self._track = _Track(Colours.learn(frame, mask), mask, mask, np.zeros(2), np.zeros(2))
        return Followed(mask, 1.0, True, "started", (point,))

    def follow(self, frame: Frame) -> Followed:
        """Find the object where it should be, or anywhere once it is lost; see the protocol."""
        track = self._known
        self._frame += 1
        if frame.shape[:2] != track.last.shape:
            raise FrameSizeError(self._frame, frame.shape[:2], track.last.shape)
        likely = track.colours.likelihood(frame)
        return self._search(frame, likely) if track.lost_for else self._keep(frame, likely)

    def state(self) -> dict[str, Tensor]:
        """The track as tensors; see the protocol."""
        track = self._known
        return {
            "colours": torch.from_numpy(track.colours.table.copy()),
            "whole": torch.from_numpy(track.whole.copy()),
            "last": torch.from_numpy(track.last.copy()),
            "motion": torch.from_numpy(np.stack([track.motion, track.offset])),
            "counts": torch.tensor([track.lost_for, self._frame]),
        }

    def restore(self, state: Mapping[str, Tensor]) -> None:
        """Take a track up again; see the protocol."""
        arrays = {name: tensor.numpy() for name, tensor in state.items()}
        lost_for, self._frame = (int(count) for count in arrays["counts"])
        motion, offset = arrays["motion"]
        self._track = _Track(
            Colours(arrays["colours"]), arrays["whole"], arrays["last"], motion.copy(), offset.copy(), lost_for
        )

    @property
    def _known(self) -> _Track:
        if self._track is None:
            raise NotBegunError
        return self._track

    def _keep(self, frame: Frame, likely: Likely) -> Followed:
        """While the object is in sight: it is near where it was, moved on."""
        track = self._known
        best, agreement, points = self._nearby(frame, likely)
        if best is None or agreement < self.settings.lost:
            track.lost_for = 1
            return Followed(np.zeros_like(track.last), agreement, False, "lost", points)
        self._advance(best)
        return Followed(best, agreement, True, None, points)

    def _nearby(self, frame: Frame, likely: Likely) -> tuple[Mask | None, float, Points]:
        """The answer that agrees best with where the object should be by now, and how well it does."""
        track, settings = self._known, self.settings
        moved = (track.lost_for + 1) * track.motion
        last, whole = shifted(track.last, moved), shifted(track.whole, track.offset + moved)
        if not last.any():  # out of the frame by its motion: it comes back where it left
            last, whole = track.last, shifted(track.whole, track.offset)
        size = int(track.whole.sum())
        near = _within(whole | last, settings.reach * math.sqrt(size)) & (likely > _LIKELY)
        parts = pieces(near, least=_SMALLEST_SHARE * size, most=_MOST_PIECES)
        seen = np.logical_or.reduce(parts) if parts else np.zeros_like(last)
        points = _distinct(parts if parts or track.lost_for else [last])
        best, agreement = None, 0.0
        for mask, guess in self._cut_down(self._answers(frame, points, likely), seen, likely):
            if mask.sum() > settings.growth * size:
                continue
            place = max(overlap(mask, last), overlap(mask, seen)) * min(1.0, size / mask.sum())
            agrees = _mean_over(likely, mask) * place**settings.place * guess**settings.guess
            if agrees > agreement:
                best, agreement = mask, agrees
        return best, agreement, points

    def _search(self, frame: Frame, likely: Likely) -> Followed:
        """While it is lost: where its motion would have brought it, then wherever its colours are."""
        track, settings = self._known, self.settings
        points: Points = ()
        if track.lost_for <= settings.patience:
            best, agreement, points = self._nearby(frame, likely)
            if best is not None and agreement >= settings.lost:
                return self._found(best, agreement, points)
        best, agreement, everywhere = self._anywhere(frame, likely)
        if best is not None and agreement >= settings.found:
            return self._found(best, agreement, everywhere)
        track.lost_for += 1
        return Followed(np.zeros_like(track.last), agreement, False, None, (*points, *everywhere))

    def _anywhere(self, frame: Frame, likely: Likely) -> tuple[Mask | None, float, Points]:
        """The answer in the whole frame that agrees best with its outline, and where the model points if it may."""
        track, settings = self._known, self.settings
        parts = pieces(likely > _LIKELY, least=_SEARCHED_SHARE * track.whole.sum(), most=_SEARCHED_PIECES)
        points = _distinct(parts)
        if self.ask is not None and (track.lost_for - 1) % ASK_EVERY == 0:
            points = (*points, self.ask(frame))
        best, agreement = None, 0.0
        for mask, guess in self._answers(frame, points, likely):
            outline = same_outline(track.whole, mask) ** settings.outline
            agrees = _mean_over(likely, mask) * outline * guess**settings.guess
            if agrees > agreement:
                best, agreement = mask, agrees
        return best, agreement, points

    def _found(self, mask: Mask, agreement: float, points: Points) -> Followed:
        track = self._known
        track.offset = centre(mask) - centre(track.whole)
        track.last, track.motion, track.lost_for = mask, np.zeros(2), 0
        return Followed(mask, agreement, True, "found", points)

    def _cut_down(self, answers: Iterable[Answer], seen: Mask, likely: Likely) -> Iterator[Answer]:
        """The answers, those that hold much else also cut down to the pieces, and the pieces themselves."""
        beside = _within(seen, 1.0) if seen.any() else seen  # mixed colours at the edge belong to it
        for mask, guess in answers:
            yield mask, guess
            if _mean_over(likely, mask) < _PURE and (mask & beside).any():
                yield mask & beside, guess
        if seen.any():
            yield seen, _PIECES_GUESS

    def _answers(self, frame: Frame, points: Points, likely: Likely) -> Iterator[Answer]:
        """The segmenter's masks with its guesses, and at last the best of every point together.

        An object behind a post is in two pieces, and a point in one of them brings that alone.
        """
        if not points:
            return
        self.segmenter.set_image(frame)
        masks, scores = self.segmenter.predict(points)
        guesses = scores.astype(np.float64).clip(0.0, 1.0)
        chosen = []
        for answers, guess in zip(masks, guesses, strict=True):
            yield from ((mask, float(one)) for mask, one in zip(answers, guess, strict=True) if mask.any())
            quality = [one * _mean_over(likely, mask) for mask, one in zip(answers, guess, strict=True)]
            chosen.append(int(np.argmax(quality)))
        if len(points) > 1:
            rows = np.arange(len(points))
            together: Mask = np.logical_or.reduce(masks[rows, chosen])
            if together.any():
                yield together, float(guesses[rows, chosen].mean())

    def _advance(self, mask: Mask) -> None:
        """Note where the object is now; its motion and its outline only where it is seen whole."""
        track, momentum = self._known, self.settings.momentum
        share = mask.sum() / track.whole.sum()
        if _WHOLE[0] < share < _WHOLE[1]:
            newest = centre(mask) - centre(track.last)
            track.motion = momentum * track.motion + (1 - momentum) * newest
            track.whole, track.offset = mask, np.zeros(2)
        else:
            track.offset = track.offset + track.motion
        track.last = mask


def _within(mask: Mask, distance: float) -> Mask:
    """The mask and what is so near to it."""
    near: Mask = ndimage.distance_transform_edt(~mask) <= distance
    return near


def _mean_over(likely: NDArray[np.float32], mask: Mask) -> float:
    return float(likely[mask].mean()) if mask.any() else 0.0


def _distinct(regions: Sequence[Mask]) -> Points:
    """(x, y) of the deepest pixel of each region, the same one once."""
    found = dict.fromkeys(deepest(region) for region in regions)
    return tuple((float(column), float(row)) for row, column in found)
