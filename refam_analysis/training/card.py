"""The model cards of the embedded weights: ``python -m refam_analysis.training.card`` writes them from the results.

Every number in a card is read from ``results/``, which is refused when it was made with other weights.
"""

from __future__ import annotations

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
from refam_analysis.experiments.learning import FURTHER, logged_numbers, training_commands, training_hours
from refam_analysis.experiments.learning import NAME as LEARNING
from refam_analysis.experiments.provenance import RESULTS, SHIPPED_WEIGHTS, Result, load_result, results_of
from refam_analysis.experiments.segmenter import NAME as SEGMENTER
from refam_analysis.experiments.settings import NAME as SETTINGS
from refam_analysis.experiments.styles import style_in
from refam_analysis.models.loading import EMBEDDED_MODELS
from refam_analysis.scenes.sampling import Style
from refam_analysis.training.assembly import IMAGE_SIZE
from refam_analysis.training.dit import CONFIGURATIONS

_DIT_INTRODUCTION = {
    "embedded": """
# The embedded diffusion transformer

A small FLUX that draws scenes of coloured shapes from sentences, made to look into: it trains in hours on a CPU, runs
everywhere, and its attention can be compared with an exact truth.
""",
    "embedded-rich": """
# The embedded diffusion transformer of rich scenes

A small FLUX of twelve blocks that draws shaded, textured scenes from sentences. It is deeper than the other model of
this package and its scenes are harder, so that depth, materials and occlusion can be looked at.
""",
}
_DIT_FOLDER = """
It is a folder that diffusers' `FluxPipeline.from_pretrained` reads; `refam_analysis.load_model("{model}")` adds its own
picture size (96 x 96) and prompt length (32 tokens), which a bare call of the pipeline would miss.
"""

_DIT_DATA: dict[Style, str] = {
    "plain": """
## Data

The diagnostic scenes of this repository (`refam_analysis.scenes`), drawn by a seeded program: one to four objects of
8 colours, 6 shapes and 2 sizes on 4 backgrounds, with captions of one, some or all objects, with and without place.
Six pairs of colour and shape never occur in training. No pictures or texts from elsewhere were used, except that the
tokenizers learnt their word pieces from Python's own language reference.
""",
    "rich": """
## Data

The rich diagnostic scenes of this repository (`refam_analysis.scenes`), drawn by a seeded program: one to six objects
of 8 colours, 12 shapes, 2 sizes and 4 materials on 10 textures, some partly hidden; with captions of one, some or all
objects, with and without place, in synonyms too, with relations and superlatives. Twelve pairs of colour and shape and
one synonym of every word never occur in training. No pictures or texts from elsewhere were used, except that the
tokenizers learnt their word pieces from Python's own language reference.
""",
}
"""By the style of the scenes that the model was measured on, which are those that it says it knows."""

_DIT_TRAINING = """
Flow matching with a velocity target, and nothing else: no mask, no expression's target and no attention map was seen.
The autoencoder was trained first, then transformer and text encoders together. The weights are a running average,
stored in half precision and computed in float32.
"""

_DIT_LIMITS = """
## Limits

It knows its scenes and their words, not photographs. Words beyond them fall into pieces that mean nothing to it. It has
{blocks} blocks; what its attention does need not hold for a large model. Grounding was measured with one way of reading
heatmaps, chosen on validation scenes; other ways give other numbers.
"""

_SAM_INTRODUCTION = """
# The embedded segmenter

A small SAM: segment-anything's own `Sam` class, trained from scratch on scenes of coloured shapes, for use through
segment-anything's own `SamPredictor`. `refam_analysis.segmentation.load_segmenter("embedded")` loads it.

## Data

The {scenes} of this repository (`refam_analysis.scenes`), drawn by a seeded program: {objects} objects,
some partly hidden, with exact masks. Each object is asked for by one point drawn uniformly inside its visible part.
"""
_SAM_DATA: dict[Style, dict[str, str]] = {
    "plain": {"scenes": "diagnostic scenes", "objects": "one to four"},
    "rich": {"scenes": "rich diagnostic scenes", "objects": "two to six"},
}

_SAM_TRAINING = """
SAM's own loss: focal and dice on the best of three candidate masks, squared error of the predicted IoU. The weights are
a running average, stored in half precision and computed in float32.
"""

_SAM_LIMITS = """
## Limits

It knows the scenes, not photographs, and answers to a single point; boxes and mask prompts were not trained. Its masks
are drawn on a grid of 64 x 64 and enlarged to 96 x 96.
"""


