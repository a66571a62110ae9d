"""``refam experiment``: the committed results of the embedded models, made again."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from refam_analysis.cli.options import SeedOption, StyleOption

ResultsOption = Annotated[Path | None, typer.Option(help="Folder of results; the repository's by default.")]

EmbeddedOption = Annotated[
    Literal["embedded", "embedded-rich", "embedded-video"],
    typer.Option(
        "--model", help="Of those that ship. Results of all but the first are kept in folders of their names."
    ),
]

experiment = typer.Typer(
    help="Make one of the committed results, of the embedded models, again; runs for minutes.", no_args_is_help=True
)


@experiment.command("settings")
def experiment_settings(
    items: Annotated[int, typer.Option(help="Validation scenes to find candidates on; as many choose.", min=1)] = 300,
    seed: SeedOption = 0,
    style: StyleOption = None,
    model: EmbeddedOption = "embedded",
    results: ResultsOption = None,
) -> None:
    """Search how heatmaps are best read, on validation scenes, and write it into the model's refam.json."""
    from refam_analysis.experiments import settings

    _make(settings.run, settings.SettingsSearch(items=items, seed=seed, style=style), results, "finalists", model)


@experiment.command("grounding")
def experiment_grounding(
    items: Annotated[int, typer.Option(help="Scenes of the test split.", min=1)] = 500,
    seed: SeedOption = 0,
    style: StyleOption = None,
    model: EmbeddedOption = "embedded",
    results: ResultsOption = None,
) -> None:
    """Count where the model's points fall on held-out scenes, beside the controls."""
    from refam_analysis.experiments import grounding

    _make(grounding.run, grounding.GroundingTest(items=items, seed=seed, style=style), results, "summary", model)


@experiment.command("generation")
def experiment_generation(
    items: Annotated[int, typer.Option(help="Captions of the test split.", min=1)] = 200,
    seed: SeedOption = 0,
    steps: Annotated[int | None, typer.Option(help="Of denoising; the model's own by default.")] = None,
    style: StyleOption = None,
    model: EmbeddedOption = "embedded",
    results: ResultsOption = None,
) -> None:
    """Draw pictures from held-out captions and judge their colours."""
    from refam_analysis.experiments import generation

    _make(
        generation.run,
        generation.GenerationTest(captions=items, seed=seed, steps=steps, style=style),
        results,
        "summary",
        model,
    )


@experiment.command("segmenter")
def experiment_segmenter(
    items: Annotated[int, typer.Option(help="Scenes of the test split.", min=1)] = 500,
    seed: SeedOption = 0,
    style: StyleOption = None,
    which: Annotated[
        Literal["embedded", "embedded-rich"],
        typer.Option("--segmenter", help="Of those that ship. Results of the second are kept in a folder of its name."),
    ] = "embedded",
    results: ResultsOption = None,
) -> None:
    """Click into every object of held-out scenes and measure the masks."""
    from refam_analysis.experiments import segmenter
    from refam_analysis.segmentation.segmenters import EMBEDDED_SEGMENTERS

    test = segmenter.SegmenterTest(scenes=items, seed=seed, style=style)
    _make(segmenter.run, test, results, "summary", which, EMBEDDED_SEGMENTERS)


@experiment.command("mask-choice")
def experiment_mask_choice(
    validation: Annotated[int, typer.Option(help="Scenes of the validation split, to choose on.", min=1)] = 300,
    items: Annotated[int, typer.Option(help="Scenes of the test split.", min=1)] = 500,
    seed: SeedOption = 0,
    style: StyleOption = None,
    model: EmbeddedOption = "embedded",
    results: ResultsOption = None,
) -> None:
    """Choose among the segmenter's masks by its own score, and by agreement with the heatmap, and compare."""
    from refam_analysis.experiments import mask_choice

    test = mask_choice.MaskChoiceTest(validation=validation, test=items, seed=seed, style=style)
    _make(mask_choice.run, test, results, "summary", model)


