"""Safe inside anybody's program: a recorder listens to its own model in its own thread, and leaves nothing behind.

Two models in one thread or in two, one inside the other, generators and tasks that are left in any order, errors and
interrupts. What a model may run under is in test_environments.
"""

from __future__ import annotations

import asyncio
import copy
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from references.recordings import recorded
from references.watch import Watch
from torch import nn
from torch.overrides import TorchFunctionMode, _get_current_function_mode_stack

from refam_analysis.models.layout import TokenLayout
from refam_analysis.recording import Intervention, MissedAttentionError, Recorder

Inputs = Callable[..., dict[str, torch.Tensor]]

pytestmark = pytest.mark.usefixtures("nothing_is_left")


@pytest.fixture
def nothing_is_left(transformer: FluxTransformer2DModel, other: FluxTransformer2DModel) -> Iterator[None]:
    """After every test of this file: no hook, no mode, no attribute, nothing replaced."""

    def state(model: nn.Module) -> list[tuple[Any, ...]]:
        return [
            (name, sorted(vars(part)), len(part._forward_hooks), len(part._forward_pre_hooks))
            for name, part in model.named_modules()
        ]

    before = [state(transformer), state(other)]
    yield
    assert [state(transformer), state(other)] == before
    assert _get_current_function_mode_stack() == [] and torch.is_grad_enabled()


@pytest.fixture
def other(transformer: FluxTransformer2DModel) -> FluxTransformer2DModel:
    """A second model with other weights."""
    model = copy.deepcopy(transformer)
    with torch.no_grad():
        for weights in model.parameters():
            weights.mul_(-0.9)
    return model


def found(recorder: Recorder) -> np.ndarray:
    return recorder.recording()["full"].values


# --- two models ----------------------------------------------------------------------------------------------------


