"""From a model, a picture and a sentence, or from recordings, to what the explorer shows.

Here models run. Which scenes the book shows is in `explorer_list`, how they are written in `explorer_data`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace

import numpy as np
import torch
import xarray as xr
from numpy.typing import NDArray

from refam_analysis.analysis import detect_sinks
from refam_analysis.errors import RefamError
from refam_analysis.evaluation.metrics import mask_ious
from refam_analysis.models.base import DiffusionModel
from refam_analysis.models.images import ImageSource, load_image
from refam_analysis.prompts import DEFAULT_MAGNETS, Prompt, Token, make_prompt
from refam_analysis.recording import Recording, record_batch
from refam_analysis.segmentation import SegmentationResult, default_settings, segment
from refam_analysis.segmentation.point import pixel_of
from refam_analysis.segmentation.segmenters import Segmenter, load_segmenter_for
from refam_analysis.segmentation.settings import DIRECTIONS
from refam_analysis.widgets.explorer_data import Answer, ExplorerScene, Floats, ShownToken, View, ViewName

KEPT = (
    "text_to_image", "image_to_text", "received_from_text", "received_from_image", "uniformity_from_text",
    "uniformity_from_image",
)  # fmt: skip
_APART = ("magnet", "special", "padding", "template")
"""Kinds whose tokens are counted by themselves; all others are words of the sentence."""


class NothingToExploreError(RefamError, ValueError):
    """A recording has nothing that the explorer shows."""

    def __init__(self, problem: str) -> None:
        super().__init__(
            f"There is nothing to explore: {problem}. Give recordings of a picture that kept text_to_image or "
            "image_to_text."
        )


def explore(
    model: DiffusionModel,
    image: ImageSource,
    expression: str,
    *,
    magnets: Sequence[str] = DEFAULT_MAGNETS,
    masks: NDArray[np.bool_] | None = None,
    target: int = 0,
    segmenter: str | Segmenter | None = None,
    name: str = "scene",
    title: str = "",
    why: str = "",
) -> ExplorerScene:
    """Run a sentence without magnets and with them, and keep what the explorer shows.

    Attention is averaged over the noise levels and draws that the model's heatmaps are read from, so that the maps are
    those that the answer came from. Every block and head is kept. The answer is read from attention alone: the
    switches NP and SB are off, since the explorer could not show what they add.

    Args:
        model: from ``load_model``.
        image: anything that ``load_image`` reads.
        expression: the sentence.
        magnets: appended to it in one of the two views.
        masks: bool (object, height, width), the true ones; None where they are not known.
        target: which of them the sentence means.
        segmenter: what :func:`refam_analysis.segment` takes.
        name, title, why: as :class:`ExplorerScene` has them.

    Returns:
        What :class:`refam_analysis.Explorer` shows.

    The errors are those of :func:`refam_analysis.segment`.

    >>> import refam_analysis as ra
    >>> sample = ra.Scenes("test")[0]
    >>> scene = ra.explore(ra.load_model("embedded"), sample.image, sample.expressions[0].text)
    >>> sorted(scene.views)
    ['with', 'without']
    """
    picture, asked = load_image(image), load_segmenter_for(model, segmenter)
    prompts: dict[ViewName, Prompt] = {"without": make_prompt(expression), "with": make_prompt(expression, magnets)}
    recordings = {view: draws_together(model, picture, prompt) for view, prompt in prompts.items()}
    scene = scene_of(recordings, np.array(picture), name=name, title=title or expression, why=why)
    means = None if masks is None else masks[target]
    settings = default_settings(model).attention_alone
    results = {
        view: segment(model, picture, expression, magnets=prompt.magnets, segmenter=asked, settings=settings)
        for view, prompt in prompts.items()
    }
    views = {view: replace(scene.views[view], answer=_answer(result, means)) for view, result in results.items()}
    others = None if masks is None else np.asarray(np.delete(masks, target, axis=0).any(0), dtype=bool)
    return replace(scene, views=views, target=means, others=others)


def draws_together(model: DiffusionModel, image: ImageSource, prompt: Prompt) -> Recording:
    """All blocks and heads at the noise levels and draws that heatmaps are read from, each a step of one recording."""
    settings = default_settings(model)
    draws = record_batch(
        model, [image] * settings.seeds, [prompt] * settings.seeds, noise_level=settings.noise_levels,
        seeds=range(settings.seeds), keep=KEPT,
    )  # fmt: skip
    together = xr.concat(
        [draw.dataset for draw in draws], "step", combine_attrs="override", data_vars="minimal", coords="minimal",
        compat="override", join="override",
    )  # fmt: skip
    return Recording(together)


def scene_of(
    recordings: Mapping[ViewName, Recording] | Recording,
    image: NDArray[np.uint8] | None = None,
    *,
    name: str = "scene",
    title: str = "",
    why: str = "",
) -> ExplorerScene:
    """What the explorer shows of recordings that exist.

    Args:
        recordings: one, or of the same picture and expression one "without" magnets and one "with" them.
        image: uint8 (height, width, 3), the picture; a grey one by default, since a recording does not hold it.
        name, title, why: as :class:`ExplorerScene` has them; the title is the expression by default.

    Raises:
        NothingToExploreError: no direction between text and image was kept, the recording is of a clip, or it was not
            told its tokens.
    """
    if isinstance(recordings, Recording):
        recordings = {"with" if any(t.kind == "magnet" for t in recordings.tokens) else "without": recordings}
    first = next(iter(recordings.values()))
    views = {view: view_of(recording) for view, recording in recordings.items()}
    expression = str(first.attrs.get("expression", ""))
    dataset = first.dataset
    if image is None:
        height, width = first.attrs.get("image_size", [96, 96])
        image = np.full((height, width, 3), 128, dtype=np.uint8)
    heads = [int(head) for head in dataset["head"].values] if "head" in dataset.coords else []
    blocks = tuple(int(block) for block in dataset["block"].values)
    return ExplorerScene(name, title or expression, why, expression, image, blocks, tuple(heads), views)


def view_of(recording: Recording) -> View:
    """A recording's attention as the explorer shows it: means over steps, of the conditional branch.

    Padding has one map, the mean of its tokens.
    """
    kept = [name for name in DIRECTIONS if name in recording]
    if not kept:
        raise NothingToExploreError(f"kept were only {', '.join(recording.kept) or 'no quantities'}")
    if "frame" in recording.dataset[kept[0]].dims:
        raise NothingToExploreError("this is a recording of a clip")
    if not recording.tokens:
        raise NothingToExploreError("the recorder was not told the tokens")
    tokens, shares = shown_tokens(recording.tokens)
    attention: dict[str, Floats] = {}
    for name in kept:
        maps = _averaged(recording[name]).transpose("block", "head", "token", "y", "x").values
        attention[name] = np.einsum("mt,bhtyx->bhmyx", shares, maps).astype(np.float32)
    return View(
        prompt=str(recording.attrs.get("prompt", "")),
        tokens=tokens,
        attention=attention,
        received=_received(recording),
        sinks=_sinks(recording),
    )


def shown_tokens(tokens: Sequence[Token]) -> tuple[tuple[ShownToken, ...], NDArray[np.float32]]:
    """The tokens as they are shown, and the averages that make maps of theirs: (map, token), rows sum to 1."""
    shown: list[ShownToken] = []
    counts: Counter[str] = Counter()
    maps: dict[str, int] = {}
    for token in tokens:
        group = token.kind if token.kind in _APART else "word"
        key = f"{group} {counts[group]}"
        counts[group] += 1
        of_map = maps.setdefault(group if group == "padding" else key, len(maps))
        shown.append(ShownToken(token.text, token.kind, key, of_map))
    shares = np.zeros((len(maps), len(shown)), dtype=np.float32)
    for place, one in enumerate(shown):
        shares[one.map, place] = 1.0
    return tuple(shown), shares / shares.sum(1, keepdims=True)


@contextmanager
def one_thread() -> Iterator[None]:
    """Compute on one core meanwhile, so that sums are rounded alike on every machine with the same libraries."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _averaged(array: xr.DataArray) -> xr.DataArray:
    return array.isel(branch=0).mean("step")


