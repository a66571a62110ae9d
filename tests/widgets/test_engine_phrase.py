from __future__ import annotations

import csv
import random
from importlib.resources import files

from references.node import ask_node

from refam_analysis.prompts import make_prompt, noun_phrase
from refam_analysis.prompts.lexicon import lexicon
from refam_analysis.scenes import KINDS, Scenes, expressions
from refam_analysis.widgets.browser.words import phrase_tables

SECTIONS = (
    "determiners", "relatives", "wear_verbs", "copulas", "place_words", "place_parts", "place_prepositions", "adverbs",
    "ordinals", "cardinals", "adjectives", "clothing", "picture", "viewer", "action_verbs", "motion_verbs", "particles",
)  # fmt: skip


def texts() -> list[str]:
    """Referring expressions that the package judges its rules by, those of scenes, and words in any order."""
    table = files("refam_analysis.prompts").joinpath("data", "noun_phrases.csv").read_text(encoding="utf-8")
    found = [row["expression"] for row in csv.DictReader(table.splitlines())]
    for sample in Scenes("train", length=40):
        found += [one.text for kind in KINDS for one in expressions(sample.scene, kind)[:4]]
    rng = random.Random(11)
    others = (
        "dog man's red , . of with in than and or about one ones number top a tank walked runs 12 left-hand".split()
    )
    known = [sorted(lexicon(section)) for section in SECTIONS]
    for _ in range(2000):
        words = [rng.choice(rng.choice(known)) for _ in range(rng.randint(0, 5))]
        words += rng.choices(others, k=rng.randint(1, 5))
        rng.shuffle(words)
        found.append(" ".join([*words, "dog"]))
    return found


def test_noun_phrase_is_that_of_the_rules_in_python() -> None:
    asked = texts()
    words = [[word.text for word in make_prompt(text).words] for text in asked]
    code = """
    import { createLexicon, phraseWords } from "./engine_phrase.js";
    const lexicon = createLexicon(question.tables);
    const reply = question.words.map((words) => phraseWords(words, lexicon));
    """
    found = ask_node(code, {"words": words, "tables": phrase_tables()})
    expected = [list(noun_phrase(text, parser="rules").words) for text in asked]
    assert [text for text, one, other in zip(asked, found, expected, strict=True) if one != other] == []
