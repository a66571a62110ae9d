"""Which words of an expression name a place in the picture, told from those that only look like it.

Words of place with another meaning, and negated ones, are blotted out first; then the expression is read from left to
right by a few patterns, some of which name a place and some of which pass over a direction or a relation. What a
mention means is in `places`, where the readings are listed with examples.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

from refam_analysis.prompts.lexicon import forms, lexicon
from refam_analysis.prompts.magnets import COLOUR_WORDS


@dataclass(frozen=True)
class Mention:
    """Words that name a place.

    Attributes:
        words: indices of the expression's words that take part, rising.
        core: the words of place among them, with nouns such as "corner" and "row", lower case.
        rank: 2 for "second from the left"; None where nothing is counted.
        is_extreme: "far left", "left-most", "closest to the left".
    """

    words: tuple[int, ...]
    core: tuple[str, ...]
    rank: int | None
    is_extreme: bool


def mentions(words: Sequence[str]) -> Iterator[Mention]:
    """The places that an expression names, in order.

    Args:
        words: of the expression, punctuation among them.
    """
    plain = [word.casefold().replace("’", "'") for word in words]
    text = " ".join(plain)
    for pattern in _compiled(BLOTS):
        text = pattern.sub(lambda match: "#" * len(match[0]), text)
    ends = [len(" ".join(plain[: i + 1])) for i in range(len(plain))]
    starts = [end - len(word) for end, word in zip(ends, plain, strict=True)]
    at = 0
    for start in starts:
        match = _first_match(text, start) if start >= at else None
        if match is None:
            continue
        at = match.end()
        mention = _mention(match)
        if mention is not None:
            spans = [_span(match, part) for part in ("rank", "all", "picture")]
            taken = [i for i in range(len(plain)) if any(a < ends[i] and starts[i] < b for a, b in spans)]
            yield Mention(tuple(taken), *mention)


def _first_match(text: str, start: int) -> re.Match[str] | None:
    """What the first pattern that fits at this place finds."""
    matches = (pattern.match(text, start) for pattern in _compiled(PATTERNS))
    return next((match for match in matches if match is not None), None)


def _mention(match: re.Match[str]) -> tuple[tuple[str, ...], int | None, bool] | None:
    """Core, rank and extremity of what a pattern found; None where it names no place in the picture."""
    found = match.groupdict()
    if "all" not in found:
        return None
    core = tuple(re.split("[ -]", found["run"]))
    whole = found.get("whole")
    if whole is not None and whole not in WHOLES and (whole not in lexicon("group") or not MIDDLES.isdisjoint(core)):
        return None
    rank = RANKS.get(found.get("rank") or "")
    is_extreme = bool(found.get("extreme")) or found.get("rank") == "last" or "most" in core or "near" in found
    return core, rank, is_extreme


def _span(match: re.Match[str], part: str) -> tuple[int, int]:
    """Where a part of the match lies; nowhere when the pattern has no such part, or it is not that of a picture."""
    found = match.groupdict()
    if found.get(part) is None or (part == "picture" and found["whole"] in lexicon("group")):
        return (0, 0)
    return match.span(part)


@cache
def _compiled(patterns: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """Compiled at their first use, which takes a tenth of a second."""
    return tuple(map(re.compile, patterns))


def _any(*words: Iterable[str]) -> str:
    """A pattern for one of the words."""
    ordered = sorted({word for group in words for word in group}, key=lambda word: (-len(word), word))
    return f"(?:{'|'.join(map(re.escape, ordered))})"


_ORDINALS = "first second third fourth fifth sixth seventh eighth ninth tenth".split()
_ORDINAL_RANKS = {
    **{word: i + 1 for i, word in enumerate(_ORDINALS)},
    **{f"{i}{ending}": i for i in range(1, 11) for ending in ("st", "nd", "rd", "th")},
}
_CARDINAL_RANKS = {
    **{word: i + 1 for i, word in enumerate("one two three four five six seven eight nine ten".split())},
    **{str(i): i for i in range(1, 11)},
}
RANKS = _ORDINAL_RANKS | _CARDINAL_RANKS
_COUNTED = _any(_ORDINAL_RANKS, ["last"])
MIDDLES = frozenset(("middle", "center", "centre", "central"))
WHOLES = lexicon("picture") | lexicon("viewer") | MIDDLES
"""What a side of is a place in the picture."""

_SIDE = _any(lexicon("sides"))
_CORE = _any(lexicon("sides"), MIDDLES, lexicon("depths"))
_NEAR, _FAR = _any(lexicon("near_words")), _any(lexicon("far_words"))
_DETERMINER = _any(lexicon("determiners"))
_VIEWER = _any(lexicon("viewer"))
_OWNER = rf"(?:his|her|its|their|whose|(?!{_any(lexicon('picture'), lexicon('viewer'))}')\w+(?:'s|s'))"
_INTENSIFIER = _any(lexicon("intensifiers"))
_MOTION = _any(forms("motion_verbs") - lexicon("motion_nouns"))
_PREPOSITION = "(?:on|in|at|to|by|along)"

_RUN = rf"\b{_CORE}(?:[ -](?:{_CORE}|{_any(lexicon('place_parts'))}))*\b"
"""Words of place that stand together."""
_THE = rf"(?:{_DETERMINER} )?"
_VERY = rf"(?P<extreme>(?:{_INTENSIFIER} )*)"
_LIKELY = rf"{_THE}(?:{_INTENSIFIER} )*{_RUN}"
_OF = rf"(?P<picture> of(?: (?:{_DETERMINER}|whole|entire))* (?P<whole>[\w'-]+))?"
_GAP = rf"(?!(?:on|in|at|to|from|that|who|which|{'|'.join(_ORDINALS)})\b)[\w'-]+"

_SCOPE = r"[^,;:.]*?(?=\bbut\b|[,;:.]|$)"
_NOT_THE = "".join(
    rf"(?<!\b{word} )"
    for word in "the on to at far very top bottom upper lower front back middle center centre".split()
)
"""Behind one of these, "left" and "right" are nouns."""

BLOTS = (
    # Clothes and furniture.
    rf"\b{_any(lexicon('top_garments'), COLOUR_WORDS)} (?:top|bottom)s?\b(?! (?:left|right|middle|corner|of)\b)",
    r"\b(?:a|his|her|their) top\b(?! (?:left|right|corner|row|shelf|bunk)\b)|\btop hats?\b",
    r"\b(?:table|counter|desk|roof)[ -]top\b|\b(?:shopping|town|city) cent(?:er|re)\b",
    r"\bmiddle[ -](?:aged|school)\b|\b(?:left|right|cent(?:er|re))[ -]field(?:er)?\b",
    # What remains, or was left by someone.
    r"\bleft[ -]?overs?\b",
    rf"{_NOT_THE}\bleft {_any(lexicon('not_after_left'))}\b",
    rf"\b{_any(lexicon('auxiliaries'))} left\b(?! (?:of|most)\b)",
    r"\b(?:only|last) (?:(?!(?:on|at|to|in|from|the)\b)\w+ ){1,4}left$",
    # Exactly, and correct.
    rf"{_NOT_THE}\bright {_any(lexicon('not_after_right'))}\b",
    rf"{_NOT_THE}\bright in (?:the )?(?:front|{'|'.join(sorted(MIDDLES))})\b",
    r"\ball right\b|\bright[ -](?:side|way) up\b|\bright (?:now|away|angles?)\b|\b(?:left|right) (?:turn|way)\b",
    # A person's or a thing's own side.
    rf"\b{_OWNER} (?:own )?(?:{_INTENSIFIER} )*{_CORE}\b(?:[ -]hand)?(?: side)?",
    rf"\b{_CORE} {_any(lexicon('body_parts'))}\b",
    r"\b(?:left|right) hands?\b(?! (?:side|corner|edge|part|half|end|most|one)\b)",
    r"\b(?:left|right)[ -]handed\b",
    # Where something turns its face or its back.
    rf"\b{_OWNER} \w+ to (?:the )?(?:left|right)\b(?! side\b)",
    rf"\b{_CORE}-(?:{_any(lexicon('facing'))})\b",
    rf"(?<!on )(?<!to )(?<!at )\b(?:a|the) (?:left|right|front) {_any(lexicon('facing'))}\b",
    r"\bback (?:to|turned|towards?|facing)\b|\b(?:with|pulled|tied|slicked) back\b|\bfront view\b|\bclose[ -]up\b",
    r"\bfrom (?:above|below|behind)\b",
    # Negations.
    rf"(?:\bnot|\w+n't|\bexcept(?: for)?|\bexcluding|\brather than|\binstead of|\bother than)"
    rf"(?= (?:{_PREPOSITION} )?{_LIKELY}| {_DETERMINER}\b| one\b){_SCOPE}",
    rf"\b(?:no|nor|neither|never|without)(?= (?:{_PREPOSITION} )?{_LIKELY}){_SCOPE}",
)

PATTERNS = (
    # Counted.
    rf"(?P<rank>{_COUNTED})\b(?: {_GAP}){{0,3}}(?: in)? (?P<all>from {_THE}{_VERY}(?P<run>{_RUN})){_OF}",
    rf"(?P<rank>{_COUNTED})\b(?: (?!row\b|shelf\b){_GAP}){{0,3}} (?P<all>(?:on|at|to) {_THE}{_VERY}"
    rf"(?P<run>{_RUN})){_OF}",
    rf"(?P<rank>{_any(_CARDINAL_RANKS)})(?: in)? (?P<all>from {_THE}{_VERY}(?P<run>{_RUN})){_OF}",
    # Directions.
    rf"{_MOTION}\b(?: {_GAP}){{0,5}} (?:to|towards?|into|from) {_LIKELY}(?: to {_LIKELY})?",
    rf"{_MOTION}\b(?: {_any(lexicon('adverbs'))})* (?:left|right|back|front)\b(?! (?:side|hand|corner|of)\b)",
    rf"{_MOTION} (?:his|her|its|their) \w+ (?:left|right|back)\b",
    rf"from {_LIKELY}(?: to {_LIKELY})?|towards? {_LIKELY}",
    # Near to something and far from it.
    rf"{_THE}(?P<all>(?P<run>{_NEAR})(?:(?: (?!to\b){_GAP})? to)? {_THE}{_VIEWER})\b",
    rf"{_THE}(?P<all>(?P<near>{_NEAR}|{_FAR})(?: to (?:the )?| the ){_VERY}(?P<run>\b{_SIDE}\b(?:[ -](?:{_CORE}|"
    rf"{_any(lexicon('place_parts'))}))*\b)){_OF}",
    rf"{_THE}(?P<all>(?P<run>{_FAR})(?: away)? from {_THE}{_VIEWER})\b",
    rf"{_THE}{_NEAR} {_DETERMINER}\b|{_THE}{_NEAR}(?: {_GAP})? to\b|{_FAR}(?: away)? from\b(?: {_LIKELY})?",
    # Sides, middle, depth.
    rf"{_THE}(?P<all>(?:{_PREPOSITION} {_THE})?{_VERY}(?P<run>{_RUN})){_OF}",
    rf"(?P<all>in (?:the|a) (?P<run>corner)\b){_OF}",
    rf"(?P<all>(?:on|at) the (?:very |far )?(?P<run>end)\b){_OF}",
    r"the (?P<all>(?P<run>end)\b)(?= (?:one|guy|man|woman|person|kid|piece)\b)",
    rf"{_THE}(?P<all>(?P<run>{_any(lexicon('near_words') - {'near', 'close'}, lexicon('far_words') - {'far'})}))\b",
    r"(?:^|the )(?P<all>(?P<run>near|far|close)(?: away)?)\b",
    r"(?P<all>(?P<run>far) away)\b",
    r"(?P<all>(?P<run>above|below|behind))\b(?= ?(?:[,;.]|$)| (?:and|with|wearing|in|that|who)\b)",
)
