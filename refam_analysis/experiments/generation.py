"""Whether what the embedded transformer draws has the colour and the shape that its caption names.

Each caption describes one held-out scene of one object, pairs of colour and shape that training never showed included.
The picture drawn from it is judged (:mod:`refam_analysis.evaluation.colour_judge`,
:mod:`refam_analysis.evaluation.shape_judge`), and so is the scene itself: the judges' own accuracy. Chance is what the
same pictures score against the caption of another item.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from tqdm.auto import tqdm

from refam_analysis.analysis.statistics import bootstrap_interval
from refam_analysis.evaluation.colour_judge import judge_colour
from refam_analysis.evaluation.shape_judge import NAMES, judge_shapes
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.experiments.styles import model_option, style_option
from refam_analysis.models import load_model
from refam_analysis.models.base import DiffusionModel
from refam_analysis.scenes import COLOURS, RICH_HELD_OUT, Scene, SceneOptions, Scenes
from refam_analysis.scenes.expressions import PLACES
from refam_analysis.scenes.sampling import Style
from refam_analysis.weights import embedded_folder

NAME = "generation"
FILLED = 0.5
"""A picture counts when more than this share of its object's pixels has the named colour."""


@dataclass(frozen=True)
class GenerationTest:
    """What is drawn.

    Attributes:
        captions: how many.
        seed: of the captions and of the noise: caption i is drawn from the noise of seed + i.
        steps: of denoising; None for the model's own.
        guidance: None for the model's own.
        batch_size: pictures drawn together. It changes them by no more than the rounding of matrix products.
        style: of the scenes; None for those that the model knows.
    """

    captions: int = 200
    seed: int = 0
    steps: int | None = None
    guidance: float | None = None
    batch_size: int = 20
    style: Style | None = None

    @property
    def command(self) -> str:
        """Makes the result again."""
        steps = f" --steps {self.steps}" if self.steps else ""
        return f"refam experiment {NAME} --items {self.captions} --seed {self.seed}{steps}{style_option(self.style)}"


@dataclass(frozen=True)
class Caption:
    """A caption of one object, and the scene that it is true of.

    Attributes:
        text: such as "a small red ring on the left".
        colour: the named one.
        shape: the named one.
        place: the named one, a key of ``PLACES``; empty where none is.
        item: number of the scene.
        image: uint8 (height, width, 3), RGB: the scene.
    """

    text: str
    colour: str
    shape: str
    place: str
    item: int
    image: NDArray[np.uint8]


def captions(first: int, number: int, *, seed: int = 0, style: Style = "plain") -> list[Caption]:
    """Captions of test scenes of one object: half name its size, half its place, and of rich ones half its material.

    Args:
        first: number of the first scene.
        number: how many.
        seed: of what the captions name.
        style: of the scenes.

    >>> captions(0, 1)[0].text.startswith(("a ", "an "))
    True
    """
    scenes = Scenes("test", length=first + number, options=SceneOptions(objects=(1, 1), style=style), kinds=())
    made = []
    for item in range(first, first + number):
        sample, rng = scenes[item], np.random.default_rng([seed, item])
        text, place = _describe(sample.scene, rng)
        thing = sample.scene.objects[0]
        made.append(Caption(text, thing.colour, thing.shape, place, item, sample.image))
    return made


def _describe(scene: Scene, rng: np.random.Generator) -> tuple[str, str]:
    thing = scene.objects[0]
    words = [thing.size] if rng.random() < 0.5 else []
    words += [thing.material] if thing.material and rng.random() < 0.5 else []
    words += [thing.colour, thing.shape]
    fitting = [place for place, holds in PLACES.items() if holds(thing.x, thing.y)]
    place = fitting[int(rng.integers(len(fitting)))] if fitting and rng.random() < 0.5 else ""
    article = "an" if words[0][0] in "aeiou" else "a"
    return " ".join([article, *words, *([place] if place else [])]), place