def _received(recording: Recording) -> dict[str, NDArray[np.float32]]:
    """Of each side that was recorded, (block, head, key): all text tokens, then all patches."""
    found = {}
    for side in ("text", "image"):
        name = f"received_from_{side}"
        if name not in recording:
            continue
        mass = _averaged(recording[name]).transpose("block", "head", "key")
        places = [np.flatnonzero(mass["side"].values == of) for of in ("text", "image")]
        grid = recording.layout.grid
        if len(places[0]) == len(recording.tokens) and len(places[1]) == int(np.prod(grid)):
            found[side] = mass.values[..., np.concatenate(places)].astype(np.float32)
    return found


def _sinks(recording: Recording) -> tuple[tuple[int, ...], ...]:
    """For every block, the text tokens that the rule of ``detect_sinks`` singles out in this one scene."""
    if "received_from_image" not in recording and "received_from_text" not in recording:
        return ()
    table = detect_sinks(recording)
    first = recording.layout.text.start
    found = table[table["is_sink"] & (table["side"] == "text")]
    numbers = {token.index: place for place, token in enumerate(recording.tokens)}
    blocks = [int(block) for block in recording.dataset["block"].values]
    places = {block: found.loc[found["block"] == block, "position"] - first for block in blocks}
    return tuple(tuple(sorted(numbers[int(i)] for i in places[block] if int(i) in numbers)) for block in blocks)


def _answer(result: SegmentationResult, target: NDArray[np.bool_] | None) -> Answer:
    on_target = iou = None
    if target is not None:
        row, column = np.moveaxis(pixel_of(np.asarray(result.point), target.shape), -1, 0)
        on_target, iou = bool(target[row, column]), float(mask_ious(result.mask[None], target[None])[0])
    return Answer(result.point, result.heatmap.values, result.mask, on_target, iou)
