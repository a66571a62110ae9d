"""Mochi: every item attends by itself, without its prompt's padding, and one attention call lies outside the blocks."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from families import mochi
from PIL import Image
from torch.overrides import TorchFunctionMode

from refam_analysis.models import DiffusionModel
from refam_analysis.models.family import ModelDefaults
from refam_analysis.models.mochi import HiddenEmptyPromptError, MochiModel, TooFewStepsError
from refam_analysis.prompts import make_prompt
from refam_analysis.recording import Recorder, record, record_batch

PROMPTS = [make_prompt("the red ring on the left", [".", "a"]), make_prompt("a square")]


def model_of(*, hide_empty_prompts: bool = False) -> MochiModel:
    """Clips of 7 frames of 32 x 48 pixels: 2 x 2 x 3 tokens."""
    defaults = ModelDefaults(image_size=(32, 48), text_length=24, steps=2, guidance=4.5, frames=7)
    return MochiModel(mochi.build(hide_empty_prompts=hide_empty_prompts), defaults, name="random")


@pytest.fixture(scope="module")
def model() -> MochiModel:
    return model_of()


def pictures(number: int = 2) -> list[Image.Image]:
    pixels = np.random.default_rng(0).integers(0, 256, (number, 32, 48, 3), np.uint8)
    return [Image.fromarray(picture) for picture in pixels]


def inputs_of(model: DiffusionModel) -> Any:
    latents = model.encode_images(pictures())
    return model.forward_inputs(latents, model.encode_prompts(PROMPTS), noise_level=0.5, seeds=[0, 1])


def test_the_text_segment_is_the_prompt_without_padding(model: MochiModel) -> None:
    assert [token.text for token in model.tokens(PROMPTS[1])] == ["a", "square", "</s>"]
    lengths = [layout.text for layout in inputs_of(model).layouts]
    assert lengths == [slice(6, 6 + len(model.tokens(PROMPTS[0]))), slice(6, 9)]


def test_padding_is_neither_key_nor_query(model: MochiModel) -> None:
    """What the text encoder makes of the padding changes nothing: the attention picks the prompt's tokens."""
    inputs = inputs_of(model)
    changed = inputs.kwargs["encoder_hidden_states"].clone()
    changed[~inputs.kwargs["encoder_attention_mask"]] += 100.0
    recordings = []
    for states in (inputs.kwargs["encoder_hidden_states"], changed):
        with torch.no_grad(), Recorder(model.transformer, inputs.layouts, keep=["full"]) as recorder:
            model.transformer(**{**inputs.kwargs, "encoder_hidden_states": states})
        recordings.append(recorder.recordings())
    for before, after in zip(*recordings, strict=True):
        np.testing.assert_allclose(before["full"], after["full"], atol=1e-6)


def test_the_call_that_pools_the_text_is_not_recorded(model: MochiModel) -> None:
    calls: list[int] = []

    class Count(TorchFunctionMode):
        def __torch_function__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            if function is torch.nn.functional.scaled_dot_product_attention:
                calls.append(args[0].shape[2])
            return function(*args, **(kwargs or {}))

    inputs = inputs_of(model)
    with torch.no_grad(), Count():
        model.transformer(**inputs.kwargs)
    assert len(calls) == 1 + 3 * 2 and calls[0] == 1  # the pooled text has one query
    with torch.no_grad(), Recorder(model.transformer, inputs.layouts, keep=["entropy"]) as recorder:
        model.transformer(**inputs.kwargs)
    for recording, layout in zip(recorder.recordings(), inputs.layouts, strict=True):
        assert recording["entropy"].sizes["block"] == 3
        assert recording["entropy"].sizes["query"] == layout.length
        assert np.isfinite(recording["entropy"]).all()


def test_a_batch_records_what_its_items_record_alone(model: MochiModel) -> None:
    together = record_batch(model, pictures(), PROMPTS, seeds=[3, 4], keep=["full"])
    for item, recording in enumerate(together):
        [alone] = record_batch(model, [pictures()[item]], [PROMPTS[item]], seeds=[3 + item], keep=["full"])
        assert recording["full"].shape == alone["full"].shape
        np.testing.assert_allclose(recording["full"], alone["full"], atol=1e-5)


def test_the_unconditional_branch_has_no_more_text_than_the_end_of_sequence(model: MochiModel) -> None:
    recording = record(model, pictures()[0], "a square", guidance=3.0, keep=["image_to_text"])
    conditional, unconditional = recording["image_to_text"].isel(step=0).values
    assert np.isfinite(conditional).all()
    assert np.isfinite(unconditional[..., 0]).all() and np.isnan(unconditional[..., 1:]).all()


def test_the_remarks_say_what_is_missing(model: MochiModel) -> None:
    recording = record(model, pictures()[0], "a square")
    assert any("padding" in remark for remark in recording.attrs["remarks"])


def test_time_runs_from_noise_to_image(model: MochiModel) -> None:
    latents, conditioning = model.encode_images(pictures()[:1]), model.encode_prompts(PROMPTS[:1])
    given = [
        model.forward_inputs(latents, conditioning, noise_level=level, seeds=[0]).kwargs["timestep"].item()
        for level in (1.0, 0.75, 0.0)
    ]
    assert given == [0.0, 250.0, 1000.0]


def test_a_branch_without_text_is_refused() -> None:
    hiding = model_of(hide_empty_prompts=True)
    with pytest.raises(HiddenEmptyPromptError, match="unconditional branch has no text"):
        record(hiding, pictures()[0], "a square", guidance=3.0)
    record(hiding, pictures()[0], "a square")
    assert len(hiding.generate("a square")) == 7


def test_a_single_step_is_refused(model: MochiModel) -> None:
    with pytest.raises(TooFewStepsError, match="in 1 step"):
        model.generate("a square", steps=1)
