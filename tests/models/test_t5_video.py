"""Mochi, CogVideoX and Wan in every variant: what diffusers' own pipelines compute, from the same latents and text."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from families import cogvideox, mochi, wan
from PIL import Image

from refam_analysis.models import ClipLengthError, DiffusionModel, load_model
from refam_analysis.models.cogvideox import CogVideoXModel
from refam_analysis.models.family import MissingPartError, ModelDefaults
from refam_analysis.models.mochi import MochiModel
from refam_analysis.models.schedules import step
from refam_analysis.models.t5_video import T5VideoModel
from refam_analysis.models.wan import WanModel
from refam_analysis.prompts import PromptTooLongError, make_prompt

PROMPT = make_prompt("the red ring on the left", [".", "a"])


@dataclass(frozen=True)
class Row:
    """A variant.

    Attributes:
        name: for the test's id.
        family: its class.
        build: the tiny pipeline.
        size: height and width in pixels: 2 x 3 tokens.
        frames: of a clip in pixels.
        latent_frames: of it.
        level: noise level at a place in its scheduler's list.
        published: image_size, text_length, steps, guidance, frames that a bare pipeline has.
    """

    name: str
    family: type[T5VideoModel]
    build: Callable[[], DiffusionPipeline]
    size: tuple[int, int]
    frames: int
    latent_frames: int
    level: Callable[[Any, int], float]
    published: tuple[Any, ...]

    def __str__(self) -> str:
        return self.name


def cogvideox_level(scheduler: Any, place: int) -> float:
    """Where signal and noise are in the ratio (1 - t) : t."""
    kept = float(scheduler.alphas_cumprod[scheduler.timesteps[place]])
    return (1 - kept) ** 0.5 / ((1 - kept) ** 0.5 + kept**0.5)


def mochi_level(scheduler: Any, place: int) -> float:
    return 1.0 - float(scheduler.sigmas[place])


def wan_level(scheduler: Any, place: int) -> float:
    return float(scheduler.sigmas[place])


SMALL, LARGE = (32, 48), (64, 96)
# The sizes of CogVideoX's own configuration are the tiny one's: 6 x 8 latents of 8 pixels, 24 tokens, 9 frames.
ROWS = [
    Row("mochi", MochiModel, mochi.build, SMALL, 7, 2, mochi_level, ((480, 848), 256, 64, 4.5, 19)),
    Row(
        "cogvideox-2b", CogVideoXModel, partial(cogvideox.build, "2b"), SMALL, 9, 3, cogvideox_level,
        ((48, 64), 24, 50, 6.0, 9),
    ),
    Row(
        "cogvideox-5b", CogVideoXModel, partial(cogvideox.build, "5b"), SMALL, 9, 3, cogvideox_level,
        ((48, 64), 24, 50, 6.0, 9),
    ),
    Row(
        "cogvideox-1.5", CogVideoXModel, partial(cogvideox.build, "1.5"), SMALL, 9, 4, cogvideox_level,
        ((768, 1360), 24, 50, 6.0, 9),
    ),
    Row(
        "wan-2.1", WanModel, partial(wan.build, "2.1", euler=True), SMALL, 5, 2, wan_level,
        ((480, 832), 512, 50, 5.0, 81),
    ),
    Row(
        "wan-2.2-A14B", WanModel, partial(wan.build, "2.2-A14B", euler=True), SMALL, 5, 2, wan_level,
        ((720, 1280), 512, 40, 4.0, 81),
    ),
    Row(
        "wan-2.2-5B", WanModel, partial(wan.build, "2.2-5B", euler=True), LARGE, 5, 2, wan_level,
        ((704, 1280), 512, 50, 5.0, 121),
    ),
]  # fmt: skip


@pytest.fixture(scope="module", params=ROWS, ids=str)
def row(request: pytest.FixtureRequest) -> Row:
    return request.param


@pytest.fixture(scope="module")
def model(row: Row) -> T5VideoModel:
    return model_of(row, row.build())


def model_of(row: Row, pipeline: DiffusionPipeline) -> T5VideoModel:
    defaults = ModelDefaults(image_size=row.size, text_length=24, steps=2, guidance=3.5, frames=row.frames)
    return row.family(pipeline, defaults, name="random")


def clip(row: Row, frames: int | None = None) -> list[Image.Image]:
    number = row.frames if frames is None else frames
    pixels = np.random.default_rng(0).integers(0, 256, (number, *row.size, 3), np.uint8)
    return [Image.fromarray(frame) for frame in pixels]


def call(model: DiffusionModel, row: Row, **arguments: Any) -> Any:
    """The pipeline's own call for the model's prompt and size, without guidance."""
    height, width = row.size
    given = {"num_frames": row.frames, "max_sequence_length": 24, "guidance_scale": 1.0, **arguments}
    return model.pipeline(PROMPT.text, height=height, width=width, **given)


def ours(model: DiffusionModel, latents: torch.Tensor) -> torch.Tensor:
    """The axes of the pipeline's latents and of ours, exchanged either way."""
    return latents.transpose(1, 2) if model.family.name == "cogvideox" else latents


