"""What a model reads of a caption: how much its diffusion loss grows when one thing in the caption is exchanged.

A caption names the size, material, colour, shape and place of the two objects of a scene. It is said again with one of
these untrue of the first object, with the objects' colours or places in each other's stead (every word stays, so that
only their order says what is meant), and not at all. Picture and noise stay the same, so that changes are paired. Where
the loss does not change, the model does not know the words: no reading of its attention can find what they say.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from refam_analysis.analysis.tables import means_with_intervals
from refam_analysis.evaluation.information import denoised
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.experiments.styles import model_option, style_option
from refam_analysis.models import load_model
from refam_analysis.models.base import EMPTY_PROMPT, DiffusionModel
from refam_analysis.prompts import make_prompt
from refam_analysis.scenes import (
    COLOURS,
    MATERIALS,
    RICH_SHAPES,
    RICH_SIZES,
    SHAPES,
    Scene,
    SceneObject,
    SceneOptions,
    Scenes,
    render,
)
from refam_analysis.scenes.expressions import PLACES
from refam_analysis.scenes.sampling import Style
from refam_analysis.weights import embedded_folder

NAME = "exchange"
TRUE = "true caption"


@dataclass(frozen=True)
class ExchangeTest:
    """What is measured.

    Attributes:
        scenes: of two objects that differ in colour, shape and place.
        noise_levels: t in (0, 1], at which the loss is taken.
        seed: scene i has the noise of seed + i at every level.
        batch_size: scenes a part that is kept.
        style: of the scenes; None for those that the model knows.
    """

    scenes: int = 256
    noise_levels: tuple[float, ...] = (0.5, 0.7, 0.85, 0.95)
    seed: int = 0
    batch_size: int = 32
    style: Style | None = None

    @property
    def command(self) -> str:
        """Makes the result again."""
        return f"refam experiment {NAME} --scenes {self.scenes} --seed {self.seed}{style_option(self.style)}"


@dataclass(frozen=True)
class Named:
    """What a caption says of an object: words, of which those of a plain scene lack a material, and where it is."""

    size: str
    material: str
    colour: str
    shape: str
    place: str

    def __str__(self) -> str:
        words = (self.size, self.material, self.colour, self.shape, self.place)
        return " ".join(("a", *(word for word in words if word)))


def run(
    test: ExchangeTest | None = None, *, folder: Path | None = None, results: Path = RESULTS, progress: bool = False
) -> Result:
    """Measure and write the result.

    Args:
        test: None for the one that is reported.
        folder: of the model; None for the embedded one.
        results: the folder of all results.
        progress: show a bar.

    Returns:
        The tables ``losses`` (:func:`measure`) and ``summary`` (:func:`summary`).
    """
    test, folder = test or ExchangeTest(), folder or embedded_folder("embedded-dit")
    watch, weights = Stopwatch(), weights_sha256(folder)
    model = load_model(folder)
    style = test.style or model.scene_style
    configuration = {**dataclasses.asdict(test), "style": style}
    parts = Parts(results.parent / ".cache", NAME, {**configuration, **weights})
    scenes = exchange_scenes(test.scenes, style=style)

    def make(part: slice) -> pd.DataFrame:
        return measure(model, scenes[part], test.noise_levels, first=part.start, seed=test.seed)

    losses = parts.batches(test.scenes, test.batch_size, make, unit="scenes", progress=progress)
    tables = {"losses": losses, "summary": summary(losses, seed=test.seed)}
    provenance = watch.provenance(test.command + model_option(folder), configuration, weights)
    result = write_result(NAME, tables, provenance, results=results)
    parts.forget()
    return result


def exchange_scenes(number: int, *, style: Style = "plain") -> list[Scene]:
    """Test scenes of two whole objects of different colours and shapes, each in a place that the other is not in.

    >>> [str(said) for said in named(exchange_scenes(1)[0])]
    ['a small orange ring on the right', 'a large white cross at the bottom']
    """
    options = SceneOptions(objects=(2, 2), style=style)
    split, found = Scenes("test", length=100 * number, options=options, kinds=()), list[Scene]()
    for index in range(len(split)):
        scene = split.draw(index)[0]
        one, two = scene.objects
        apart = one.colour != two.colour and one.shape != two.shape
        if apart and _own_place(one, two) and _own_place(two, one):
            found.append(scene)
        if len(found) == number:
            return found
    raise AssertionError(f"only {len(found)} of {len(split)} scenes fit.")


def named(scene: Scene) -> tuple[Named, Named]:
    """What the true caption says of the two objects."""
    one, two = scene.objects
    return tuple(  # type: ignore[return-value]
        Named(item.size, item.material, item.colour, item.shape, _own_place(item, other))
        for item, other in ((one, two), (two, one))
    )


def _own_place(item: SceneObject, other: SceneObject) -> str:
    """A phrase that is true of the one object and not of the other; empty where none is."""
    fitting = (place for place, holds in PLACES.items() if holds(item.x, item.y) and not holds(other.x, other.y))
    return next(fitting, "")


def captions(scene: Scene, rng: np.random.Generator) -> dict[str, str]:
    """The true caption of a scene and every exchange of it.

    Args:
        scene: from :func:`exchange_scenes`.
        rng: draws the words that are not true.

    Returns:
        By the name of the exchange, the true one first; the last one is empty.

    >>> said = captions(exchange_scenes(1)[0], np.random.default_rng(0))
    >>> said["colours swapped"]
    'a small white ring on the right and a large orange cross at the bottom'
    """
    one, two = named(scene)
    said = {TRUE: (one, two)}
    item = scene.objects[0]
    for name, words in _vocabulary(scene).items():
        others = [word for word in words if word not in (getattr(one, name), getattr(two, name))]
        if name == "size":
            others = [word for word in words if word != one.size]
        if name == "place":
            others = [place for place in others if not PLACES[place](item.x, item.y)]
        said[name] = (replace(one, **{name: others[int(rng.integers(len(others)))]}), two)
    for name in ("colour", "place"):
        swapped = (replace(one, **{name: getattr(two, name)}), replace(two, **{name: getattr(one, name)}))
        said[f"{name}s swapped"] = swapped
    return {**{name: f"{first} and {second}" for name, (first, second) in said.items()}, "no caption": ""}


def _vocabulary(scene: Scene) -> Mapping[str, Sequence[str]]:
    """What can be said of an object, by the field of :class:`Named`."""
    rich = any(item.material for item in scene.objects)
    common = {"size": tuple(RICH_SIZES), "colour": tuple(COLOURS), "place": tuple(PLACES)}
    return common | ({"material": MATERIALS, "shape": RICH_SHAPES} if rich else {"shape": SHAPES})


@torch.no_grad()
def measure(
    model: DiffusionModel, scenes: Sequence[Scene], levels: Sequence[float], *, first: int = 0, seed: int = 0
) -> pd.DataFrame:
    """The loss of every caption of every scene at every noise level.

    Args:
        model: from ``load_model``, of flow matching.
        scenes: from :func:`exchange_scenes`.
        levels: noise levels in (0, 1].
        first: number of the first scene.
        seed: of the noise.

    Returns:
        A row a scene, level and caption: ``scene`` (number), ``noise_level``, ``exchange``, ``caption``, and ``loss``,
        the mean squared error of the velocity.
    """
    numbers = range(first, first + len(scenes))
    draws = [np.random.default_rng([seed, number]) for number in numbers]
    said = [captions(scene, rng) for scene, rng in zip(scenes, draws, strict=True)]
    pictures = [Image.fromarray(one) for one in render(scenes, size=model.default_size[0]).pictures()]
    latents = model.encode_images(pictures).to(model.device, model.dtype)
    rows = []
    for exchange in said[0]:
        texts = [one[exchange] for one in said]
        prompts = [make_prompt(text) if text else EMPTY_PROMPT for text in texts]
        conditioning = model.encode_prompts(prompts)
        for level in levels:
            seeds = [seed + number for number in numbers]
            picture = denoised(model, latents, conditioning, noise_level=level, seeds=seeds)
            # Its error is t times that of the velocity.
            error = ((picture - latents) / level).square().flatten(1).mean(1)
            rows.append(
                pd.DataFrame(
                    {"scene": numbers, "noise_level": level, "exchange": exchange, "caption": texts,
                     "loss": error.double().cpu().numpy()}
                )
            )  # fmt: skip
    return pd.concat(rows, ignore_index=True)


def summary(losses: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """How much larger the loss is than that of the true caption.

    Args:
        losses: from :func:`measure`.
        confidence: of the intervals.
        seed: of the bootstrap over scenes.

    Returns:
        A row a noise level and exchange: ``noise_level``, ``exchange``, ``scenes``, ``loss``, and ``growth``, the mean
        over scenes of the loss less that of the true caption, with ``growth_low`` and ``growth_high``.
    """
    rows = []
    for level, of_level in losses.groupby("noise_level"):
        wide = of_level.pivot(index="scene", columns="exchange", values="loss")
        for exchange in of_level["exchange"].unique():
            growth = pd.DataFrame({"growth": wide[exchange] - wide[TRUE]})
            rows.append(
                {"noise_level": level, "exchange": exchange, "scenes": len(wide), "loss": wide[exchange].mean(),
                 **means_with_intervals(growth, confidence=confidence, seed=seed)}
            )  # fmt: skip
    return pd.DataFrame(rows)
