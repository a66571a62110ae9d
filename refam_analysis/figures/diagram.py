"""A diffusion transformer in one picture: where text, image, noise and time enter, and what a block does with them.

The picture is of FLUX's architecture, and only its numbers are those of a model. Nothing here loads one.
"""

from __future__ import annotations

from dataclasses import dataclass

from matplotlib.axes import Axes
from matplotlib.patches import FancyArrowPatch, FancyBboxPatch, Rectangle

from refam_analysis.figures.style import FAINT, INK, KIND_LOOKS, PAPER, SIDE_LOOKS

_TIME = KIND_LOOKS["special"].colour
_TEXT, _IMAGE = SIDE_LOOKS["text"].colour, SIDE_LOOKS["image"].colour
_TEXT_LANE, _IMAGE_LANE, _TIME_LANE = 41.0, 15.0, 59.0  # heights of the three lanes
_STEP = 0.9  # from one block of a stack to the one behind it


@dataclass(frozen=True)
class TransformerSizes:
    """The numbers that stand in the picture.

    Attributes:
        text_tokens: padding included.
        grid: image tokens, (y, x).
        token_width: numbers of a packed image token.
        pixels: of a picture, (height, width).
        double_blocks, single_blocks: how many there are of each.
        heads, head_width: of every block.
    """

    text_tokens: int
    grid: tuple[int, int]
    token_width: int
    pixels: tuple[int, int]
    double_blocks: int
    single_blocks: int
    heads: int
    head_width: int


def transformer_diagram(axes: Axes, sizes: TransformerSizes) -> Axes:
    """Draw the way of one forward pass, from the left to the right.

    Args:
        axes: to draw on, about 9.5 by 6 inches.
        sizes: the numbers of the model.

    Returns:
        ``axes``, without ticks.
    """
    axes.set_xlim(0, 112)
    axes.set_ylim(-1, 68)
    axes.set_axis_off()
    _inputs(axes, sizes)
    _time(axes)
    _double(axes, sizes)
    _single(axes, sizes)
    _output(axes, sizes)
    return axes


def _inputs(axes: Axes, sizes: TransformerSizes) -> None:
    tokens = sizes.grid[0] * sizes.grid[1]
    _box(axes, 7, _TIME_LANE, 13, 6, "noise level $t$", _TIME)
    _box(axes, 7, _TEXT_LANE, 13, 6, "sentence", _TEXT)
    _box(axes, 7, _IMAGE_LANE + 5, 13, 6, "picture", _IMAGE)
    _box(axes, 7, _IMAGE_LANE - 8, 13, 6, "noise", FAINT)
    _box(axes, 23, _TEXT_LANE, 11, 6, "T5", _TEXT)
    _box(axes, 23, _IMAGE_LANE + 5, 11, 6, "autoencoder", _IMAGE)
    _box(axes, 23, _IMAGE_LANE - 8, 11, 8, "mix by $t$,\npack 2 x 2", _IMAGE)
    _arrow(axes, (13.5, _TEXT_LANE), (17.5, _TEXT_LANE))
    _arrow(axes, (13.5, _IMAGE_LANE + 5), (17.5, _IMAGE_LANE + 5))
    _arrow(axes, (13.5, _IMAGE_LANE - 8), (17.5, _IMAGE_LANE - 8))
    _arrow(axes, (23, _IMAGE_LANE + 2), (23, _IMAGE_LANE - 4))
    _tokens(axes, 34, _TEXT_LANE, _TEXT, f"{sizes.text_tokens} text\ntokens")
    _tokens(axes, 34, _IMAGE_LANE, _IMAGE, f"{sizes.grid[0]} x {sizes.grid[1]} =\n{tokens} image\ntokens")
    _arrow(axes, (28.5, _TEXT_LANE), (33, _TEXT_LANE))
    _arrow(axes, (28.5, _IMAGE_LANE - 8), (33, _IMAGE_LANE - 4))
    latent = sizes.token_width // 4
    note = f"{sizes.pixels[0]} x {sizes.pixels[1]} pixels, {latent} latent channels"
    axes.text(1, -0.5, note, fontsize=7.5, color=INK, va="bottom")


def _time(axes: Axes) -> None:
    _box(axes, 25, _TIME_LANE, 15, 6, "CLIP's vector + $t$", _TIME)
    _arrow(axes, (13.5, _TIME_LANE), (17.5, _TIME_LANE))
    _arrow(axes, (7, _TEXT_LANE + 3), (18.5, _TIME_LANE - 3), FAINT)
    axes.plot([32.5, 108.5, 108.5], [_TIME_LANE, _TIME_LANE, 20], color=_TIME, linewidth=1.6)
    axes.text(66, _TIME_LANE + 1.2, "$c$: scale, shift and gate of every norm", ha="center", fontsize=8.5, color=INK)
    for x in (52, 80):
        _arrow(axes, (x, _TIME_LANE), (x, 53.5), _TIME)
    _arrow(axes, (108.5, 20), (104.7, 20), _TIME)