def transformer_card(results: Mapping[str, Result], model: str = "embedded") -> str:
    """The card of one of the transformers that ship.

    Args:
        results: by name: grounding, settings, learning; and generation, where drawing was measured.
        model: its name, as :func:`refam_analysis.load_model` takes it.
    """
    grounding, learning = results[GROUNDING], results[LEARNING]
    ratio = logged_numbers(learning["log"], "autoencoder").get("psnr")
    rebuilt = [f"Peak signal-to-noise ratio of rebuilt held-out pictures: {ratio:.1f} dB."] if ratio else []
    return _card(
        "diffusers",
        [
            _DIT_INTRODUCTION[model],
            _DIT_FOLDER.format(model=model),
            _DIT_DATA[style_in(grounding.provenance.configuration)],
            "## Training",
            _DIT_TRAINING,
            _training(learning, {"autoencoder": "Autoencoder", "dit": "Transformer and text encoders"}),
            *_trained_further(learning["curves"]),
            *rebuilt,
            "## Grounding",
            _grounding_text(grounding, results[SETTINGS]),
            _grounding_table(grounding["summary"]),
            *(_drawing(results[GENERATION]) if GENERATION in results else []),
            _made(*(results[name] for name in (GROUNDING, GENERATION) if name in results)),
            _DIT_LIMITS.format(blocks=_blocks(learning)),
        ],
    )


def segmenter_card(results: Mapping[str, Result]) -> str:
    """The card of embedded-sam.

    Args:
        results: by name: segmenter, learning.
    """
    segmenter = results[SEGMENTER]
    configuration = segmenter.provenance.configuration
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
            _SAM_INTRODUCTION.format(**_SAM_DATA[style_in(configuration)]),
            "## Training",
            _SAM_TRAINING,
            _training(results[LEARNING], {"sam": "Segmenter"}),
            "## Masks from clicks",
            _wrapped(text),
            _table(segmenter["summary"], columns, ["iou"]),
            _made(segmenter),
            _SAM_LIMITS,
        ],
    )


def _blocks(learning: Result) -> str:
    """How many the trained configuration has, in words where there is one."""
    named = (command.partition("--configuration ")[2].split() for command in training_commands(learning["log"]))
    chosen = CONFIGURATIONS[next((words[0] for words in named if words), "small")]
    number = chosen.double_blocks + chosen.single_blocks
    return {6: "six", 12: "twelve"}.get(number, str(number))


def _card(library: str, parts: Sequence[str]) -> str:
    header = f"---\nlicense: apache-2.0\nlibrary_name: {library}\n---"
    return "\n\n".join([header, *(part.strip() for part in parts)]) + "\n"


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


def _grounding_text(grounding: Result, settings: Result) -> str:
    configuration = grounding.provenance.configuration
    passed = grounding["summary"].query("source == 'model' and kind == 'all'")["passed"].item()
    searched = settings.provenance.configuration["items"]
    return _wrapped(
        f"{configuration['items']} held-out test scenes of three objects, in which target and a distractor share an "
        "attribute; attribute and location expressions half and half. The point is the largest value of the heatmap of "
        f"the content words, read as a search on {2 * searched} validation scenes chose: "
        f"`{configuration['settings']}`. Beside it the same transformer with random weights, the expression of another "
        "scene, and a random point; 95 % bootstrap intervals over scenes. The rule, on the target at least "
        f"{LEAST_TARGET} and at least {LEAST_RATIO:g} times as often as on the likelier distractor, is "
        f"{'met' if passed else 'not met'}."
    )


def _grounding_table(summary: pd.DataFrame) -> str:
    columns = {"source": "points from", "kind": "expressions", "items": "scenes"}
    return _table(summary, columns, ["target", "likelier_distractor"])


def _drawing(generation: Result) -> list[str]:
    table = _table(generation["summary"], {"measure": "", "pictures": "pictures"}, ["share"])
    return ["## Drawing", _drawing_text(generation), table]


def _drawing_text(generation: Result) -> str:
    configuration = generation.provenance.configuration
    return _wrapped(
        f"{configuration['captions']} captions of held-out scenes of one object, drawn in {configuration['steps']} "
        f"steps with guidance {configuration['guidance']:g}. A judge that never sees the caption finds the object and "
        "names the colour of its pixels; a colour fills the object when more than "
        f"{configuration['filled']:.0%} of them have it. A small classifier that was trained on true scenes names its "
        "shape."
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
        place = results_of(model, results)
        names = (SETTINGS, GROUNDING, LEARNING, GENERATION, *((SEGMENTER,) if model == "embedded" else ()))
        loaded = {name: load_result(name, results=place, weights=weights) for name in names}
        cards[folder] = transformer_card(loaded, model)
        if SEGMENTER in loaded:
            cards["embedded-sam"] = segmenter_card(loaded)
    for folder, card in cards.items():
        (weights / folder / "README.md").write_text(card, encoding="utf-8")
        print(weights / folder / "README.md")


if __name__ == "__main__":
    typer.run(main)
