"""Stop words: English function words, read from a list that ships with the package.

Only the list and the question whether a word is on it. Which tokens a heatmap leaves out is decided in segmentation.
"""

from importlib.resources import files


def _read() -> frozenset[str]:
    lines = files("refam_analysis.prompts").joinpath("data", "stop_words.txt").read_text(encoding="utf-8").splitlines()
    return frozenset(line for line in lines if line and not line.startswith("#"))


STOP_WORDS: frozenset[str] = _read()
"""Lower case, with straight apostrophes. Never words of place, colour, number or comparison: an expression may rest on
them. The data file names the word classes that were taken and those that were left out."""


def is_stop_word(word: str) -> bool:
    """Whether the word carries grammar only.

    Args:
        word: one word, in any case, with a straight or a curly apostrophe.

    Returns:
        True for a stop word, whatever its case.

    >>> [word for word in "The ring that isn't on the left".split() if is_stop_word(word)]
    ['The', 'that', "isn't", 'the']
    """
    return word.casefold().replace("’", "'") in STOP_WORDS
