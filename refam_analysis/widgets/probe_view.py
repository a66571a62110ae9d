"""What of an answer is shown: its tokens in groups, the matrix of blocks and tokens, and the map that is picked.

All of it is read from recordings that are there; no forward pass runs here, and nothing is drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import groupby

import numpy as np
from numpy.typing import NDArray

from refam_analysis.analysis.positions import positions
from refam_analysis.analysis.received import received_by_key
from refam_analysis.prompts import Token
from refam_analysis.recording import QuantityMissingError, Recording
from refam_analysis.segmentation import HeatmapSettings, heatmap, token_maps
from refam_analysis.segmentation.heatmap import site_weights
from refam_analysis.widgets.probe_answer import Answer
from refam_analysis.widgets.probe_state import MEASURES, Measure, View

Floats = NDArray[np.float64]

_IN_GROUPS = ("padding", "template")
"""Kinds of which there may be hundreds in a row: such a run is shown as one."""


@dataclass(frozen=True)
class TokenGroup:
    """A token of the sentence, or a run of padding, as it is shown.

    Attributes:
        name: no two of one sentence alike; the same in another sentence for the same word, so that a choice carries
            over.
        text: as the encoder reads it.
        kind: of its tokens.
        places: along the ``token`` axis.
        sink_blocks: blocks in which it is a sink.
        handled: whether something is done about that.
    """

    name: str
    text: str
    kind: str
    places: tuple[int, ...]
    sink_blocks: tuple[int, ...] = ()
    handled: bool = False


@dataclass(frozen=True)
class Shown:
    """The map that is picked, with what a reader is told about it.

    Attributes:
        values: float64 (y, x), not negative.
        title: what it is.
        is_heatmap: whether it is the heatmap that the point was taken from.
    """

    values: Floats
    title: str
    is_heatmap: bool


class AnswerView:
    """Everything that is shown of one answer; what is expensive is computed once.

    Args:
        answer: from an :class:`~refam_analysis.widgets.probe_answer.Answerer`.
    """

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self._matrices: dict[Measure, Floats] = {}

    @cached_property
    def blocks(self) -> list[int]:
        """Their numbers."""
        return [int(number) for number in self._first.dataset["block"].values]

    @property
    def heads(self) -> int:
        """How many every block has."""
        return int(self._first.dataset.sizes["head"])

    @cached_property
    def groups(self) -> tuple[TokenGroup, ...]:
        """The tokens of the sentence, in order, with runs of padding as one."""
        table = self.answer.sinks
        table = table[table["is_sink"] & (table["side"] == "text")] if len(table) else table
        start = self._first.layout.text.start
        found = []
        for group in grouped(self._first.tokens):
            own = table[table["position"].isin([start + place for place in group.places])] if len(table) else table
            blocks = tuple(sorted({int(block) for block in own["block"]})) if len(own) else ()
            handled = bool(len(own) and "handled" in own and own["handled"].any())
            found.append(replace(group, sink_blocks=blocks, handled=handled))
        return tuple(found)

    @cached_property
    def image_sinks(self) -> int:
        """How many patches of the picture are sinks in some block."""
        table = self.answer.sinks
        return int(table.loc[table["is_sink"] & (table["side"] == "image"), "position"].nunique()) if len(table) else 0

    @cached_property
    def measures(self) -> tuple[Measure, ...]:
        """What the matrix can show of this model."""
        names = [(measure, measure.replace(" ", "_")) for measure in MEASURES]
        return tuple(measure for measure, name in names if name in self.answer.masses)

    def matrix(self, measure: Measure) -> Floats:
        """The values of every block, head and group in the first noise draw, averaged over the tokens of a group.

        Args:
            measure: one of :attr:`measures`.

        Returns:
            (block, head, group). Received mass: 1 is what uniform attention gives. Entropy: in nats.

        Raises:
            QuantityMissingError: the model does not have it.
        """
        if measure not in self._matrices:
            values = _of_tokens(self.answer.masses, measure)
            members = [values[..., list(group.places)].mean(-1) for group in self.groups]
            self._matrices[measure] = np.stack(members, axis=-1)
        return self._matrices[measure]

    @cached_property
    def sites(self) -> Floats:
        """How much each block and head weighs in the heatmap: (block, head), sums to 1."""
        return site_weights(self._first, [self.answer.settings])[0].numpy().astype(np.float64)

    def shown(self, view: View) -> Shown:
        """The map that a view picks: of one token or of the sentence, in one block and head or as it is read.

        Args:
            view: its token may be one that this sentence does not have; then the sentence's own map is shown.
        """
        group = self.group(view.token)
        settings, where = self._site(view)
        if group is None:
            values = self._heatmap(settings)
            title = f"Heatmap of the sentence, {where}"
        else:
            maps = self.answer.result.stages["token_maps"]
            if settings is not None:
                maps = token_maps(self.answer.recordings, settings)
            frame = maps.isel(frame=0) if "frame" in maps.dims else maps
            values = frame.values[list(group.places)].mean(0)
            title = f"Map of “{group.text}”, {where}"
        return Shown(np.asarray(values, dtype=np.float64), title, group is None and settings is None)

    def group(self, name: str | None) -> TokenGroup | None:
        """The group of this name; None where there is none."""
        return next((group for group in self.groups if group.name == name), None)

    def _site(self, view: View) -> tuple[HeatmapSettings | None, str]:
        """The settings that read one block or head alone, and what they are called; None for all as they are read."""
        if view.block is None or view.block not in self.blocks:
            return None, "as it is read"
        block, base = int(view.block), self.answer.settings
        if view.head is None or not 0 <= view.head < self.heads:
            return replace(base, blocks=(block,), heads=None), f"block {block}, mean of its heads"
        return replace(base, blocks=None, heads=((block, view.head),)), f"block {block}, head {view.head}"

    def _heatmap(self, settings: HeatmapSettings | None) -> Floats:
        found = self.answer.result.heatmap if settings is None else heatmap(self.answer.recordings, settings)
        return (found.isel(frame=0) if "frame" in found.dims else found).values

    @property
    def _first(self) -> Recording:
        return self.answer.recordings[0]


def grouped(tokens: Sequence[Token]) -> Iterator[TokenGroup]:
    """The tokens as they are shown: each alone, and a run of padding or of a template as one.

    A magnet's name says that it is one, since the expression may hold the same word; a repeated one is numbered.
    """
    seen: Counter[str] = Counter()
    places = iter(range(len(tokens)))
    for (kind, _, _), run in groupby(tokens, key=lambda t: (t.kind, t.encoder, None if t.kind in _IN_GROUPS else t)):
        members = list(run)
        own = tuple(next(places) for _ in members)
        text = members[0].text if len(members) == 1 else f"{kind} ×{len(members)}"
        base = f"{kind} {text}" if kind == "magnet" else kind if kind in _IN_GROUPS else text
        seen[base] += 1
        name = base if seen[base] == 1 else f"{base} ({seen[base]})"
        yield TokenGroup(name, text, kind, own)


def _of_tokens(recording: Recording, measure: Measure) -> Floats:
    """(block, head, token) of one recording: received mass of the text keys, or entropy of the text queries."""
    if measure == "entropy":
        values, axis = recording["entropy"], "query"
    else:
        values, axis = received_by_key(recording, from_queries="text" if measure.endswith("text") else "image"), "key"
    text = np.flatnonzero(positions(values, axis)["side"] == "text")  # type: ignore[arg-type]
    if len(text) != len(recording.tokens):
        raise QuantityMissingError(measure, "this model's text has no row or column of it for every token.")
    return values.isel(branch=0).mean("step").isel({axis: text}).values.astype(np.float64)
