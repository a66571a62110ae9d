"""Estimates against what is there afterwards: arrays that were kept, files that were written, memory that was taken."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch.profiler import ProfilerActivity, profile

import refam_analysis as ra
from refam_analysis.models import DiffusionModel, ModelSizeError, TokenLayout, UnknownBlockError, load_model
from refam_analysis.models.base import ClipLengthError
from refam_analysis.recording import (
    QUANTITIES,
    Estimate,
    MemoryBudgetError,
    QuantityMissingError,
    Recorder,
    RegionError,
    UnknownQuantityError,
    UnknownWordError,
    chunks,
    estimate,
    record,
)
from refam_analysis.recording.passes import Pass
from refam_analysis.recording.sizes import working_bytes

SENTENCE = "the red circle"


@pytest.fixture(scope="module")
def model(tiny_flux_folder: Path) -> DiffusionModel:
    return load_model(tiny_flux_folder)


def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (50, 70, 3), dtype=np.uint8)


REGION = np.indices((4, 5)).sum(0) % 3 == 0
"""Some of the image tokens."""

OPTIONS: dict[str, dict[str, Any]] = {
    "usual": {},
    "everything": {"keep": QUANTITIES},
    "float16": {"keep": ["full", "received_from_text"], "dtype": torch.float16},
    "branches": {"keep": ["image_to_text"], "guidance": 3.0},
    "steps": {"keep": ["full", "entropy"], "steps": 3},
    "steps-and-branches": {"keep": ["full", "entropy"], "steps": 2, "guidance": 3.0, "dtype": torch.float16},
    "mean": {"keep": ["text_to_image", "entropy"], "heads": "mean"},
    "one-head": {"keep": ["full"], "heads": [1], "blocks": [3, 0]},
    "tall": {"keep": ["full", "image_to_text", "entropy"], "size": (72, 16)},
    "wide": {"keep": ["image_to_image", "text_to_image"], "size": (8, 104)},
    "words": {"keep": ["full", "text_to_image", "entropy", "received_from_text"], "words": ["circle", "the"]},
    "region": {"keep": ["full", "image_to_text"], "region": REGION, "steps": 2, "guidance": 3.0},
    "both": {"keep": ["full"], "words": ["red"], "region": REGION, "heads": [0], "dtype": torch.float16},
}


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_sizes_are_those_of_the_arrays(model: DiffusionModel, options: dict[str, Any]) -> None:
    estimated = estimate(model, expression=SENTENCE, measure=False, **options)
    recorded = record(model, picture(), SENTENCE, **options)
    kept = {name: recorded.dataset[name].nbytes for name in recorded.kept}
    assert estimated.quantities == kept
    assert estimated.size == estimated.disk == sum(kept.values())
    assert estimated.passes == recorded.dataset.sizes["step"]


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_memory_is_what_a_budget_has_to_allow(model: DiffusionModel, options: dict[str, Any]) -> None:
    needed = estimate(model, expression=SENTENCE, measure=False, **options).memory
    record(model, picture(), SENTENCE, budget=needed, **options)
    with pytest.raises(MemoryBudgetError, match=f"{needed} bytes"):
        record(model, picture(), SENTENCE, budget=needed - 1, **options)


@pytest.mark.parametrize("options", OPTIONS.values(), ids=OPTIONS)
def test_a_store_takes_no_more_than_was_said(model: DiffusionModel, tmp_path: Path, options: dict[str, Any]) -> None:
    estimated = estimate(model, expression=SENTENCE, measure=False, **options)
    record(model, picture(), SENTENCE, store=tmp_path / "run.zarr", **options)
    for name, size in estimated.quantities.items():
        files = [file for file in (tmp_path / "run.zarr" / name / "c").rglob("*") if file.is_file()]
        assert sum(file.stat().st_size for file in files) <= size + 20 * len(files)
    blocks = len(options.get("blocks", range(4))) * estimated.passes
    branches = 1 if options.get("guidance") is None else 2
    largest = max(estimated.quantities.values()) // blocks
    assert estimated.streamed == estimated.size // blocks + 3 * largest // branches


# --- memory while it runs ---


def peak_of(run: Callable[[], object]) -> int:
    """Bytes that PyTorch has allocated at most while something runs, beyond what there was before."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True, acc_events=True) as profiled:
        run()
    events = [event for event in profiled.profiler.kineto_results.events() if event.name() == "[memory]"]
    assert len(events) > 10
    changes = [event.nbytes() for event in sorted(events, key=lambda event: event.start_ns())]
    return int(np.cumsum(changes).max())


