from __future__ import annotations

import ast
import random
from pathlib import Path
from typing import Any

import numpy as np
from references.node import ask_node

from refam_analysis.prompts import PromptError, make_prompt, places
from refam_analysis.prompts.lexicon import lexicon
from refam_analysis.widgets.browser.words import place_tables

SENTENCES = Path(__file__).parents[1] / "prompts" / "test_places.py"


def written() -> list[str]:
    """Every sentence that the tests of the Python side name."""
    tree = ast.parse(SENTENCES.read_text(encoding="utf-8"))
    return [node.value for node in ast.walk(tree) if isinstance(node, ast.Constant) and isinstance(node.value, str)]


def drawn(number: int) -> list[str]:
    """Words of place among others, in any order."""
    rng = random.Random(3)
    sections = ("place_words", "place_parts", "ordinals", "cardinals", "determiners", "picture", "viewer", "group")
    words = sorted(word for section in sections for word in lexicon(section))
    others = "the on of from to in at not his one dog walking facing row , most very far closest corner end and".split()
    return [" ".join(rng.choices([*words, *others], k=rng.randint(2, 9))) for _ in range(number)]


def as_python(text: str) -> list[Any]:
    return [
        [axis and [axis.position, axis.spread, axis.either_end] for axis in (place.x, place.y)]
        for place in places(text)
    ]


def test_places_are_those_of_python() -> None:
    texts = []
    for text in [*written(), *drawn(1500)]:
        try:
            make_prompt(text)
        except PromptError:
            continue
        texts.append(text)
    words = [[word.text for word in make_prompt(text).words] for text in texts]
    code = """
    import { places } from "./engine_places.js";
    const flat = (axis) => axis && [axis.position, axis.spread, axis.eitherEnd];
    const reply = question.words.map((words) => places(words, question.tables).map(({ x, y }) => [flat(x), flat(y)]));
    """
    found = ask_node(code, {"words": words, "tables": place_tables()})
    expected = [as_python(text) for text in texts]
    assert sum(map(bool, expected)) > 300
    different = [text for text, one, other in zip(texts, found, expected, strict=True) if not same(one, other)]
    assert different == []


def same(found: list[Any], expected: list[Any]) -> bool:
    """Equal but for rounding, axis by axis."""
    flat = [[axis for place in one for axis in place] for one in (found, expected)]
    return len(flat[0]) == len(flat[1]) and all(
        (one is None) == (other is None) and (one is None or np.allclose(one, other, atol=1e-12))
        for one, other in zip(*flat, strict=True)
    )
