"""From recordings to the heatmap of a sentence.

Here tokens become words, and recordings of one prompt become one map with named axes. What a sentence's words are was
decided in :mod:`refam_analysis.prompts`; the arithmetic is in :mod:`refam_analysis.segmentation.reading`. Magnets,
stop words, punctuation, special, template and padding tokens are never read: they only take part as what a patch may
attend to instead (``normalisation="share"``). What becomes of a map after its words are aggregated is in
:mod:`refam_analysis.segmentation.finish`.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import torch
import xarray as xr
from torch import Tensor
from torch.nn import functional

from refam_analysis.errors import RefamError
from refam_analysis.prompts import Token
from refam_analysis.recording.recording import Recording
from refam_analysis.segmentation import reading
from refam_analysis.segmentation.alike import must_be_alike, same_prompt
from refam_analysis.segmentation.asked import phrase_words
from refam_analysis.segmentation.finish import finished
from refam_analysis.segmentation.settings import HeatmapSettings, HeatmapSettingsError


class NoContentWordsError(RefamError, ValueError):
    """An expression has no word that a heatmap could be read from."""

    def __init__(self, expression: str) -> None:
        super().__init__(
            f"The expression {expression!r} holds only stop words and punctuation, so there is nothing to "
            f"look for. Name a thing, such as 'the red circle'."
        )


@dataclass(frozen=True)
class ContentWord:
    """A word that a heatmap is read from.

    Attributes:
        text: the word as written.
        index: its place among the words of the prompt.
        tokens: positions of its pieces along the ``token`` axis.
    """

    text: str
    index: int
    tokens: tuple[int, ...]


def content_words(tokens: Sequence[Token], *, kinds: Container[str] = ("content",)) -> tuple[ContentWord, ...]:
    """The words to read, in the order of the prompt; a word that several encoders hold has its pieces in all of them.

    Args:
        tokens: the text segment, as ``recording.tokens`` has it.
        kinds: of the words; stop words or magnets are named only to see what reading them too would do.

    Returns:
        One a word, with the places of its tokens in the text segment.

    Raises:
        NoContentWordsError: there is none.
    """
    pieces: dict[int, list[int]] = {}
    for place, token in enumerate(tokens):
        if token.kind in kinds and token.word_index is not None:
            pieces.setdefault(token.word_index, []).append(place)
    if not pieces:
        raise NoContentWordsError(_expression(tokens))
    return tuple(ContentWord(tokens[pieces[i][0]].word, i, tuple(pieces[i])) for i in sorted(pieces))


def words_to_read(recording: Recording, *, noun_phrase: bool = False) -> tuple[ContentWord, ...]:
    """The content words of a recording's expression: all of them, or those of its noun phrase.

    Where the noun phrase has no content word ("him on the left"), all content words of the expression are read: a
    switch that narrows what is read must not leave a sentence without an answer.

    Args:
        recording: with its tokens; for the noun phrase also with its expression, as ``record`` gives it.
        noun_phrase: the switch NP; see :func:`refam_analysis.prompts.noun_phrase`.

    Returns:
        One a word, in the order of the prompt.

    Raises:
        NoContentWordsError: there is no content word at all.
        UnknownExpressionError: the noun phrase is asked of a recording that does not say what its expression was.
    """
    words = content_words(recording.tokens)
    if not noun_phrase:
        return words
    phrase = phrase_words(recording)
    return tuple(word for word in words if word.index in phrase) or words


class SentenceMaps(NamedTuple):
    """What one sentence's recordings become, each from the one before, see :func:`sentence_maps`."""

    token_maps: xr.DataArray
    word_maps: xr.DataArray
    patch_heatmap: xr.DataArray