@torch.inference_mode()
def draw(
    model: DiffusionModel, texts: Sequence[str], *, seeds: Sequence[int], steps: int, guidance: float
) -> NDArray[np.uint8]:
    """Pictures, or clips, of several texts at once: what ``model.generate`` draws of each.

    Args:
        model: one without embedded guidance, such as the embedded model.
        texts: one a picture.
        seeds: of the noise, one a picture.
        steps: of denoising.
        guidance: against the empty text.

    Returns:
        uint8 (picture, height, width, 3), RGB; by a model of videos (clip, frame, height, width, 3).
    """
    height, width = model.default_size
    pipeline: Any = model.pipeline
    options = model.call_options(texts[0], steps, guidance) | {"negative_prompt": [""] * len(texts)}
    if model.family.is_video:
        options["num_frames"] = model.defaults.frames
    drawn = pipeline(
        prompt=list(texts), num_inference_steps=steps, height=height, width=width, output_type="np",
        max_sequence_length=model.text_length, generator=[torch.Generator().manual_seed(seed) for seed in seeds],
        **options,
    )  # fmt: skip
    pictures = np.asarray(drawn.frames if model.family.is_video else drawn.images)
    return (pictures * 255).round().astype(np.uint8)


def run(
    test: GenerationTest | None = None, *, folder: Path | None = None, results: Path = RESULTS, progress: bool = False
) -> Result:
    """Draw, judge, and write the result.

    Args:
        test: None for the one that is reported.
        folder: of the model; None for the embedded one.
        results: the folder of all results.
        progress: show a bar.

    Returns:
        The tables ``pictures`` (a row a caption, see :func:`judge`, and ``other_colour`` and ``other_shape``, those of
        another item) and ``summary`` (:func:`summary`).
    """
    test, folder = test or GenerationTest(), folder or embedded_folder("embedded-dit")
    watch, weights = Stopwatch(), weights_sha256(folder) | weights_sha256(embedded_folder("shape-judge"))
    model = load_model(folder)
    command, style = test.command + model_option(folder), test.style or model.scene_style
    steps, guidance = test.steps or model.defaults.steps, test.guidance or model.defaults.guidance
    test = dataclasses.replace(test, steps=steps, guidance=guidance, style=style)
    parts = Parts(results.parent / ".cache", NAME, {**dataclasses.asdict(test), **weights})
    starts = range(0, test.captions, test.batch_size)
    judged = [
        parts.keep(f"from-{first}", partial(judge, model, test, first, min(test.batch_size, test.captions - first)))
        for first in tqdm(starts, desc="pictures", unit="batch", disable=not progress)
    ]
    pictures = pd.concat(judged, ignore_index=True)
    others = of_others(len(pictures), seed=test.seed)
    for name in ("colour", "shape"):
        pictures[f"other_{name}"] = pictures[name].to_numpy()[others]
    tables = {"pictures": pictures, "summary": summary(pictures, style=style)}
    provenance = watch.provenance(command, {**dataclasses.asdict(test), "filled": FILLED}, weights)
    result = write_result(NAME, tables, provenance, results=results)
    parts.forget()
    return result


def of_others(number: int, *, seed: int = 0) -> NDArray[np.intp]:
    """For each of some items the index of another, every one used once: whose caption a control is judged by.

    Args:
        number: of items.
        seed: of the exchange.

    >>> of_others(3).tolist()
    [2, 0, 1]
    """
    order = np.random.default_rng(seed).permutation(number)
    others = np.empty_like(order)
    others[order] = np.roll(order, 1)
    return others


def judge(model: DiffusionModel, test: GenerationTest, first: int, number: int) -> pd.DataFrame:
    """Draw and judge some of the captions; of the clips of a model of videos their first frames.

    Args:
        model: with the steps and guidance of ``test``, which must not be None.
        test: what is drawn; of the scenes that the model knows where it names no style.
        first: number of the first caption.
        number: of captions.

    Returns:
        A row a caption: ``item``, ``caption``, ``colour``, ``shape``, ``place``, ``held_out`` (the pair was never shown
        in training); of the drawn picture ``object`` (whether there is one), its centre ``x`` and ``y`` in shares of
        the sides, ``in_place`` (NA where no place is named), ``share_red`` and so on, the share of the object's pixels
        in each colour, and ``drawn_shape``; ``true_colour`` and ``true_shape``, what the judges see in the scene.
    """
    assert test.steps is not None and test.guidance is not None
    style = test.style or model.scene_style
    wanted = captions(first, number, seed=test.seed, style=style)
    seeds = [test.seed + one.item for one in wanted]
    drawn = draw(model, [one.text for one in wanted], seeds=seeds, steps=test.steps, guidance=test.guidance)
    if model.family.is_video:
        drawn = drawn[:, 0]
    table = pd.DataFrame([_judged(one, image, style) for one, image in zip(wanted, drawn, strict=True)])
    true = np.stack([one.image for one in wanted])
    shapes = {"drawn_shape": judge_shapes(drawn, style=style), "true_shape": judge_shapes(true, style=style)}
    return table.assign(**shapes)