def _double(axes: Axes, sizes: TransformerSizes) -> None:
    _stack(axes, 52, 28, 25, 47, sizes.double_blocks)
    for lane, colour in ((_TEXT_LANE, _TEXT), (_IMAGE_LANE, _IMAGE)):
        _box(axes, 44.7, lane, 8, 8, "norm,\n$q\\;k\\;v$", colour)
        _box(axes, 60, lane, 7, 8, "MLP", colour)
        _arrow(axes, (38.5, lane), (40.4, lane))
    joint = "one attention over\nall tokens, with RoPE"
    _box(axes, 52, (_TEXT_LANE + _IMAGE_LANE) / 2, 5.4, 38, joint, INK, upright=True)
    for lane in (_TEXT_LANE, _IMAGE_LANE):
        _arrow(axes, (48.8, lane), (49.2, lane))
        _arrow(axes, (54.8, lane), (56.4, lane))
    name = f"{sizes.double_blocks} double-stream blocks\ntwo sets of weights"
    axes.text(52, 2.6, name, ha="center", va="top", fontsize=8.5)


def _single(axes: Axes, sizes: TransformerSizes) -> None:
    _stack(axes, 80, 28, 17, 47, sizes.single_blocks)
    _arrow(axes, (65.9, _TEXT_LANE), (71.0, 31))
    _arrow(axes, (65.9, _IMAGE_LANE), (71.0, 25))
    axes.add_patch(Rectangle((72.4, 24.6), 1.6, 12, facecolor=_TEXT, edgecolor=PAPER))
    axes.add_patch(Rectangle((72.4, 12.6), 1.6, 12, facecolor=_IMAGE, edgecolor=PAPER))
    _box(axes, 81.6, 37, 11.5, 13, "one attention\nover all tokens,\nwith RoPE", INK)
    _box(axes, 81.6, 17, 11.5, 9, "MLP\nbeside it", INK)
    _arrow(axes, (74.2, 28), (75.7, 35))
    _arrow(axes, (74.2, 22), (75.7, 18))
    name = f"{sizes.single_blocks} single-stream blocks\none set of weights"
    axes.text(80, 2.6, name, ha="center", va="top", fontsize=8.5)
    heads = f"every block: {sizes.heads} heads of {sizes.head_width} numbers"
    axes.text(111, 66.5, heads, ha="right", va="top", fontsize=8.5, color=INK)


def _output(axes: Axes, sizes: TransformerSizes) -> None:
    _arrow(axes, (89.0, 28), (93.0, 28))
    _box(axes, 99, 36, 11, 8, "text tokens\nend here", FAINT)
    _box(axes, 99, 20, 11, 8, "norm, linear,\nunpack", _IMAGE)
    _arrow(axes, (93.2, 29), (95.0, 34))
    _arrow(axes, (93.2, 27), (95.0, 22))
    _arrow(axes, (99, 15.8), (99, 11.4))
    axes.text(99, 10.6, "velocity $v$:\nfrom the picture\nto the noise", ha="center", va="top", fontsize=8.5, color=INK)


def _stack(axes: Axes, x: float, y: float, width: float, height: float, number: int) -> None:
    """A block with up to two more behind it."""
    for behind in reversed(range(min(number, 3))):
        low = (x - width / 2 + behind * _STEP, y - height / 2 + behind * _STEP)
        sheet = FancyBboxPatch(low, width, height, boxstyle="round,pad=0,rounding_size=1.2", linewidth=1.0)
        sheet.set(facecolor=PAPER, edgecolor=INK, zorder=1 - 0.1 * behind)
        axes.add_patch(sheet)


def _box(
    axes: Axes, x: float, y: float, width: float, height: float, label: str, colour: str, *, upright: bool = False
) -> None:
    """A labelled part, its middle at (x, y), tinted in its colour."""
    low = (x - width / 2, y - height / 2)
    box = FancyBboxPatch(low, width, height, boxstyle="round,pad=0,rounding_size=1.0", linewidth=1.3, zorder=3)
    box.set(facecolor=PAPER, edgecolor=colour)
    axes.add_patch(box)
    tint = FancyBboxPatch(low, width, height, boxstyle="round,pad=0,rounding_size=1.0", linewidth=0, zorder=3)
    tint.set(facecolor=colour, alpha=0.14)
    axes.add_patch(tint)
    turn = 90 if upright else 0
    axes.text(x, y, label, ha="center", va="center", fontsize=8.2, color=INK, zorder=4, rotation=turn)


def _tokens(axes: Axes, x: float, y: float, colour: str, label: str) -> None:
    """A column of tokens, with what they are below it."""
    for place in range(5):
        square = Rectangle((x, y + 4 - 2 * place), 1.7, 1.6, facecolor=colour, edgecolor=PAPER, alpha=0.85)
        axes.add_patch(square)
    axes.text(x + 0.8, y - 5.6, label, ha="center", va="top", fontsize=7.5, color=INK)


def _arrow(axes: Axes, start: tuple[float, float], end: tuple[float, float], colour: str = INK) -> None:
    arrow = FancyArrowPatch(
        start, end, arrowstyle="-|>", mutation_scale=8, linewidth=1.1, color=colour, zorder=2, shrinkA=0, shrinkB=0
    )
    axes.add_patch(arrow)
