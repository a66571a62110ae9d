"""Prompts: expressions with magnets, their words, a tokenizer's tokens aligned to them, and what the words say.

The text (`magnets`), its function words (`stop_words`) and tokens (`tokens`); what is looked for (`noun_phrases`, found
by a parser in `parsed` or by rules in `ruled`) and where (`places`, found in `mentions`), both by the word lists of
`lexicon`. Nothing here knows of a model; a tokenizer is all that is asked for.
"""

from refam_analysis.prompts.magnets import (
    DEFAULT_MAGNETS,
    EmptyExpressionError,
    EmptyMagnetError,
    MagnetsTypeError,
    Prompt,
    PromptError,
    UnreadableTextError,
    Word,
    make_prompt,
)
from refam_analysis.prompts.noun_phrases import NounPhrase, noun_phrase
from refam_analysis.prompts.parsed import NoSpacyError
from refam_analysis.prompts.places import Along, Place, places
from refam_analysis.prompts.stop_words import STOP_WORDS, is_stop_word
from refam_analysis.prompts.tokens import PromptTooLongError, SlowTokenizerError, Token, TokenKind, align_tokens

__all__ = [
    "DEFAULT_MAGNETS",
    "STOP_WORDS",
    "Along",
    "EmptyExpressionError",
    "EmptyMagnetError",
    "MagnetsTypeError",
    "NoSpacyError",
    "NounPhrase",
    "Place",
    "Prompt",
    "PromptError",
    "PromptTooLongError",
    "SlowTokenizerError",
    "Token",
    "TokenKind",
    "UnreadableTextError",
    "Word",
    "align_tokens",
    "is_stop_word",
    "make_prompt",
    "noun_phrase",
    "places",
]
