"""How well the embedded segmenter answers to a click into held-out scenes: by size, by occlusion, by its own guess."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from refam_analysis.evaluation.clicks import click_accuracy, click_summary
from refam_analysis.experiments.provenance import RESULTS, Parts, Result, Stopwatch, weights_sha256, write_result
from refam_analysis.experiments.styles import style_in, style_option
from refam_analysis.scenes.sampling import Style
from refam_analysis.segmentation.segmenters import EMBEDDED_SEGMENTERS
from refam_analysis.segmentation.segmenters.embedded import load_embedded_sam, scenes_of_segmenter
from refam_analysis.weights import embedded_folder

NAME = "segmenter"


@dataclass(frozen=True)
class SegmenterTest:
    """What is measured.

    Attributes:
        scenes: of the test split, for each occlusion.
        seed: of the clicks.
        occlusions: probabilities that an object may stand partly behind another. The first is what is reported.
        style: of the scenes; None for those that the segmenter was trained on.
    """

    scenes: int = 500
    seed: int = 0
    occlusions: tuple[float, ...] = (0.0, 0.5)
    style: Style | None = None

    @property
    def command(self) -> str:
        """Makes the result again."""
        return f"refam experiment {NAME} --items {self.scenes} --seed {self.seed}{style_option(self.style)}"


def run(
    test: SegmenterTest | None = None, *, folder: Path | None = None, results: Path = RESULTS, progress: bool = False
) -> Result:
    """Measure and write the result.

    Args:
        test: None for the one that is reported.
        folder: of the segmenter; None for the embedded one.
        results: the folder of all results.
        progress: show bars.

    Returns:
        The tables ``clicks`` and ``summary`` of :mod:`refam_analysis.evaluation.clicks`, each with the column
        ``occlusion`` of the scenes.
    """
    test, folder = test or SegmenterTest(), folder or embedded_folder("embedded-sam")
    watch, weights = Stopwatch(), weights_sha256(folder)
    style = test.style or scenes_of_segmenter(folder)
    configuration = {**dataclasses.asdict(test), "style": style}
    parts = Parts(results.parent / ".cache", NAME, {**configuration, **weights})
    sam = load_embedded_sam(folder)

    def clicks(occlusion: float) -> pd.DataFrame:
        return click_accuracy(
            sam, scenes=test.scenes, occlusion=occlusion, seed=test.seed, style=style, progress=progress
        )

    measured = {level: parts.keep(f"occlusion-{level:g}", partial(clicks, level)) for level in test.occlusions}
    tables = {
        "clicks": _joined(measured),
        "summary": _joined({level: click_summary(table) for level, table in measured.items()}),
    }
    provenance = watch.provenance(test.command + _option(folder), configuration, weights)
    result = write_result(NAME, tables, provenance, results=results)
    parts.forget()
    return result


def repeat(result: Result, *, folder: Path | None = None, first: int, number: int) -> pd.DataFrame:
    """Compute the clicks into some scenes again, of the first occlusion.

    Args:
        result: from :func:`run`.
        folder: of the segmenter that it was made with; None for the embedded one.
        first: number of the first scene.
        number: of scenes.

    Returns:
        Rows as in ``result["clicks"]``.
    """
    about = result.provenance.configuration
    occlusion = about["occlusions"][0]
    table = click_accuracy(
        load_embedded_sam(folder), scenes=number, first=first, occlusion=occlusion, seed=about["seed"],
        style=style_in(about),
    )  # fmt: skip
    return table.assign(occlusion=occlusion)


def _option(folder: Path) -> str:
    """What the command says where another of the segmenters that ship was measured than the first."""
    names = {place: name for name, place in EMBEDDED_SEGMENTERS.items() if name != "embedded"}
    return f" --segmenter {names[folder.name]}" if folder.name in names else ""


def _joined(tables: dict[float, pd.DataFrame]) -> pd.DataFrame:
    return pd.concat([table.assign(occlusion=level) for level, table in tables.items()], ignore_index=True)
