"""What shape the object of a picture has: a small classifier, trained on true scenes, that judges drawn pictures.

It never sees a caption, and in training it never saw a model's picture. Colours are shuffled in its training, so that a
colour tells it nothing. How often it is right is measured on held-out true scenes of one object
(:func:`shape_accuracy`) before it judges anything that a model drew. How it was trained: ``training/shapes.py``.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from refam_analysis.errors import RefamError
from refam_analysis.scenes import SHAPES, SceneOptions, Scenes, render
from refam_analysis.scenes.rich_vocabulary import RICH_SHAPES
from refam_analysis.scenes.sampling import Style
from refam_analysis.weights import embedded_folder

NAMES: dict[Style, tuple[str, ...]] = {"plain": tuple(SHAPES), "rich": RICH_SHAPES}
"""The shapes that a picture of each style can show."""
SIDE = 96
"""Height and width in pixels of the pictures that are judged; others are resized."""
_BATCH = 64


class ShapePictureError(RefamError, ValueError):
    """Pictures that cannot be judged."""


class ShapeNetwork(nn.Module):
    """Four strided convolutions, the largest value of each channel over the picture, and a row of logits a shape.

    Args:
        width: channels of the first convolution; the others have 2, 4 and 4 times as many.
    """

    def __init__(self, width: int = 24) -> None:
        super().__init__()
        channels = (3, width, 2 * width, 4 * width, 4 * width)
        layers: list[nn.Module] = []
        for before, after in zip(channels, channels[1:], strict=False):
            layers += [nn.Conv2d(before, after, 3, stride=2, padding=1), nn.GroupNorm(4, after), nn.SiLU()]
        self.features = nn.Sequential(*layers)
        self.logits = nn.Linear(channels[-1], len(RICH_SHAPES))

    def forward(self, pictures: Tensor) -> Tensor:
        """(picture, shape) logits of float pictures (picture, 3, side, side) in [0, 1], by ``RICH_SHAPES``."""
        features: Tensor = self.features((pictures - 0.5) * 4)
        return self.logits(features.amax((2, 3)))


def load_shape_judge(folder: Path | None = None) -> ShapeNetwork:
    """The trained judge.

    Args:
        folder: with ``config.json`` and ``model.safetensors``; None for the one that ships with the package.

    Raises:
        MissingWeightsError: the package was installed without it.
    """
    folder = folder or embedded_folder("shape-judge")
    network = ShapeNetwork(**json.loads((folder / "config.json").read_text(encoding="utf-8")))
    weights = {name: value.float() for name, value in load_file(folder / "model.safetensors").items()}
    network.load_state_dict(weights)
    return network.eval()


@torch.inference_mode()
def judge_shapes(images: NDArray[np.uint8], *, style: Style = "plain", judge: ShapeNetwork | None = None) -> list[str]:
    """Name the shape of the one object of each picture.

    Args:
        images: uint8 (picture, height, width, 3), RGB, square.
        style: of the scenes; it says which shapes there are to choose from.
        judge: None for the one that ships with the package.

    Returns:
        A name of ``NAMES[style]`` for each picture. The judge always answers, also where a picture has no object.

    Raises:
        ShapePictureError: the pictures are not square RGB pictures.

    >>> judge_shapes(np.stack([scene.image for scene in single_objects("plain", 2)]))
    ['circle', 'ring']
    """
    pictures = np.ascontiguousarray(images)
    if pictures.ndim != 4 or pictures.shape[1] != pictures.shape[2] or pictures.shape[3] != 3:
        raise ShapePictureError(
            f"Pictures of shape {pictures.shape} cannot be judged: give (picture, side, side, 3), square and RGB."
        )
    judge = judge or load_shape_judge()
    names = NAMES[style]
    known = [RICH_SHAPES.index(name) for name in names]
    answers: list[str] = []
    for start in range(0, len(pictures), _BATCH):
        batch = torch.from_numpy(pictures[start : start + _BATCH]).permute(0, 3, 1, 2).float() / 255
        if batch.shape[-1] != SIDE:
            batch = functional.interpolate(batch, size=(SIDE, SIDE), mode="bilinear", antialias=True)
        answers += [names[i] for i in judge(batch)[:, known].argmax(1).tolist()]
    return answers


def single_objects(style: Style, number: int) -> Scenes:
    """Held-out scenes of one object, pairs of colour and shape that training never showed included."""
    return Scenes("test", length=number, size=SIDE, options=SceneOptions(objects=(1, 1), style=style), kinds=())


def shape_accuracy(
    judge: ShapeNetwork | None = None, *, styles: Sequence[Style] = ("plain", "rich"), scenes: int = 1000
) -> pd.DataFrame:
    """How often the judge is right on true scenes.

    Args:
        judge: None for the one that ships with the package.
        styles: of scenes.
        scenes: so many held-out ones of each style.

    Returns:
        A row a picture: ``style``, ``scene``, ``shape``, ``judged``, ``right``.
    """
    judge = judge or load_shape_judge()
    tables = []
    for style in styles:
        split = single_objects(style, scenes)
        drawn = [split.draw(number)[0] for number in range(scenes)]
        pictures = np.concatenate([render(drawn[i : i + _BATCH]).pictures() for i in range(0, scenes, _BATCH)])
        table = pd.DataFrame({"style": style, "scene": range(scenes), "shape": [one.objects[0].shape for one in drawn]})
        tables.append(table.assign(judged=judge_shapes(pictures, style=style, judge=judge)))
    found = pd.concat(tables, ignore_index=True)
    return found.assign(right=found["shape"] == found["judged"])
