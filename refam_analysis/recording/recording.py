"""The result of recording: one image (or clip) and one prompt, as labelled arrays.

A :class:`Recording` wraps an xarray dataset, which may be in memory or on disk. How it is written and read is in
`storage`, how its axes are labelled in `labels`; nothing here runs a model.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from html import escape
from pathlib import Path
from typing import Any

import xarray as xr

from refam_analysis.errors import RefamError
from refam_analysis.models.layout import TokenLayout
from refam_analysis.prompts.tokens import Token
from refam_analysis.recording import storage
from refam_analysis.recording.labels import give_out, layout_from_json, tokens_of
from refam_analysis.recording.quantities import QUANTITIES, QuantityMissingError


class UnknownWordError(RefamError, KeyError):
    """A word that the prompt does not have."""

    def __init__(self, wanted: Sequence[str], words: Sequence[str]) -> None:
        missing = ", ".join(repr(word) for word in wanted)
        known = " ".join(words) or "(no words are known: the recording was made without tokens)"
        super().__init__(f"The prompt has no word {missing}. Its words are: {known}.")

    def __str__(self) -> str:  # KeyError shows the repr of its argument
        return str(self.args[0])


class Recording:
    """What was kept of the attention of every block, for one image and one prompt.

    Axes, always all and in this order: ``(step, branch, block, head, ...)``, then those in brackets:

    - `full`: (query, key) probabilities over the whole sequence
    - `text_to_image`: (token, y, x) text queries, image keys; of chosen queries (query, y, x)
    - `image_to_text`: (y, x, token) image queries, text keys; of chosen queries (query, token)
    - `text_to_text`, `image_to_image`: (query, key) one side's queries and keys
    - `entropy`: (query) of each row over all keys, in nats
    - `entropy_over_text`, `entropy_over_image`: (query) of each row's part over that side's keys, made to sum to 1, in
      nats
    - `mass_on_text`: (query) sum of each row over the text keys, in [0, 1]
    - `received_from_text`, `received_from_image`: (key) mean over that side's queries, 1 = as uniform
    - `uniformity_from_text`, `uniformity_from_image`: (key) evenness over that side's queries, 1 = perfectly even

    Uniform is over the keys that the model does not mask. A clip has `frame` before y. With ``heads="mean"`` the head
    axis has length 1 and no coordinate. Coordinates: `noise_level` on step, `block_type` on block; `text`, `word` and
    `kind` on token; `side`, `text`, `word` and `kind` on query, or on key where there is no query; beside a query those
    of the key are `key_side` and so on. Positions on query and key are those in the sequence of the main stack.

    Attributes:
        dataset: the arrays; the axes of the square maps of one side carry the side's name there (`text_query`).
    """

    def __init__(self, dataset: xr.Dataset) -> None:
        self.dataset = dataset

    def __getitem__(self, name: str) -> xr.DataArray:
        """The quantity with this name, with the axes and labels that the class describes.

        Raises:
            QuantityMissingError: it was not kept, the model has none, or there is no such quantity.
        """
        if name not in self.dataset.data_vars:
            raise QuantityMissingError(name, self._why_not(name))
        array = give_out(self.dataset[name])
        return array.assign_attrs(model=self.attrs.get("model", ""))

    def __contains__(self, name: object) -> bool:
        return name in self.dataset.data_vars

    def __iter__(self) -> Iterator[str]:
        return iter(self.kept)

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def kept(self) -> tuple[str, ...]:
        """Names of the quantities that are here."""
        return tuple(name for name in QUANTITIES if name in self.dataset.data_vars)

    @property
    def attrs(self) -> dict[str, Any]:
        """What is needed to repeat the run: model, prompt, expression, magnets, seed, versions and more."""
        return self.dataset.attrs

    @property
    def layout(self) -> TokenLayout:
        """Where text and image stand in the sequence."""
        return layout_from_json(self.attrs["layout"])

    @property
    def tokens(self) -> tuple[Token, ...]:
        """The tokens along the `token` axis; empty when the recorder was not told them."""
        tokens = tokens_of(self.dataset)
        return tuple(tokens[int(index)] for index in self.dataset["token"].values) if tokens else ()

    @property
    def noise_levels(self) -> tuple[float, ...]:
        """One a step; nan where the recorder was not told."""
        return tuple(float(level) for level in self.dataset["noise_level"].values)

    def select(
        self, *, words: str | Iterable[str] | None = None, blocks: int | Iterable[int] | None = None
    ) -> Recording:
        """A recording of some words or some blocks; nothing is copied.

        Args:
            words: keep the tokens of these words of the prompt, upper or lower case. Narrows the `token` axis of
                the two text-image directions; queries and keys keep all, since their rows sum to 1 as a whole.
            blocks: numbers of the blocks to keep, in this order.

        Returns:
            The recording; the axes that are narrowed keep their labels.

        Raises:
            UnknownWordError: the prompt has no such word.
            QuantityMissingError: a block was not recorded.
            RecordingIncompleteError: a block was to be recorded, but the run was interrupted.
        """
        dataset = self.dataset
        if words is not None:
            dataset = dataset.isel(token=self._places_of([words] if isinstance(words, str) else list(words)))
        if blocks is not None:
            wanted = [int(number) for number in (blocks if isinstance(blocks, Iterable) else [blocks])]
            recorded = [int(number) for number in dataset["block"].values]
            missing = [number for number in wanted if number not in recorded]
            if missing:
                raise self._no_block(missing[0], recorded)
            dataset = dataset.sel(block=wanted)
        return Recording(dataset)

    def save(self, path: str | Path) -> Path:
        """Write a zarr folder, all or nothing. See :func:`refam_analysis.load_recording`.

        Args:
            path: of the folder, which is made with those above it.

        Returns:
            The path.

        Raises:
            RecordingExistsError: something is at the path already.
            NotWrittenError: the system refused; nothing is left behind.
        """
        return storage.save_dataset(self.dataset, path)

    def __repr__(self) -> str:
        sizes = ", ".join(f"{axis} {self.dataset.sizes.get(axis, 0)}" for axis in ("step", "branch", "block", "head"))
        return f"<Recording of {self._subject()}: {sizes}; {', '.join(self.kept)}{self._interruption()}>"

    def _repr_html_(self) -> str:
        rows = "".join(
            f"<tr><td><code>{name}</code></td><td>{escape(_describe_axes(self[name]))}</td>"
            f"<td>{self.dataset[name].nbytes / 1e6:.1f} MB</td></tr>"
            for name in self.kept
        )
        return (
            f"<div><strong>Recording</strong> of {escape(self._subject())}{escape(self._interruption())}"
            f"<table><thead><tr><th>quantity</th><th>axes</th><th>size</th></tr></thead><tbody>{rows}</tbody></table>"
            "</div>"
        )

    def _subject(self) -> str:
        prompt, model = self.attrs.get("prompt"), self.attrs.get("model", "a model")
        levels = ", ".join(f"{level:g}" for level in self.noise_levels)
        return f"{model}, {prompt!r}, noise level {levels}" if prompt else f"{model}"

    def _interruption(self) -> str:
        """Of a run that was interrupted, how much of it is here."""
        if "complete_blocks" not in self.attrs:
            return ""
        complete = self.attrs["complete_blocks"]
        total = len(complete) * len(self.attrs["block_types"])
        return f"; interrupted, {sum(map(len, complete))} of {total} blocks are complete"

    def _no_block(self, number: int, recorded: Sequence[int]) -> RefamError:
        complete = self.attrs.get("complete_blocks", [])
        if complete and str(number) in self.attrs["block_types"] and not any(number in step for step in complete):
            return storage.RecordingIncompleteError(
                f"Block {number} is not complete: the run was interrupted. {storage.RESUME}. Complete are the blocks "
                f"{recorded}."
            )
        return QuantityMissingError(f"block {number}", f"recorded were the blocks {recorded}.")

    def _places_of(self, words: Sequence[str]) -> list[int]:
        wanted = {word.casefold() for word in words}
        tokens = self.tokens
        known = list(dict.fromkeys(token.word for token in tokens if token.word))
        missing = [word for word in words if word.casefold() not in {name.casefold() for name in known}]
        if missing or not words:
            raise UnknownWordError(missing or [""], known)
        return [place for place, token in enumerate(tokens) if token.word and token.word.casefold() in wanted]

    def _why_not(self, name: str) -> str:
        if name not in QUANTITIES:
            return f"it is not a quantity. Those that exist: {', '.join(QUANTITIES)}."
        absent = self.attrs.get("absent", {})
        if name in absent:
            return str(absent[name])
        return f"it was not kept. Kept were {', '.join(self.kept)}; record again with keep=[{name!r}]."


def load_recording(path: str | Path) -> Recording:
    """Open a recording that was saved, or recorded into a store; arrays are read when they are used.

    Every chunk carries a checksum, so a damaged one raises when it is read, and names its block; a missing one
    raises here. A store whose run was interrupted opens with its complete blocks; ``attrs["complete_blocks"]`` lists
    them, a list a step, and what is not complete raises.

    Args:
        path: of the folder.

    Returns:
        The recording; what an interrupted run has not finished raises when it is read.

    Raises:
        RecordingNotFoundError: nothing is at the path.
        RecordingFormatError: what is there is not a recording.
        RecordingIncompleteError: chunks are missing.
        RecordingDamagedError: what describes the recording is not what was written; for a quantity, when it is read.
    """
    return Recording(storage.open_dataset(path))


def rescue_recording(path: str | Path) -> Recording:
    """Open what can still be read of a damaged recording. Every chunk is read once to find out.

    Args:
        path: of the folder.

    Returns:
        The recording without the quantities whose description is lost. ``attrs["damaged"]`` has by quantity the places
        along step, branch and block that are lost, and reading one of these raises; all others are as they were.

    Raises:
        RecordingNotFoundError: nothing is at the path.
        RecordingFormatError: what is there is not a recording.
        RecordingIncompleteError, RecordingDamagedError: what describes the run, or its axes, is lost itself.

    >>> import tempfile
    >>> import refam_analysis as ra
    >>> picture = ra.Scenes("test")[0].image
    >>> recording = ra.record(ra.load_model("embedded"), picture, "the small ring", keep=["entropy"])
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = recording.save(Path(folder) / "ring")
    ...     rescued = rescue_recording(path)
    ...     rescued.kept, rescued.attrs["damaged"]
    (('entropy',), {})
    """
    return Recording(storage.open_rescued(Path(path)))


def _describe_axes(array: xr.DataArray) -> str:
    return ", ".join(f"{axis} {size}" for axis, size in array.sizes.items())
