"""The Recorder on a real FLUX transformer: exact, complete, bit for bit, and gone when it is left."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxTransformer2DModel
from torch import nn
from torch.overrides import _get_current_function_mode_stack

from refam_analysis.errors import RefamError
from refam_analysis.models.layout import TokenLayout
from refam_analysis.prompts import Token
from refam_analysis.recording import (
    QUANTITIES,
    NothingRecordedError,
    NotOneRecordingError,
    OtherThreadError,
    Recorder,
    RecorderBusyError,
    UnknownBlockError,
    UnknownQuantityError,
)

Inputs = Callable[..., dict[str, torch.Tensor]]


def hooks_of(model: nn.Module) -> int:
    return sum(len(part._forward_hooks) + len(part._forward_pre_hooks) for part in model.modules())


@pytest.mark.parametrize("heads", ["each", "mean"])
@pytest.mark.parametrize("batch", [1, 3], ids=lambda n: f"batch-{n}")
@torch.no_grad()
def test_every_block_and_quantity_equals_plain_softmax(
    transformer: FluxTransformer2DModel,
    layout: TokenLayout,
    inputs: Inputs,
    queries_and_keys: Callable[..., list[tuple[torch.Tensor, torch.Tensor]]],
    plain_attention: Callable[..., torch.Tensor],
    plain_quantity: Callable[..., torch.Tensor],
    batch: int,
    heads: Any,
) -> None:
    arguments = inputs(batch)
    calls = queries_and_keys(transformer, **arguments)
    with Recorder(transformer, layout, keep=QUANTITIES, heads=heads) as recorder:
        transformer(**arguments)
    recordings = recorder.recordings()
    assert len(calls) == 5 and len(recordings) == batch
    for block, (query, key) in enumerate(calls):
        attention = plain_attention(query, key)
        for name in QUANTITIES:
            expected = plain_quantity(name, attention, layout.text, layout.image)
            expected = expected.mean(1, keepdim=True) if heads == "mean" else expected
            for item, recording in enumerate(recordings):
                found = recording[name].sel(block=block).isel(step=0, branch=0).values
                np.testing.assert_allclose(
                    found.reshape(expected[item].shape), expected[item], atol=1e-5, rtol=1e-4, err_msg=name
                )


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float64], ids=str)
@torch.no_grad()
def test_the_output_is_the_same_bit_for_bit(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs, dtype: torch.dtype
) -> None:
    model = transformer.to(dtype)
    arguments = {k: v if k.endswith("ids") else v.to(dtype) for k, v in inputs(2).items()}
    expected = model(**arguments).sample
    with Recorder(model, layout, keep=QUANTITIES) as recorder:
        found = model(**arguments).sample
    assert torch.equal(found, expected)
    assert len(recorder.recordings()) == 2


def test_gradients_are_the_same(transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs) -> None:
    def gradient() -> torch.Tensor:
        transformer.zero_grad()
        transformer(**inputs()).sample.square().sum().backward()
        return transformer.x_embedder.weight.grad.clone()

    expected = gradient()
    with Recorder(transformer, layout) as recorder:
        found = gradient()
    assert torch.equal(found, expected)
    assert recorder.recording()["entropy"].sizes["block"] == 5


def test_gradient_checkpointing_records_each_block_once(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    with torch.no_grad(), Recorder(transformer, layout) as recorder:
        transformer(**inputs())
    expected = recorder.recording()["image_to_text"].values
    transformer.train().enable_gradient_checkpointing()
    with Recorder(transformer, layout) as recorder:
        transformer(**inputs()).sample.sum().backward()
    assert recorder.recording().dataset.sizes["step"] == 1
    np.testing.assert_allclose(recorder.recording()["image_to_text"].values, expected, atol=1e-6)


@torch.no_grad()
def test_axes_are_all_there_in_order(transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs) -> None:
    with Recorder(transformer, layout, keep=QUANTITIES) as recorder:
        transformer(**inputs())
        transformer(**inputs(seed=1))
    recording = recorder.recording()
    common, sizes = ("step", "branch", "block", "head"), (2, 1, 5, 2)
    expected = {
        "full": ({"query": 17, "key": 17}),
        "text_to_text": {"query": 5, "key": 5},
        "text_to_image": {"token": 5, "y": 3, "x": 4},
        "image_to_text": {"y": 3, "x": 4, "token": 5},
        "image_to_image": {"query": 12, "key": 12},
        "entropy": {"query": 17},
        "entropy_over_text": {"query": 17},
        "entropy_over_image": {"query": 17},
        "mass_on_text": {"query": 17},
        "received_from_text": {"key": 17},
        "received_from_image": {"key": 17},
        "uniformity_from_text": {"key": 17},
        "uniformity_from_image": {"key": 17},
    }
    assert set(recording.kept) == set(expected)
    for name, axes in expected.items():
        assert recording[name].dims == (*common, *axes), name
        assert recording[name].shape == (*sizes, *axes.values()), name


@torch.no_grad()
def test_image_to_text_lies_on_the_grid_in_row_major_order(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    with Recorder(transformer, layout, keep=["full", "image_to_text", "text_to_image"]) as recorder:
        transformer(**inputs())
    recording = recorder.recording()
    full = recording["full"].values
    row, column, token = 2, 1, 3
    place = layout.image.start + row * 4 + column
    assert np.array_equal(recording["image_to_text"].isel(y=row, x=column, token=token), full[..., place, token])
    assert np.array_equal(recording["text_to_image"].isel(y=row, x=column, token=token), full[..., token, place])


@torch.no_grad()
def test_a_clip_has_frames(transformer: FluxTransformer2DModel, inputs: Inputs) -> None:
    layout = TokenLayout(text=slice(0, 5), image=slice(5, 17), grid=(3, 2, 2))
    with Recorder(transformer, layout, keep=["text_to_image"]) as recorder:
        transformer(**inputs())
    assert recorder.recording()["text_to_image"].dims[-4:] == ("token", "frame", "y", "x")


@torch.no_grad()
def test_chosen_blocks_are_what_they_are_among_all(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    with Recorder(transformer, layout) as recorder:
        transformer(**inputs())
    everything = recorder.recording()
    with Recorder(transformer, layout, blocks=[4, 1]) as recorder:
        transformer(**inputs())
    some = recorder.recording()
    assert some["entropy"].block.values.tolist() == [1, 4]
    assert some["entropy"].block_type.values.tolist() == ["double", "single"]
    assert np.array_equal(some["entropy"], everything["entropy"].sel(block=[1, 4]))


@torch.no_grad()
def test_float16_is_kept_as_such(transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs) -> None:
    with Recorder(transformer, layout, dtype=torch.float16) as recorder:
        transformer(**inputs())
    assert {str(array.dtype) for array in recorder.recording().dataset.data_vars.values()} == {"float16"}


@torch.no_grad()
def test_tokens_and_noise_levels_label_the_axes(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    tokens = [Token(i, f"t{i}", f"w{i}", "content", "t5", i) for i in range(5)]
    with Recorder(transformer, layout, keep=["full"]) as recorder:
        transformer(**inputs())
    recording = recorder.recording(noise_levels=[0.25], tokens=[tokens], attributes=[{"seed": 3}])
    full = recording["full"]
    assert recording.tokens == tuple(tokens)
    assert full.noise_level.values.tolist() == [0.25]
    assert full.side.values.tolist() == ["text"] * 5 + ["image"] * 12
    assert full.key_word.values.tolist() == ["w0", "w1", "w2", "w3", "w4"] + [""] * 12
    assert recording.attrs["seed"] == 3 and recording.attrs["model"] == "FluxTransformer2DModel"
    with pytest.raises(RefamError, match="noise_levels has 2 entries, but 1"):
        recorder.recording(noise_levels=[0.1, 0.2])


class Broken(Exception):
    """Raised inside a forward pass."""


@torch.no_grad()
def test_nothing_is_left_behind(transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs) -> None:
    before = hooks_of(transformer), dict(vars(transformer)).keys(), len(_get_current_function_mode_stack())
    for error in (None, Broken, KeyboardInterrupt):
        try:
            with Recorder(transformer, layout) as recorder:
                assert hooks_of(transformer) > before[0]
                transformer(**inputs())
                if error:
                    raise error
        except (Broken, KeyboardInterrupt):
            pass
        after = hooks_of(transformer), dict(vars(transformer)).keys(), len(_get_current_function_mode_stack())
        assert after == before, error
        assert recorder.recording().kept
    transformer(**inputs())


@torch.no_grad()
def test_a_pass_that_breaks_off_is_dropped(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    def stop(*_: object) -> None:
        raise Broken

    with Recorder(transformer, layout) as recorder:
        handle = transformer.single_transformer_blocks[1].attn.register_forward_pre_hook(stop)
        with pytest.raises(Broken):
            transformer(**inputs())
        handle.remove()
        transformer(**inputs())
    assert recorder.recording().dataset.sizes["step"] == 1


def test_two_recorders_on_one_model_are_refused(transformer: FluxTransformer2DModel, layout: TokenLayout) -> None:
    with Recorder(transformer, layout):
        with pytest.raises(RecorderBusyError, match="recorded already"):
            Recorder(transformer, layout).__enter__()
    with Recorder(transformer, layout):
        pass


def run_in_thread(work: Callable[[], object]) -> list[BaseException]:
    errors: list[BaseException] = []

    def guarded() -> None:
        try:
            work()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=guarded)
    thread.start()
    thread.join()
    return errors


@torch.no_grad()
def test_a_forward_pass_in_another_thread_fails_there(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    with Recorder(transformer, layout) as recorder:
        errors = run_in_thread(lambda: transformer(**inputs()))
    assert [type(error) for error in errors] == [OtherThreadError]
    with pytest.raises(NothingRecordedError):
        recorder.recording()


@torch.no_grad()
def test_recorders_in_two_threads_do_not_see_each_other(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    import copy

    models = [transformer, copy.deepcopy(transformer)]
    inside, found = threading.Barrier(2, timeout=60), {}

    def work(number: int) -> None:
        with torch.no_grad(), Recorder(models[number], layout) as recorder:
            inside.wait()
            models[number](**inputs(seed=number))
            inside.wait()
        found[number] = recorder.recording()["entropy"].values

    threads = [threading.Thread(target=work, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for number in (0, 1):
        with Recorder(transformer, layout) as recorder:
            transformer(**inputs(seed=number))
        np.testing.assert_allclose(found[number], recorder.recording()["entropy"].values, atol=1e-5)


def test_nothing_recorded_says_what_to_do(transformer: FluxTransformer2DModel, layout: TokenLayout) -> None:
    with Recorder(transformer, layout) as recorder:
        pass
    with pytest.raises(NothingRecordedError, match="Call the model itself"):
        recorder.recording()


@torch.no_grad()
def test_calling_forward_itself_records_nothing(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    with Recorder(transformer, layout) as recorder:
        transformer.forward(**inputs())
    with pytest.raises(NothingRecordedError):
        recorder.recordings()


@torch.no_grad()
def test_a_batch_is_not_one_recording(transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs) -> None:
    with Recorder(transformer, layout) as recorder:
        transformer(**inputs(2))
    with pytest.raises(NotOneRecordingError, match="2 items"):
        recorder.recording()


def test_wrong_arguments_are_refused(transformer: FluxTransformer2DModel, layout: TokenLayout) -> None:
    with pytest.raises(UnknownQuantityError, match="'entropie'"):
        Recorder(transformer, layout, keep=["entropie"])
    with pytest.raises(UnknownQuantityError, match="keep"):
        Recorder(transformer, layout, keep=[])
    with pytest.raises(UnknownBlockError):
        Recorder(transformer, layout, blocks=[9])
    with pytest.raises(RefamError, match="'each', 'mean', or"):
        Recorder(transformer, layout, heads="all")
    with pytest.raises(RefamError, match=r"torch\.bfloat16"):
        Recorder(transformer, layout, dtype=torch.bfloat16)
    with pytest.raises(RefamError, match="'turns'.*'batch', 'passes'"):
        Recorder(transformer, layout, branch_order="turns")  # type: ignore[arg-type]
    with pytest.raises(RefamError, match="at least one branch"):
        Recorder(transformer, layout, branches=())


def test_what_describes_items_is_given_for_each(
    transformer: FluxTransformer2DModel, layout: TokenLayout, inputs: Inputs
) -> None:
    with torch.no_grad(), Recorder(transformer, layout, keep=["entropy"]) as recorder:
        transformer(**inputs())
    with pytest.raises(RefamError, match="attributes has 2 entries, but 1 are needed"):
        recorder.recordings(attributes=[{}, {}])
