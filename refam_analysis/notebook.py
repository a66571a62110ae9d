"""What every notebook of the book begins with: the model that the reader chose, one look, figures as files on request.

Names in the environment decide: ``REFAM_MODEL``, the model to look at (a hub id or a folder; the embedded one when
it is not set); ``REFAM_SCENES``, the most scenes that a statistic takes; ``REFAM_BUNDLES``, results of other models to
draw beside it; and ``REFAM_FIGURES``, a folder that figures are also written to. What notebooks compute and draw is in
the other rooms.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure

from refam_analysis.errors import RefamError
from refam_analysis.figures.style import figure_style
from refam_analysis.figures.vectors import RESOLUTION, draw_vectors_in_notebook

if TYPE_CHECKING:
    from refam_analysis.experiments.bundle import Bundle
    from refam_analysis.models import DiffusionModel

__all__ = [
    "OtherModels",
    "VariableError",
    "open_model",
    "other_models",
    "save_figure",
    "scenes_wanted",
    "spread",
    "use_style",
]

MODEL_VARIABLE = "REFAM_MODEL"
SCENES_VARIABLE = "REFAM_SCENES"
BUNDLES_VARIABLE = "REFAM_BUNDLES"
FIGURES_VARIABLE = "REFAM_FIGURES"
FIGURE_FORMATS = ("png", "pdf")


class VariableError(RefamError, ValueError):
    """A name in the environment has a value that means nothing."""


@dataclass(frozen=True)
class OtherModels:
    """Results of other models, to be drawn beside those of the model that a notebook looks at.

    At the end of a cell it says in words which models are there, or how to get one.

    Attributes:
        bundles: by the name that figures write.
        beside: the name of the notebook's model.
    """

    bundles: Mapping[str, Bundle]
    beside: str

    def table(self, name: str) -> dict[str, pd.DataFrame]:
        """One table of the phenomena, by model; a model that cannot have it is left out.

        Args:
            name: see :func:`refam_analysis.experiments.phenomena.phenomena`.
        """
        return {
            label: bundle.phenomena[name] for label, bundle in self.bundles.items() if name in bundle.phenomena.tables
        }

    def ledger(self, name: str) -> dict[str, pd.DataFrame]:
        """One table of the ledger of claims, by model.

        Args:
            name: see :func:`refam_analysis.experiments.claims.ledger.run`.
        """
        return {label: bundle.ledger[name] for label, bundle in self.bundles.items()}

    def verdicts(self, claims: Sequence[str]) -> str:
        """What the ledgers say of some claims of the paper, as a table in Markdown.

        Args:
            claims: such as ``["C1", "C2"]``.

        Returns:
            A line a claim; a column a model, the embedded one first, with the verdict and how many of the claim's
            criteria passed.
        """
        from refam_analysis.experiments.provenance import load_result

        ledgers = {"embedded": load_result("claims")["verdicts"], **self.ledger("verdicts")}
        cells = {name: _verdicts(table.set_index("claim").loc[list(claims)]) for name, table in ledgers.items()}
        texts = ledgers["embedded"].set_index("claim")["text"]
        lines = [f"| | claim | {' | '.join(ledgers)} |", "|---" * (len(ledgers) + 2) + "|"]
        lines += [f"| {claim} | {texts[claim]} | {' | '.join(cells[n][claim] for n in ledgers)} |" for claim in claims]
        return "\n".join(lines)

    def _repr_markdown_(self) -> str:
        if not self.bundles:
            return (
                f"**No other model is shown on this page:** all figures are of *{self.beside}*. On a machine with a "
                "GPU, `refam claims --model black-forest-labs/FLUX.1-dev --out results/flux-claims` and then `refam "
                "bundle --model black-forest-labs/FLUX.1-dev --ledger results/flux-claims --out results/flux` make a "
                "folder of at most 20 MB. With it in `results/`, or named by `REFAM_BUNDLES`, that model appears here "
                "beside this one."
            )
        lines = [
            f"**Beside *{self.beside}*** this page shows other models, from bundles that were made beforehand. A panel "
            "or a row with one of these names is that model's:",
            "",
        ]
        models = [_line(label, bundle) for label, bundle in self.bundles.items()]
        joining = "Another model joins them with `refam claims --model ...` and then `refam bundle --model ...`."
        return "\n".join([*lines, *models, "", joining])


def open_model() -> DiffusionModel:
    """The model that ``REFAM_MODEL`` names, or the embedded one.

    The embedded model is computed on the CPU, as in the book; another one on a GPU where PyTorch sees one.

    Returns:
        The model, without a bar over its denoising steps.

    Raises:
        ModelFolderError and others: as :func:`refam_analysis.load_model`.

    >>> open_model().name
    'embedded'
    """
    from refam_analysis.models import load_model, usual_device

    source = os.environ.get(MODEL_VARIABLE) or "embedded"
    model = load_model(source, device=usual_device(source))
    model.pipeline.set_progress_bar_config(disable=True)  # a page has no use for it
    return model


def other_models(beside: str = "embedded") -> OtherModels:
    """The bundles among the results, and those that ``REFAM_BUNDLES`` names: one, or a folder of several.

    Args:
        beside: name of the model that the notebook looks at.

    Returns:
        As many as there are; none is no error.

    Raises:
        BundleError: one is damaged or of another format, or the named folder has none.
    """
    from refam_analysis.experiments.bundle import ABOUT, BundleError, bundles, open_bundle, short_name

    found = bundles()
    if wanted := os.environ.get(BUNDLES_VARIABLE):
        folder = Path(wanted).expanduser()
        named = [open_bundle(folder)] if (folder / ABOUT).is_file() else bundles(folder)
        if not named:
            raise BundleError(f"{BUNDLES_VARIABLE} names {wanted!r}, which is no bundle and has none in it.")
        found += [bundle for bundle in named if bundle.folder.resolve() not in {b.folder.resolve() for b in found}]
    labels = [bundle.label for bundle in found]
    taken = [label for label in labels if labels.count(label) > 1] + [short_name(beside)]
    named_by = {f"{b.label} ({b.name})" if b.label in taken else b.label: b for b in found}
    return OtherModels(named_by, short_name(beside))


def scenes_wanted(usual: int) -> int:
    """How many scenes a statistic takes: what its text was written for, or fewer, where ``REFAM_SCENES`` says so.

    With a large model, or for a first look, fewer scenes do; intervals grow, and what needs many to be called is not.

    Args:
        usual: how many the book takes.

    Returns:
        That number, or a smaller one.

    Raises:
        VariableError: ``REFAM_SCENES`` is no number from 2 on.

    >>> scenes_wanted(40) <= 40
    True
    """
    wanted = os.environ.get(SCENES_VARIABLE) or str(usual)
    if not wanted.isdecimal() or int(wanted) < 2:
        raise VariableError(f"{SCENES_VARIABLE} is {wanted!r}: give a number of scenes, 2 or more.")
    return min(usual, int(wanted))


def use_style() -> None:
    """Draw every figure from here on in the library's look; in a notebook as vectors."""
    with figure_style():
        chosen = {name: value for name, value in mpl.rcParams.items() if not name.startswith("backend")}
    mpl.rcParams.update({**chosen, "figure.dpi": RESOLUTION})
    if "IPython" in sys.modules:
        draw_vectors_in_notebook()