def steps_of(model: DiffusionModel, row: Row, steps: int) -> tuple[list[dict[str, Any]], list[torch.Tensor]]:
    """What the transformer is given at every step of the pipeline, and the latents after every step, with our axes."""
    calls: list[dict[str, Any]] = []
    after: list[torch.Tensor] = []

    def note(pipeline: DiffusionPipeline, number: int, timestep: Any, given: Mapping[str, torch.Tensor]) -> dict:
        after.append(ours(model, given["latents"]).clone())
        return {}

    # Of two transformers the second ends the denoising, with arguments of the same make.
    transformers = [model.transformer, getattr(model.pipeline, "transformer_2", None)]
    handles = [
        part.register_forward_pre_hook(lambda _, __, kwargs: calls.append(kwargs), with_kwargs=True)
        for part in transformers
        if part is not None
    ]
    call(
        model, row, num_inference_steps=steps, output_type="latent", callback_on_step_end=note,
        generator=torch.Generator().manual_seed(0),
    )  # fmt: skip
    for handle in handles:
        handle.remove()
    return calls, after


# --- the transformer's arguments, its prediction, the scheduler's step ---


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_the_transformer_is_given_what_the_pipeline_gives_it_at_every_step(row: Row, dtype: torch.dtype) -> None:
    model = model_of(row, row.build().to(dtype=dtype))
    calls, after = steps_of(model, row, 3)
    conditioning = model.encode_prompts([PROMPT])
    for place in (1, 2):
        level = row.level(model.pipeline.scheduler, place)
        # Wan's pipeline keeps latents in float32 and rounds them for the transformer.
        mixture = after[place - 1].to(model.dtype)
        found = model.inputs_of(mixture, conditioning, noise_level=level).kwargs
        for name, value in calls[place].items():
            if name not in ("attention_kwargs", "return_dict"):
                torch.testing.assert_close(found[name], value, check_dtype=False, atol=1e-3, rtol=0, msg=name)
                assert name == "timestep" or value is None or _dtype(found[name]) == _dtype(value)


def _dtype(value: Any) -> torch.dtype:
    return value[0].dtype if isinstance(value, tuple) else value.dtype


@torch.no_grad()
def test_one_step_equals_the_pipelines_own(row: Row, model: T5VideoModel) -> None:
    """The second of four, from one noise level within (0, 1) to another."""
    _, after = steps_of(model, row, 4)
    level, to = (row.level(model.pipeline.scheduler, place) for place in (1, 2))
    assert 0 < to < level < 1
    inputs = model.inputs_of(after[0], model.encode_prompts([PROMPT]), noise_level=level)
    transformer = model.transformer
    if model.pipeline.config.get("boundary_ratio") is not None and level < model.pipeline.config.boundary_ratio:
        transformer = model.pipeline.transformer_2
    predicted = model.predicted(transformer(**inputs.kwargs)[0], inputs.mixture)
    assert predicted.shape == inputs.mixture.shape
    found = step(model.schedule, inputs.mixture, predicted, noise_level=level, to=to)
    torch.testing.assert_close(found, after[1], atol=1e-3, rtol=1e-3)


def test_a_mixture_has_the_noise_levels_ratio_of_noise_to_signal(model: T5VideoModel) -> None:
    for level in (0.2, 0.6, 0.9):
        signal, noise = model.schedule.scales(level)
        assert noise / signal == pytest.approx(level / (1 - level), rel=1e-6)


# --- clips to latents and back ---


