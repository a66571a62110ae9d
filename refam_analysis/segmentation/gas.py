"""What is done to global attention sinks (GAS) before a heatmap is read: nothing, suppression, or redirection.

Sinks are handled inside the forward pass. One pass looks for them, in the recording of one picture and sentence; the
passes that are read run with an :class:`~refam_analysis.recording.interventions.Intervention` on those tokens. What a
sink is, is decided in :mod:`refam_analysis.analysis.sinks`; what handling them does to predictions and maps is measured
in :mod:`refam_analysis.experiments.causal`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from refam_analysis.analysis.sinks import detect_sinks
from refam_analysis.errors import RefamError
from refam_analysis.models.base import DiffusionModel
from refam_analysis.models.images import ImageSource
from refam_analysis.prompts import Prompt
from refam_analysis.recording import Intervention, Recording, record_batch
from refam_analysis.recording.quantities import absent_from
from refam_analysis.segmentation.settings import Gas, HeatmapSettings

_TELLS_SINKS = ("received_from_text", "received_from_image", "uniformity_from_text", "uniformity_from_image")


class NoMagnetsError(RefamError, ValueError):
    """The mass of sinks should go onto magnets, and the prompt has none."""

    def __init__(self, expression: str) -> None:
        super().__init__(
            f"gas='redirect' moves the mass of sinks onto magnets, and the prompt of {expression!r} has none: colours "
            "that the expression names are left out of them. Append some, or choose gas='suppress'."
        )


@dataclass(frozen=True)
class SinkHandling:
    """The sinks of one picture and sentence, and what is done about them.

    Attributes:
        sinks: from :func:`~refam_analysis.analysis.sinks.detect_sinks` on a single recording, so exploratory, with the
            column ``handled``: whether the token is acted on. Empty where nobody looked.
        intervention: None where nothing is done.
    """

    sinks: pd.DataFrame
    intervention: Intervention | None


def handle_sinks(recording: Recording, gas: Gas) -> SinkHandling:
    """Decide from one recording which tokens are sinks, and what is done to them.

    - A sink is what :func:`~refam_analysis.analysis.sinks.detect_sinks` calls one by effects alone, with its default
      thresholds: one recording has no test.
    - All sinks are acted on together, in every block in which any of them is one. A recorder takes one set of tokens
      for all blocks that it changes.
    - Magnets are never acted on: they are there to draw attention, and the mass of the others goes to them.
    - Where every content word has a piece among the sinks, content words are left alone: without any of them
      there would be no map to read.
    - Where image queries attend to text and image apart, only text can be moved onto magnets, so image sinks stay.

    Args:
        recording: of the undisturbed pass, with received mass or full attention, and its tokens.
        gas: ``none``: nothing is looked for. ``suppress``: sinks are masked before the softmax, and a row's other keys
            share the mass in proportion, so a sink's own map is zero there. ``redirect``: their mass goes onto the
            magnets, to each the same share.

    Returns:
        The sinks, and the interventions that act on them; none where nothing is done.

    Raises:
        NoMagnetsError: ``redirect`` without magnets.

    Source: RefAM, section 3: GAS are suppressed, or their mass is redirected onto auxiliary tokens.
    """
    if gas == "none":
        return SinkHandling(pd.DataFrame(), None)
    start = recording.layout.text.start
    magnets = tuple(start + token.index for token in recording.tokens if token.kind == "magnet")
    if gas == "redirect" and not magnets:
        raise NoMagnetsError(str(recording.attrs.get("expression", "")))
    sinks = detect_sinks(recording)
    sinks["handled"] = sinks["is_sink"] & ~sinks["position"].isin(magnets)
    if gas == "redirect" and recording.layout.attention != "joint":
        sinks["handled"] &= sinks["side"] == "text"
    if _no_word_is_left(recording, sinks.loc[sinks["handled"], "position"].to_numpy()):
        sinks["handled"] &= sinks["kind"] != "content"
    chosen = sinks[sinks["handled"]]
    if chosen.empty:
        return SinkHandling(sinks, None)
    intervention = Intervention(
        keys=tuple(sorted(set(chosen["position"]))),
        how="redirect" if gas == "redirect" else "score",
        onto=magnets if gas == "redirect" else (),
        blocks=tuple(sorted(set(chosen["block"]))),
    )
    return SinkHandling(sinks, intervention)


def look_for_sinks(
    model: DiffusionModel,
    images: Sequence[ImageSource | Sequence[ImageSource]],
    prompts: Sequence[Prompt],
    settings: HeatmapSettings,
    *,
    seeds: Sequence[int],
) -> list[SinkHandling]:
    """Run the first pass, and decide for each item what is done about its sinks.

    Args:
        model: from ``load_model``.
        images: one an item.
        prompts: one an item.
        settings: ``gas`` says what is done, the noise levels where the pass looks; with "none" no pass runs.
        seeds: of each item's first noise draw, which alone is looked at.

    Returns:
        One an item, in their order.

    Raises:
        NoMagnetsError: ``redirect``, and a prompt without magnets.
    """
    if settings.gas == "none":
        return [SinkHandling(pd.DataFrame(), None)] * len(prompts)
    for prompt in prompts:
        if settings.gas == "redirect" and not prompt.magnets:
            raise NoMagnetsError(prompt.expression)
    absent = absent_from(model.family)
    recordings = record_batch(
        model, images, prompts, noise_level=settings.noise_levels, seeds=seeds,
        keep=[name for name in _TELLS_SINKS if name not in absent],
    )  # fmt: skip
    return [handle_sinks(recording, settings.gas) for recording in recordings]


def _no_word_is_left(recording: Recording, positions: NDArray[np.intp]) -> bool:
    """Whether every content word has a piece at one of these positions of the sequence."""
    start = recording.layout.text.start
    content = [token for token in recording.tokens if token.kind == "content"]
    taken = {token.word_index for token in content if start + token.index in set(positions.tolist())}
    return bool(taken) and taken == {token.word_index for token in content}
