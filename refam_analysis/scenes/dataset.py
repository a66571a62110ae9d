"""The splits: numbered scenes that are the same on every machine, with their pictures, masks and expressions."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np

from refam_analysis.scenes.expressions import FEWEST_OBJECTS, KINDS, Expression, ExpressionKind, expressions, rivals
from refam_analysis.scenes.rendering import render
from refam_analysis.scenes.sampling import SceneOptions, sample_scene
from refam_analysis.scenes.scene import Scene

Split = Literal["train", "validation", "test"]
SPLIT_SEEDS: dict[Split, int] = {"train": 11, "validation": 22, "test": 33}


@dataclass(frozen=True)
class SceneSample:
    """One picture with everything that is true of it.

    Attributes:
        image: uint8 (height, width, 3), RGB.
        masks: bool (object, height, width): the visible part of every object.
        scene: what was drawn.
        expressions: one a kind of ``kinds`` that this scene offers, in the order of ``kinds``.
    """

    image: np.ndarray
    masks: np.ndarray
    scene: Scene
    expressions: tuple[Expression, ...]


class Scenes(Sequence[SceneSample]):
    """A split of the diagnostic data set.

    Scene ``i`` of a split depends on the split, on ``i`` and on the options only. Splits are disjoint by seed; the
    test split also shows the (colour, shape) pairs of ``HELD_OUT``, which the others never do.

    Args:
        split: ``train``, ``validation`` or ``test``.
        length: how many scenes.
        size: height and width of the pictures in pixels.
        options: which scenes to draw; ``held_out`` is set by the split. With ``shared_attribute`` every expression's
            target shares its colour or its shape with another object.
        kinds: the kinds of expression wanted. A scene that offers none of them is passed over and drawn anew.
        balanced: give each scene one expression, of the kinds in turn, so that every kind has an equal share.

    Raises:
        ValueError: the split or a kind is unknown, or no scene of these options can have such an expression.

    >>> sample = Scenes("test", length=4, balanced=True)[0]
    >>> sample.image.shape, sample.expressions[0].kind
    ((96, 96, 3), 'attribute')
    """

    def __init__(
        self,
        split: Split,
        *,
        length: int = 500,
        size: int = 96,
        options: SceneOptions = SceneOptions(),
        kinds: Sequence[ExpressionKind] = KINDS,
        balanced: bool = False,
    ) -> None:
        if split not in get_args(Split):
            raise ValueError(f"split={split!r} is unknown: choose one of {', '.join(get_args(Split))}.")
        if unknown := [kind for kind in kinds if kind not in KINDS]:
            raise ValueError(f"kinds={unknown} are unknown: choose among {', '.join(KINDS)}.")
        needed = [FEWEST_OBJECTS[kind] for kind in kinds]
        if balanced and not needed:
            raise ValueError("balanced=True gives the kinds in turn: name at least one kind.")
        if needed and (max if balanced else min)(needed) > options.objects[1]:
            raise ValueError(
                f"kinds={list(kinds)} need more than the {options.objects[1]} objects that options.objects allows: "
                f"{', '.join(f'{kind} {number}' for kind, number in FEWEST_OBJECTS.items())}."
            )
        self.split: Split = split
        self.size = size
        self.options = replace(options, held_out=split == "test")
        self.kinds = tuple(kinds)
        self.balanced = balanced
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> SceneSample:  # type: ignore[override]
        scene, chosen = self.draw(index)
        rendering = render([scene], size=self.size)
        return SceneSample(rendering.pictures()[0], rendering.masks[0].numpy(), scene, chosen)

    def __iter__(self) -> Iterator[SceneSample]:
        return (self[i] for i in range(len(self)))

    def draw(self, index: int) -> tuple[Scene, tuple[Expression, ...]]:
        """Scene ``index`` and its expressions, without pixels.

        Raises:
            IndexError: the split has no such scene.
        """
        if not -len(self) <= index < len(self):
            raise IndexError(f"Scene {index} does not exist: this split has {len(self)} scenes.")
        index %= len(self)
        rng = np.random.default_rng([SPLIT_SEEDS[self.split], index])
        wanted = (self.kinds[index % len(self.kinds)],) if self.balanced else self.kinds
        while True:
            scene = sample_scene(rng, self.options)
            offers = [offer for kind in wanted if (offer := self._offers(scene, kind))]
            if offers or not wanted:
                return scene, tuple(offer[int(rng.integers(len(offer)))] for offer in offers)

    def _offers(self, scene: Scene, kind: ExpressionKind) -> list[Expression]:
        offers = expressions(scene, kind)
        if not self.options.shared_attribute:
            return offers
        return [e for e in offers if rivals(scene, e.target)]