@torch.no_grad()
def test_decoding_inverts_the_scaling_of_encoding(
    row: Row, model: T5VideoModel, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What the pipeline decodes from our latents is what the autoencoder alone makes of the clip."""
    vae, taken = model.pipeline.vae, []
    latents = model.encode_images([clip(row)])
    assert latents.shape[2] == row.latent_frames
    decode = vae.decode

    def spy(given: torch.Tensor, **options: Any) -> Any:
        taken.append(given)
        return decode(given, **options)

    monkeypatch.setattr(vae, "decode", spy)
    call(
        model, row, num_inference_steps=2, output_type="pt",
        callback_on_step_end=lambda *_: {"latents": ours(model, latents)},
    )  # fmt: skip
    pixels = torch.from_numpy(np.stack([np.array(frame) for frame in clip(row)])) / 127.5 - 1
    expected = vae.encode(pixels.permute(3, 0, 1, 2)[None]).latent_dist.mean
    torch.testing.assert_close(taken[0], expected, atol=1e-4, rtol=1e-4)


def test_a_picture_is_a_clip_of_one_frame(row: Row, model: T5VideoModel) -> None:
    [picture] = clip(row, 1)
    latents = model.encode_images([picture])
    inputs = model.forward_inputs(latents, model.encode_prompts([PROMPT]), noise_level=0.5, seeds=[0])
    assert inputs.layout.grid == (1, 2, 3)
    torch.testing.assert_close(latents, model.encode_images([[picture]]))


def test_a_clip_of_another_length_is_refused(row: Row, model: T5VideoModel) -> None:
    longer = 7 if row.name == "mochi" else 5
    with pytest.raises(ClipLengthError, match=rf"cannot take a clip of 3 frames\. Give 1 or {longer} frames"):
        model.encode_images([clip(row, 3)])


def test_a_batch_computes_what_its_items_compute_alone(row: Row, model: T5VideoModel) -> None:
    prompts = [PROMPT, make_prompt("a zebra")]
    latents = torch.cat((model.encode_images([clip(row)]), model.encode_images([clip(row)[::-1]])))
    together = model.forward_inputs(latents, model.encode_prompts(prompts), noise_level=0.4, seeds=[1, 2])
    with torch.no_grad():
        both = model.transformer(**together.kwargs)[0]
        for item in range(2):
            conditioning = model.encode_prompts([prompts[item]])
            alone = model.forward_inputs(latents[[item]], conditioning, noise_level=0.4, seeds=[1 + item])
            torch.testing.assert_close(model.transformer(**alone.kwargs)[0][0], both[item], atol=1e-3, rtol=1e-3)


# --- generation, defaults, what is refused ---


def test_generating_is_the_pipelines_own_call_with_the_models_defaults(row: Row, model: T5VideoModel) -> None:
    model.pipeline.set_progress_bar_config(disable=True)
    theirs = call(
        model, row, num_inference_steps=2, guidance_scale=3.5, output_type="pil",
        generator=torch.Generator().manual_seed(5),
    ).frames[0]  # fmt: skip
    drawn = model.generate(PROMPT.text, seed=5)
    assert len(drawn) == row.frames and drawn[0].size == row.size[::-1]
    for one, other in zip(drawn, theirs, strict=True):
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
    differing = [model.generate(PROMPT.text, seed=6), model.generate(PROMPT.text, seed=5, guidance=1.0)]
    assert all(np.any(np.asarray(drawn[0]) != np.asarray(frames[0])) for frames in differing)


def test_an_empty_prompt_draws_without_condition(row: Row, model: T5VideoModel) -> None:
    assert len(model.generate("", steps=2)) == row.frames


def test_nothing_is_cut(model: T5VideoModel) -> None:
    long = "the red ring " * 7 + "zebra"
    with pytest.raises(PromptTooLongError, match=r"more than 24 tokens of the (um)?t5 encoder"):
        model.encode_prompts([PROMPT, make_prompt(long)])
    with pytest.raises(PromptTooLongError, match="'zebra' would be cut"):
        model.generate(long)


def test_a_bare_pipeline_has_the_published_defaults(row: Row, model: T5VideoModel) -> None:
    loaded = load_model(model.pipeline)
    defaults = loaded.defaults
    found = (defaults.image_size, defaults.text_length, defaults.steps, defaults.guidance, defaults.frames)
    assert type(loaded) is row.family and found == row.published


@pytest.mark.parametrize("part", ["vae", "text_encoder", "tokenizer", "transformer"])
def test_a_pipeline_without_a_part_is_refused(row: Row, part: str) -> None:
    pipeline = row.build()
    setattr(pipeline, part, None)
    with pytest.raises(MissingPartError, match=f"has no {part}"):
        model_of(row, pipeline)