def _judged(caption: Caption, image: NDArray[np.uint8], style: Style) -> dict[str, Any]:
    seen, true = judge_colour(image, style=style), judge_colour(caption.image, style=style)
    x, y = seen.centre
    return {
        "item": caption.item,
        "caption": caption.text,
        "colour": caption.colour,
        "shape": caption.shape,
        "place": caption.place,
        "held_out": (caption.colour, caption.shape) in RICH_HELD_OUT,
        "object": bool(seen.mask.any()),
        "x": x,
        "y": y,
        "in_place": float(PLACES[caption.place](x, y)) if caption.place else np.nan,
        **{f"share_{name}": share for name, share in seen.shares.items()},
        "true_colour": true.colour or "",
    }


def summary(pictures: pd.DataFrame, *, style: Style = "plain", confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Shares of pictures, with bootstrap intervals.

    Args:
        pictures: from :func:`run`.
        style: of the scenes, which says how many shapes there are.
        confidence: of the intervals.
        seed: of the bootstrap.

    Returns:
        A row a ``measure``, with ``pictures``, ``share``, ``low`` and ``high``: whether the named colour fills the
        object, for all captions, for pairs that training showed and for held-out ones; the same against another item's
        caption; a colour drawn at random; the same of the named shape, where there is an object; whether the object
        stands where the caption says; both judges on true scenes.
    """
    held_out = pictures["held_out"].to_numpy()
    right = {
        "colour fills the object": (_filled(pictures, pictures["colour"]), 1 / len(COLOURS)),
        "shape as named": (_shaped(pictures, pictures["shape"]), 1 / len(NAMES[style])),
    }
    others = (_filled(pictures, pictures["other_colour"]), _shaped(pictures, pictures["other_shape"]))
    rows: list[dict[str, Any]] = []
    for (name, (values, chance)), other in zip(right.items(), others, strict=True):
        what = name.split()[0]
        measures = {
            name: values,
            f"... {what}: pairs that training showed": values[~held_out],
            f"... {what}: pairs held out": values[held_out],
            f"... {what}: against another caption": other,
        }
        rows += [_share(title, some, confidence, seed) for title, some in measures.items() if len(some)]
        rows.append({"measure": f"... {what}: at random", "pictures": len(pictures), "share": chance})
    rest = {
        "object in the named place": pictures["in_place"].dropna().to_numpy(),
        "judge of colours on true scenes": (pictures["true_colour"] == pictures["colour"]).to_numpy(),
        "judge of shapes on true scenes": (pictures["true_shape"] == pictures["shape"]).to_numpy(),
    }
    return pd.DataFrame([*rows, *(_share(name, some, confidence, seed) for name, some in rest.items() if len(some))])


def _filled(pictures: pd.DataFrame, colours: pd.Series) -> NDArray[np.bool_]:
    shares = [pictures.at[row, f"share_{colour}"] for row, colour in colours.items()]
    return np.asarray(shares) > FILLED


def _shaped(pictures: pd.DataFrame, shapes: pd.Series) -> NDArray[np.bool_]:
    return (pictures["object"] & (pictures["drawn_shape"] == shapes)).to_numpy(dtype=bool)


def _share(name: str, values: NDArray[Any], confidence: float, seed: int) -> dict[str, Any]:
    low, high = bootstrap_interval(values.astype(float)[:, None], confidence=confidence, seed=seed)
    return {"measure": name, "pictures": len(values), "share": values.mean(), "low": low[0], "high": high[0]}
