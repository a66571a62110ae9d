"""Prompts: expressions with magnets, their words, and a tokenizer's tokens aligned to them.

Nothing here knows of a model; a tokenizer is all that is asked for.
"""

from refam_analysis.prompts.magnets import (
    DEFAULT_MAGNETS,
    EmptyExpressionError,
    EmptyMagnetError,
    Prompt,
    PromptError,
    UnreadableTextError,
    Word,
    make_prompt,
)
from refam_analysis.prompts.stop_words import STOP_WORDS, is_stop_word
from refam_analysis.prompts.tokens import PromptTooLongError, SlowTokenizerError, Token, TokenKind, align_tokens

__all__ = [
    "DEFAULT_MAGNETS",
    "STOP_WORDS",
    "EmptyExpressionError",
    "EmptyMagnetError",
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
]
