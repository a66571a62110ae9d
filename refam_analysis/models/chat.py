"""Chat templates: what a decoder-only text encoder reads around a prompt, as a template of `prompts.tokens`.

The families whose text encoder is a language model (FLUX.2, Qwen-Image, Z-Image) share this; what they do with the
encoder's states is in their own files.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from refam_analysis.errors import RefamError
from refam_analysis.prompts import Token

_PLACE = "\ue000"
"""A character for private use, so that no template has it."""


class RewrittenPromptError(RefamError, ValueError):
    """A template does not hold the prompt as it was written."""

    def __init__(self, text: str) -> None:
        super().__init__(
            f"The model's chat template changes the prompt {text!r}, so its tokens cannot be found again in it. "
            "Leave out what the template takes for its own, such as names of control tokens."
        )


def text_around(text: str, render: Callable[[str], str]) -> tuple[str, str]:
    """What a template writes before and behind a prompt.

    Args:
        text: the prompt.
        render: gives the whole text for a prompt.

    Raises:
        RewrittenPromptError: the prompt does not stand unchanged between the two.

    >>> text_around("the ring", lambda text: f"user: {text}, please")
    ('user: ', ', please')
    """
    before, _, behind = render(_PLACE).partition(_PLACE)
    if render(text) != before + text + behind:
        raise RewrittenPromptError(text)
    return before, behind


def without_padding(tokens: Sequence[Token], *, dropped: int = 0) -> tuple[Token, ...]:
    """The tokens of a text segment that is not padded, numbered from 0.

    Args:
        tokens: padded, from :func:`~refam_analysis.prompts.align_tokens`.
        dropped: how many are left out at the start, because the model does not use their states.
    """
    kept = [token for token in tokens if token.kind != "padding"][dropped:]
    return tuple(replace(token, index=index) for index, token in enumerate(kept))
