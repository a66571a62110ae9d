"""What grounding is measured on: pictures, a sentence each, and the objects that the sentence might mean.

Here items are drawn from the diagnostic scenes, still or moving. How a model is asked about them is in
:mod:`refam_analysis.evaluation.grounding`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from refam_analysis.errors import RefamError
from refam_analysis.scenes import Expression, ExpressionKind, Scene, SceneOptions, Scenes, SceneSample
from refam_analysis.scenes.dataset import Split
from refam_analysis.scenes.moving import (
    HORIZON,
    MovingExpression,
    MovingKind,
    MovingOptions,
    MovingSample,
    MovingScenes,
)
from refam_analysis.scenes.rendering import visible_masks
from refam_analysis.scenes.sampling import Style

HARD_OBJECTS: dict[Style, tuple[int, int]] = {"plain": (3, 3), "rich": (3, 4)}
"""Least and most objects of a hard item, by the style of its scene."""


class ItemsError(RefamError, ValueError):
    """Items that cannot be measured on."""


@dataclass(frozen=True)
class GroundingItem:
    """One picture, one sentence, and what it refers to.

    Attributes:
        image: uint8 (height, width, 3), RGB.
        masks: bool (object, height, width): the visible part of every object.
        expression: the sentence.
        kind: what the sentence relies on.
        target: index of the object that it means.
        distractors: indices of the other objects, the one most like the target first.
        scene: number of the scene; items of one scene belong together.
        colours: of the objects, in the order of the masks; empty where they are not known.
        shapes: likewise.
        frames: uint8 (frame, height, width, 3) of a clip whose first frame is the image; None for a still picture.
    """

    image: NDArray[np.uint8]
    masks: NDArray[np.bool_]
    expression: str
    kind: str
    target: int
    distractors: tuple[int, ...]
    scene: int
    colours: tuple[str, ...] = ()
    shapes: tuple[str, ...] = ()
    frames: NDArray[np.uint8] | None = None

    @property
    def shown(self) -> NDArray[np.uint8] | list[NDArray[np.uint8]]:
        """What a model is asked about: the picture, or all frames of the clip."""
        return self.image if self.frames is None else list(self.frames)


def scene_items(samples: Sequence[SceneSample]) -> list[GroundingItem]:
    """An item for every expression of every scene.

    Args:
        samples: such as ``Scenes("test", length=500)``.

    Returns:
        The items, scene by scene.

    >>> [item.kind for item in scene_items(Scenes("validation", length=2, size=48, balanced=True))]
    ['attribute', 'location']
    """
    return [_item(sample, expression, i) for i, sample in enumerate(samples) for expression in sample.expressions]


def hard_items(
    split: Split,
    count: int,
    *,
    kinds: Sequence[ExpressionKind] = ("attribute", "location"),
    objects: int | tuple[int, int] | None = None,
    size: int = 96,
    skip: int = 0,
    style: Style = "plain",
) -> list[GroundingItem]:
    """Scenes in which some distractor shares the target's colour or shape, so that one attribute is not enough.

    Args:
        split: ``validation`` to choose settings on, ``test`` to report.
        count: number of items, one a scene.
        kinds: of expressions, in equal shares: kind i has item i, i + len(kinds), ...
        objects: in every scene, or the least and the most; None for as many as :data:`HARD_OBJECTS` says.
        size: height and width in pixels.
        skip: leave out so many items first.
        style: of the scenes; ``model.scene_style`` for those that a model knows.

    Returns:
        The items, in the order of the split; the same for the same arguments.

    Raises:
        ItemsError: no item, no kind or fewer than two objects are asked for.

    >>> items = hard_items("validation", 4, size=48)
    >>> [item.kind for item in items], [len(item.distractors) for item in items]
    (['attribute', 'location', 'attribute', 'location'], [2, 2, 2, 2])
    """
    asked = HARD_OBJECTS[style] if objects is None else objects
    least, most = (asked, asked) if isinstance(asked, int) else asked
    if count < 1 or least < 2 or not kinds:
        raise ItemsError(
            f"count={count}, objects={least}, kinds={tuple(kinds)} make no items: ask for at least one "
            f"item, two objects and one kind."
        )
    options = SceneOptions(objects=(least, most), shared_attribute=True, style=style)
    scenes = Scenes(split, length=100 * (skip + count), size=size, options=options, kinds=kinds, balanced=True)
    chosen: list[tuple[int, Expression]] = []
    for number in range(len(scenes)):
        if len(chosen) == skip + count:
            break
        if number % len(kinds) != len(chosen) % len(kinds):
            continue
        scene, (expression,) = scenes.draw(number)
        if _shares_attribute(scene, expression):
            chosen.append((number, expression))
    return [_item(scenes[number], expression, number) for number, expression in chosen[skip:]]


def moving_items(
    split: Split,
    count: int,
    *,
    frames: int,
    kinds: Sequence[MovingKind] = ("attribute", "location"),
    size: int = 96,
    skip: int = 0,
    style: Style = "plain",
) -> list[GroundingItem]:
    """Clips in which some object shares the target's colour or shape, for models that see more than one frame.

    Args:
        split: ``validation`` to choose settings on, ``test`` to report.
        count: number of items, one a clip.
        frames: of each clip, from the first on; ``model.defaults.frames`` for as many as a model is made for.
        kinds: of sentences, in equal shares; they are true of the first frame.
        size: height and width in pixels.
        skip: leave out so many clips first.
        style: of the scenes.

    Returns:
        The items, with masks of the first frame, in which every object is in full sight.

    Raises:
        ItemsError: no item, no kind or no frame is asked for.

    >>> (item,) = moving_items("validation", 1, frames=7, size=48)
    >>> item.frames.shape, item.masks.shape
    ((7, 48, 48, 3), (3, 48, 48))
    """
    if count < 1 or frames < 1 or not kinds:
        raise ItemsError(
            f"count={count}, frames={frames}, kinds={tuple(kinds)} make no items: ask for at least one item, one frame "
            "and one kind."
        )
    length = max(frames, HORIZON)
    clips = MovingScenes(
        split, length=skip + count, frames=length, size=size, options=moving_options(style), kinds=kinds
    )
    return [clip_item(clips[number], number, frames) for number in range(skip, skip + count)]


def clip_item(clip: MovingSample, number: int, frames: int) -> GroundingItem:
    """A clip as an item, with masks of its first frame.

    Args:
        clip: from ``MovingScenes``.
        number: of the clip.
        frames: how many of its frames are shown, from the first on.
    """
    scene, shown = clip.motion.scene, clip.frames[:frames]
    masks = visible_masks([scene], size=clip.size)[0].numpy()
    return _item_of(scene, shown[0], masks, clip.expression, number, frames=shown)


def moving_options(style: Style) -> MovingOptions:
    """Which clips to draw, of a style: three objects, two of which share a colour or a shape.

    >>> moving_options("plain") == MovingOptions()
    True
    """
    return MovingOptions(scenes=SceneOptions(objects=(3, 3), shared_attribute=True, style=style))


def _item(sample: SceneSample, expression: Expression, number: int) -> GroundingItem:
    return _item_of(sample.scene, sample.image, sample.masks, expression, number)


def _item_of(
    scene: Scene,
    image: NDArray[np.uint8],
    masks: NDArray[np.bool_],
    expression: Expression | MovingExpression,
    number: int,
    frames: NDArray[np.uint8] | None = None,
) -> GroundingItem:
    target = expression.target
    others = [i for i in range(len(scene.objects)) if i != target]
    return GroundingItem(
        image,
        masks,
        expression.text,
        expression.kind,
        target,
        distractors=tuple(sorted(others, key=lambda i: _likeness(scene, target, i), reverse=True)),
        scene=number,
        colours=tuple(thing.colour for thing in scene.objects),
        shapes=tuple(thing.shape for thing in scene.objects),
        frames=frames,
    )


def _likeness(scene: Scene, target: int, other: int) -> tuple[int, int]:
    """Attributes that a sentence names most, colour and shape, before size and material."""
    one, two = scene.objects[target], scene.objects[other]
    named = (one.colour == two.colour) + (one.shape == two.shape)
    return named, (one.size == two.size) + (one.material == two.material)


def _shares_attribute(scene: Scene, expression: Expression) -> bool:
    return any(_likeness(scene, expression.target, i)[0] for i in range(len(scene.objects)) if i != expression.target)