def save_figure(figure: Figure, name: str) -> None:
    """Write a figure to the folder that ``REFAM_FIGURES`` names; do nothing where it is not set.

    Args:
        figure: to write, once as a picture and once as vectors.
        name: of the files, without an ending.
    """
    wanted = os.environ.get(FIGURES_VARIABLE)
    if not wanted:
        return
    folder = Path(wanted).expanduser()
    folder.mkdir(parents=True, exist_ok=True)
    for ending in FIGURE_FORMATS:
        figure.savefig(folder / f"{name}.{ending}")


def spread(number: int, most: int) -> list[int]:
    """At most so many of the numbers from 0 on, evenly spaced, for models with more blocks than a page has room for.

    Args:
        number: how many there are.
        most: how many to choose; with at least two, the first and the last are among them.

    Returns:
        Those numbers, rising.

    >>> spread(57, 4), spread(3, 6)
    ([0, 19, 37, 56], [0, 1, 2])
    """
    chosen = min(number, most)
    return [round(index * (number - 1) / max(chosen - 1, 1)) for index in range(chosen)]


def _verdicts(rows: pd.DataFrame) -> dict[str, str]:
    """Claim -> its verdict in words."""
    return {
        str(row.Index): f"{row.verdict} ({row.passed} of {row.tested} criteria)" if row.tested else str(row.verdict)
        for row in rows.itertuples()
    }


def _line(label: str, bundle: Bundle) -> str:
    made = bundle.phenomena.provenance
    revision = f", revision `{bundle.revision}`" if bundle.revision else ""
    return (
        f"- *{label}*: `{_public(bundle.model)}`{revision}; {made.configuration['scenes']} scenes for the figures and "
        f"{bundle.ledger.provenance.configuration['scenes']} for the ledger, packed on {made.date[:10]} "
        f"(bundle `{bundle.name}`)."
    )


def _public(model: str) -> str:
    """A hub id as it is; of a folder, its name alone."""
    return model if model.count("/") == 1 and not model.startswith((".", "/", "~")) else Path(model).name