@experiment.command("calibration")
def experiment_calibration(
    level_sets: Annotated[int, typer.Option(help="Data sets without sinks, of each pattern.", min=1)] = 120,
    power_sets: Annotated[int, typer.Option(help="Data sets with a planted sink, of each strength.", min=1)] = 90,
    seed: SeedOption = 0,
    results: ResultsOption = None,
) -> None:
    """Count the sink detector's false alarms on attention without sinks, and how often it finds planted ones."""
    from refam_analysis.experiments import calibration

    test = calibration.CalibrationTest(level_sets=level_sets, power_sets=power_sets, seed=seed)
    _make(calibration.run, test, results, "level")


@experiment.command("causal")
def experiment_causal(
    items: Annotated[int, typer.Option(help="Scenes of the test split.", min=1)] = 200,
    pictures: Annotated[int, typer.Option(help="Captions to draw.", min=0)] = 20,
    block: Annotated[list[int] | None, typer.Option(help="Act in this block; give several, or none for all.")] = None,
    seed: SeedOption = 0,
    style: StyleOption = None,
    model: EmbeddedOption = "embedded",
    results: ResultsOption = None,
) -> None:
    """Take sinks away from the model, and as many random tokens, and measure what changes."""
    from refam_analysis.experiments import causal

    blocks = tuple(sorted(set(block))) if block else None
    test = causal.CausalTest(scenes=items, pictures=pictures, blocks=blocks, seed=seed, style=style)
    _make(causal.run, test, results, "summary", model)


@experiment.command("magnets")
def experiment_magnets(
    items: Annotated[int, typer.Option(help="Scenes of the test split.", min=1)] = 300,
    seed: SeedOption = 0,
    style: StyleOption = None,
    model: EmbeddedOption = "embedded",
    results: ResultsOption = None,
) -> None:
    """Append magnets to the sentences, and what they are compared with, and measure what the heatmaps become."""
    from refam_analysis.experiments import magnets

    _make(magnets.run, magnets.MagnetTest(scenes=items, seed=seed, style=style), results, "contrasts", model)


@experiment.command("words")
def experiment_words(
    items: Annotated[int, typer.Option(help="Scenes of the test split.", min=1)] = 160,
    seed: SeedOption = 0,
    style: StyleOption = None,
    model: EmbeddedOption = "embedded",
    results: ResultsOption = None,
) -> None:
    """Ask in synonyms, in letters that are no word, and in longer sentences, and count points."""
    from refam_analysis.experiments import words

    _make(words.run, words.WordsTest(items=items, seed=seed, style=style), results, "summary", model)


@experiment.command("exchange")
def experiment_exchange(
    scenes: Annotated[int, typer.Option(help="Of two objects, from the test split.", min=1)] = 256,
    seed: SeedOption = 0,
    style: StyleOption = None,
    model: EmbeddedOption = "embedded",
    results: ResultsOption = None,
) -> None:
    """Exchange one thing in a caption after the other, and see how much the diffusion loss grows."""
    from refam_analysis.experiments import exchange

    _make(exchange.run, exchange.ExchangeTest(scenes=scenes, seed=seed, style=style), results, "summary", model)


@experiment.command("information")
def experiment_information(
    items: Annotated[int, typer.Option(help="Scenes of the test split, those of the grounding.", min=2)] = 500,
    seed: SeedOption = 0,
    style: StyleOption = None,
    model: EmbeddedOption = "embedded",
    results: ResultsOption = None,
) -> None:
    """Ask the model's errors where a sentence's object is, beside its attention: what it knows, and what it shows."""
    from refam_analysis.experiments import information

    test = information.InformationTest(items=items, seed=seed, style=style)
    _make(information.run, test, results, "summary", model)


@experiment.command("pipeline")
def experiment_pipeline(
    items: Annotated[
        int, typer.Option(help="Scenes of the test split, four kinds of sentences in turn.", min=2)
    ] = 2000,
    seed: SeedOption = 0,
    style: StyleOption = None,
    model: EmbeddedOption = "embedded",
    results: ResultsOption = None,
) -> None:
    """Run the whole pipeline on held-out scenes, beside its parts, a control and a point that knows."""
    from refam_analysis.experiments import pipeline

    test = pipeline.PipelineTest(items=items, seed=seed, style=style)
    _make(pipeline.run, test, results, "summary", model)