def token_maps(recordings: Recording | Sequence[Recording], settings: HeatmapSettings | None = None) -> xr.DataArray:
    """The map of every text token, of all kinds, averaged over the chosen blocks, heads and recordings.

    Args:
        recordings: of one prompt, at one or several noise levels and seeds; their conditional branch is read.
        settings: direction, normalisation, blocks and heads; None for the documented defaults.

    Returns:
        Axes (token, y, x), with ``frame`` before y for video; coordinates ``text`` and ``kind``. Unit: probability for
        ``raw``, share otherwise.

    Raises:
        MixedRecordingsError: no recording at all, or of several prompts.
        HeatmapSettingsError: blocks or heads that were not recorded.
    """
    settings, group = settings or HeatmapSettings(), same_prompt(recordings)
    return _of_tokens(_mixed([group], [settings], None)[0, 0], group[0], settings)


def word_maps(recordings: Recording | Sequence[Recording], settings: HeatmapSettings | None = None) -> xr.DataArray:
    """The map of every word that is read: the mean of :func:`token_maps` over its tokens.

    Args:
        recordings, settings: as :func:`token_maps` takes them.

    Returns:
        Axes (word, y, x), with ``frame`` before y for video; ``word`` counts the words of the prompt, the coordinate
        ``text`` holds them.

    Raises:
        NoContentWordsError: the prompt has no content word.
        UnknownExpressionError: as for :func:`words_to_read`.

    The other errors are those of :func:`token_maps`.
    """
    settings, group = settings or HeatmapSettings(), same_prompt(recordings)
    return sentence_maps([group], settings)[0].word_maps


def patch_heatmap(recordings: Recording | Sequence[Recording], settings: HeatmapSettings | None = None) -> xr.DataArray:
    """The heatmap before upsampling and spatial bias.

    Args:
        recordings, settings: as :func:`heatmap` takes them; its errors are raised here too.

    Returns:
        Axes (y, x), of the grid of image tokens; not negative.
    """
    settings, group = settings or HeatmapSettings(), same_prompt(recordings)
    return sentence_maps([group], settings)[0].patch_heatmap


def heatmap(recordings: Recording | Sequence[Recording], settings: HeatmapSettings | None = None) -> xr.DataArray:
    """The heatmap of a sentence: its words' maps, aggregated, upsampled, and multiplied with the spatial bias.

    Args:
        recordings: of one prompt, at one or several noise levels and seeds.
        settings: None for the documented defaults.

    Returns:
        Axes (y, x), with ``frame`` before y for video: one value a patch, or a part of one where the settings upsample;
        not negative.

    The errors are those of :func:`word_maps`.

    Source: RefAM, section 3: maps of stop words and magnets dropped, the rest aggregated.
    """
    settings, group = settings or HeatmapSettings(), same_prompt(recordings)
    return finished(patch_heatmap(group, settings), settings, group[0])


def sentence_maps(groups: Sequence[Sequence[Recording]], settings: HeatmapSettings) -> list[SentenceMaps]:
    """The maps of several sentences, with all that lies between attention and the aggregated map.

    Args:
        groups: for each sentence, its recordings of one prompt. All of one model and image size.
        settings: how all of them are read.

    Returns:
        For each, :func:`token_maps`, :func:`word_maps` and :func:`patch_heatmap`; attention is read once for all three.

    The errors are those of :func:`word_maps`.
    """
    firsts = [same_prompt(group)[0] for group in groups]
    words = [words_to_read(first, noun_phrase=settings.noun_phrase) for first in firsts]
    weights = word_weights(words, _longest(firsts))
    tokens = _mixed(groups, [settings], None)[:, 0]
    of_words = reading.average_tokens(tokens, weights)
    patches = reading.aggregate(of_words, (weights > 0).any(-1), settings.aggregation)
    return [
        SentenceMaps(
            _of_tokens(tokens[item, : len(first.tokens)], first, settings),
            _named(of_words[item, : len(own)], first, settings, "word").assign_coords(
                word=[word.index for word in own], text=("word", [word.text for word in own])
            ),
            _named(patches[item, None], first, settings, "word")[0],
        )
        for item, (first, own) in enumerate(zip(firsts, words, strict=True))
    ]


