"""One scene's causal test: what changes when its sinks are acted on, beside as many random tokens of the same kinds.

Everything of a scene shares text, picture and noise; a comparison differs in the tokens alone. Tables over scenes, and
the tests, are in :mod:`refam_analysis.experiments.causal`.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refam_analysis.analysis.localisation import average_precision, background_ratio
from refam_analysis.evaluation.items import GroundingItem
from refam_analysis.evaluation.metrics import points_on
from refam_analysis.experiments.intervened import Outcome, PreparedScene, prepare_scene, relative_change
from refam_analysis.experiments.picture_distance import root_mean_square, structural_dissimilarity
from refam_analysis.experiments.sink_choice import draw_others, rank_keys
from refam_analysis.models.base import DiffusionModel
from refam_analysis.models.images import ImageSource
from refam_analysis.prompts import DEFAULT_MAGNETS, make_prompt
from refam_analysis.recording import Intervention
from refam_analysis.recording.interventions import How
from refam_analysis.recording.quantities import absent_from
from refam_analysis.segmentation.heatmap import heatmaps
from refam_analysis.segmentation.pipeline import default_settings
from refam_analysis.segmentation.point import peak
from refam_analysis.segmentation.settings import HeatmapSettings

Picture = NDArray[np.uint8]
Measure = Callable[[Intervention | None], dict[str, float]]
"""Measure -> value, with an intervention or without."""


@dataclass(frozen=True)
class Arm:
    """One way to act on sinks.

    Attributes:
        path: its name.
        how: of the intervention.
        kinds: of the tokens that may be acted on; None for all but magnets.
        numbers: of tokens; None for those that are asked for.
    """

    path: str
    how: How
    kinds: tuple[str, ...] | None = None
    numbers: tuple[int, ...] | None = None

    @property
    def with_magnets(self) -> bool:
        """Whether its prompt has magnets: receivers of redirected mass."""
        return self.how == "redirect"


ARMS: Sequence[Arm] = (
    Arm("score", "score"),
    Arm("value", "value"),
    Arm("redirect", "redirect"),
    Arm("redirect_word", "redirect", kinds=("content",), numbers=(1,)),
)
"""``score``: masked before the softmax. ``value``: their values count as zero. ``redirect``: their mass goes onto the
magnets. ``redirect_word``: the same for the content word's token that is the strongest sink of its kind."""


@dataclass(frozen=True)
class SceneChanges:
    """What acting on one scene's sinks changed.

    Attributes:
        changes: a row a (path, number, measure): ``path`` of :data:`ARMS`, ``number`` of tokens, ``measure``,
            ``undisturbed`` (the measure without intervention; 0 for a distance), ``sink``, ``random`` (the mean over
            the draws), ``other_kind`` (of the random tokens, the share that had to be of another kind).
        sinks: a row a (prompt, rank): ``prompt`` ("plain" or "magnets"), ``rank`` from 1, ``position``, ``side``,
            ``kind``, ``role``, ``word``, ``strength``, ``block``, as
            :func:`~refam_analysis.experiments.sink_choice.rank_keys` has them; as many as the largest number.
    """

    changes: pd.DataFrame
    sinks: pd.DataFrame = field(repr=False)


def changes_of(
    model: DiffusionModel,
    item: GroundingItem,
    settings: HeatmapSettings | None = None,
    *,
    magnets: Sequence[str] = DEFAULT_MAGNETS,
    numbers: Sequence[int] = (1, 3, 5),
    draws: int = 2,
    blocks: Collection[int] | None = None,
    arms: Sequence[Arm] = ARMS,
    seed: int = 0,
) -> SceneChanges:
    """Act on the strongest sinks of a scene in every way, and on random tokens, and measure prediction and maps.

    Measured are ``prediction``, the relative L2 distance to the undisturbed prediction, and of the heatmap that the
    settings read, against the target's mask, ``average_precision``, ``background_ratio`` and ``point_accuracy``. A
    token whose attention is taken away has no map; the heatmap is read from what is left, and is constant where no
    content word is.

    Args:
        model: from ``load_model``.
        item: picture, sentence and mask.
        settings: how heatmaps are read, by their attention alone; None for the model's own. Their ``gas`` is
            not done here.
        magnets: of the prompts in which mass is redirected; the others have none.
        numbers: of tokens acted on at once. What a scene has too few candidates for is left out.
        draws: of random tokens, averaged.
        blocks: that are acted on, and by which sinks are ranked; None for all.
        arms: which of :data:`ARMS`.
        seed: of the first noise draw, and of the random tokens, which ``score`` and ``value`` share.

    Raises:
        TooFewTokensError: there are not as many other tokens.
        NoContentWordsError: the sentence has no word to read.
        InterventionError: the model does not allow one of the arms.
    """
    settings = (settings or default_settings(model)).attention_alone
    changes: list[pd.DataFrame] = []
    sinks: list[pd.DataFrame] = []
    for scene, chosen in _scenes(model, item.image, item.expression, settings, magnets=magnets, arms=arms, seed=seed):
        before = scene.run(keep=[settings.direction, *_tells_sinks(model)])
        ranked = rank_keys(before.recordings, blocks=blocks)
        measure = partial(_read, scene, before, item, settings)
        changes.append(_compared(scene, ranked, measure, chosen, numbers, draws=draws, blocks=blocks, seed=seed))
        sinks.append(_listed(scene, ranked, max(numbers)))
    return SceneChanges(pd.concat(changes, ignore_index=True), pd.concat(sinks, ignore_index=True))


