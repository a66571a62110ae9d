"""Chat templates: what stands around a prompt, and which tokens are left of a padded segment."""

import pytest

from refam_analysis.models.chat import RewrittenPromptError, text_around, without_padding
from refam_analysis.prompts import Token


@pytest.mark.parametrize(
    "text", ["the red ring", "user", "", "{braces} %s \\1"], ids=["words", "word-of-it", "empty", "signs"]
)
def test_a_prompt_is_found_between_what_the_template_writes(text: str) -> None:
    """Also where the prompt is a word of the template itself."""
    assert text_around(text, "user: {} and user".format) == ("user: ", " and user")


@pytest.mark.parametrize(
    "render",
    [lambda text: f"user: {text.replace('[IMG]', '')}", lambda text: f"user: {text.strip()}.", lambda text: "user"],
    ids=["leaves-something-out", "strips", "leaves-it-out"],
)
def test_a_template_that_changes_the_prompt_is_refused(render) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(RewrittenPromptError, match=r"changes the prompt ' a \[IMG\]ring'"):
        text_around(" a [IMG]ring", render)


def test_tokens_without_padding_are_numbered_anew() -> None:
    kinds = ["padding", "special", "template", "content", "padding"]
    tokens = [Token(index, kind, "", kind, "t", None) for index, kind in enumerate(kinds)]  # type: ignore[arg-type]
    assert [(token.index, token.text) for token in without_padding(tokens, dropped=1)] == [
        (0, "template"),
        (1, "content"),
    ]