def test_the_peak_is_measured() -> None:
    def run() -> None:
        for _ in range(8):
            torch.ones(1000).sum()
        first = torch.ones(5000)
        torch.cat([first, first]).sum()

    assert 60_000 <= peak_of(run) < 62_000


class Discard:
    """A sink that keeps nothing."""

    def begin(self, *_: object) -> None: ...

    def step(self, number: int) -> Discard:
        return self

    def has(self, place: int) -> bool:
        return False

    def write(self, place: int, results: Any) -> None: ...


def joint_inputs(tokens: int, batch: int) -> dict[str, torch.Tensor]:
    """For a FLUX transformer of 8 channels: five text tokens, and a row of image tokens."""
    generator = torch.Generator().manual_seed(0)
    return {
        "hidden_states": torch.randn(batch, tokens, 8, generator=generator),
        "encoder_hidden_states": torch.randn(batch, 5, 12, generator=generator),
        "pooled_projections": torch.randn(batch, 6, generator=generator),
        "timestep": torch.full((batch,), 0.6),
        "img_ids": torch.cartesian_prod(torch.zeros(1), torch.zeros(1), torch.arange(float(tokens))),
        "txt_ids": torch.zeros(5, 3),
    }


class Worked:
    """One block of a FLUX transformer, recorded: what this takes, measured and by the formula.

    Attributes:
        by_formula: what its reductions take at most beside the results.
        results: bytes of them.
        reducing: measured, of the reductions with the results.
        recorded: measured, of a whole recorded pass.
        plain: measured, of the same pass without a recorder.
    """

    def __init__(self, transformer: FluxTransformer2DModel, tokens: int, batch: int, **options: Any) -> None:
        layout = TokenLayout(text=slice(0, 5), image=slice(5, 5 + tokens), grid=(1, tokens))
        inputs, noted, sizes = joint_inputs(tokens, batch), [], {}
        if "every" in options:
            options["queries"] = range(0, 5 + tokens, options.pop("every"))

        class Noting(Discard):
            def write(self, place: int, results: Any) -> None:
                sizes.update({(i, name): part.nbytes for i, one in enumerate(results) for name, part in one.items()})

        def run() -> None:
            note = lambda plan, call: noted.append(working_bytes(plan, call))  # noqa: E731
            with Recorder(transformer, layout, blocks=[0], sink=Noting(), before=note, **options):
                transformer(**inputs)

        self.recorded = peak_of(run)
        self.plain = peak_of(lambda: transformer(**inputs))
        with pytest.MonkeyPatch.context() as patch:
            keep, peaks = Pass.keep_attention, []
            patch.setattr(Pass, "keep_attention", lambda *given: peaks.append(peak_of(lambda: keep(*given))))
            run()
        self.by_formula, self.results = noted[0], sum(sizes.values())
        (self.reducing,) = peaks


KEPT: dict[str, dict[str, Any]] = {
    "full": {"keep": ["full"]},
    "full-half": {"keep": ["full"], "dtype": torch.float16},
    "entropy": {"keep": ["entropy"]},
    "maps": {"keep": ["image_to_text", "text_to_image"]},
    "everything": {"keep": QUANTITIES},
    "mean": {"keep": QUANTITIES, "heads": "mean", "dtype": torch.float16},
    "one-head": {"keep": ["full", "entropy"], "heads": [1]},
    "queries": {"keep": ["full", "entropy"], "every": 2},
}


