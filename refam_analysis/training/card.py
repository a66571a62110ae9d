"""The model cards of the embedded weights: ``python -m refam_analysis.training.card`` writes them from the results.

Every number in a card is read from ``results/``, which is refused when it was made with other weights.
"""

from __future__ import annotations

import json
import math
import textwrap
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any

import pandas as pd
import typer

from refam_analysis.experiments.generation import NAME as GENERATION
from refam_analysis.experiments.grounding import LEAST_RATIO, LEAST_TARGET
from refam_analysis.experiments.grounding import NAME as GROUNDING
from refam_analysis.experiments.learning import EARLIER, FURTHER, logged_numbers, training_commands, training_hours
from refam_analysis.experiments.learning import NAME as LEARNING
from refam_analysis.experiments.motion import NAME as MOTION
from refam_analysis.experiments.provenance import RESULTS, SHIPPED_WEIGHTS, Result, load_result, results_of
from refam_analysis.experiments.segmenter import NAME as SEGMENTER
from refam_analysis.experiments.settings import NAME as SETTINGS
from refam_analysis.experiments.styles import style_in
from refam_analysis.experiments.video import NAME as VIDEO
from refam_analysis.models.loading import EMBEDDED_MODELS
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.segmenters import EMBEDDED_SEGMENTERS
from refam_analysis.training import card_texts as texts
from refam_analysis.training import video
from refam_analysis.training.assembly import IMAGE_SIZE
from refam_analysis.training.dit import CONFIGURATIONS

_USED = {
    "embedded": (SETTINGS, GROUNDING, LEARNING, GENERATION, SEGMENTER),
    "embedded-rich": (SETTINGS, GROUNDING, LEARNING, GENERATION, SEGMENTER),
    "embedded-video": (SETTINGS, GROUNDING, LEARNING, GENERATION, MOTION, VIDEO),
}
"""The results that a model's card reads."""
_TRAINED = {
    "autoencoder": "Autoencoder",
    EARLIER: "Transformer and text encoders, earlier runs",
    "dit": "Transformer and text encoders",
}
"""What is trained for a transformer's card, by its name in the log; steps and samples count on."""


def transformer_card(results: Mapping[str, Result], model: str = "embedded") -> str:
    """The card of one of the transformers that ship.

    Args:
        results: by name: grounding, settings, learning; and generation, where drawing was measured.
        model: its name, as :func:`refam_analysis.load_model` takes it.
    """
    grounding, learning = results[GROUNDING], results[LEARNING]
    style = style_in(grounding.provenance.configuration)
    ratio = logged_numbers(learning["log"], "autoencoder").get("psnr")
    rebuilt = [f"Peak signal-to-noise ratio of rebuilt held-out pictures: {ratio:.1f} dB."] if ratio else []
    return _card(
        "diffusers",
        [
            texts.DIT_INTRODUCTION[model],
            texts.DIT_FOLDER.format(model=model),
            texts.DIT_DATA[style],
            "## Training",
            texts.DIT_TRAINING,
            *_grown(learning, style),
            _training(learning, _TRAINED),
            *_trained_further(learning["curves"]),
            *rebuilt,
            "## Grounding",
            _grounding_text(grounding, results[SETTINGS]),
            _grounding_table(grounding["summary"]),
            *(_drawing(results[GENERATION]) if GENERATION in results else []),
            _made(*(results[name] for name in (GROUNDING, GENERATION) if name in results)),
            texts.DIT_LIMITS.format(blocks=_blocks(learning)),
        ],
    )


def video_card(results: Mapping[str, Result], defaults: Mapping[str, Any]) -> str:
    """The card of embedded-video.

    Args:
        results: by name: grounding, settings, learning, generation, motion, video.
        defaults: what the model's ``refam.json`` says.
    """
    learning, frames = results[LEARNING], defaults["frames"]
    ratio = logged_numbers(learning["log"], "video_autoencoder")["psnr"]
    named = _option(learning, "video", "configuration", "small")
    return _card(
        "diffusers",
        [
            texts.VIDEO_INTRODUCTION.format(frames=frames, size=defaults["image_size"][0]),
            "## Training",
            texts.VIDEO_TRAINING,
            _training(learning, {"video_autoencoder": "Autoencoder", "video": "Transformer and text encoder"}),
            f"Peak signal-to-noise ratio of rebuilt held-out clips: {ratio:.1f} dB.",
            "## Grounding",
            _grounding_text(results[GROUNDING], results[SETTINGS], of="clips"),
            _grounding_table(results[GROUNDING]["summary"], of="clips"),
            *_motion(results[MOTION]),
            *_following(results[VIDEO]),
            *_drawing(results[GENERATION], also=" Of a clip the first frame is judged."),
            _made(*(results[name] for name in (GROUNDING, MOTION, VIDEO, GENERATION))),
            texts.VIDEO_LIMITS.format(
                blocks=_in_words(video.CONFIGURATIONS[named].blocks), frames=frames, latents=1 + (frames - 1) // 6
            ),
        ],
    )


