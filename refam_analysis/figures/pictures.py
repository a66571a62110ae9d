"""Figures over pictures: maps of words, masks, points, scenes and the pipeline from picture to mask.

Pictures are uint8 (height, width, 3), RGB; maps are (y, x) in tokens and are laid over the whole picture; points are
(x, y) in pixels. Each function draws on the Axes that it is given and returns them.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.patheffects import withStroke
from numpy.typing import ArrayLike, NDArray

from refam_analysis.figures.style import HEAT_COLOURS, INK, KIND_LOOKS, PAPER, picture_axes

_TARGET = KIND_LOOKS["content"].colour
_PREDICTED = KIND_LOOKS["magnet"].colour


def token_maps(
    axes: Sequence[Axes],
    image: ArrayLike,
    maps: ArrayLike,
    words: Sequence[str],
    *,
    kinds: Sequence[str] | None = None,
    limit: float | None = None,
) -> Sequence[Axes]:
    """The map of each word over the picture, an Axes a word.

    Args:
        axes: at least one a word; those that are left over are cleared.
        image: uint8 (height, width, 3).
        maps: (word, y, x), not negative.
        words: the titles.
        kinds: of the words, which colour the titles' marks.
        limit: the value of the lightest colour in every map; left out, each map has a scale of its own and its
            peak is written under it, because the words of one prompt differ by orders of magnitude.

    Returns:
        ``axes``.

    Raises:
        ValueError: fewer Axes than words, or numbers of maps and words that differ.
    """
    heat = np.asarray(maps, dtype=float)
    if len(heat) != len(words) or len(axes) < len(words):
        raise ValueError(
            f"There are {len(heat)} maps, {len(words)} words and {len(axes)} Axes: give a map and an "
            f"Axes for each word."
        )
    for index, ax in enumerate(axes):
        picture_axes(ax)
        if index >= len(words):
            ax.set_axis_off()
            continue
        heat_over(ax, image, heat[index], limit=limit)
        ax.set_title(words[index], loc="center")
        if limit is None:
            ax.set_xlabel(f"peak {heat[index].max():.2g}", fontsize=8)
        if kinds is not None:
            _underline(ax, KIND_LOOKS[kinds[index]].colour)
    return axes


def heat_over(axes: Axes, image: ArrayLike, heatmap: ArrayLike, *, limit: float | None = None) -> Axes:
    """One map over its picture, which shows through in grey.

    Args:
        axes: to draw on.
        image: uint8 (height, width, 3).
        heatmap: (y, x), not negative.
        limit: the value of the lightest colour; left out, the map's peak.

    Returns:
        ``axes``.
    """
    picture = np.asarray(image)
    heat = np.asarray(heatmap, dtype=float)
    height, width = picture.shape[:2]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(_grey(picture), cmap="gray", vmin=0.0, vmax=1.0)
    top = float(heat.max()) if limit is None else limit
    axes.imshow(heat, cmap=HEAT_COLOURS, vmin=0.0, vmax=top or 1.0, alpha=0.72, extent=extent)
    axes.set_xlim(extent[0], extent[1])
    axes.set_ylim(extent[2], extent[3])
    return picture_axes(axes)


def mask_overlay(
    axes: Axes,
    image: ArrayLike,
    mask: ArrayLike,
    *,
    point: tuple[float, float] | None = None,
    truth: ArrayLike | None = None,
) -> Axes:
    """A mask over its picture: tinted and outlined; the true one, if given, as a dashed outline.

    Args:
        axes: to draw on.
        image: uint8 (height, width, 3).
        mask: bool (height, width).
        point: (x, y) in pixels, the prompt that gave the mask.
        truth: bool (height, width).

    Returns:
        ``axes``.
    """
    predicted = np.asarray(mask, dtype=bool)
    picture = np.asarray(image)[..., :3] / 255.0
    tinted = np.where(predicted[..., None], 0.45 * picture + 0.55 * np.array(to_rgb(_PREDICTED)), picture)
    axes.imshow(tinted)
    _outline(axes, predicted, _PREDICTED, "solid")
    if truth is not None:
        _outline(axes, np.asarray(truth, dtype=bool), _TARGET, "dashed")
    if point is not None:
        mark_point(axes, point)
    return picture_axes(axes)


def mark_point(axes: Axes, point: tuple[float, float]) -> Axes:
    """The point that prompts the segmenter: a star that shows on any ground.

    Args:
        axes: to draw on.
        point: (x, y) in pixels.

    Returns:
        ``axes``.
    """
    axes.plot(*point, marker="*", markersize=13, color="#FFFFFF", markeredgecolor=INK, markeredgewidth=1.1, ls="")
    return axes


def pipeline_figure(
    axes: Sequence[Axes],
    *,
    image: ArrayLike,
    expression: str,
    maps: ArrayLike,
    words: Sequence[str],
    kinds: Sequence[str] | None = None,
    heatmap: ArrayLike,
    point: tuple[float, float],
    mask: ArrayLike,
    truth: ArrayLike | None = None,
) -> Sequence[Axes]:
    """The path from picture to mask, the counterpart of the paper's Figure 2, from left to right.

    Args:
        axes: one for the input, one a word, one for the filtered heatmap, one for the mask: ``len(words) + 3``.
        image: uint8 (height, width, 3).
        expression: the sentence, under the input.
        maps: (word, y, x).
        words: titles of the maps.
        kinds: of the words.
        heatmap: (y, x), what remains after filtering.
        point: (x, y) in pixels, its argmax.
        mask: bool (height, width), the segmenter's answer.
        truth: bool (height, width).

    Returns:
        ``axes``.

    Raises:
        ValueError: the number of Axes is not ``len(words) + 3``.
    """
    if len(axes) != len(words) + 3:
        raise ValueError(f"The pipeline of {len(words)} words needs {len(words) + 3} Axes, got {len(axes)}.")
    first, *middle, filtered, last = axes
    first.imshow(np.asarray(image))
    picture_axes(first).set_title("input", loc="center")
    first.set_xlabel("\n".join(textwrap.wrap(f'"{expression}"', 24)), fontsize=8.5)
    token_maps(middle, image, maps, words, kinds=kinds)
    mark_point(heat_over(filtered, image, heatmap), point)
    filtered.set_title("heatmap, point", loc="center")
    mask_overlay(last, image, mask, point=point, truth=truth)
    last.set_title("mask", loc="center")
    if truth is not None:
        last.set_xlabel("dashed: true mask", fontsize=8)
    return axes


def scene_samples(
    axes: Sequence[Axes], images: Sequence[ArrayLike], expressions: Sequence[str], masks: Sequence[ArrayLike]
) -> Sequence[Axes]:
    """Scenes with an expression each; its target is outlined.

    Args:
        axes: at least one a scene; those that are left over are cleared.
        images: uint8 (height, width, 3) each.
        expressions: one a scene.
        masks: bool (height, width) each, the target's.

    Returns:
        ``axes``.

    Raises:
        ValueError: the numbers of scenes differ, or there are fewer Axes.
    """
    if not len(images) == len(expressions) == len(masks) or len(axes) < len(images):
        raise ValueError(
            f"There are {len(images)} images, {len(expressions)} expressions, {len(masks)} masks and "
            f"{len(axes)} Axes: give one of each a scene."
        )
    for index, ax in enumerate(axes):
        picture_axes(ax)
        if index >= len(images):
            ax.set_axis_off()
            continue
        ax.imshow(np.asarray(images[index]))
        _outline(ax, np.asarray(masks[index], dtype=bool), "#FFFFFF", "solid")
        ax.set_xlabel("\n".join(textwrap.wrap(expressions[index], 26)), fontsize=8.5)
    return axes


def _outline(axes: Axes, mask: NDArray[np.bool_], colour: str, line: str) -> None:
    """A line round the mask, on a dark seam so that it shows on any ground; nothing for an empty or a full mask."""
    if mask.all() or not mask.any():
        return
    drawn = axes.contour(mask.astype(float), levels=[0.5], colors=[colour], linestyles=[line], linewidths=1.5)
    drawn.set_path_effects([withStroke(linewidth=3.0, foreground=INK if colour != INK else PAPER)])


def _underline(axes: Axes, colour: str) -> None:
    axes.plot([0.0, 1.0], [1.01, 1.01], color=colour, linewidth=3.0, transform=axes.transAxes, clip_on=False)


def _grey(picture: NDArray[np.generic]) -> NDArray[np.float64]:
    """Rec. 601 luma in [0, 1], lifted so that the map's dark end is not lost on a dark picture."""
    luma: NDArray[np.float64] = picture[..., :3].astype(float) @ np.array([0.299, 0.587, 0.114]) / 255.0
    return 0.25 + 0.75 * luma