@experiment.command("video")
def experiment_video(
    items: Annotated[int, typer.Option(help="Clips of the test split.", min=1)] = 300,
    validation: Annotated[int, typer.Option(help="Clips to choose the settings of following on.", min=2)] = 48,
    seed: SeedOption = 0,
    style: StyleOption = None,
    model: EmbeddedOption = "embedded",
    results: ResultsOption = None,
) -> None:
    """Follow objects through moving scenes, from a sentence about the first frame."""
    from refam_analysis.experiments import video

    _make(
        video.run,
        video.VideoTest(clips=items, validation=validation, seed=seed, style=style),
        results,
        "headline",
        model,
    )


@experiment.command("motion")
def experiment_motion(
    items: Annotated[int, typer.Option(help="Clips of the test split.", min=6)] = 600,
    drawn: Annotated[int, typer.Option(help="Clips to draw.", min=2)] = 120,
    seed: SeedOption = 0,
    style: StyleOption = None,
    model: EmbeddedOption = "embedded-video",
    results: ResultsOption = None,
) -> None:
    """Ask a model of videos about motion, with and without the motion, and count points."""
    from refam_analysis.experiments import motion

    _make(motion.run, motion.MotionTest(clips=items, drawn=drawn, seed=seed, style=style), results, "summary", model)


@experiment.command("ablation")
def experiment_ablation(
    items: Annotated[int, typer.Option(help="Scenes of the test split.", min=1)] = 500,
    second: Annotated[str, typer.Option(help="Another segmenter, by name or folder.")] = "mobile-sam",
    second_items: Annotated[int, typer.Option(help="How many of the scenes it is given.", min=0)] = 100,
    seed: SeedOption = 0,
    style: StyleOption = None,
    model: EmbeddedOption = "embedded",
    results: ResultsOption = None,
) -> None:
    """Turn the switches of the method on and off, in every combination, and measure points and masks."""
    from refam_analysis.experiments import ablation

    test = ablation.AblationTest(scenes=items, second=second, second_scenes=second_items, seed=seed, style=style)
    _make(ablation.run, test, results, "effects", model)


@experiment.command("learning")
def experiment_learning(
    run: Annotated[Path | None, typer.Option(help="Working folder of the training; runs/embedded by default.")] = None,
    earlier: Annotated[list[Path] | None, typer.Option(help="Those of the runs before it, in their order.")] = None,
    further: Annotated[Path | None, typer.Option(help="That of a run that began with what ships.")] = None,
    model: EmbeddedOption = "embedded",
    results: ResultsOption = None,
) -> None:
    """Turn the training's log into learning curves."""
    from refam_analysis.experiments import learning
    from refam_analysis.experiments.provenance import results_of

    weights = learning.WEIGHTS[model]
    place = results or results_of(model)
    result = learning.run(run or learning.RUN, earlier=earlier or (), further=further, weights=weights, results=place)
    last = result["curves"].groupby(["model", "quantity"], sort=False).tail(1)
    typer.echo(last.to_string(index=False))


@experiment.command("all")
def experiment_all(results: ResultsOption = None) -> None:
    """Make all of them, one after the other, as they are reported."""
    for make in (experiment_settings, experiment_grounding, experiment_generation, experiment_segmenter):
        make(results=results)
    experiment_calibration(results=results)
    experiment_mask_choice(results=results)
    experiment_causal(results=results)
    experiment_magnets(results=results)
    experiment_words(results=results)
    experiment_exchange(results=results)
    experiment_information(results=results)
    experiment_pipeline(results=results)
    experiment_ablation(results=results)
    experiment_video(results=results)
    experiment_learning(results=results)


def _make(
    run: Any,
    configuration: Any,
    results: Path | None,
    table: str,
    model: str | None = None,
    folders: Mapping[str, str] | None = None,
) -> None:
    """Run an experiment, on one of the models (or of other ``folders``) where it is about them, and print a table."""
    from refam_analysis.experiments.provenance import results_of
    from refam_analysis.models.loading import EMBEDDED_MODELS
    from refam_analysis.weights import embedded_folder

    which = {} if model is None else {"folder": embedded_folder((folders or EMBEDDED_MODELS)[model])}
    result = run(
        configuration, results=results or results_of(model or "embedded"), progress=sys.stderr.isatty(), **which
    )
    typer.echo(result[table].round(3).to_string(index=False))
    typer.echo(f"{result.name}: {result.provenance.seconds:.0f} seconds")