def segmenter_card(results: Mapping[str, Result]) -> str:
    """The card of embedded-sam, or of embedded-rich-sam, by the scenes of the results.

    Args:
        results: by name: segmenter, learning.
    """
    segmenter = results[SEGMENTER]
    configuration = segmenter.provenance.configuration
    style = style_in(configuration)
    text = (
        f"One click into every object of {configuration['scenes']} held-out test scenes, for each of two shares of "
        "objects that may be hidden in part. IoU of the candidate with the highest predicted IoU, with 95 % bootstrap "
        "intervals over scenes; the best of the three candidates; correlation of predicted and true IoU."
    )
    columns = {"occlusion": "occlusion", "group": "objects", "clicks": "clicks", "best": "best of three",
               "correlation": "correlation"}  # fmt: skip
    return _card(
        "segment-anything",
        [
            texts.SAM_INTRODUCTION[style],
            texts.SAM_DRAWN.format(**texts.SAM_DATA[style]),
            "## Training",
            texts.SAM_TRAINING,
            _training(results[LEARNING], {"sam": "Segmenter"}),
            "## Masks from clicks",
            _wrapped(text),
            _table(segmenter["summary"], columns, ["iou"]),
            _made(segmenter),
            texts.SAM_LIMITS,
        ],
    )


def _blocks(learning: Result, model: str = "dit") -> str:
    """How many the trained configuration has, in words where there is one."""
    chosen = CONFIGURATIONS[_option(learning, model, "configuration", "small")]
    return _in_words(chosen.double_blocks + chosen.single_blocks)


def _option(learning: Result, model: str, name: str, usual: str) -> str:
    """What the first command of a model's training says of an option, or what is usual."""
    given = (command.partition(f"--{name} ")[2].split() for command in training_commands(learning["log"], [model]))
    return next((words[0] for words in given if words), usual)


def _in_words(number: int) -> str:
    return {6: "six", 12: "twelve"}.get(number, str(number))


def _card(library: str, parts: Sequence[str]) -> str:
    header = f"---\nlicense: apache-2.0\nlibrary_name: {library}\n---"
    return "\n\n".join([header, *(part.strip() for part in parts)]) + "\n"


def _grown(learning: Result, style: Style) -> list[str]:
    """What the transformer was grown from, where it was."""
    if EARLIER not in set(learning["curves"]["model"]):
        return []
    shallow, deep = _blocks(learning, EARLIER), _blocks(learning)
    return [_wrapped(" ".join(texts.DIT_GROWN[style].format(shallow=shallow, deep=deep).split()))]


def _training(learning: Result, models: Mapping[str, str]) -> str:
    """Steps, samples and time of each model, and the commands."""
    table, lines = learning["curves"], []
    for model, title in models.items():
        losses = table[(table["model"] == model) & (table["quantity"] == "loss")]
        if losses.empty:
            continue
        last, hours = losses.iloc[-1], training_hours(table, model)
        line = f"- {title}: {last['step']:,} steps"
        line += "" if math.isnan(last["samples"]) else f", {last['samples']:,.0f} samples"
        line += "" if math.isnan(hours) else f", {hours:.1f} hours"
        lines.append(f"{line}; loss at the end {last['value']:.3f}.")
    commands = training_commands(learning["log"], models)
    shown = ["", "```", *commands, "```"] if commands else []
    return "\n".join([*lines, *shown])


def _trained_further(curves: pd.DataFrame) -> list[str]:
    """What became of the run after the step that ships, where it was logged under a name of its own."""
    table = curves[curves["model"] == FURTHER]
    if table.empty:
        return []
    last = table.sort_values("step").groupby("quantity").last()
    shipped = curves[(curves["model"] == "dit") & (curves["quantity"] == "probe_target")].iloc[-1]
    return [
        _wrapped(
            f"The run went on to step {last['step'].max():,}, in its later part on pictures of {IMAGE_SIZE} pixels. "
            f"Its loss fell to {last.at['loss', 'value']:.3f}, but words pointed at their objects less often: on 100 "
            f"validation scenes, read in one fixed way, {shipped['value']:.2f} at step {shipped['step']:,} and "
            f"{last.at['probe_target', 'value']:.2f} at the end. So the earlier weights ship."
        )
    ]


def _grounding_text(grounding: Result, settings: Result, *, of: str = "scenes") -> str:
    configuration = grounding.provenance.configuration
    passed = grounding["summary"].query("source == 'model' and kind == 'all'")["passed"].item()
    searched = settings.provenance.configuration["items"]
    return _wrapped(
        f"{configuration['items']} held-out test {of} of three objects, in which target and a distractor share an "
        "attribute; attribute and location expressions half and half. The point is the largest value of the heatmap of "
        f"the content words, read as a search on {2 * searched} validation {of} chose: "
        f"`{configuration['settings']}`. Beside it the same transformer with random weights, the expression of another "
        f"of the {of}, and a random point; 95 % bootstrap intervals over {of}. The rule, on the target at least "
        f"{LEAST_TARGET} and at least {LEAST_RATIO:g} times as often as on the likelier distractor, is "
        f"{'met' if passed else 'not met'}."
    )