def picture_changes_of(
    model: DiffusionModel,
    text: str,
    *,
    judges: Mapping[str, Callable[[Picture], float]] | None = None,
    magnets: Sequence[str] = DEFAULT_MAGNETS,
    numbers: Sequence[int] = (1, 3, 5),
    draws: int = 1,
    blocks: Collection[int] | None = None,
    arms: Sequence[Arm] = ARMS[:3],
    steps: int | None = None,
    seed: int = 0,
) -> SceneChanges:
    """The same for a picture that is drawn of a caption, by a full denoising from noise.

    Sinks are those of the undisturbed drawing, over all its passes, since all of them are acted on. Measured are the
    distances of the finished pictures, from the same noise: ``picture_rms``, pixel by pixel, and
    ``picture_structure``, see :mod:`refam_analysis.experiments.picture_distance`; and what judges say.

    Args:
        model: from ``load_model``.
        text: the caption, such as "a small red ring on the left".
        judges: measure -> what gives its value for a picture, such as the share of its object that has a colour.
        magnets, numbers, draws, blocks, arms: as for :func:`changes_of`.
        steps: of denoising; the model's own by default.
        seed: of the noise, and of the random tokens.

    The errors are those of :func:`changes_of`.
    """
    changes: list[pd.DataFrame] = []
    sinks: list[pd.DataFrame] = []
    blank = np.zeros((*model.default_size, 3), np.uint8)  # a scene needs a picture; a drawing begins without
    for scene, chosen in _scenes(model, blank, text, HeatmapSettings(), magnets=magnets, arms=arms, seed=seed):
        before, recordings = scene.draw(keep=_tells_sinks(model), blocks=None, seed=seed, steps=steps)
        ranked = rank_keys(recordings, blocks=blocks)
        measure = partial(_drawn, scene, before, judges or {}, seed, steps)
        changes.append(_compared(scene, ranked, measure, chosen, numbers, draws=draws, blocks=blocks, seed=seed))
        sinks.append(_listed(scene, ranked, max(numbers)))
    return SceneChanges(pd.concat(changes, ignore_index=True), pd.concat(sinks, ignore_index=True))


def claims_of(changes: pd.DataFrame) -> dict[str, float]:
    """What C3 and C4 ask of one scene, turned as the rules of the ledger say.

    Args:
        changes: of :class:`SceneChanges`, with one token among its numbers, from :func:`changes_of`.

    Returns:
        Criterion -> value: ``c3_prediction_score``, ``c3_prediction_value`` (log of the change by random tokens over
        that by the top sink), ``c3_point`` (point accuracy with the top sink masked minus without), ``c4_maps`` and
        ``c4_maps_control`` (average precision with a content word's sink, or random tokens of its kind, redirected,
        minus without). NaN where the scene or the model cannot say.
    """
    alone = changes[changes["number"] == 1].set_index(["path", "measure"])

    def of(path: str, measure: str) -> pd.Series:
        missing = pd.Series(np.nan, index=["undisturbed", "sink", "random"])
        return alone.loc[(path, measure)] if (path, measure) in alone.index else missing

    values = {}
    for path in ("score", "value"):
        row = of(path, "prediction")
        values[f"c3_prediction_{path}"] = _log_ratio(float(row["random"]), float(row["sink"]))
    point, maps = of("score", "point_accuracy"), of("redirect_word", "average_precision")
    values["c3_point"] = float(point["sink"] - point["undisturbed"])
    values["c4_maps"] = float(maps["sink"] - maps["undisturbed"])
    values["c4_maps_control"] = float(maps["random"] - maps["undisturbed"])
    return values


