"""From an image and a sentence to a Recording: text, image and noise encoded, forward passes run, and recorded.

This composes a model (`models`) with a Recorder. Which passes there are, is decided in `runs`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from importlib import metadata
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm.auto import tqdm

from refam_analysis.models.base import DiffusionModel
from refam_analysis.models.blocks import MAIN, Block, Stack, find_blocks, head_shape
from refam_analysis.models.family import BatchError
from refam_analysis.models.fingerprint import weights_fingerprint
from refam_analysis.models.images import ImageSource
from refam_analysis.models.layout import TokenLayout
from refam_analysis.prompts import Prompt, make_prompt
from refam_analysis.recording.attention_calls import AttentionCall
from refam_analysis.recording.interventions import Intervention
from refam_analysis.recording.plans import Heads, Plan, beyond_queries
from refam_analysis.recording.quantities import default_keep
from refam_analysis.recording.recorder import Recorder
from refam_analysis.recording.recording import Recording, load_recording
from refam_analysis.recording.runs import Picture, Run, choosing, loaded, noise_levels
from refam_analysis.recording.sizes import check_budget, held_bytes
from refam_analysis.recording.store import RecordingStore, StoreShapeError

SMALL_BYTES = 16 * 2**20
"""Up to this size of the full attention of one item and pass in float32, `full` is kept by default."""

_LIBRARIES = ("refam-analysis", "torch", "diffusers", "transformers")


def record(
    model: DiffusionModel,
    image: ImageSource | Sequence[ImageSource],
    expression: str,
    *,
    magnets: Sequence[str] = (),
    noise_level: float | Sequence[float] = 0.6,
    steps: int = 1,
    guidance: float | None = None,
    size: tuple[int, int] | None = None,
    seed: int = 0,
    keep: Iterable[str] | None = None,
    blocks: Iterable[int] | None = None,
    heads: Heads = "each",
    words: Iterable[str] | None = None,
    region: np.ndarray | None = None,
    dtype: torch.dtype = torch.float32,
    intervention: Intervention | None = None,
    stack: Stack = MAIN,
    store: str | Path | None = None,
    budget: int | None = None,
    progress: bool = False,
) -> Recording:
    """Record what every block attends to, for one image (or clip) and one expression.

    Args:
        model: from :func:`refam_analysis.load_model`.
        image: path, Pillow image, array or tensor; resized to the model's own size. For a video family also a clip: a
            sequence of frames.
        expression: the referring expression.
        magnets: words appended to it.
        noise_level: t of x_t = (1 - t) image + t noise. Several give a step each, all from the clean image and the
            same noise.
        steps: denoising steps from a single noise level on, evenly spaced, each recorded.
        guidance: run the unconditional prompt as well, recorded as a branch of its own, and denoise with this strength.
            None for the conditional branch alone.
        size: height and width in pixels that the image is resized to; the model's own by default.
        seed: of the noise.
        keep: names of quantities, see :class:`Recording`. By default the text-image directions, entropy and received
            mass as far as the model and the chosen queries have them, and `full` for a model as small as the embedded
            one.
        blocks: numbers of the blocks to keep; all by default.
        heads: "each", "mean" for the mean of each quantity over heads, or the numbers of some heads.
        words: keep only the queries of this word or these words of the prompt, and those of ``region`` where it is
            given.
        region: keep only the queries of these image tokens: bool, in the shape of the image grid.
        dtype: of what is kept, torch.float32 or torch.float16.
        intervention: what is done to chosen keys meanwhile.
        stack: which blocks: the "main" ones, or those of a refiner that runs before them over one side alone, with
            positions and words as in the main stack: "context_refiner" over the text (Z-Image, Lumina 2,
            HunyuanVideo), "noise_refiner" over the image (the first two).
        store: folder that every block is written to when it is done, instead of being held in memory. If the run is
            interrupted, the same call completes it: the passes run again, and what is complete is left alone.
            :func:`refam_analysis.load_recording` opens it at any time.
        budget: bytes that may be held in memory where no store is given; half of what is available by default.
        progress: show a bar over the blocks.

    Returns:
        Axes ``(step, branch, block, head, ...)``; its ``attrs`` are enough to repeat the run. With a store, opened
        from there, read when it is used.

    Raises:
        EmptyExpressionError: the expression has no visible character.
        PromptTooLongError: expression and magnets do not fit; nothing is cut.
        ImageError: the image cannot be read or used.
        NoiseLevelError: a noise level is outside [0, 1].
        UnknownQuantityError, QuantityMissingError: `keep` names what does not exist, or what the model lacks.
        UnknownBlockError, UnknownStackError, UnknownWordError: `blocks`, `stack` or `words` names something that does
            not exist.
        StepsError: no step, or several steps from several noise levels.
        RegionError: the region has not the shape of the image grid, or is empty.
        InterventionError: the intervention does not fit the layout.
        MemoryBudgetError: it is too large to hold; :func:`refam_analysis.estimate` tells before.
        StoreSpaceError: the disk has too little room, or is full; earlier blocks stay.
        OtherRunError: the store holds another run; the message says in what it differs.
        RecordingFormatError, RecordingDamagedError: what is at the path of the store is no recording, or not what was
            written.

    >>> import refam_analysis as ra
    >>> sample = ra.Scenes("test")[0]
    >>> recording = ra.record(ra.load_model("embedded"), sample.image, sample.expressions[0].text)
    >>> recording["image_to_text"].sel(block=3).mean("head").dims
    ('step', 'branch', 'y', 'x', 'token')
    """
    prompt = make_prompt(expression, magnets)
    return record_batch(
        model, [image], [prompt], noise_level=noise_level, steps=steps, guidance=guidance, size=size, seeds=[seed],
        keep=keep, blocks=blocks, heads=heads, queries=choosing(model, prompt, words, region), dtype=dtype,
        intervention=intervention, stack=stack, store=store, budget=budget, progress=progress,
    )[0]  # fmt: skip


@torch.no_grad()
def record_batch(
    model: DiffusionModel,
    images: Sequence[ImageSource | Sequence[ImageSource]],
    prompts: Sequence[Prompt],
    *,
    noise_level: float | Sequence[float] = 0.6,
    steps: int = 1,
    guidance: float | None = None,
    size: tuple[int, int] | None = None,
    seeds: Sequence[int] | None = None,
    keep: Iterable[str] | None = None,
    blocks: Iterable[int] | None = None,
    heads: Heads = "each",
    queries: Callable[[TokenLayout], Iterable[int]] | None = None,
    dtype: torch.dtype = torch.float32,
    intervention: Intervention | None = None,
    stack: Stack = MAIN,
    store: str | Path | None = None,
    budget: int | None = None,
    progress: bool = False,
) -> list[Recording]:
    """Record several images, each with its prompt, in one forward pass a noise level or step.

    The recordings share memory: to keep a few of many, save or copy them.

    Args:
        model: from :func:`refam_analysis.load_model`.
        images: what :func:`record` takes.
        prompts: one an image, from :func:`make_prompt`.
        noise_level, steps, guidance, size, keep, blocks, heads, dtype, intervention, stack: as for :func:`record`.
        store, budget, progress: as for :func:`record`. A store takes one item.
        seeds: of the noise, one an image; 0 for all by default.
        queries: gives for a layout the positions of the queries to keep; None for all.

    Returns:
        One recording an image, the same as :func:`record` gives, up to the rounding of larger matrix products.

    Raises:
        BatchError: the numbers of images, prompts and seeds differ, or are zero.
        StoreShapeError: a store, and more than one image.
        NoiseLevelError and others: as :func:`record`.
    """
    seeds = [0] * len(images) if seeds is None else list(seeds)
    if not len(images) == len(prompts) == len(seeds) or not images:
        raise BatchError(images=len(images), prompts=len(prompts), seeds=len(seeds))
    if store is not None and len(images) > 1:
        raise StoreShapeError(f"A store takes one item, and the batch has {len(images)}. Record them one at a time.")
    run = Run(model, noise_levels(noise_level, steps), denoises=steps > 1, guidance=guidance)
    pictures = [loaded(image) for image in images]
    latents, conditioning = model.encode_images(pictures, size=size), model.encode_prompts(prompts)
    first = run.first(latents, conditioning, seeds)
    layout = first.layouts[0]
    described = {**describe_run(model), "guidance": guidance, "steps": steps, "size": list(size or model.default_size)}
    described |= describe_weights(run)
    attributes = [
        {**described, **describe_item(picture, prompt, seed)}
        for picture, prompt, seed in zip(pictures, prompts, seeds, strict=True)
    ]
    sink = None
    if store is not None:
        sink = RecordingStore(store, noise_levels=run.levels, tokens=conditioning.tokens[0], attributes=attributes[0])
    chosen = None if queries is None else list(queries(layout))
    recorder = Recorder(
        run.transformers,
        first.layouts,
        keep_of(model, layout, stack, chosen) if keep is None else keep,
        blocks=blocks,
        heads=heads,
        queries=chosen,
        dtype=dtype,
        branches=run.branches,
        intervention=intervention,
        stack=stack,
        sink=sink,
        before=partial(_make_room, sink=sink, run=run, batch=len(first.layouts), budget=budget),
    )
    with recorder:
        if sink is not None and sink.finished:
            return [load_recording(sink.path)]
        blocks_run = [find_blocks(transformer, stack) for transformer in run.transformers]
        with _bar(blocks_run, len(run.levels), shown=progress):
            run.through(first, latents, conditioning, seeds)
    if sink is not None:
        return recorder.recordings()
    return recorder.recordings(noise_levels=run.levels, tokens=conditioning.tokens, attributes=attributes)


def _make_room(
    plan: Plan, call: AttentionCall, *, sink: RecordingStore | None, run: Run, batch: int, budget: int | None
) -> None:
    """Before anything is kept: lay out the store, or see that what will be held fits into memory."""
    if sink is not None:
        sink.lay_out(call.heads)
        return
    passes, branches = len(run.levels), len(run.branches)
    check_budget(held_bytes(plan, call.heads, batch=batch, passes=passes, branches=branches), budget)


@contextmanager
def _bar(blocks: Sequence[Sequence[Block]], passes: int, *, shown: bool) -> Iterator[None]:
    """A bar over all blocks of all passes, also those of which nothing is kept: they take their time.

    Args:
        blocks: of each transformer; a pass runs one of these.
        passes: how many there are.
        shown: whether there is a bar at all.
    """
    with ExitStack() as stack:
        bar = stack.enter_context(tqdm(total=len(blocks[0]) * passes, desc="blocks", disable=not shown))
        for block in chain.from_iterable(blocks) if shown else ():
            stack.callback(block.module.register_forward_hook(lambda *_: _count(bar)).remove)
        yield


def _count(bar: Any) -> None:
    """One block more. As a hook ``update`` itself would do harm: what a hook returns replaces the block's output."""
    bar.update()


