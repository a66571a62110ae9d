"""Which of a segmenter's candidate masks is meant: by the segmenter's own guess, or by agreement with the heatmap.

A point does not say how much of what lies under it is meant, a button or the coat, so a segmenter proposes several
masks. Its scores say how well each mask is drawn, not which of them the sentence is about. The heatmap knows something
of that.
"""

from __future__ import annotations

from typing import Literal, get_args

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch.nn import functional

from refam_analysis.errors import RefamError

MaskChoice = Literal["score", "agreement"]
MASK_CHOICES: tuple[MaskChoice, ...] = get_args(MaskChoice)


class CandidatesError(RefamError, ValueError):
    """Candidates that cannot be chosen among."""


def choose_mask(masks: ArrayLike, scores: ArrayLike, heatmap: ArrayLike, *, by: MaskChoice = "score") -> int:
    """Choose one of a segmenter's candidates.

    Args:
        masks: bool (candidate, height, width).
        scores: (candidate,), the segmenter's guesses of their IoU.
        heatmap: (y, x), not negative, over the same picture in any resolution.
        by: "score": the highest guess. "agreement": the highest :func:`agreement`; of equal ones the higher guess.

    Returns:
        The index of the candidate; of equal ones the first.

    Raises:
        CandidatesError: no candidate, other numbers of masks and scores, a heatmap with other axes or negative values,
            or an unknown way to choose.

    >>> masks = np.array([[[True, False, False]], [[True, True, False]]])
    >>> choose_mask(masks, scores=[0.9, 0.8], heatmap=[[0.5, 0.4, 0.1]], by="score")
    0
    >>> choose_mask(masks, scores=[0.9, 0.8], heatmap=[[0.5, 0.4, 0.1]], by="agreement")
    1
    """
    candidates, guesses = np.asarray(masks, dtype=bool), np.asarray(scores, dtype=np.float64)
    if candidates.ndim != 3 or guesses.shape != candidates.shape[:1] or not len(candidates):
        raise CandidatesError(
            f"Candidates are masks of the shape (candidate, height, width) with a score each; given masks "
            f"{candidates.shape} and scores {guesses.shape}."
        )
    if by == "score":
        return int(guesses.argmax())
    if by == "agreement":
        return int(np.lexsort((-np.arange(len(guesses)), guesses, agreement(candidates, heatmap)))[-1])
    raise CandidatesError(f"by={by!r} is no way to choose a mask: give {' or '.join(map(repr, MASK_CHOICES))}.")


def agreement(masks: ArrayLike, heatmap: ArrayLike) -> NDArray[np.float64]:
    """How well each mask agrees with a heatmap: the soft IoU of the two.

    With the heatmap h brought to the picture's size, its least value taken off and its largest made 1, and the mask m
    of zeros and ones,

        agreement = sum(m h) / sum(m + h - m h)

    which is their IoU where h is a mask too. It punishes a mask that leaves out warm pixels as well as one that takes
    in cold ones; the mean inside minus the mean outside, the obvious alternative, is largest for the few hottest
    pixels.

    Args:
        masks: bool (candidate, height, width).
        heatmap: (y, x), not negative, over the same picture in any resolution.

    Returns:
        (candidate,), in [0, 1]. An even heatmap agrees with no mask: 0.

    Raises:
        CandidatesError: the heatmap has other axes, or values that are negative or not finite.

    >>> agreement([[[True, False]], [[True, True]]], [[1.0, 0.0]]).tolist()
    [1.0, 0.5]
    """
    candidates = np.asarray(masks, dtype=bool)
    heat = scaled_heatmap(heatmap, candidates.shape[-2:])
    shared = (candidates * heat).sum((-2, -1))
    either = candidates.sum((-2, -1)) + heat.sum() - shared
    return np.divide(shared, either, out=np.zeros_like(shared), where=either > 0)


def scaled_heatmap(heatmap: ArrayLike, size: tuple[int, ...]) -> NDArray[np.float64]:
    """A heatmap at the size of its picture, from 0 for its least value to 1 for its largest; zeros where it is even.

    Args:
        heatmap: (y, x), not negative.
        size: (height, width).

    Raises:
        CandidatesError: as in :func:`agreement`.

    >>> scaled_heatmap([[1.0, 3.0]], (1, 2)).tolist()
    [[0.0, 1.0]]
    """
    values = np.asarray(heatmap, dtype=np.float64)
    if values.ndim != 2 or values.size == 0 or not np.isfinite(values).all() or values.min() < 0:
        raise CandidatesError(
            f"Masks are compared with one heatmap of the axes (y, x), finite and not negative; this one has the shape "
            f"{values.shape}."
        )
    wide = functional.interpolate(torch.from_numpy(values)[None, None], size, mode="bilinear", align_corners=False)
    raised = wide[0, 0].numpy() - wide.min().item()
    return raised / raised.max() if raised.max() > 0 else raised