def heatmaps(
    groups: Sequence[Sequence[Recording]],
    settings: Sequence[HeatmapSettings],
    words: Sequence[Sequence[ContentWord]] | None = None,
) -> Tensor:
    """Many heatmaps at once, before upsampling and spatial bias: of several images and sentences, read in several ways.

    Args:
        groups: for each item, its recordings of one prompt. All of one model and image size.
        settings: ways to read them, of one direction and one normalisation; blocks, heads, aggregation and noun phrase
            may differ.
        words: for each item, the words to read; None for what the settings say: :func:`words_to_read`.

    Returns:
        (item, setting, patch), float32, patches in the order (frame,) y, x.

    The errors are those of :func:`heatmap`.
    """
    firsts = [same_prompt(group)[0] for group in groups]
    chosen = words or [content_words(first.tokens) for first in firsts]
    weights = word_weights(chosen, _longest(firsts))
    read = {False: (weights > 0).any(-1)}
    if words is None and any(one.noun_phrase for one in settings):
        read[True] = _present(chosen, [words_to_read(first, noun_phrase=True) for first in firsts])
    mixed = _mixed(groups, settings, weights)
    maps = [
        reading.aggregate(mixed[:, i], read.get(one.noun_phrase, read[False]), one.aggregation)
        for i, one in enumerate(settings)
    ]
    return torch.stack(maps, dim=1)


def site_weights(recording: Recording, settings: Sequence[HeatmapSettings]) -> Tensor:
    """Which blocks and heads each of several settings averages over.

    Args:
        recording: says what was recorded.
        settings: one or more, of one direction.

    Returns:
        (settings, block, head), float32; each sums to 1.

    Raises:
        HeatmapSettingsError: blocks or heads that were not recorded.
    """
    if settings[0].direction not in recording:
        recording[settings[0].direction]  # raises, and says why it is not there
    dataset = recording.dataset
    blocks = dataset["block"].values
    heads = dataset["head"].values if "head" in dataset.coords else np.empty(0)
    chosen = np.zeros((len(settings), len(blocks), dataset.sizes["head"]), dtype=bool)
    for row, one in zip(chosen, settings, strict=True):
        _must_have("blocks", one.recorded_blocks or (), blocks)
        _must_have("heads", {head for _, head in one.heads or ()}, heads)
        if one.heads is None:
            row[:] = np.isin(blocks, blocks if one.blocks is None else one.blocks)[:, None]
        for block, head in one.heads or ():
            row[np.ix_(blocks == block, heads == head)] = True
    weights = torch.from_numpy(chosen).float()
    return weights / weights.sum((1, 2), keepdim=True)


def word_weights(words: Sequence[Sequence[ContentWord]], tokens: int) -> Tensor:
    """The averages that turn tokens into words, for several prompts at once.

    Args:
        words: the content words of each prompt.
        tokens: length of the text segment, the longest where they differ.

    Returns:
        (prompt, word, token), float32; rows beyond a prompt's words are zero.
    """
    weights = torch.zeros(len(words), max(map(len, words)), tokens)
    for item, prompt in enumerate(words):
        for row, word in enumerate(prompt):
            weights[item, row, list(word.tokens)] = 1.0 / len(word.tokens)
    return weights


def _present(words: Sequence[Sequence[ContentWord]], read: Sequence[Sequence[ContentWord]]) -> Tensor:
    """Bool (prompt, word): which of each prompt's words are read."""
    present = torch.zeros(len(words), max(map(len, words)), dtype=torch.bool)
    for row, own, some in zip(present, words, read, strict=True):
        row[: len(own)] = torch.tensor([word in some for word in own])
    return present


