"""What a reader has chosen in a probe, as one frozen value, and the limits of what may be typed.

A state says everything that an answer depends on; two equal states have equal answers. How a state is answered is in
`probe_answer`, how a browser chooses it in `probe_message` and ``static/probe_controls.js``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

from refam_analysis.errors import RefamError
from refam_analysis.prompts import DEFAULT_MAGNETS, Prompt, make_prompt
from refam_analysis.prompts.magnets import COLOUR_WORDS
from refam_analysis.segmentation.settings import Gas
from refam_analysis.widgets.probe_pictures import Picture

MAX_CHARACTERS = 400
"""Of an expression, and of the own words among the magnets."""
MAX_WORDS = 80
MAX_SEED = 2**31 - 1

STOP_MAGNETS = tuple(word for word in DEFAULT_MAGNETS if word not in COLOUR_WORDS)
COLOUR_MAGNETS = tuple(word for word in DEFAULT_MAGNETS if word in COLOUR_WORDS)

Comparison = Literal["nothing", "no magnets", "another sentence"]
COMPARISONS: tuple[Comparison, ...] = get_args(Comparison)
Measure = Literal["received from image", "received from text", "entropy"]
MEASURES: tuple[Measure, ...] = get_args(Measure)


class ProbeInputError(RefamError, ValueError):
    """Something was typed or chosen that a probe does not take."""


@dataclass(frozen=True)
class Question:
    """All that one answer depends on.

    Attributes:
        picture: what is asked about.
        prompt: the expression with its magnets.
        noise_level: in [0, 1]; None for those of the model's own settings.
        seed: of the first noise draw.
        noun_phrase: the switch NP; None for what the model's settings say.
        spatial_bias: the switch SB; None likewise.
        gas: what is done to sinks; None likewise.
    """

    picture: Picture
    prompt: Prompt
    noise_level: float | None = None
    seed: int = 0
    noun_phrase: bool | None = None
    spatial_bias: bool | None = None
    gas: Gas | None = None


@dataclass(frozen=True)
class ProbeState:
    """What is chosen.

    Attributes:
        picture: what is asked about.
        expression: what is looked for.
        stop_words: whether the stop words among the default magnets are appended.
        colours: whether the colours among them are.
        own_words: further magnets, between spaces.
        noise_level, seed, noun_phrase, spatial_bias, gas: as in :class:`Question`.
        comparison: what stands beside the answer: "nothing"; "no magnets", the same without magnets; "another
            sentence".
        other: that sentence.
    """

    picture: Picture
    expression: str
    stop_words: bool = True
    colours: bool = True
    own_words: str = ""
    noise_level: float | None = None
    seed: int = 0
    noun_phrase: bool | None = None
    spatial_bias: bool | None = None
    gas: Gas | None = None
    comparison: Comparison = "nothing"
    other: str = ""

    @property
    def magnets(self) -> tuple[str, ...]:
        """The words to append, in order: with both groups and no own words exactly the default magnets.

        Raises:
            ProbeInputError: the own words are too long.
        """
        own = _checked(self.own_words, "The magnets").split()
        return (*(STOP_MAGNETS if self.stop_words else ()), *(COLOUR_MAGNETS if self.colours else ()), *own)

    def questions(self) -> tuple[Question, ...]:
        """What is asked: one question, or two that stand side by side.

        Raises:
            ProbeInputError: something is too long, or out of range.
            PromptError: an expression is empty, or holds half a character.
        """
        self._check()
        asked = [(self.expression, self.magnets)]
        if self.comparison == "no magnets":
            asked.append((self.expression, ()))
        elif self.comparison == "another sentence":
            asked.append((self.other, self.magnets))
        return tuple(
            Question(
                self.picture, make_prompt(_checked(expression, "The expression"), magnets), self.noise_level, self.seed,
                self.noun_phrase, self.spatial_bias, self.gas,
            )
            for expression, magnets in asked
        )  # fmt: skip

    def _check(self) -> None:
        if self.noise_level is not None and not 0.0 <= self.noise_level <= 1.0:
            raise ProbeInputError(f"The noise level {self.noise_level} must be a number from 0 to 1.")
        if not 0 <= self.seed <= MAX_SEED:
            raise ProbeInputError(f"The seed {self.seed} must be a whole number from 0 to {MAX_SEED}.")
        if self.comparison not in COMPARISONS:
            raise ProbeInputError(f"comparison={self.comparison!r} is unknown: choose {' or '.join(COMPARISONS)}.")


@dataclass(frozen=True)
class View:
    """What of an answer is shown; a change of it needs no forward pass.

    Attributes:
        block: whose map is shown; None for the average over the blocks and heads that the heatmap is read from.
        head: of the block; None for the mean over its heads.
        token: name of the token or group of tokens whose map is shown; None for the heatmap of the sentence.
        measure: what the matrix of blocks and tokens shows.
    """

    block: int | None = None
    head: int | None = None
    token: str | None = None
    measure: Measure = "received from image"

    def changed(self, **changes: object) -> View:
        """The same with some things changed; without a block there is no head."""
        view = replace(self, **changes)  # type: ignore[arg-type]
        return view if view.block is not None else replace(view, head=None)


def _checked(text: str, what: str) -> str:
    """The text, if it is short enough; before any tokenizer sees it."""
    if len(text) > MAX_CHARACTERS:
        raise ProbeInputError(f"{what} may have {MAX_CHARACTERS} characters, and this has {len(text):,}: shorten it.")
    words = len(text.split())
    if words > MAX_WORDS:
        raise ProbeInputError(f"{what} may have {MAX_WORDS} words, and this has {words}: shorten it.")
    return text