@pytest.mark.parametrize("size", [20_000, 300_000, 10_000_000], ids=lambda n: f"chunk-{n}")
@pytest.mark.parametrize("batch", [1, 2], ids=lambda n: f"batch-{n}")
@pytest.mark.parametrize("options", KEPT.values(), ids=KEPT)
@torch.no_grad()
def test_reducing_takes_no_more_than_the_formula(
    transformer: FluxTransformer2DModel,
    monkeypatch: pytest.MonkeyPatch,
    options: dict[str, Any],
    batch: int,
    size: int,
) -> None:
    monkeypatch.setitem(chunks.CHUNK_BYTES, "cpu", size)
    worked = Worked(transformer, 251, batch, **options)
    assert worked.reducing <= worked.results + worked.by_formula
    assert worked.recorded <= worked.plain + worked.results + worked.by_formula
    if list(options["keep"]) not in (["full"], ["image_to_text", "text_to_image"]):  # they need one chunk, not three
        assert worked.reducing > worked.results + 0.4 * worked.by_formula


@torch.no_grad()
def test_a_smaller_chunk_takes_less(transformer: FluxTransformer2DModel, monkeypatch: pytest.MonkeyPatch) -> None:
    large = Worked(transformer, 400, 1, keep=["entropy"])
    monkeypatch.setitem(chunks.CHUNK_BYTES, "cpu", 20_000)
    small = Worked(transformer, 400, 1, keep=["entropy"])
    assert small.by_formula < large.by_formula / 3
    assert small.reducing < large.reducing / 3


# --- time, words, errors ---


def test_times_are_measured_where_they_are_asked_for(model: DiffusionModel) -> None:
    passes: list[object] = []
    handle = model.transformer.register_forward_hook(lambda *_: passes.append(None))
    unmeasured = estimate(model, keep=["full"], steps=3, measure=False)
    assert unmeasured.seconds is None and unmeasured.writing is None and not passes
    measured = estimate(model, keep=["full"], steps=3)
    handle.remove()
    assert measured.seconds > 0 and measured.writing > 0 and len(passes) == 1
    assert measured.quantities == unmeasured.quantities


def test_a_longer_run_is_said_to_take_longer(model: DiffusionModel) -> None:
    one, many = estimate(model), estimate(model, steps=50)
    assert many.passes == 50 * one.passes
    assert many.seconds > one.seconds and many.writing > one.writing


def test_it_shows_itself() -> None:
    numbers = {"full": 2_000_000, "entropy": 999}
    shown = Estimate(numbers, memory=4_000_000, streamed=3000, working=20_000, disk=2_000_999, passes=2)
    assert str(shown).splitlines() == [
        "kept        2.0 MB (full 2.0 MB, entropy 999 bytes)",
        "memory      4.0 MB for the results, or 3.0 kB with store=path",
        "            20.0 kB to compute them, beside the model's own",
        "disk        at most 2.0 MB",
        "time        2 forward passes, not measured",
    ]
    timed = Estimate(numbers, 1, 1, 1, 1, passes=1, seconds=1.234, writing=60.0)
    assert str(timed).endswith("1.23 s for 1 forward pass, and 60 s more with store=path")
    assert "<td>at most 2.0 MB</td>" in shown._repr_html_() and "model&#x27;s" in shown._repr_html_()


def test_the_model_is_left_as_it_was(model: DiffusionModel) -> None:
    estimate(model)
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in model.transformer.modules())


@pytest.mark.parametrize(
    ("options", "error"),
    [
        ({"keep": ["entropie"]}, UnknownQuantityError),
        ({"blocks": [9]}, UnknownBlockError),
        ({"size": (33, 40)}, ModelSizeError),
        ({"frames": 3}, ClipLengthError),
        ({"words": ["square"]}, UnknownWordError),
        ({"region": np.ones((2, 2), dtype=bool)}, RegionError),
        ({"words": ["picture"], "keep": ["image_to_text"]}, QuantityMissingError),
    ],
    ids=["quantity", "block", "size", "frames", "word", "region", "side"],
)
def test_what_record_refuses_is_refused(model: DiffusionModel, options: dict[str, Any], error: type[Exception]) -> None:
    with pytest.raises(error):
        estimate(model, measure=False, **options)


def test_it_is_a_public_name() -> None:
    assert ra.estimate is estimate