def _mixed(groups: Sequence[Sequence[Recording]], settings: Sequence[HeatmapSettings], words: Tensor | None) -> Tensor:
    """(item, setting, word, patch), block by block, so that no more than one block of all heads is held at once.

    Args:
        groups: for each item, its recordings.
        settings: of one direction and one normalisation.
        words: (item, word, token), or None to keep the tokens.
    """
    first = settings[0]
    if any((one.direction, one.normalisation) != (first.direction, first.normalisation) for one in settings):
        raise HeatmapSettingsError("Settings of several directions or normalisations are read one after the other.")
    sites = site_weights(groups[0][0], settings)
    must_be_alike(groups)
    arrays = [[_conditional(recording, first) for recording in group] for group in groups]
    longest = max(group[0].sizes["token"] for group in arrays)
    total = torch.zeros(())
    for block in sites.any(dim=2).any(dim=0).nonzero().flatten().tolist():
        maps = torch.stack([_of_length(_average_draws(group, first, block), longest) for group in arrays])
        if words is not None:
            maps = reading.average_tokens(maps, words)
        total = total + reading.average_sites(maps[:, None], sites[:, block : block + 1])
    return total


def _longest(recordings: Sequence[Recording]) -> int:
    """Tokens of the longest text segment; where a family drops padding, each sentence has its own length."""
    return max(len(recording.tokens) for recording in recordings)


def _of_length(maps: Tensor, tokens: int) -> Tensor:
    """(..., token, patch), with zeros behind the last token."""
    return functional.pad(maps, (0, 0, 0, tokens - maps.shape[-2]))


def _average_draws(group: Sequence[xr.Variable], settings: HeatmapSettings, block: int) -> Tensor:
    """Normalised attention of one block, averaged over noise levels and seeds: (head, token, patch), float32."""
    steps = [
        torch.from_numpy(np.ascontiguousarray(attention[:, block].values, dtype=np.float32)).flatten(3)
        for attention in group
    ]
    return reading.normalise(torch.cat(steps), settings.normalisation).mean(0)


def _conditional(recording: Recording, settings: HeatmapSettings) -> xr.Variable:
    """The direction that is read: (step, block, head, token, (frame,) y, x), of the conditional branch.

    Without coordinates, which cost more than the arithmetic where hundreds of recordings are read; what is on disk
    stays there until a block of it is used.
    """
    attention = recording.dataset.variables[settings.direction].isel(branch=0)
    if settings.normalisation == "share" and attention.sizes["token"] != recording.layout.text_length:
        raise HeatmapSettingsError(
            "Shares are among all tokens of the text, and this recording holds only some of its words: read the whole "
            "recording, or choose another normalisation."
        )
    return attention.transpose("step", "block", "head", "token", *_space(attention))


def _must_have(what: str, wanted: Iterable[int], recorded: np.ndarray) -> None:
    missing = sorted(set(wanted) - set(recorded.tolist()))
    if missing:
        there = f"only {recorded.tolist()}" if len(recorded) else "only their mean"
        raise HeatmapSettingsError(f"The {what} {missing} were not recorded, {there}: record them, or choose others.")


def _space(attention: xr.Variable) -> list[str]:
    return [axis for axis in ("frame", "y", "x") if axis in attention.dims]


def _named(maps: Tensor, recording: Recording, settings: HeatmapSettings, axis: str) -> xr.DataArray:
    attention = recording.dataset.variables[settings.direction]
    space = _space(attention)
    values = maps.reshape(len(maps), *(attention.sizes[name] for name in space)).numpy()
    attributes = {"direction": settings.direction, "normalisation": settings.normalisation}
    return xr.DataArray(values, dims=[axis, *space], attrs=attributes, name="heatmap")


def _of_tokens(maps: Tensor, recording: Recording, settings: HeatmapSettings) -> xr.DataArray:
    tokens = recording.tokens
    return _named(maps, recording, settings, "token").assign_coords(
        token=[token.index for token in tokens],
        text=("token", [token.text for token in tokens]),
        kind=("token", [token.kind for token in tokens]),
    )


def _expression(tokens: Sequence[Token]) -> str:
    """The words of the expression, once each, as far as the tokens tell."""
    words = {token.word_index: token.word for token in tokens if token.kind in ("stop", "punctuation")}
    return " ".join(word for index, word in sorted(words.items(), key=lambda pair: pair[0] or 0) if index is not None)
