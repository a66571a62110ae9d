"""What becomes of words that a model was not taught: synonyms, words that are none, and longer sentences.

Every scene is asked about by the colour and the shape of its target, and then again with one of these words replaced or
left out, or with more words around them; picture and noise stay the same, so that changes are paired. The scenes are of
the test split, behind those of the other experiments.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pandas as pd

from refam_analysis.analysis.paired import two_sided_p
from refam_analysis.analysis.statistics import bootstrap_interval
from refam_analysis.evaluation.grounding import hits, points_of
from refam_analysis.evaluation.items import GroundingItem, hard_items
from refam_analysis.experiments.magnet_conditions import NONSENSE
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.experiments.styles import model_option, style_in, style_option
from refam_analysis.models import load_model
from refam_analysis.models.base import DiffusionModel
from refam_analysis.prompts import make_prompt
from refam_analysis.scenes import HELD_OUT_SYNONYMS, SYNONYMS
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.pipeline import chosen_settings
from refam_analysis.segmentation.settings import HeatmapSettings
from refam_analysis.weights import embedded_folder

NAME = "words"
FIRST_SCENE = 3000
"""The test items before this one are those of other experiments."""

WordClass = Literal["colour", "shape"]
OWN = "own words"
REPLACEMENTS: Mapping[str, Callable[[str, WordClass], str | None]] = MappingProxyType(
    {
        "synonym": lambda word, kind: SYNONYMS[word][0] if word in SYNONYMS else None,
        "unseen synonym": lambda word, kind: HELD_OUT_SYNONYMS[word],
        "no word": lambda word, kind: NONSENSE[sum(map(ord, word)) % len(NONSENSE)],
        "left out": lambda word, kind: "one" if kind == "shape" else "",
    }
)
"""What stands in place of a word, None where there is nothing: a synonym that captions of rich scenes hold, one that no
caption holds, letters that are no word, and the general word or none."""

SENTENCES: Mapping[str, str] = MappingProxyType(
    {
        "longer, of scene words": "there is a picture and in this picture we see {}",
        "longer, of unseen words": "please find {} that my cousin painted last summer",
    }
)
"""What is put around an expression."""


@dataclass(frozen=True)
class WordsTest:
    """What is asked.

    Attributes:
        items: scenes of the test split whose target no other object equals in colour and shape at once.
        seed: item i has the noise of seed + i times settings.seeds, whatever is asked.
        batch_size: items a part that is kept, and a forward pass.
        style: of the scenes; None for those that the model knows.
    """

    items: int = 160
    seed: int = 0
    batch_size: int = 32
    style: Style | None = None

    @property
    def command(self) -> str:
        """Makes the result again."""
        return f"refam experiment {NAME} --items {self.items} --seed {self.seed}{style_option(self.style)}"


@dataclass(frozen=True)
class Asked:
    """One way of saying what an item's expression says.

    Attributes:
        group: the class of the word that is replaced; "sentence" where words are put around, "" where nothing is done.
        condition: a key of :data:`REPLACEMENTS` or of :data:`SENTENCES`, or :data:`OWN`.
        word: the one that is replaced; empty where none is.
        text: the expression.
    """

    group: str
    condition: str
    word: str
    text: str


def run(
    test: WordsTest | None = None, *, folder: Path | None = None, results: Path = RESULTS, progress: bool = False
) -> Result:
    """Ask, count, and write the result.

    Args:
        test: None for the one that is reported.
        folder: of the model; None for the embedded one.
        results: the folder of all results.
        progress: show a bar.

    Returns:
        The tables ``outcomes`` (:func:`measure`) and ``summary`` (:func:`summary`).
    """
    test, folder = test or WordsTest(), folder or embedded_folder("embedded-dit")
    watch, weights = Stopwatch(), weights_sha256(folder, also=["refam.json"])
    model = load_model(folder)
    style = test.style or model.scene_style
    settings = chosen_settings(model)
    configuration = {
        **dataclasses.asdict(test),
        "style": style,
        "first_scene": FIRST_SCENE,
        "settings": settings.to_dict(),
        "sentences": dict(SENTENCES),
    }
    parts = Parts(results.parent / ".cache", NAME, {**configuration, **weights})
    items = word_items(test.items, style=style)

    def make(part: slice) -> pd.DataFrame:
        return measure(model, items[part], settings, first=part.start, seed=test.seed)

    outcomes = parts.batches(test.items, test.batch_size, make, unit="items", progress=progress)
    tables = {"outcomes": outcomes, "summary": summary(outcomes, seed=test.seed)}
    result = write_result(
        NAME, tables, watch.provenance(test.command + model_option(folder), configuration, weights), results=results
    )
    parts.forget()
    return result


def word_items(number: int, *, style: Style = "plain", skip: int = 0) -> list[GroundingItem]:
    """Hard items that are asked about by colour and shape.

    Args:
        number: how many.
        style: of the scenes.
        skip: leave out so many first.

    >>> [item.expression for item in word_items(2)]
    ['the green square', 'the purple circle']
    """
    wanted = skip + number
    drawn = wanted + wanted // 4 + 4  # some targets have a twin of another size
    while True:
        chosen = []
        for item in hard_items("test", drawn, kinds=("attribute",), skip=FIRST_SCENE, style=style):
            pairs = list(zip(item.colours, item.shapes, strict=True))
            if pairs.count(pairs[item.target]) == 1:
                chosen.append(dataclasses.replace(item, expression=f"the {' '.join(pairs[item.target])}"))
        if len(chosen) >= wanted:
            return chosen[skip:wanted]
        drawn *= 2


def ways_of_asking(item: GroundingItem) -> list[Asked]:
    """The expression in its own words first, then in every other way that there is.

    Args:
        item: from :func:`word_items`.
    """
    words: dict[WordClass, str] = {"colour": item.colours[item.target], "shape": item.shapes[item.target]}
    ways = [Asked("", OWN, "", item.expression)]
    for kind, word in words.items():
        for condition, replaced in REPLACEMENTS.items():
            if (other := replaced(word, kind)) is not None:
                said = {**words, kind: other}
                text = " ".join(part for part in ("the", said["colour"], said["shape"]) if part)
                ways.append(Asked(kind, condition, word, text))
    return [*ways, *(Asked("sentence", name, "", form.format(item.expression)) for name, form in SENTENCES.items())]


def measure(
    model: DiffusionModel,
    items: Sequence[GroundingItem],
    settings: HeatmapSettings,
    *,
    first: int = 0,
    seed: int = 0,
) -> pd.DataFrame:
    """Ask about every item in every way.

    Args:
        model: from ``load_model``.
        items: from :func:`word_items`.
        settings: how heatmaps are read.
        first: number of the first item.
        seed: of the noise.

    Returns:
        A row an item and way: ``item``, ``scene``, ``group``, ``condition``, ``word``, ``expression``, ``pieces``
        (tokens of the expression), ``x``, ``y`` and ``target``, whether the point lies on it.
    """
    asked = [ways_of_asking(item) for item in items]
    rows: list[dict[str, Any]] = []
    for group, condition in dict.fromkeys((way.group, way.condition) for ways in asked for way in ways):
        for place, ways in enumerate(asked):
            for way in ways:
                if (way.group, way.condition) == (group, condition):
                    rows.append({"place": place, **dataclasses.asdict(way)})
    table = pd.DataFrame(rows)
    points = np.full((len(table), 2), np.nan)
    for _, same in table.groupby(["group", "condition"], sort=False):
        # One noise an item in all ways: runs of neighbouring items share a pass, and gaps begin a new one.
        runs = np.split(same.index.to_numpy(), np.flatnonzero(np.diff(same["place"]) != 1) + 1)
        for rows_of_run in runs:
            places = table.loc[rows_of_run, "place"].tolist()
            points[rows_of_run] = points_of(
                model, [items[i] for i in places], table.loc[rows_of_run, "text"].tolist(), settings, (),
                seed=seed + (first + places[0]) * settings.seeds,
            )  # fmt: skip
    on = [hits([items[i]], point[None])[0, 0] > 0 for i, point in zip(table["place"], points, strict=True)]
    pieces = [sum(token.kind not in ("padding", "special") for token in model.tokens(make_prompt(text)))
              for text in table["text"]]  # fmt: skip
    return pd.DataFrame(
        {
            "item": table["place"] + first, "scene": [items[i].scene for i in table["place"]],
            **{name: table[name] for name in ("group", "condition", "word")}, "expression": table["text"],
            "pieces": pieces, "x": points[:, 0], "y": points[:, 1], "target": on,
        }
    )  # fmt: skip


def summary(outcomes: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """How often points lie on the target, beside the same items in their own words.

    Args:
        outcomes: from :func:`measure`.
        confidence: of the intervals.
        seed: of bootstrap and sign flips.

    Returns:
        A row a (group, condition) with ``word`` "all", then a row a word: ``items``; ``own``, the share of points on
        the target in the items' own words; ``target``, the share when asked in this way; ``change``, the paired
        difference, with ``change_low``, ``change_high`` and ``p`` (two-sided, sign flips of items; NaN for one item).
    """
    own = outcomes[outcomes["condition"] == OWN].set_index("item")["target"].astype(float)
    others = outcomes[outcomes["condition"] != OWN]
    rows = []
    for (group, condition), asked in others.groupby(["group", "condition"], sort=False):
        words = {"all": asked} | {word: some for word, some in asked.groupby("word") if word}
        for word, some in words.items():
            before, after = own[some["item"]].to_numpy(), some["target"].to_numpy(dtype=float)
            change = (after - before)[:, None]
            (low,), (high,) = bootstrap_interval(change, confidence=confidence, seed=seed)
            named = {"group": group, "condition": condition, "word": word, "items": len(some)}
            shares = {"own": before.mean(), "target": after.mean(), "change": change.mean()}
            (p,) = two_sided_p(change, flips=20_000, seed=seed)
            rows.append({**named, **shares, "change_low": low, "change_high": high, "p": p})
    table = pd.DataFrame(rows)
    table = table.sort_values("word", key=lambda words: words != "all", kind="stable", ignore_index=True)
    table.attrs["confidence"] = confidence
    return table


def repeat(result: Result, model: DiffusionModel, *, first: int, number: int) -> pd.DataFrame:
    """Ask about some of the items again, as the result's configuration says.

    Args:
        result: from :func:`run`.
        model: the one that it was made with.
        first: number of the first item.
        number: of items.

    Returns:
        Rows as in ``result["outcomes"]``.
    """
    configuration = result.provenance.configuration
    items = word_items(number, style=style_in(configuration), skip=first)
    settings = HeatmapSettings.from_dict(configuration["settings"])
    return measure(model, items, settings, first=first, seed=configuration["seed"])