def _scenes(
    model: DiffusionModel,
    image: ImageSource,
    text: str,
    settings: HeatmapSettings,
    *,
    magnets: Sequence[str],
    arms: Sequence[Arm],
    seed: int,
) -> list[tuple[PreparedScene, list[Arm]]]:
    """The scene without magnets, and with them, each with the arms that ask for it."""
    prepared = []
    for with_magnets in sorted({arm.with_magnets for arm in arms}):
        prompt = make_prompt(text, magnets if with_magnets else ())
        scene = prepare_scene(
            model, image, prompt, noise_levels=settings.noise_levels, seeds=range(seed, seed + settings.seeds)
        )
        prepared.append((scene, [arm for arm in arms if arm.with_magnets == with_magnets]))
    return prepared


def _compared(
    scene: PreparedScene,
    ranked: pd.DataFrame,
    measure: Measure,
    arms: Sequence[Arm],
    numbers: Sequence[int],
    *,
    draws: int,
    blocks: Collection[int] | None,
    seed: int,
) -> pd.DataFrame:
    """Rows of the table of changes."""
    undisturbed = measure(None)
    rows: list[dict[str, Any]] = []
    for arm in arms:
        act = partial(
            Intervention,
            how=arm.how,
            onto=scene.magnets if arm.with_magnets else (),
            blocks=None if blocks is None else tuple(blocks),
        )
        candidates = _candidates(scene, ranked, arm)
        for number in arm.numbers or numbers:
            if len(candidates) < number:
                continue
            top = tuple(candidates["position"].head(number))
            others = [draw_others(ranked, top, np.random.default_rng([seed, number, draw])) for draw in range(draws)]
            sink, randoms = measure(act(keys=top)), [measure(act(keys=keys)) for keys, _ in others]
            share = sum(elsewhere for _, elsewhere in others) / (draws * number)
            rows += [
                {"path": arm.path, "number": number, "measure": name, "undisturbed": undisturbed[name],
                 "sink": value, "random": float(np.mean([one[name] for one in randoms])), "other_kind": share}
                for name, value in sink.items()
            ]  # fmt: skip
    return pd.DataFrame(rows, columns=["path", "number", "measure", "undisturbed", "sink", "random", "other_kind"])


def _candidates(scene: PreparedScene, ranked: pd.DataFrame, arm: Arm) -> pd.DataFrame:
    """The tokens that an arm may act on. Mass of image tokens cannot go onto magnets where the two attend apart."""
    allowed = pd.Series(True, index=ranked.index) if arm.kinds is None else ranked["kind"].isin(arm.kinds)
    if arm.with_magnets and scene.layout.attention != "joint":
        allowed &= ranked["side"] == "text"
    return ranked[allowed]


def _read(
    scene: PreparedScene,
    before: Outcome,
    item: GroundingItem,
    settings: HeatmapSettings,
    intervention: Intervention | None,
) -> dict[str, float]:
    """Prediction and maps of a run with the intervention; of the undisturbed run where there is none."""
    after = before
    if intervention is not None:
        after = scene.run(intervention, keep=[settings.direction], blocks=settings.recorded_blocks)
    heat = heatmaps([after.recordings], [settings])[0, 0].reshape(scene.layout.grid).numpy()
    mask = item.masks[item.target]
    return {
        "prediction": relative_change(before, after),
        "average_precision": average_precision(heat, mask),
        "background_ratio": background_ratio(heat, mask),
        "point_accuracy": float(points_on([peak(heat, item.image.shape[:2])], [mask])[0]),
    }


def _drawn(
    scene: PreparedScene,
    before: Picture,
    judges: Mapping[str, Callable[[Picture], float]],
    seed: int,
    steps: int | None,
    intervention: Intervention | None,
) -> dict[str, float]:
    """Distances of the picture drawn with the intervention to the undisturbed one, and what the judges say of it."""
    after = before if intervention is None else scene.draw(intervention, seed=seed, steps=steps)[0]
    return {
        "picture_rms": root_mean_square(before, after),
        "picture_structure": structural_dissimilarity(before, after),
        **{name: judge(after) for name, judge in judges.items()},
    }


def _listed(scene: PreparedScene, ranked: pd.DataFrame, most: int) -> pd.DataFrame:
    """Rows of the table of sinks."""
    listed = ranked.head(most).copy()
    listed.insert(0, "prompt", "magnets" if scene.magnets else "plain")
    listed.insert(1, "rank", range(1, len(listed) + 1))
    return listed


def _log_ratio(numerator: float, denominator: float) -> float:
    """NaN where one of them is zero or missing."""
    return float(np.log(numerator / denominator)) if numerator > 0 and denominator > 0 else float("nan")


def _tells_sinks(model: DiffusionModel) -> list[str]:
    """What has to be kept for ranking, as far as the model has it."""
    absent = absent_from(model.family)
    return [name for name in ("received_from_text", "received_from_image") if name not in absent]