@torch.no_grad()
def test_two_models_that_take_turns_in_one_thread_are_recorded_apart(
    transformer: FluxTransformer2DModel, other: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    with Recorder(transformer, layout, keep=["full"]) as first, Recorder(other, layout, keep=["full"]) as second:
        transformer(**inputs(seed=0))
        other(**inputs(seed=1))
        transformer(**inputs(seed=2))
    expected = [recorded(transformer, layout, inputs(seed=seed)) for seed in (0, 2)]
    assert np.array_equal(found(first), np.concatenate(expected))
    assert np.array_equal(found(second), recorded(other, layout, inputs(seed=1)))


@torch.no_grad()
def test_a_model_without_a_recorder_runs_beside_one_that_has_one(
    transformer: FluxTransformer2DModel, other: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    expected = other(**inputs()).sample
    with Recorder(transformer, layout, keep=["full"], intervention=Intervention((2,))) as recorder:
        assert torch.equal(other(**inputs()).sample, expected)
        transformer(**inputs())
        assert torch.equal(other(**inputs()).sample, expected)
    assert found(recorder).shape[0] == 1


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("outer_first", [True, False], ids=["outer-entered-first", "inner-entered-first"])
@torch.no_grad()
def test_a_model_that_runs_inside_another_ones_block_is_recorded_apart(
    transformer: FluxTransformer2DModel,
    other: FluxTransformer2DModel,
    layout: TokenLayout,
    inputs: Inputs,
    outer_first: bool,
    dtype: torch.dtype,
) -> None:
    def cast(seed: int) -> dict[str, torch.Tensor]:
        return {k: v if k.endswith("ids") else v.to(dtype) for k, v in inputs(seed=seed).items()}

    outer, inner = transformer.to(dtype), other.to(dtype)
    expected = [recorded(model, layout, cast(seed)) for seed, model in enumerate((outer, inner))]
    attention = outer.single_transformer_blocks[0].attn
    handle = attention.register_forward_pre_hook(lambda *_: inner(**cast(1)) and None)
    models = (outer, inner) if outer_first else (inner, outer)
    with Recorder(models[0], layout, keep=["full"]) as first, Recorder(models[1], layout, keep=["full"]) as second:
        outer(**cast(0))
    handle.remove()
    recorders = (first, second) if outer_first else (second, first)
    for recorder, values in zip(recorders, expected, strict=True):
        assert np.array_equal(found(recorder), values)


@torch.no_grad()
def test_attention_of_an_unrecorded_model_inside_a_block_is_not_taken_for_the_blocks_own(
    transformer: FluxTransformer2DModel, other: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    attention = transformer.single_transformer_blocks[0].attn
    handle = attention.register_forward_pre_hook(lambda *_: other(**inputs(seed=1)) and None)
    with Recorder(transformer, layout), pytest.raises(MissedAttentionError, match="made 6 attention calls where 1"):
        transformer(**inputs())
    handle.remove()


class Broken(Exception):
    """Raised inside a forward pass."""


@torch.no_grad()
def test_a_model_that_breaks_off_inside_another_ones_block_spoils_that_pass_aloud_and_no_later_one(
    transformer: FluxTransformer2DModel, other: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    def stop(*_: object) -> None:
        raise Broken

    def attempt(*_: object) -> None:
        with pytest.raises(Broken):
            other(**inputs())

    handles = [
        other.single_transformer_blocks[1].attn.register_forward_pre_hook(stop),
        transformer.single_transformer_blocks[0].attn.register_forward_pre_hook(attempt),
    ]
    with Recorder(transformer, layout, keep=["full"]) as recorder, Recorder(other, layout):
        with pytest.raises(MissedAttentionError, match="Block 2"):
            transformer(**inputs())
        for handle in handles:
            handle.remove()
        transformer(**inputs())
    assert np.array_equal(found(recorder), recorded(transformer, layout, inputs()))


# --- threads -------------------------------------------------------------------------------------------------------


def test_two_models_that_stand_inside_a_block_at_the_same_time_in_two_threads_are_recorded_apart(
    transformer: FluxTransformer2DModel, other: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    models, meeting = (transformer, other), threading.Barrier(2, timeout=60)
    interventions = (None, Intervention((1,), "redirect", onto=(2,)))
    results: dict[int, np.ndarray] = {}

    def work(number: int) -> None:
        handle = models[number].single_transformer_blocks[1].attn.register_forward_pre_hook(lambda *_: meet())
        results[number] = recorded(models[number], layout, inputs(seed=number), intervention=interventions[number])
        handle.remove()

    def meet() -> None:
        meeting.wait()

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in (0, 1):
        expected = recorded(models[number], layout, inputs(seed=number), intervention=interventions[number])
        np.testing.assert_allclose(results[number], expected, atol=1e-6)


@torch.no_grad()
def test_a_generator_that_another_thread_closes_takes_its_hooks_along_and_none_of_that_threads_modes(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    stacks: list[list[TorchFunctionMode]] = []
    generators: list[Iterator[None]] = []

    def start() -> None:
        generators.append(steps(transformer, layout, inputs, []))
        next(generators[0])

    thread = threading.Thread(target=start)
    thread.start()
    thread.join()
    with Watch() as watch:
        generators[0].close()
        stacks.append(_get_current_function_mode_stack())
    assert stacks == [[watch]]
    assert recorded(transformer, layout, inputs()).shape[0] == 1


# --- generators and tasks ------------------------------------------------------------------------------------------


def steps(
    model: nn.Module, layout: TokenLayout, inputs: Inputs, kept: list[np.ndarray], seed: int = 0
) -> Iterator[None]:
    """Two passes, each followed by a pause in which anything may happen."""
    with Recorder(model, layout, keep=["full"]) as recorder:
        for _ in range(2):
            with torch.no_grad():
                model(**inputs(seed=seed))
            yield
    kept.append(found(recorder))


@pytest.mark.parametrize("left_first", [0, 1])
def test_generators_are_left_in_any_order(
    transformer: FluxTransformer2DModel,
    other: FluxTransformer2DModel,
    layout: TokenLayout,
    inputs: Inputs,
    left_first: int,
) -> None:
    models, kept = (transformer, other), ([], [])
    generators = [steps(models[n], layout, inputs, kept[n], seed=n) for n in (0, 1)]
    for generator in generators:
        next(generator)
    with Watch() as watch:
        next(generators[left_first])
        with pytest.raises(StopIteration):
            next(generators[left_first])
        assert _get_current_function_mode_stack()[-1] is watch
        next(generators[1 - left_first])
    with pytest.raises(StopIteration):
        next(generators[1 - left_first])
    for number, model in enumerate(models):
        expected = recorded(model, layout, inputs(seed=number))
        assert np.array_equal(kept[number][0], np.concatenate([expected, expected]))


def test_a_closed_generator_leaves_nothing(
    transformer: FluxTransformer2DModel, other: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    first, second = steps(transformer, layout, inputs, []), steps(other, layout, inputs, [])
    next(first), next(second)
    first.close()
    assert not any(part._forward_hooks or part._forward_pre_hooks for part in transformer.modules())
    assert len(_get_current_function_mode_stack()) == 1
    second.close()


def test_tasks_of_one_thread_are_recorded_apart_and_a_cancelled_one_leaves_nothing(
    transformer: FluxTransformer2DModel, other: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    async def work(model: nn.Module, seed: int, entered: asyncio.Event) -> np.ndarray:
        with Recorder(model, layout, keep=["full"]) as recorder:
            for _ in range(3):
                with torch.no_grad():
                    model(**inputs(seed=seed))
                entered.set()
                await asyncio.sleep(0)
        return found(recorder)

    async def run() -> np.ndarray:
        entered = asyncio.Event()
        cancelled = asyncio.create_task(work(transformer, 0, entered))
        await entered.wait()
        finished = asyncio.create_task(work(other, 1, asyncio.Event()))
        await asyncio.sleep(0)
        cancelled.cancel()
        with pytest.raises(asyncio.CancelledError):
            await cancelled
        assert not any(part._forward_hooks for part in transformer.modules())
        return await finished

    values = asyncio.run(run())
    assert np.array_equal(values, np.concatenate([recorded(other, layout, inputs(seed=1))] * 3))


# --- errors and interrupts -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("error", [Broken, KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("place", ["attn", "norm"])
@torch.no_grad()
def test_what_breaks_off_a_pass_goes_through_and_leaves_nothing(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, place: str, error: type[BaseException]
) -> None:
    def stop(*_: object) -> None:
        raise error

    expected = transformer(**inputs()).sample
    handle = transformer.single_transformer_blocks[1].get_submodule(place).register_forward_hook(stop)
    with pytest.raises(error):
        with Recorder(transformer, layout, intervention=Intervention((2,))):
            transformer(**inputs())
    handle.remove()
    assert torch.equal(transformer(**inputs()).sample, expected)


@torch.no_grad()
def test_an_interrupted_pass_can_be_run_again_inside_the_same_with_statement(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    with Recorder(transformer, layout, keep=["full"]) as recorder:
        handle = transformer.single_transformer_blocks[1].attn.register_forward_pre_hook(stop)
        with pytest.raises(KeyboardInterrupt):
            transformer(**inputs(seed=5))
        handle.remove()
        transformer(**inputs())
    assert np.array_equal(found(recorder), recorded(transformer, layout, inputs()))


def test_a_recorder_that_cannot_start_leaves_nothing(transformer: FluxTransformer2DModel, layout: TokenLayout) -> None:
    class Full:
        """A place to record to that refuses."""

        def begin(self, *_: object) -> None:
            raise Broken

    recorder = Recorder(transformer, layout, sink=Full())  # type: ignore[arg-type]
    with pytest.raises(Broken):
        recorder.__enter__()


@torch.no_grad()
def test_a_recorder_can_be_entered_again(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    recorder = Recorder(transformer, layout, keep=["full"])
    for seed in (0, 1):
        with recorder:
            transformer(**inputs(seed=seed))
        assert np.array_equal(found(recorder), recorded(transformer, layout, inputs(seed=seed)))