def _grounding_table(summary: pd.DataFrame, *, of: str = "scenes") -> str:
    columns = {"source": "points from", "kind": "expressions", "items": of}
    return _table(summary, columns, ["target", "likelier_distractor"])


def _motion(motion: Result) -> list[str]:
    about = motion.provenance.configuration
    text = (
        f"{about['clips']} other test clips, each shown in four ways with the same first frame: as it is, with every "
        "object moving the other way, with the first frame held, and that frame alone. A *moving* expression would do "
        "without the motion that it names; of a *direction* expression only the motion tells which of several objects "
        "is meant, and the others that its look fits are the rivals. 95 % bootstrap intervals over clips."
    )
    rows = motion["summary"].query("kind in ('moving', 'direction')")
    columns = {"kind": "expressions", "shown": "shown", "clips": "clips"}
    drawn = (
        "Clips drawn from captions that name the motion of one object, and which way a judge that never sees the "
        "caption sees it go:"
    )
    ways = _table(motion["drawn_summary"], {"measure": "", "clips": "clips"}, ["share"])
    return ["## Motion", _wrapped(text), _table(rows, columns, ["target", "rival"]), _wrapped(drawn), ways]


def _following(followed: Result) -> list[str]:
    about = followed.provenance.configuration
    text = (
        f"{about['clips']} test clips of 24 frames with expressions of all kinds: the object is followed from the "
        "model's point in the first frame, or from a point inside the target (*point inside*), with the embedded "
        "segmenter. *On target*: the clips whose first point is. *First mask*: the first frame's mask, kept."
    )
    columns = {"source": "points from", "condition": "clips with", "scenes": "clips"}
    return ["## Following", _wrapped(text), _table(followed["headline"], columns, ["jf"])]


def _drawing(generation: Result, *, also: str = "") -> list[str]:
    table = _table(generation["summary"], {"measure": "", "pictures": "pictures"}, ["share"])
    return ["## Drawing", _drawing_text(generation, also), table]


def _drawing_text(generation: Result, also: str) -> str:
    configuration = generation.provenance.configuration
    return _wrapped(
        f"{configuration['captions']} captions of held-out scenes of one object, drawn in {configuration['steps']} "
        f"steps with guidance {configuration['guidance']:g}. A judge that never sees the caption finds the object and "
        "names the colour of its pixels; a colour fills the object when more than "
        f"{configuration['filled']:.0%} of them have it. A small classifier that was trained on true scenes names its "
        f"shape.{also}"
    )


def _wrapped(text: str) -> str:
    return textwrap.fill(text, 120, break_long_words=False, break_on_hyphens=False)


def _table(rows: pd.DataFrame, plain: Mapping[str, str], shares: Sequence[str]) -> str:
    """Markdown: plain columns under their titles, then shares with their intervals."""
    titles = [*plain.values(), *(name.replace("_", " ") for name in shares)]
    lines = [titles, ["---"] * len(titles)]
    for row in rows.to_dict("records"):
        lines.append([*(_plain(row[name]) for name in plain), *(_with_interval(row, name) for name in shares)])
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _plain(value: Any) -> str:
    if isinstance(value, float):
        return "" if math.isnan(value) else f"{value:.2f}"
    return str(value).replace("_", " ")


def _with_interval(row: Mapping[Any, Any], name: str) -> str:
    low, high = (row.get(f"{name}_{end}", row.get(end, math.nan)) for end in ("low", "high"))
    interval = "" if math.isnan(low) else f" ({low:.3f} to {high:.3f})"
    return f"{row[name]:.3f}{interval}"


def _made(*results: Result) -> str:
    commands = "\n".join(result.provenance.command for result in results)
    one = results[0].provenance
    return (
        f"Measured on {one.date[:10]} with PyTorch {one.versions['torch']} and diffusers {one.versions['diffusers']}; "
        f"made again by\n\n```\n{commands}\n```"
    )


def main(
    results: Annotated[Path, typer.Option(help="Folder of the results.")] = RESULTS,
    weights: Annotated[Path, typer.Option(help="Folder of the embedded weights.")] = SHIPPED_WEIGHTS,
) -> None:
    """Write the model cards of the embedded weights."""
    cards = {}
    for model, folder in EMBEDDED_MODELS.items():
        loaded = {name: load_result(name, results=results_of(model, results), weights=weights) for name in _USED[model]}
        if model == "embedded-video":
            defaults = json.loads((weights / folder / "refam.json").read_text(encoding="utf-8"))
            cards[folder] = video_card(loaded, defaults)
        else:
            cards[folder] = transformer_card(loaded, model)
        if SEGMENTER in loaded:
            cards[EMBEDDED_SEGMENTERS[model]] = segmenter_card(loaded)
    for folder, card in cards.items():
        (weights / folder / "README.md").write_text(card, encoding="utf-8")
        print(weights / folder / "README.md")


if __name__ == "__main__":
    typer.run(main)
