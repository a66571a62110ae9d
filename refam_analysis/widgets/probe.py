"""The probe: an app in one object, in which a reader tries sentences, magnets and switches, and looks at every block.

Here the parts come together: what a browser chooses (`probe_message`, `probe_state`), the thread that answers it
(`probe_worker`, `probe_answer`), what of it is shown (`probe_view`) and what leaves it (`probe_export`). How it is
drawn is in ``static/probe*.js``.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import anywidget
import traitlets
from matplotlib.figure import Figure

from refam_analysis.errors import RefamError
from refam_analysis.models import DiffusionModel
from refam_analysis.models.images import ImageSource
from refam_analysis.recording import Recording
from refam_analysis.segmentation import SegmentationResult, Segmenter
from refam_analysis.widgets import probe_export as export
from refam_analysis.widgets.probe_answer import MEMORY_BYTES, Answerer
from refam_analysis.widgets.probe_message import (
    FIRST_CHOICES,
    FIRST_VIEW,
    answer_message,
    map_message,
    offer_message,
    picture_address,
    scene_of,
    state_of,
    unexpected_message,
    view_of,
)
from refam_analysis.widgets.probe_pictures import Picture, drawn, given, opened, uploaded
from refam_analysis.widgets.probe_state import ProbeState, Question
from refam_analysis.widgets.probe_view import AnswerView
from refam_analysis.widgets.probe_worker import NewestFirst, Run, RunEndedError
from refam_analysis.widgets.scripts import module_source, style_source

PAUSE = 0.3
"""Seconds of silence after which what is being typed is asked."""

_TYPED = ("expression", "other", "own_words")
_FROM_BROWSER = ("chosen", "view")


class NoAnswerError(RefamError, RuntimeError):
    """A probe is asked for an answer that it does not have."""

    def __init__(self, why: str = "") -> None:
        super().__init__(
            why or "The probe has no answer yet: display it, or call probe.ask(); then probe.wait() for the answer."
        )


class Probe(anywidget.AnyWidget):
    """Probe a model with your own sentence: an app for notebooks, and for Voila.

    Left: the picture, the sentence, magnets, switches, noise. Right: the sentence as tokens, the heatmap with its point
    and mask, and the matrix of blocks and tokens, in which every map can be picked. What needs no forward pass is
    answered without one. Leave a probe as the last line of a cell to see it.

    Args:
        model: what :func:`refam_analysis.load_model` takes, or what it gives. It is loaded in the background. Several
            probes of one loaded model take turns.
        image: anything that ``load_image`` reads; None for a drawn scene. Above 1024 pixels it is made smaller.
        expression: what is looked for first; None for a sentence of the scene, or for "the object in the middle".
        segmenter: what ``load_segmenter`` takes; None for the one that ships for the scenes that the model knows.
        memory: bytes of recordings that are remembered, beyond those of the answer that is shown.
        local_files: whether a reader may open files of the machine that the kernel runs on, by their path. Not where
            strangers come.

    Attributes:
        unexpected: the last error that nobody foresaw, for whoever wants its traceback; None without one.

    Raises:
        ImageError: the image cannot be used.

    >>> probe = Probe("embedded")  # as the last line of a cell it is shown
    >>> answered = probe.ask(expression="the red circle", comparison="no magnets").wait()
    >>> probe.result.mask.shape
    (96, 96)
    >>> probe.close()
    """

    _esm = module_source("probe.js")
    _css = style_source("probe.css")
    chosen = traitlets.Dict().tag(sync=True)
    view = traitlets.Dict().tag(sync=True)
    offered = traitlets.Dict().tag(sync=True)
    status = traitlets.Dict().tag(sync=True)
    picture = traitlets.Unicode().tag(sync=True)
    answers: traitlets.List[Any] = traitlets.List().tag(sync=True)
    maps: traitlets.List[Any] = traitlets.List().tag(sync=True)

    def __init__(
        self,
        model: str | Path | DiffusionModel = "embedded",
        image: ImageSource | None = None,
        *,
        expression: str | None = None,
        segmenter: str | Path | Segmenter | None = None,
        memory: int = MEMORY_BYTES,
        local_files: bool = True,
    ) -> None:
        self._guard = threading.RLock()
        self._answerer = Answerer(model, segmenter, memory=memory)
        self._names = (export.name_of(model), None if segmenter is None else export.name_of(segmenter))
        self._files = local_files
        chosen = {**FIRST_CHOICES, "source": "scene" if image is None else "given"}
        self._picture = drawn(scene_of(chosen)) if image is None else given(image)
        chosen["expression"] = expression or (self._picture.expressions or ("the object in the middle",))[0]
        self._views: tuple[AnswerView | str, ...] = ()
        self.unexpected: Exception | None = None
        self._began = 0.0
        self._worker: NewestFirst[tuple[Question, ...]] = NewestFirst(self._work, tell=self._progress)
        super().__init__(
            chosen=chosen, view=dict(FIRST_VIEW), picture=picture_address(self._picture), offered=self._offer(),
            status={"kind": "busy", "text": "Loading the model", "done": 0, "total": 0},
        )  # fmt: skip
        self.observe(self._on_chosen, "chosen")
        self.observe(self._on_view, "view")
        self.on_msg(self._on_message)
        self._ask()

    @property
    def state(self) -> ProbeState:
        """What is chosen.

        Raises:
            ProbeInputError: something that was typed or chosen cannot be used.
        """
        return state_of(self.chosen, self._picture)

    @property
    def result(self) -> SegmentationResult:
        """The answer, with all stages: what :func:`refam_analysis.segment` gives for the same arguments.

        Raises:
            NoAnswerError: there is none, or it was an error.
        """
        return self._answered()[0].answer.result

    @property
    def results(self) -> tuple[SegmentationResult, ...]:
        """The answer, and that to the other sentence where two are compared. Raises as :attr:`result`."""
        return tuple(view.answer.result for view in self._answered())

    @property
    def recording(self) -> Recording:
        """The first noise draw of the answer: the maps that the heatmap is read from. Raises as :attr:`result`."""
        return self._answered()[0].answer.recordings[0]

    @property
    def error(self) -> str | None:
        """The sentence that the app shows in the place of an answer; None where there is an answer."""
        told = [view for view in self._views if isinstance(view, str)]
        told += [self.status["text"]] if self.status.get("kind") == "error" else []
        return told[0] if told else None

    @property
    def passes_run(self) -> int:
        """How many forward passes have run since it was made."""
        return self._answerer.passes_run

    def ask(self, image: ImageSource | None = None, **changes: Any) -> Probe:
        """Change what is chosen, as a reader does in the app.

        Args:
            image: another picture.
            changes: ``expression``, ``stop_words``, ``colours``, ``own_words``, ``noun_phrase``, ``spatial_bias``,
                ``gas``, ``noise_level``, ``seed``, ``comparison``, ``other``, ``scene``; ``block``, ``head``,
                ``token``, ``measure``. See ``ProbeState``, ``SceneChoice`` and ``View``.

        Returns:
            The probe itself, so that ``probe.ask(...).wait()`` reads as a sentence.

        Raises:
            NoAnswerError, ImageError: there is nothing of that name, or the image cannot be used.
        """
        if unknown := sorted(set(changes) - {*FIRST_CHOICES, *FIRST_VIEW}):
            known = ", ".join([*FIRST_CHOICES, *FIRST_VIEW])
            raise NoAnswerError(f"A probe has nothing called {', '.join(unknown)} to choose; it has {known}.")
        with self._guard:
            if image is not None:
                self._take(given(image), "given")
                self._ask()
            picked = {name: value for name, value in changes.items() if name in FIRST_VIEW}
            others = {name: value for name, value in changes.items() if name in FIRST_CHOICES}
            if "scene" in others:
                others["scene"] = {**self.chosen["scene"], **others["scene"]}
                others.setdefault("source", "scene")
            if picked:
                self.view = {**self.view, **picked}
            if others:
                self.chosen = {**self.chosen, **others}
        return self

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until everything is answered; False where that took longer than ``timeout`` seconds."""
        return self._worker.wait(timeout)

    def cancel(self) -> None:
        """End what runs, between two forward passes; what is done of it is kept for the next run."""
        if self._worker.cancel():
            self._say("note", "Cancelled. Change anything to go on: what has run already is not run again.")

    def script(self) -> str:
        """A script of about ten lines that repeats what is shown exactly.

        Where the picture is not a scene, it reads ``picture.png`` beside it; :meth:`save_script` writes both.
        """
        view = view_of(self.view)
        places: tuple[int, ...] = ()
        if view.token is not None and self._views and isinstance(self._views[0], AnswerView):
            group = self._views[0].group(view.token)
            places = group.places if group else ()
        model, segmenter = self._names
        return export.script(self.state.questions(), model=model, segmenter=segmenter, view=view, places=places)

    def save_script(self, folder: str | Path) -> Path:
        """Write :meth:`script` as ``probe.py`` into a folder, and beside it the picture where the script reads it."""
        place = Path(folder)
        place.mkdir(parents=True, exist_ok=True)
        if self._picture.scene is None:
            (place / export.PICTURE_FILE).write_bytes(self._picture.png())
        (place / "probe.py").write_text(self.script(), encoding="utf-8")
        return place / "probe.py"

    def file(self, what: str) -> tuple[str, bytes]:
        """What the app hands over as a download.

        Args:
            what: "script" (an archive with the picture, where the script needs it), "svg", "png" or "recording".

        Returns:
            The file's name and its content.

        Raises:
            NoAnswerError, RecordingTooLargeError: there is no such file, or not yet, or it has more than 48 MiB.
        """
        if what == "script":
            return export.bundle(self.script(), self.state.questions()[0])
        if what in ("svg", "png"):
            return f"probe.{what}", export.written(self.figure(), "svg" if what == "svg" else "png")
        if what == "recording":
            return "recording.zip", export.recording_archive(self.recording)
        raise NoAnswerError(f"A probe has no file called {what!r}: ask for script, svg, png or recording.")

    def figure(self) -> Figure:
        """What is shown, as a figure of matplotlib. Raises as :attr:`result`."""
        return export.figure(self._answered(), view_of(self.view))

    def set_state(self, sync_data: Mapping[str, Any]) -> None:
        """Take what the browser chose; nothing else of the state is its to change."""
        with self._guard:
            super().set_state({name: value for name, value in sync_data.items() if name in _FROM_BROWSER})

    def close(self) -> None:
        """End the thread, and take the app off the page."""
        if hasattr(self, "_worker"):
            self._worker.close()
        super().close()

    def _on_chosen(self, change: Mapping[str, Any]) -> None:
        old, new = change["old"], change["new"]
        try:
            moved = old.get("scene") != new.get("scene") or old.get("source") != new.get("source")
            if new.get("source") == "scene" and moved:
                self._take(drawn(scene_of(new)), "scene")
        except RefamError as error:
            self._refuse(str(error))
            return
        changed = {name for name in {*old, *new} if old.get(name) != new.get(name)}
        self._ask(after=PAUSE if changed and changed <= set(_TYPED) else 0.0)

    def _on_view(self, _: Mapping[str, Any]) -> None:
        try:
            self._show_maps()
        except RefamError as error:
            self._say("error", str(error))

    def _on_message(self, _: Any, content: Any, buffers: list[Any]) -> None:
        """A message of the browser. Errors are told in the app."""
        kind = content.get("type") if isinstance(content, dict) else None
        try:
            with self._guard:
                if kind == "upload":
                    self._take(uploaded(bytes(buffers[0]) if buffers else b"", str(content.get("name"))), "upload")
                    self._ask()
                elif kind == "open" and self._files:
                    self._take(opened(str(content.get("path"))), "file")
                    self._ask()
                elif kind == "cancel":
                    self.cancel()
                elif kind == "export":
                    name, file = self.file(str(content.get("what")))
                    self.send({"type": "download", "name": name}, [file])
        except RefamError as error:
            self._say("error", str(error))
        except Exception as error:  # a reader is told, and the notebook goes on
            self._say("error", self._told(error))

    def _take(self, picture: Picture, source: str) -> None:
        """Take another picture, and with a new scene a sentence that is true of it."""
        before, self._picture = self._picture, picture
        changes: dict[str, Any] = {"source": source} if self.chosen["source"] != source else {}
        if picture.expressions and self.chosen["expression"] in ("", *before.expressions):
            changes["expression"] = picture.expressions[0]
        self._views = ()
        with self.hold_trait_notifications():
            self.picture, self.offered = picture_address(picture), self._offer()
        if changes:
            self.unobserve(self._on_chosen, "chosen")
            self.chosen = {**self.chosen, **changes}
            self.observe(self._on_chosen, "chosen")

    def _ask(self, *, after: float = 0.0) -> None:
        """Want the newest state answered."""
        try:
            self._worker.wish(self.state.questions(), after=after)
        except RefamError as error:
            self._refuse(str(error))

    def _refuse(self, sentence: str) -> None:
        """Nothing is computed for what cannot be used."""
        self._worker.cancel()
        self._say("error", sentence)

    def _work(self, questions: tuple[Question, ...], run: Run) -> None:
        """Answer a state; runs in the worker's thread, which also runs the model."""
        self._began, before = time.perf_counter(), self.passes_run
        views: list[AnswerView | str] = []
        for question in questions:
            try:
                views.append(AnswerView(self._answerer.answer(question, run)))
            except RunEndedError:
                raise
            except (RefamError, OSError) as error:
                views.append(str(error))
            except Exception as error:  # whatever it was: a reader is told in the app
                views.append(self._told(error))
        try:
            with self._guard:
                run.check()  # here, since what is newer is wanted under the same guard
                self._publish(tuple(views), self.passes_run - before)
        except RunEndedError:
            raise
        except Exception as error:
            self._say("error", str(error) if isinstance(error, RefamError) else self._told(error))
        if before == 0:
            threading.Thread(target=self._answerer.warm_up, name="probe-warm-up", daemon=True).start()

    def _publish(self, views: tuple[AnswerView | str, ...], passes: int) -> None:
        self._views = views
        self.answers = [{"error": view} if isinstance(view, str) else answer_message(view) for view in views]
        if not self.offered["ready"] and self._answerer.is_ready:
            self.offered = self._offer(ready=True)
        self._show_maps()
        seconds = time.perf_counter() - self._began
        ran = "no forward pass" if not passes else "1 forward pass" if passes == 1 else f"{passes} forward passes"
        if all(isinstance(view, str) for view in views):
            self._say("error", str(views[0]))
        else:
            self._say("done", f"Answered in {seconds:.2f} s, with {ran}")

    def _show_maps(self) -> None:
        with self._guard:
            picked = view_of(self.view)
            self.maps = [{} if isinstance(view, str) else map_message(view, picked) for view in self._views]

    def _progress(self, done: int, total: int, what: str) -> None:
        self._say("busy", what, done, total)

    def _say(self, kind: str, text: str, done: int = 0, total: int = 0) -> None:
        with self._guard:
            self.status = {"kind": kind, "text": text, "done": done, "total": total}

    def _told(self, error: Exception) -> str:
        """The sentence about an error that nobody foresaw; the error itself is kept for whoever looks for it."""
        self.unexpected = error
        return unexpected_message(error)

    def _answered(self) -> tuple[AnswerView, ...]:
        if self._views and isinstance(self._views[0], str):
            raise NoAnswerError(f"The probe has no answer: {self._views[0]}")
        found = tuple(view for view in self._views if isinstance(view, AnswerView))
        if not found:
            raise NoAnswerError
        return found

    def _offer(self, *, ready: bool | None = None) -> dict[str, Any]:
        ready = bool(self.offered.get("ready")) if ready is None else ready
        own = self._answerer.defaults if ready else None
        return offer_message(self._picture, own, model=self._names[0], files=self._files)
