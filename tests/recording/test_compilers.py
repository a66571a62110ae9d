"""torch.compile: a model is recorded right whether or not it was compiled before the recorder came, or it refuses."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    FluxTransformer2DModel,
)
from references.recordings import recorded

from refam_analysis.models.layout import TokenLayout
from refam_analysis.recording import (
    Intervention,
    NothingRecordedError,
    Recorder,
)

Inputs = Callable[..., dict[str, torch.Tensor]]
Plain = Callable[..., torch.Tensor]


@pytest.fixture
def fresh_compiler() -> Iterator[None]:
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def compiled(how: str, model: FluxTransformer2DModel, **options: Any) -> Callable[..., Any]:
    """What is called in place of the model."""
    if how == "wrapped":
        return torch.compile(model, **options)
    if how == "in-place":
        model.compile(**options)
    elif how == "forward":
        model.forward = torch.compile(model.forward, **options)
    else:
        model.compile_repeated_blocks(**options)
    return model


@pytest.mark.parametrize("traced", ["before", "inside"])
@pytest.mark.parametrize(
    ("how", "backend"),
    [("wrapped", "eager"), ("in-place", "eager"), ("forward", "eager"), ("blocks", "aot_eager")],
    ids=lambda given: given,
)
@pytest.mark.usefixtures("fresh_compiler")
@torch.no_grad()
def test_a_compiled_model_is_recorded_whether_or_not_it_was_traced_before(
    small_transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, how: str, backend: str, traced: str
) -> None:
    expected = [recorded(small_transformer, layout, inputs(seed=seed)) for seed in range(3)]
    changed = recorded(small_transformer, layout, inputs(), intervention=Intervention((2,)))
    prediction = small_transformer(**inputs())[0]
    call = compiled(how, small_transformer, backend=backend)
    if traced == "before":
        call(**inputs())
    for seed in range(3):
        with Recorder(small_transformer, layout, keep=["full"]) as recorder:
            call(**inputs(seed=seed))
        np.testing.assert_allclose(recorder.recording()["full"].values, expected[seed], atol=1e-6)
    with Recorder(small_transformer, layout, keep=["full"], intervention=Intervention((2,))) as recorder:
        call(**inputs())
    np.testing.assert_allclose(recorder.recording()["full"].values, changed, atol=1e-6)
    torch.testing.assert_close(call(**inputs())[0], prediction, atol=1e-5, rtol=1e-5)


@pytest.mark.usefixtures("fresh_compiler")
@torch.no_grad()
def test_more_recorders_than_a_compiler_keeps_graphs_for_are_all_right(
    small_transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    seeds = range(torch._dynamo.config.recompile_limit + 3)
    expected = [recorded(small_transformer, layout, inputs(seed=seed)) for seed in seeds]
    small_transformer.compile_repeated_blocks(backend="eager")
    for seed in seeds:
        np.testing.assert_allclose(recorded(small_transformer, layout, inputs(seed=seed)), expected[seed], atol=1e-6)


@pytest.mark.skipif(shutil.which("g++") is None, reason="inductor needs a C++ compiler")
@pytest.mark.usefixtures("fresh_compiler")
@torch.no_grad()
def test_inductor_is_recorded_up_to_its_own_rounding(
    small_transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    expected = recorded(small_transformer, layout, inputs())
    small_transformer.compile_repeated_blocks(backend="inductor")
    small_transformer(**inputs())
    np.testing.assert_allclose(recorded(small_transformer, layout, inputs()), expected, atol=1e-4)


@pytest.mark.usefixtures("fresh_compiler")
@torch.no_grad()
def test_one_graph_without_a_break_is_refused(
    small_transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    call = torch.compile(small_transformer, backend="eager", fullgraph=True)
    call(**inputs())
    with Recorder(small_transformer, layout) as recorder:
        with pytest.raises(torch._dynamo.exc.Unsupported, match="attention is recorded outside compiled graphs"):
            call(**inputs())
    with pytest.raises(NothingRecordedError):
        recorder.recording()
