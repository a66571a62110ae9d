"""From a question to its answer: forward passes, each remembered, and all that is read from them without one.

A pass is remembered by what it depends on (picture, prompt, noise levels, seed, what is done to sinks), so that a
change of anything else is answered at once, and a run that was cancelled goes on where it stopped. The answer is that
of :func:`refam_analysis.segment` for the same arguments, to the last bit. What of it is shown is in `probe_view`.
"""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar
from weakref import WeakKeyDictionary

import pandas as pd
from torch import nn

from refam_analysis.analysis.sinks import detect_sinks
from refam_analysis.models import DiffusionModel, load_model
from refam_analysis.models.blocks import find_blocks
from refam_analysis.prompts import Prompt
from refam_analysis.prompts.noun_phrases import noun_phrase
from refam_analysis.recording import Intervention, QuantityMissingError, Recording, record_batch
from refam_analysis.recording.quantities import absent_from
from refam_analysis.segmentation import (
    HeatmapSettings,
    SegmentationResult,
    Segmenter,
    SinkHandling,
    chosen_settings,
    content_words,
    default_settings,
    handle_sinks,
)
from refam_analysis.segmentation.gas import NoMagnetsError
from refam_analysis.segmentation.pipeline import masked, stages_to_point
from refam_analysis.segmentation.remembering import remembering
from refam_analysis.segmentation.segmenters import load_segmenter_for
from refam_analysis.widgets.probe_state import Question

MEMORY_BYTES = 512 * 2**20
"""Of passes that are remembered. Those of the current answer are kept in any case."""

_ENCODED_PROMPTS = 16
_TELLING = (
    "received_from_text", "received_from_image", "uniformity_from_text", "uniformity_from_image", "entropy",
)  # fmt: skip
_LOCKS: WeakKeyDictionary[nn.Module, threading.Lock] = WeakKeyDictionary()
_MAKING_LOCKS = threading.Lock()


Value = TypeVar("Value")


class Watch(Protocol):
    """Who is told how far a run is, and may end it between two passes."""

    def check(self) -> None:
        """Raise where the run is to end."""

    def progress(self, done: int, total: int, what: str) -> None:
        """Take note."""


@dataclass(frozen=True)
class Answer:
    """What was found out for one question.

    Attributes:
        question: what was asked.
        result: what :func:`refam_analysis.segment` gives, with all stages.
        sinks: the table of :func:`refam_analysis.detect_sinks` for the first draw, before anything is done to sinks;
            empty where the model does not tell.
        settings: how the heatmap was read.
        masses: the first draw again, recorded with received mass, its evenness and entropy as far as the model has
            them. It is a pass of its own, since these take another kernel, which rounds differently, and the maps are
            to be those of ``segment``.
    """

    question: Question
    result: SegmentationResult
    sinks: pd.DataFrame
    settings: HeatmapSettings
    masses: Recording

    @property
    def recordings(self) -> tuple[Recording, ...]:
        """One a noise draw, with all blocks and heads."""
        return tuple(self.result.stages["recordings"])


@dataclass(frozen=True)
class _Pass:
    """One noise draw of a question, at all noise levels of its settings."""

    question: Question
    settings: HeatmapSettings
    draw: int
    keep: tuple[str, ...]
    intervention: Intervention | None = None

    @property
    def key(self) -> tuple[Any, ...]:
        """All that its recording depends on."""
        question, levels = self.question, self.settings.noise_levels
        seed = question.seed + self.draw
        return question.picture.key, question.prompt, levels, seed, self.keep, self.intervention


