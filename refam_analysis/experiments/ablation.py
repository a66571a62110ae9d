"""The ablation (C10, C12): magnets, noun phrase, spatial bias, handling of sinks, segmenter, choice of mask, crossed.

Passes through the transformer depend on what is appended and on what is done to sinks alone; noun phrase and spatial
bias are readings of the same recordings. A segmenter encodes a picture once and answers all points of a scene at once.
What is switched is in :mod:`refam_analysis.experiments.ablation_conditions`, what comes of it in
:mod:`refam_analysis.experiments.ablation_tables`. The scenes are of the test split, behind all others that this package
uses, with the kinds of expression in equal shares.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr
from tqdm.auto import tqdm

from refam_analysis.evaluation.items import GroundingItem, hard_items
from refam_analysis.evaluation.metrics import mask_overlaps, points_on
from refam_analysis.experiments.ablation_conditions import ASKINGS, EMBEDDED, FIELDS, Condition, handlings
from refam_analysis.experiments.ablation_tables import condition_table, effect_table, moved_points
from refam_analysis.experiments.magnet_conditions import prompt_of
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.experiments.styles import items_in, model_option, segmenter_sha256, style_option
from refam_analysis.models import load_model
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import DEFAULT_MAGNETS, Prompt
from refam_analysis.recording import Recording
from refam_analysis.scenes import KINDS
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.finish import finished_values
from refam_analysis.segmentation.gas import SinkHandling, look_for_sinks
from refam_analysis.segmentation.heatmap import heatmaps
from refam_analysis.segmentation.mask_choice import MASK_CHOICES, choose_mask
from refam_analysis.segmentation.pipeline import chosen_settings, record_for_heatmaps
from refam_analysis.segmentation.point import peaks
from refam_analysis.segmentation.remembering import remembering
from refam_analysis.segmentation.segmenters import Segmenter, load_segmenter
from refam_analysis.segmentation.settings import Gas, HeatmapSettings
from refam_analysis.weights import WEIGHTS, WeightsFile, embedded_folder, find_weights

NAME = "ablation"
FIRST_SCENE = 2000
"""The test items before this one chose the embedded model and its reading, or are those of other experiments."""


@dataclass(frozen=True)
class AblationTest:
    """What is measured.

    Attributes:
        scenes: items of the test split, the kinds of expression in turn.
        second: another segmenter, by name or folder.
        second_scenes: how many of the scenes, from the first on, it is given too; its image encoder is slow.
        seed: of the noise and of words drawn at random.
        batch_size: scenes a part that is kept, and a forward pass.
        first_scene: number of the first item of the split.
        style: of the scenes; None for those that the model knows.
    """

    scenes: int = 500
    second: str = "mobile-sam"
    second_scenes: int = 100
    seed: int = 0
    batch_size: int = 20
    first_scene: int = FIRST_SCENE
    style: Style | None = None

    @property
    def command(self) -> str:
        """Makes the result again."""
        return (
            f"refam experiment {NAME} --items {self.scenes} --second {self.second} "
            f"--second-items {self.second_scenes} --seed {self.seed}{style_option(self.style)}"
        )

    def batches(self) -> Iterator[tuple[range, tuple[str, ...]]]:
        """The scenes of every part, with the segmenters that they are given."""
        both = min(self.second_scenes, self.scenes)
        for scenes, names in ((range(both), (EMBEDDED, self.second)), (range(both, self.scenes), (EMBEDDED,))):
            for start in scenes[:: self.batch_size]:
                yield range(start, min(start + self.batch_size, scenes.stop)), names


def run(
    test: AblationTest | None = None, *, folder: Path | None = None, results: Path = RESULTS, progress: bool = False
) -> Result:
    """Measure every scene under every condition, compare, and write the result.

    Args:
        test: None for the one that is reported.
        folder: of the model; None for the embedded one.
        results: the folder of all results.
        progress: show a bar over scenes and what is appended to their sentences.

    Returns:
        The tables ``scenes`` (:func:`measure`), ``conditions``
        (:func:`~refam_analysis.experiments.ablation_tables.condition_table`), ``effects`` and ``effects_by_kind``
        (:func:`~refam_analysis.experiments.ablation_tables.effect_table`) and ``moved``
        (:func:`~refam_analysis.experiments.ablation_tables.moved_points`).

    Raises:
        NotFetchedError and others: the second segmenter cannot be had, see ``load_segmenter``.
    """
    test, folder = test or AblationTest(), folder or embedded_folder("embedded-dit")
    watch = Stopwatch()
    weights = weights_sha256(folder, also=["refam.json"]) | segmenter_sha256(EMBEDDED, test.second)
    model = load_model(folder)
    configuration = {
        **dataclasses.asdict(test),
        "style": test.style or model.scene_style,
        "second_sha256": _checkpoint_sha256(test.second),
        "kinds": KINDS,
        "magnets": DEFAULT_MAGNETS,
        "settings": chosen_settings(model).to_dict(),
    }
    lengths = ("scenes", "second_scenes")  # a longer run goes on from the parts of a shorter one that was stopped
    fixed = {name: value for name, value in configuration.items() if name not in lengths}
    parts = Parts(results.parent / ".cache", NAME, {**fixed, **weights})
    scenes = pd.concat(_parts(model, test, parts, progress=progress), ignore_index=True)
    tables = {"scenes": scenes, **summaries(scenes, seed=test.seed)}
    result = write_result(
        NAME, tables, watch.provenance(test.command + model_option(folder), configuration, weights), results=results
    )
    parts.forget()
    return result


def summaries(scenes: pd.DataFrame, *, seed: int = 0) -> dict[str, pd.DataFrame]:
    """Every table that follows from the scenes' rows.

    Args:
        scenes: rows of :func:`measure`.
        seed: of bootstrap and tests.
    """
    return {
        "conditions": condition_table(scenes, seed=seed),
        "effects": effect_table(scenes, seed=seed),
        "effects_by_kind": effect_table(scenes, by_kind=True, seed=seed),
        "moved": moved_points(scenes),
    }


def measure(
    model: DiffusionModel,
    segmenters: Mapping[str, Segmenter],
    items: Sequence[GroundingItem],
    settings: HeatmapSettings | None = None,
    *,
    first: int = 0,
    seed: int = 0,
    bar: tqdm | None = None,
) -> pd.DataFrame:
    """Measure scenes under every condition.

    Args:
        model: from ``load_model``.
        segmenters: by name.
        items: the scenes, one forward pass for each way of asking and noise draw, and more where sinks are handled.
        settings: how heatmaps are read; None for the model's own. What the switches set does not count.
        first: number of the first scene; scene i has the noise of seed + i times settings.seeds under all conditions.
        seed: of noise and of words drawn at random.
        bar: moved on by one for each scene and way of asking.

    Returns:
        A row a (scene, condition): ``item`` (number of the scene), ``scene``, ``kind`` (of its sentence); the fields of
        :class:`~refam_analysis.experiments.ablation_conditions.Condition`; ``sinks`` (tokens that were acted on);
        ``x``, ``y`` (the point, in pixels), ``on_target``; ``intersection`` and ``union`` of mask and truth, in pixels.
        A scene whose sentence has no room for what is appended has no row there.
    """
    read: list[list[_Reading]] = [[] for _ in items]
    base = chosen_settings(model, settings)
    for asking in ASKINGS.values():
        prompts = [prompt_of(model, item, asking, seed=(seed, first + place)) for place, item in enumerate(items)]
        places = [place for place, prompt in enumerate(prompts) if prompt is not None]
        if places:
            seeds = [seed + (first + place) * base.seeds for place in places]
            asked = [prompt for prompt in prompts if prompt is not None]
            for gas, groups in _recorded(model, [items[place] for place in places], asked, base, seeds, asking.name):
                found = _readings(model, groups, [items[place] for place in places], base, asking.name, gas)
                for place, some in zip(places, found, strict=True):
                    read[place] += some
        if bar is not None:
            bar.update(len(items))
    rows: list[dict[str, Any]] = []
    for place, (item, readings) in enumerate(zip(items, read, strict=True)):
        labels = {"item": first + place, "scene": item.scene, "kind": item.kind}
        for name, segmenter in segmenters.items():
            rows += [labels | row for row in _masked(item, readings, name, segmenter)]
    return pd.DataFrame(rows, columns=list(_COLUMNS)).astype(_COLUMNS)


_COLUMNS: dict[str, str] = {
    "item": "int16", "scene": "int32", "kind": "str", "words": "str", "gas": "str", "noun_phrase": "bool",
    "spatial_bias": "bool", "segmenter": "str", "mask_choice": "str", "sinks": "int16", "x": "float32",
    "y": "float32", "on_target": "bool", "intersection": "int32", "union": "int32",
}  # fmt: skip


def asked_items(result: Result, number: int, *, first: int = 0) -> list[GroundingItem]:
    """Some of the scenes that a result was measured on, with their sentences.

    Args:
        result: from :func:`run`.
        number: of scenes.
        first: number of the first one in the result.
    """
    return items_in(result.provenance.configuration, number, first=first)


def repeat(
    result: Result, model: DiffusionModel, *, first: int, number: int, segmenters: Sequence[str] = (EMBEDDED,)
) -> pd.DataFrame:
    """Measure some of the scenes again, as the result's configuration says.

    Args:
        result: from :func:`run`.
        model: the one that it was made with.
        first: number of the first scene of the result.
        number: of scenes.
        segmenters: those to ask.

    Returns:
        Rows as in ``result["scenes"]``, of these segmenters.
    """
    configuration = result.provenance.configuration
    items = asked_items(result, number, first=first)
    settings = HeatmapSettings.from_dict(configuration["settings"])
    asked = {name: load_segmenter(name) for name in segmenters}
    return measure(model, asked, items, settings, first=first, seed=configuration["seed"])


@dataclass(frozen=True)
class _Reading:
    """The heatmap of one scene under one condition, before any segmenter.

    Attributes:
        condition: its segmenter and choice of mask are left open.
        heatmap: axes (y, x).
        point: (x, y) in pixels.
        sinks: how many tokens were acted on.
    """

    condition: Condition
    heatmap: xr.DataArray
    point: tuple[float, float]
    sinks: int


def _parts(model: DiffusionModel, test: AblationTest, parts: Parts, *, progress: bool) -> Iterator[pd.DataFrame]:
    """The rows of all scenes, a part a batch."""
    style = test.style or model.scene_style
    items = hard_items("test", test.scenes, kinds=KINDS, skip=test.first_scene, style=style)
    used = {name for _, names in test.batches() for name in names}
    segmenters = {name: load_segmenter(name) for name in sorted(used)}
    with tqdm(total=len(items) * len(ASKINGS), desc="scenes x words", disable=not progress) as bar:
        for batch, names in test.batches():
            asked = {name: segmenters[name] for name in names}
            some = [items[place] for place in batch]
            make = partial(measure, model, asked, some, first=batch.start, seed=test.seed, bar=bar)
            yield parts.keep(f"{batch.start:06d}-{batch.stop:06d}-{len(names)}", make)
            bar.update(batch.stop * len(ASKINGS) - bar.n)  # where the part was there already


def _recorded(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    prompts: Sequence[Prompt],
    settings: HeatmapSettings,
    seeds: Sequence[int],
    words: str,
) -> Iterator[tuple[Gas, list[list[Recording]]]]:
    """Recordings of every handling of sinks; scenes without a sink have those that nothing was done to."""
    encoding, images = remembering(model), [item.image for item in items]
    untouched = [SinkHandling(pd.DataFrame(), None)] * len(items)
    plain = _drawn(encoding, images, prompts, settings, seeds, untouched)
    for gas in handlings(words):
        groups = list(plain)
        handling = look_for_sinks(encoding, images, prompts, dataclasses.replace(settings, gas=gas), seeds=seeds)
        acted = [place for place, one in enumerate(handling) if one.intervention is not None]
        if acted:
            again = _drawn(
                encoding,
                [images[place] for place in acted],
                [prompts[place] for place in acted],
                settings,
                [seeds[place] for place in acted],
                [handling[place] for place in acted],
            )
            for place, group in zip(acted, again, strict=True):
                groups[place] = group
        yield gas, groups


def _drawn(
    model: DiffusionModel,
    images: Sequence[Any],
    prompts: Sequence[Prompt],
    settings: HeatmapSettings,
    seeds: Sequence[int],
    handling: Sequence[SinkHandling],
) -> list[list[Recording]]:
    """What ``record_for_heatmaps`` gives, with all noise draws of an item in one pass.

    An item whose sinks are handled runs alone; so its draws share a pass at least.
    """
    draws = range(settings.seeds)
    recorded = record_for_heatmaps(
        model,
        [image for image in images for _ in draws],
        [prompt for prompt in prompts for _ in draws],
        dataclasses.replace(settings, seeds=1),
        seeds=[seed + draw for seed in seeds for draw in draws],
        handling=[one for one in handling for _ in draws],
    )
    single = [recording for (recording,) in recorded]
    return [single[start : start + len(draws)] for start in range(0, len(single), len(draws))]


def _readings(
    model: DiffusionModel,
    groups: Sequence[Sequence[Recording]],
    items: Sequence[GroundingItem],
    settings: HeatmapSettings,
    words: str,
    gas: Gas,
) -> list[list[_Reading]]:
    """For each item its recordings, read with and without noun phrase and spatial bias."""
    switches = list(product((False, True), (False, True)))
    ways = [chosen_settings(model, settings, noun_phrase=phrase, spatial_bias=bias) for phrase, bias in switches]
    *_, height, width = groups[0][0].layout.grid
    maps = heatmaps(groups, ways)[..., : height * width].reshape(len(groups), len(ways), height, width).numpy()
    found = []
    for item, group, each in zip(items, groups, maps, strict=True):
        sinks = len(group[0].attrs.get("intervention", {}).get("keys", ()))
        readings = []
        for (noun_phrase, bias), way, one in zip(switches, ways, each, strict=True):
            heat = finished_values(one[None], way, group[0])
            x, y = peaks(heat, item.image.shape[:2])[0]
            condition = Condition(words, gas, noun_phrase, bias)
            readings.append(_Reading(condition, xr.DataArray(heat[0], dims=["y", "x"]), (float(x), float(y)), sinks))
        found.append(readings)
    return found


def _masked(
    item: GroundingItem, readings: Sequence[_Reading], name: str, segmenter: Segmenter
) -> Iterator[dict[str, Any]]:
    """The rows of one scene and segmenter: every point that differs is asked about once."""
    truth = item.masks[item.target]
    points, place_of = np.unique([one.point for one in readings], axis=0, return_inverse=True)
    segmenter.set_image(item.image)
    masks, scores = segmenter.predict(points)
    flat = masks.reshape(-1, *truth.shape)
    counts = np.stack(mask_overlaps(flat, [truth] * len(flat)), axis=-1).reshape(*scores.shape, 2)
    on_target = points_on(points, [truth] * len(points))
    for reading, place in zip(readings, place_of.ravel(), strict=True):
        for choice in MASK_CHOICES:
            chosen = choose_mask(masks[place], scores[place], reading.heatmap, by=choice)
            condition = dataclasses.replace(reading.condition, segmenter=name, mask_choice=choice)
            intersection, union = counts[place, chosen]
            yield {
                **{field: getattr(condition, field) for field in FIELDS},
                "sinks": reading.sinks, "x": points[place, 0], "y": points[place, 1], "on_target": on_target[place],
                "intersection": intersection, "union": union,
            }  # fmt: skip


def _checkpoint_sha256(segmenter: str) -> str | None:
    """Of a segmenter whose named weights are one file; None for a repository or a folder."""
    weights = find_weights(segmenter) if segmenter in WEIGHTS else None
    return weights.sha256 if isinstance(weights, WeightsFile) else None
