"""What can be known of a target from the sentence alone: noun phrases against hand-made ones, and on the scenes.

No model and no picture takes part. On the scenes it is measured what the switches NP and SB could do at best: whether
the noun phrase still means the target alone, and whether the spatial bias favours it.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from importlib.resources import files
from typing import Literal

import numpy as np
import pandas as pd

from refam_analysis.analysis.statistics import bootstrap_interval
from refam_analysis.prompts.noun_phrases import Parser, noun_phrase
from refam_analysis.prompts.places import places
from refam_analysis.scenes import COLOURS, KINDS, MATERIALS, RICH_SHAPES, SIZES, Expression, Scene, SceneObject, Scenes
from refam_analysis.segmentation.spatial_bias import spatial_bias

_GRID = 48
_EXTREMES: dict[str, Callable[[SceneObject], float]] = {
    "largest": lambda item: item.radius,
    "smallest": lambda item: -item.radius,
    "leftmost": lambda item: -item.x,
    "rightmost": lambda item: item.x,
    "topmost": lambda item: -item.y,
    "lowest": lambda item: item.y,
}


def noun_phrase_accuracy(*, parser: Parser = "auto", subset: Literal["main", "held_out"] = "main") -> pd.DataFrame:
    """How often a parser finds the noun phrase that was decided by hand.

    The expressions are in the style of RefCOCO (terse), RefCOCO+ (no places), RefCOCOg (long) and of video data sets.
    They, their phrases and heads were written before any parser saw them, in view of the definition in
    :func:`refam_analysis.prompts.noun_phrase`. Both parsers were then corrected on the 60 of ``main`` and on
    validation scenes, never for the 30 of ``held_out``, whose results were only looked at. Phrases, rules and word
    lists have one author, so that on expressions of others both parsers, and the rules above all, will do worse.

    Measured (spaCy 3.8.18 with its small model 3.8.0), phrases and heads found:

    ======  ===============  =================  ===============  =================
    parser  main             before correction  held_out         before correction
    ======  ===============  =================  ===============  =================
    rules   60 and 60 of 60  58 and 60          29 and 28 of 30  29 and 28
    spacy   57 and 57 of 60  47 and 53          23 and 27 of 30  19 and 23
    ======  ===============  =================  ===============  =================

    Args:
        parser: as in :func:`refam_analysis.prompts.noun_phrase`.
        subset: which expressions.

    Returns:
        A row an expression: ``style``, ``expression``, ``phrase`` and ``head`` as decided, ``found_phrase`` and
        ``found_head``, ``phrase_right`` (every word alike) and ``head_right``.

    Raises:
        NoSpacyError: spaCy was asked for and is not installed.

    >>> noun_phrase_accuracy(parser="rules")[["phrase_right", "head_right"]].mean().round(2).tolist()
    [1.0, 1.0]
    """
    text = files("refam_analysis.prompts").joinpath("data", "noun_phrases.csv").read_text(encoding="utf-8")
    rows = [row for row in csv.DictReader(text.splitlines()) if row["set"] == subset]
    table = pd.DataFrame(rows).drop(columns="set")
    found = [noun_phrase(expression, parser=parser) for expression in table["expression"]]
    table["found_phrase"], table["found_head"] = [one.text for one in found], [one.head for one in found]
    table["phrase_right"] = table["found_phrase"] == table["phrase"]
    table["head_right"] = table["found_head"] == table["head"]
    return table


def expression_readings(scenes: Scenes, *, parser: Parser = "auto") -> pd.DataFrame:
    """What the noun phrase and the places of each scene's expressions leave of their meaning.

    Args:
        scenes: every expression of every scene is read.
        parser: of noun phrases.

    Returns:
        A row an expression: ``scene``, ``kind``, ``expression``, ``phrase``; ``meant``, the number of objects that the
        phrase is true of (0 where it is not a sentence of the scenes any more); ``singled_out``, whether that is the
        target alone; ``has_place``; ``favoured``, whether the spatial bias is larger at the target's centre than at
        every other object's.

    >>> expression_readings(Scenes("validation", length=2), parser="rules")[["kind", "singled_out", "favoured"]].head(3)
            kind  singled_out  favoured
    0  attribute         True     False
    1   location        False      True
    2   relation        False     False
    """
    drawn = ((number, *scenes.draw(number)) for number in range(len(scenes)))
    return pd.DataFrame(
        _reading(number, scene, expression, parser) for number, scene, offered in drawn for expression in offered
    )


def readings_by_kind(readings: pd.DataFrame, *, confidence: float = 0.95, seed: int = 0) -> pd.DataFrame:
    """Shares of expressions, by kind, with bootstrap intervals over scenes.

    Args:
        readings: from :func:`expression_readings`.
        confidence: of the intervals.
        seed: of the bootstrap.

    Returns:
        A row a kind: ``kind``, ``scenes``; for each of ``singled_out``, ``has_place`` and ``favoured`` its share and
        the ends of its interval, ``..._low`` and ``..._high``.
    """
    table = pd.DataFrame({"kind": [kind for kind in KINDS if kind in set(readings["kind"])]})
    table["scenes"] = [readings.loc[readings["kind"] == kind, "scene"].nunique() for kind in table["kind"]]
    for name in ("singled_out", "has_place", "favoured"):
        wide = readings.astype({name: float}).pivot_table(index="scene", columns="kind", values=name)[table["kind"]]
        low, high = bootstrap_interval(wide.to_numpy(), confidence=confidence, seed=seed)
        table[name], table[f"{name}_low"], table[f"{name}_high"] = wide.mean().to_numpy(), low, high
    return table


def objects_meant(phrase: str, scene: Scene) -> list[int]:
    """The objects that a noun phrase of the scenes is true of: by their look, and a superlative among those.

    Args:
        phrase: such as "the leftmost red one".
        scene: the scene.

    Returns:
        Indices into ``scene.objects``; none where the phrase has a word that no look has.
    """
    words = [word for word in phrase.split() if word not in ("the", "one")]
    looks = [word for word in words if word not in _EXTREMES]
    if not {*looks} <= {*COLOURS, *RICH_SHAPES, *SIZES, *MATERIALS}:
        return []
    fitting = [i for i, o in enumerate(scene.objects) if {*looks} <= {o.size, o.colour, o.shape, o.material}]
    for word in words:
        if word in _EXTREMES and fitting:
            fitting = [max(fitting, key=lambda i: _EXTREMES[word](scene.objects[i]))]
    return fitting


def _reading(number: int, scene: Scene, expression: Expression, parser: Parser) -> dict[str, object]:
    phrase = noun_phrase(expression.text, parser=parser).text
    meant = [expression.target] if phrase == expression.text else objects_meant(phrase, scene)
    named = places(expression.text)
    bias = spatial_bias(named, (_GRID, _GRID))
    at = [bias[_cell(item.y), _cell(item.x)] for item in scene.objects]
    others = np.delete(at, expression.target)
    return {
        "scene": number, "kind": expression.kind, "expression": expression.text, "phrase": phrase,
        "meant": len(meant), "singled_out": meant == [expression.target], "has_place": bool(named),
        "favoured": bool((others < at[expression.target]).all()) and len(others) > 0,
    }  # fmt: skip


def _cell(share: float) -> int:
    return min(max(int(share * _GRID), 0), _GRID - 1)