def keep_of(
    model: DiffusionModel, layout: TokenLayout, stack: Stack, queries: Sequence[int] | None
) -> tuple[str, ...] | None:
    """What is kept where nothing is asked for: `full` too, when all of it for one item is under `SMALL_BYTES`.

    Args:
        model: that will run.
        layout: of the first item.
        stack: whose blocks are recorded; of a refiner it is what the Recorder keeps by itself: None.
        queries: positions of the chosen ones; None for all.
    """
    if stack != MAIN:
        return None
    beyond = {} if queries is None else beyond_queries(queries, layout)
    names = default_keep(layout.attention, {**model.family.absent, **beyond})
    heads = head_shape(model.transformer)[0] or 64
    size = 4 * len(find_blocks(model.transformer)) * heads * layout.length**2
    return ("full", *names) if layout.attention == "joint" and size <= SMALL_BYTES else names


def describe_run(model: DiffusionModel) -> dict[str, Any]:
    """Of the model and the libraries, what is needed to repeat a run."""
    return {
        "model": model.name,
        "revision": model.revision,
        "family": model.family.name,
        "model_dtype": str(model.dtype).removeprefix("torch."),
        "device": model.device.type,
        "versions": {name: version for name in _LIBRARIES if (version := _version_of(name))},
    }


def describe_weights(run: Run) -> dict[str, Any]:
    """A digest of the weights that run, so that a store is not completed with others.

    Where others than the pipeline's first transformer run, the name of that of each step too.
    """
    described: dict[str, Any] = {"weights_fingerprint": weights_fingerprint(*run.transformers)}
    if run.transformers == (run.model.transformer,):
        return described
    names = {id(part): name for name, part in run.model.pipeline.components.items()}
    return {**described, "transformers": [names[id(run.model.transformer_at(level))] for level in run.levels]}


def describe_item(picture: Picture, prompt: Prompt, seed: int) -> dict[str, Any]:
    """Of one item, what is needed to repeat its run; of a clip, all frames are in the checksum."""
    frames = picture if isinstance(picture, list) else [picture]
    checksum = hashlib.sha256(b"".join(frame.tobytes() for frame in frames)).hexdigest()
    return {
        "prompt": prompt.text,
        "expression": prompt.expression,
        "magnets": list(prompt.magnets),
        "seed": int(seed),
        "frames": len(frames),
        "image_size": [frames[0].height, frames[0].width],
        "image_sha256": checksum,
    }


@cache  # the same for every recording, and read from files
def _version_of(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None
