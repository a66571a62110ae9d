"""The words that noun phrases and places are told by, read from a list that ships with the package.

Only the list, by section, and the forms of its verbs. What the words mean for an expression is decided in
`noun_phrases` and `places`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from importlib.resources import files

_VOWELS = frozenset("aeiou")


@cache
def _sections() -> dict[str, frozenset[str]]:
    text = files("refam_analysis.prompts").joinpath("data", "lexicon.txt").read_text(encoding="utf-8")
    sections: dict[str, set[str]] = {}
    current: set[str] = set()
    for line in text.splitlines():
        if line.startswith("["):
            current = sections.setdefault(line.strip("[]"), set())
        elif not line.startswith("#"):
            current.update(line.split())
    return {name: frozenset(words) for name, words in sections.items()}


def lexicon(section: str) -> frozenset[str]:
    """The words of one section of ``data/lexicon.txt``, lower case.

    >>> "jacket" in lexicon("clothing"), "camera" in lexicon("viewer")
    (True, True)
    """
    return _sections()[section]


@cache
def forms(section: str) -> frozenset[str]:
    """A section's verbs in all forms: by the spelling rules of English, and those that its section of exceptions lists.

    Args:
        section: its words are base forms; ``<section>_irregular`` has the forms that follow no rule.

    Returns:
        Lower case. More than the true forms where the rules leave a choice ("walkking"), which does no harm.

    >>> sorted(forms("motion_verbs") & set("runs running moved flies flew facing lefts".split()))
    ['facing', 'flew', 'flies', 'moved', 'running', 'runs']
    """
    regular = (form for base in lexicon(section) for form in _inflected(base))
    return frozenset(regular) | _sections().get(f"{section}_irregular", frozenset())


def _inflected(base: str) -> Iterator[str]:
    yield from (base, base + "s", base + "es", base + "ing", base + "ed")
    if base[-1] == "e":
        yield from (base + "d", base[:-1] + "ing")
    elif base[-1] == "y":
        yield from (base[:-1] + "ies", base[:-1] + "ied")
    elif base[-1] not in _VOWELS:
        yield from (base + base[-1] + "ing", base + base[-1] + "ed")
