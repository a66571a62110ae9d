"""What leaves a probe: the script that repeats it, the figure, the recording as a file. Nothing here is interactive."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Sequence
from dataclasses import fields
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from refam_analysis.errors import RefamError
from refam_analysis.figures.pictures import heat_over, mark_point, mask_overlay
from refam_analysis.figures.style import HEAT_COLOURS, KIND_LOOKS, figure_style
from refam_analysis.prompts import DEFAULT_MAGNETS, make_prompt
from refam_analysis.recording import Recording
from refam_analysis.scenes import SceneOptions
from refam_analysis.widgets.probe_state import Question, View
from refam_analysis.widgets.probe_view import AnswerView

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PICTURE_FILE = "picture.png"
"""Beside the script, where the picture cannot be drawn again."""
MAX_RECORDING_BYTES = 48 * 2**20
"""Of a recording that goes through the browser."""

FigureFormat = Literal["svg", "png"]
UNITS = {
    "received from image": "received mass from image queries (1 = uniform)",
    "received from text": "received mass from text queries (1 = uniform)",
    "entropy": "entropy of the token's row (nats)",
}


class RecordingTooLargeError(RefamError, ValueError):
    """A recording is too large to be handed over by a browser."""

    def __init__(self, size: int) -> None:
        super().__init__(
            f"The recording has {size / 2**20:.0f} MiB, too much for a download from here. Write it from Python: "
            "probe.recording.save('run.zarr')."
        )


def script(
    questions: Sequence[Question], *, model: str, segmenter: str | None = None, view: View | None = None,
    places: Sequence[int] = (),
) -> str:  # fmt: skip
    """A script that computes the same answers again, to the last bit.

    Args:
        questions: one or two, of one state.
        model: what ``load_model`` takes.
        segmenter: what ``load_segmenter`` takes; None for the one that ships for the scenes that the model knows.
        view: whose block and head are read for the map of the last lines.
        places: along the token axis, of the tokens whose map that is; none for the heatmap of the sentence.

    Returns:
        About ten lines of Python. Where the picture was not drawn from a scene it is read from :data:`PICTURE_FILE`.
    """
    first = questions[0]
    lines = [f"model = ra.load_model({model!r})", f"image = {_picture_code(first)}"]
    lines.append("settings = ra.segmentation.default_settings(model)")
    if first.noise_level is not None:
        lines.append(f"settings = replace(settings, noise_levels=({first.noise_level!r},))")
    given = {"gas": first.gas, "noun_phrase": first.noun_phrase, "spatial_bias": first.spatial_bias}
    chosen = {name: value for name, value in given.items() if value is not None}
    named = {} if segmenter is None else {"segmenter": segmenter}
    options: dict[str, object] = {**chosen, "seed": first.seed, **named}
    lines.append(f"options = dict({', '.join(f'{name}={value!r}' for name, value in options.items())})")
    calls = [f"{question.prompt.expression!r}, magnets={_magnets_code(question)}" for question in questions]
    asked = ", ".join(f"ra.segment(model, image, {call}, settings=settings, **options)" for call in calls)
    lines.append(f"results = [{asked}]")
    if view is not None and (view.block is not None or places):
        lines += _map_code(view, places, calls[0])
    lines.append("print([(result.point, int(result.mask.sum())) for result in results])")
    imports = ["from dataclasses import replace", ""] if any("replace(" in line for line in lines) else []
    imports.append("import refam_analysis as ra")
    if first.picture.scene is not None:
        imports.append("from refam_analysis.scenes import SceneOptions")
    return "\n".join([*imports, "", *lines]) + "\n"


def bundle(text: str, question: Question) -> tuple[str, bytes]:
    """The script as a file: alone, or in an archive with the picture that it reads.

    Returns:
        The file's name and its content.
    """
    if question.picture.scene is not None:
        return "probe.py", text.encode()
    archive = BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as written:
        written.writestr("probe.py", text)
        written.writestr(PICTURE_FILE, question.picture.png())
    return "probe.zip", archive.getvalue()


def figure(views: Sequence[AnswerView], view: View) -> Figure:
    """The answers as one figure: a row each, with the map that is picked, point and mask, and the matrix.

    Args:
        views: one or two.
        view: what is picked.
    """
    with figure_style():
        drawn = Figure(figsize=(11.0, 3.6 * len(views)))
        FigureCanvasAgg(drawn)
        axes = drawn.subplots(len(views), 3, squeeze=False, width_ratios=(1.0, 1.0, 1.7))
        for row, one in zip(axes, views, strict=True):
            _draw_answer(row, one, view)
    return drawn


def written(drawn: Figure, file_format: FigureFormat) -> bytes:
    """A figure as a file."""
    content = BytesIO()
    with figure_style():
        drawn.savefig(content, format=file_format)
    return content.getvalue()


def recording_archive(recording: Recording) -> bytes:
    """A recording's folder as a zip archive, which ``ra.load_recording`` opens once it is unpacked.

    Raises:
        RecordingTooLargeError: it has more than :data:`MAX_RECORDING_BYTES`.
    """
    if (size := recording.dataset.nbytes) > MAX_RECORDING_BYTES:
        raise RecordingTooLargeError(size)
    archive = BytesIO()
    with tempfile.TemporaryDirectory() as folder:
        saved = recording.save(Path(folder) / "recording.zarr")
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_STORED) as packed:
            for path in sorted(saved.rglob("*")):
                if path.is_file():
                    packed.write(path, path.relative_to(folder))
    return archive.getvalue()


def name_of(source: object) -> str:
    """What a model or a segmenter was loaded by, as far as it knows."""
    return str(source) if isinstance(source, str | Path) else str(getattr(source, "name", "embedded"))


def _picture_code(question: Question) -> str:
    choice = question.picture.scene
    if choice is None:
        return repr(PICTURE_FILE)
    plain = SceneOptions()
    changed = [one.name for one in fields(plain) if getattr(choice.options, one.name) != getattr(plain, one.name)]
    options = ", ".join(f"{name}={getattr(choice.options, name)!r}" for name in changed)
    return f'ra.Scenes("test", length={choice.number + 1}, options=SceneOptions({options}))[{choice.number}].image'


def _magnets_code(question: Question) -> str:
    prompt = question.prompt
    is_default = make_prompt(prompt.expression, DEFAULT_MAGNETS) == prompt
    return "ra.DEFAULT_MAGNETS" if is_default else repr(prompt.magnets)


def _map_code(view: View, places: Sequence[int], call: str) -> list[str]:
    """Lines that read the map which a view picks, of the first answer."""
    if view.block is None:
        return [f'shown = results[0].stages["token_maps"][{list(places)}].mean("token")']
    site = f"blocks=({view.block},), heads=None"
    if view.head is not None:
        site = f"blocks=None, heads=(({view.block}, {view.head}),)"
    there = f"there = ra.segment(model, image, {call}, settings=replace(settings, {site}), **options)"
    return [there, f'shown = there.stages["token_maps"][{list(places)}].mean("token")' if places else
            "shown = there.heatmap"]  # fmt: skip


def _draw_answer(axes: Sequence[Axes], one: AnswerView, view: View) -> None:
    result, question = one.answer.result, one.answer.question
    image, shown = result.stages["image"], one.shown(view)
    heat_over(axes[0], image, shown.values)
    if shown.is_heatmap:
        mark_point(axes[0], result.point)
    axes[0].set_title(shown.title, loc="center", fontsize=8.5)
    axes[0].set_xlabel(f"peak {shown.values.max():.2g}", fontsize=8)
    mask_overlay(
        axes[1], image, result.mask, point=result.point, truth=question.picture.truth(question.prompt.expression)
    )
    axes[1].set_title("mask and point", loc="center", fontsize=8.5)
    measure = view.measure if view.measure in one.measures else one.measures[0]
    values = one.matrix(measure).mean(1)
    low = float(values.min()) if measure == "entropy" else 0.0
    picture = axes[2].imshow(values, cmap=HEAT_COLOURS, vmin=low, aspect="auto")
    axes[2].set_xticks(np.arange(len(one.groups)), [group.text for group in one.groups], rotation=90)
    for label, group in zip(axes[2].get_xticklabels(), one.groups, strict=True):
        label.set_color(KIND_LOOKS[group.kind].colour)
    axes[2].set_yticks(np.arange(len(one.blocks)), [str(block) for block in one.blocks])
    axes[2].set_ylabel("block")
    axes[2].set_title(question.prompt.text, fontsize=8.5)
    root = axes[2].get_figure()
    assert root is not None
    root.colorbar(picture, ax=axes[2], label=UNITS[measure])