class Answerer:
    """Answers questions with one model and one segmenter, and remembers what it has computed.

    Both are loaded at the first question. One thread at a time may ask.

    Args:
        model: what ``load_model`` takes, or what it gives.
        segmenter: what ``load_segmenter`` takes; None for the one that ships for the scenes that the model knows.
        memory: bytes of recordings that are remembered.
    """

    def __init__(
        self,
        model: str | Path | DiffusionModel = "embedded",
        segmenter: str | Path | Segmenter | None = None,
        *,
        memory: int = MEMORY_BYTES,
    ) -> None:
        self._source, self._asked_segmenter = model, segmenter
        self._model: DiffusionModel | None = None
        self._encoding: DiffusionModel | None = None
        self._asked: tuple[str, set[Prompt]] = ("", set())
        self._segmenter: Segmenter | None = None
        self._passes: _Memory[Recording] = _Memory(memory, lambda recording: recording.dataset.nbytes)
        self._sinks: _Memory[pd.DataFrame] = _Memory(64, lambda _: 1)
        self.passes_run = 0

    @property
    def model(self) -> DiffusionModel:
        """The model, loaded at its first use."""
        if self._model is None:
            given = self._source
            self._model = given if isinstance(given, DiffusionModel) else load_model(given)
        return self._model

    @property
    def is_ready(self) -> bool:
        """Whether the model is loaded."""
        return self._model is not None

    @property
    def defaults(self) -> HeatmapSettings:
        """The model's own settings."""
        return default_settings(self.model)

    def answer(self, question: Question, watch: Watch) -> Answer:
        """Answer a question, running the passes that are not remembered.

        Args:
            question: what is asked.
            watch: told of every block; asked before every pass.

        The errors are those of :func:`refam_analysis.segment`.
        """
        if not self.is_ready:
            watch.progress(0, 0, "Loading the model")
        settings = self._settings(question)
        content_words(self.model.tokens(question.prompt))
        if settings.gas == "redirect" and not question.prompt.magnets:
            raise NoMagnetsError(question.prompt.expression)
        telling, maps = self._told_by, (settings.direction,)
        with _lock_of(self.model), _told(self.model, watch) as passes:
            looked = _Pass(question, settings, 0, telling)
            wanted = [_Pass(question, settings, draw, maps) for draw in range(settings.seeds)]
            passes.total = self._missing(looked, *(wanted if settings.gas == "none" else ()))
            undisturbed, key = self._recorded(looked, watch), looked.key
            handling = handle_sinks(undisturbed, settings.gas)
            if handling.intervention is not None:
                looked, *wanted = (replace(one, intervention=handling.intervention) for one in (looked, *wanted))
            passes.total += self._missing(looked, *wanted) if settings.gas != "none" else 0
            masses = self._recorded(looked, watch)
            result = self._result(question, settings, handling, [self._recorded(one, watch) for one in wanted])
        return Answer(question, result, self._sinks_of(key, undisturbed, handling), settings, masses)

    def warm_up(self) -> None:
        """Load what the first use of the switch NP would wait for: the parser."""
        noun_phrase("the ring")

    def _settings(self, question: Question) -> HeatmapSettings:
        base = self.defaults
        if question.noise_level is not None:
            base = replace(base, noise_levels=(question.noise_level,))
        return chosen_settings(
            self.model, base, gas=question.gas, noun_phrase=question.noun_phrase, spatial_bias=question.spatial_bias
        )

    def _missing(self, *wanted: _Pass) -> int:
        """How many forward passes have yet to run."""
        return sum(len(one.settings.noise_levels) for one in wanted if one.key not in self._passes)

    def _recorded(self, one: _Pass, watch: Watch) -> Recording:
        """One noise draw, at all noise levels: remembered, or run."""
        found = self._passes.get(one.key)
        if found is None:
            watch.check()
            question, settings = one.question, one.settings
            self.passes_run += len(settings.noise_levels)
            (found,) = record_batch(
                self._encoding_of(question), [question.picture.pixels], [question.prompt], keep=one.keep,
                noise_level=settings.noise_levels, seeds=[question.seed + one.draw], intervention=one.intervention,
            )  # fmt: skip
            self._passes.put(one.key, found)
        return found

    @property
    def _told_by(self) -> tuple[str, ...]:
        """What tells of sinks, and entropy, as far as the model has them."""
        absent = absent_from(self.model.family)
        return tuple(name for name in _TELLING if name not in absent)

    def _result(
        self, question: Question, settings: HeatmapSettings, handling: SinkHandling, recordings: Sequence[Recording]
    ) -> SegmentationResult:
        picture = question.picture.pixels
        size = (picture.height, picture.width)
        stages = stages_to_point([recordings], [question.prompt], [handling], settings, size=size)
        if self._segmenter is None:
            self._segmenter = load_segmenter_for(self.model, self._asked_segmenter)
        (result,) = masked(stages, picture, self._segmenter)
        return result

    def _sinks_of(self, key: Any, recording: Recording, handling: SinkHandling) -> pd.DataFrame:
        """The table of sinks, found once for a recording."""
        found = handling.sinks if len(handling.sinks) else self._sinks.get(key)
        if found is None:
            try:
                found = detect_sinks(recording)
            except QuantityMissingError:
                found = pd.DataFrame()
            self._sinks.put(key, found)
        return found

    def _encoding_of(self, question: Question) -> DiffusionModel:
        """The model with a memory for its encodings, which goes when another picture or very many prompts come."""
        if self._encoding is None or self._asked[0] != question.picture.key or len(self._asked[1]) > _ENCODED_PROMPTS:
            self._encoding, self._asked = remembering(self.model), (question.picture.key, set())
        self._asked[1].add(question.prompt)
        return self._encoding


class _Memory(Generic[Value]):
    """The values that were used last, as many as fit.

    Args:
        limit: of the sum of their sizes; the last one stays whatever its size.
        size: of a value.
    """

    def __init__(self, limit: int, size: Callable[[Value], int]) -> None:
        self._limit, self._size = limit, size
        self._values: OrderedDict[Any, Value] = OrderedDict()
        self._held = 0

    def __contains__(self, key: Any) -> bool:
        return key in self._values

    def get(self, key: Any) -> Value | None:
        if key not in self._values:
            return None
        self._values.move_to_end(key)
        return self._values[key]

    def put(self, key: Any, value: Value) -> None:
        self._values[key] = value
        self._held += self._size(value)
        while self._held > self._limit and len(self._values) > 1:
            _, dropped = self._values.popitem(last=False)
            self._held -= self._size(dropped)


@dataclass
class _Passes:
    """How many forward passes a run still takes, as far as is known."""

    total: int = 0


@contextmanager
def _told(model: DiffusionModel, watch: Watch) -> Iterator[_Passes]:
    """Tell the watch of every block that has run, in whichever pass."""
    passes, blocks, done = _Passes(), find_blocks(model.transformer), 0

    def note(*_: Any) -> None:
        nonlocal done
        done += 1
        watch.progress(done, max(done, passes.total * len(blocks)), "Running the model")

    hooks = [block.module.register_forward_hook(note) for block in blocks]
    try:
        yield passes
    finally:
        for hook in hooks:
            hook.remove()


def _lock_of(model: DiffusionModel) -> threading.Lock:
    """One lock a transformer, however many probes look at it: two recorders on one model are refused."""
    with _MAKING_LOCKS:
        return _LOCKS.setdefault(model.transformer, threading.Lock())
