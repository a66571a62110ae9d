"""What a run will take in memory, on disk and of time, said before it starts.

The bytes follow from the layout and from one attention call, for which the model runs as far as its first recorded
block. The time is measured: one pass, recorded as it will be, whose results are thrown away. The formulas are in
`sizes`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any, NoReturn

import numpy as np
import torch
import xarray as xr
import zarr
from PIL import Image
from zarr.storage import MemoryStore

from refam_analysis.models.base import DiffusionModel, ForwardInputs
from refam_analysis.models.blocks import MAIN, Stack
from refam_analysis.models.images import MIN_SIDE
from refam_analysis.prompts import Prompt, make_prompt
from refam_analysis.recording.attention_calls import AttentionCall
from refam_analysis.recording.labels import COMMON_AXES
from refam_analysis.recording.plans import Heads, Plan, Results
from refam_analysis.recording.quantities import check_names
from refam_analysis.recording.record import keep_of
from refam_analysis.recording.recorder import NothingRecordedError, Recorder
from refam_analysis.recording.runs import Run, choosing, noise_levels
from refam_analysis.recording.sizes import held_bytes, readable, whole_bytes, working_bytes
from refam_analysis.recording.storage import LARGE_HEAD_BYTES, encoding


@dataclass(frozen=True)
class Estimate:
    """What recording one image and one prompt takes. Sizes in bytes, times in seconds.

    Attributes:
        quantities: size of each quantity, over all steps, branches, blocks and heads.
        memory: what the results take without a store, at most: those of every pass, and once more the whole that they
            are put together to, where there are several passes or branches.
        streamed: what they take with a store: those of one block, and three times its largest chunk while that is
            compressed; a chunk is a head where heads are large, else the whole array.
        working: what the reduction of a block takes beside its results, at most, where the model runs; see
            :func:`~refam_analysis.recording.sizes.working_bytes` for the formula. The model's own memory is not in it.
        disk: what a store takes before compression, and the room that it asks for: the quantities. Each chunk has up
            to 20 bytes more where nothing can be compressed; coordinates and attributes take some 100 kB.
        passes: how many forward passes run.
        seconds: of all passes, with their reductions; None where nothing was measured.
        writing: seconds that a store takes on top to compress its blocks, without the disk itself; None likewise.
    """

    quantities: Mapping[str, int]
    memory: int
    streamed: int
    working: int
    disk: int
    passes: int
    seconds: float | None = None
    writing: float | None = None

    @property
    def size(self) -> int:
        """Bytes of everything that is kept."""
        return sum(self.quantities.values())

    def __str__(self) -> str:
        return "\n".join(f"{name:12}{value}" for name, value in self._lines())

    def _repr_html_(self) -> str:
        rows = "".join(f"<tr><th>{name}</th><td>{escape(value)}</td></tr>" for name, value in self._lines())
        return f"<table>{rows}</table>"

    def _lines(self) -> list[tuple[str, str]]:
        each = ", ".join(f"{name} {readable(size)}" for name, size in self.quantities.items())
        passes = "1 forward pass" if self.passes == 1 else f"{self.passes} forward passes"
        lines = [
            ("kept", f"{readable(self.size)} ({each})"),
            ("memory", f"{readable(self.memory)} for the results, or {readable(self.streamed)} with store=path"),
            ("", f"{readable(self.working)} to compute them, beside the model's own"),
            ("disk", f"at most {readable(self.disk)}"),
            ("time", f"{passes}, not measured"),
        ]
        if self.seconds is not None and self.writing is not None:
            lines[-1] = ("time", f"{self.seconds:.3g} s for {passes}, and {self.writing:.3g} s more with store=path")
        return lines


@torch.no_grad()
def estimate(
    model: DiffusionModel,
    *,
    keep: Iterable[str] | None = None,
    size: tuple[int, int] | None = None,
    frames: int = 1,
    expression: str = "a picture",
    blocks: Iterable[int] | None = None,
    heads: Heads = "each",
    words: Iterable[str] | None = None,
    region: np.ndarray | None = None,
    dtype: torch.dtype = torch.float32,
    stack: Stack = MAIN,
    steps: int = 1,
    guidance: float | None = None,
    measure: bool = True,
) -> Estimate:
    """What :func:`refam_analysis.record` will take with these arguments, for one image and one expression.

    Args:
        model: from :func:`refam_analysis.load_model`.
        keep, size, blocks, heads, words, region, dtype, stack, guidance: as for :func:`refam_analysis.record`.
        frames: of the clip, for a video family.
        expression: with its magnets, and with the ``words``; its length matters only to a model that drops the padding.
        steps: denoising steps, or noise levels.
        measure: run one recorded pass and time it; without, the times stay None.

    Returns:
        Bytes in memory and on disk, and the time of a pass where one was run.

    Raises:
        UnknownQuantityError, QuantityMissingError, UnknownBlockError, ModelSizeError, ClipLengthError and others: what
            :func:`refam_analysis.record` would refuse.

    >>> import refam_analysis as ra
    >>> once, twice = (
    ...     ra.estimate(ra.load_model("embedded"), keep=["entropy"], steps=steps, measure=False) for steps in (1, 2)
    ... )
    >>> twice.quantities["entropy"] == 2 * once.quantities["entropy"]
    True
    """
    run = Run(model, noise_levels(0.6, steps), guidance=guidance)
    prompt = make_prompt(expression)
    first = _inputs(run, size or model.default_size, frames, prompt)
    chosen = choosing(model, prompt, words, region)
    queries = None if chosen is None else chosen(first.layout)
    options: dict[str, Any] = {
        "keep": keep_of(model, first.layout, stack, queries) if keep is None else list(check_names(keep)),
        "blocks": None if blocks is None else list(blocks), "heads": heads, "dtype": dtype, "stack": stack,
        "queries": queries, "branches": run.branches,
    }  # fmt: skip
    plan, call = _first_call(model, first, options)
    batch, passes = len(first.layouts), len(run.levels)
    one = whole_bytes(plan, call.heads, batch=batch)
    quantities = {name: passes * value for name, value in one.items()}
    a_block = {name: value // len(plan.recorded) for name, value in one.items()}
    seconds = writing = None
    if measure:
        seconds, compressing = _measured(model, first, options)
        seconds, writing = passes * (seconds - compressing), passes * len(plan.recorded) * compressing
    return Estimate(
        quantities=quantities,
        memory=held_bytes(plan, call.heads, batch=batch, passes=passes, branches=len(run.branches)),
        streamed=sum(a_block.values()) + 3 * _chunk(max(a_block.values()) // batch, plan, call.heads),
        working=working_bytes(plan, call),
        disk=sum(quantities.values()),
        passes=passes,
        seconds=seconds,
        writing=writing,
    )


def _chunk(array: int, plan: Plan, heads: int) -> int:
    """What is compressed at once of the largest array of a block."""
    kept = plan.kept_heads(heads)
    a_head = array // (1 if kept is None else len(kept))
    return a_head if a_head > LARGE_HEAD_BYTES else array


def _inputs(run: Run, size: tuple[int, int], frames: int, prompt: Prompt) -> ForwardInputs:
    """Of a grey picture or clip: what is in it does not matter here, and it is brought to the size, if that is one."""
    picture = Image.new("RGB", (MIN_SIDE, MIN_SIDE), "grey")
    latents = run.model.encode_images([[picture] * frames], size=size)
    return run.first(latents, run.model.encode_prompts([prompt]), [0])


class _Seen(Exception):
    """Ends a pass at the first attention call that is kept."""

    def __init__(self, plan: Plan, call: AttentionCall) -> None:
        super().__init__()
        self.plan, self.call = plan, call


def _stop(plan: Plan, call: AttentionCall) -> NoReturn:
    raise _Seen(plan, call)


def _first_call(model: DiffusionModel, first: ForwardInputs, options: Mapping[str, Any]) -> tuple[Plan, AttentionCall]:
    transformer = model.transformer_at(first.noise_level)
    try:
        with Recorder(transformer, first.layouts, **options, before=_stop) as recorder:
            transformer(**first.kwargs)
    except _Seen as seen:
        return seen.plan, seen.call
    recorder.recordings()  # says why there was no attention
    raise AssertionError("a recorder that saw attention gave none of it to before")


class _Discard:
    """A sink that throws every block away, and compresses one of them as a store would."""

    def __init__(self) -> None:
        self.compressing = 0.0

    def begin(self, *_: object) -> None:
        """Nothing to prepare."""

    def step(self, number: int) -> _Discard:
        """The same for every pass."""
        return self

    def has(self, place: int) -> bool:
        """Everything is still to be recorded."""
        return False

    def recording(self, kernels: Sequence[str]) -> NoReturn:
        """There is none."""
        raise NothingRecordedError("This pass was run for its time alone.")

    def write(self, place: int, results: Sequence[Results]) -> None:
        """Compress the first block in memory, and drop it."""
        if place:
            return
        start = time.perf_counter()
        for result in results:
            for name, values in result.items():
                axes = (*COMMON_AXES, *(f"axis_{i}" for i in range(values.ndim - 3)))
                labelled = xr.DataArray(values.numpy()[None], dims=axes)
                zarr.create_array(MemoryStore(), name=name, data=labelled.values, **encoding(labelled))
        self.compressing = time.perf_counter() - start


def _measured(model: DiffusionModel, first: ForwardInputs, options: Mapping[str, Any]) -> tuple[float, float]:
    """Seconds of one recorded pass, and of these the ones in which a block was compressed."""
    sink = _Discard()
    transformer = model.transformer_at(first.noise_level)
    with Recorder(transformer, first.layouts, **options, sink=sink):
        _wait(model.device)
        start = time.perf_counter()
        transformer(**first.kwargs)
        _wait(model.device)
        return time.perf_counter() - start, sink.compressing


def _wait(device: torch.device) -> None:
    """Until the device has done what it was given."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
