"""Schedules: noise levels mean the same in every model, and one step is the step of diffusers' own schedulers."""

import math
from typing import Any

import pytest
import torch
from diffusers import (
    CogVideoXDDIMScheduler,
    CogVideoXDPMScheduler,
    DDIMScheduler,
    DDPMScheduler,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
)
from hypothesis import assume, example, given
from hypothesis import strategies as st

from refam_analysis.errors import RefamError
from refam_analysis.models.schedules import (
    DiffusionSchedule,
    FlowSchedule,
    HiddenPartError,
    NoiseLevelError,
    NotADiffusionScheduleError,
    Schedule,
    UnknownPredictionError,
    check_noise_level,
    denoising_levels,
    step,
)

PREDICTIONS = ("epsilon", "v_prediction", "sample")
BETAS = {"beta_start": 0.00085, "beta_end": 0.012}
FLOWS = {"flux": FlowSchedule(), "sd3": FlowSchedule(1000.0), "mochi": FlowSchedule(1000.0, reversed=True)}
SCHEDULERS = {
    "ddpm-linear": DDPMScheduler(),
    "ddpm-cosine": DDPMScheduler(beta_schedule="squaredcos_cap_v2"),
    "ddim-scaled-linear": DDIMScheduler(beta_schedule="scaled_linear", **BETAS),
    "ddim-zero-snr": DDIMScheduler(beta_schedule="scaled_linear", rescale_betas_zero_snr=True, **BETAS),
    "cogvideox-ddim": CogVideoXDDIMScheduler(rescale_betas_zero_snr=True, snr_shift_scale=3.0),
    "cogvideox-dpm": CogVideoXDPMScheduler(rescale_betas_zero_snr=True, snr_shift_scale=1.0),
    "dpm++-linear": DPMSolverMultistepScheduler(),
    "dpm++-zero-snr": DPMSolverMultistepScheduler(rescale_betas_zero_snr=True),
}
"""Those of PixArt (DPM++), CogVideoX, and relatives."""
ZERO_SNR = ("ddim-zero-snr", "cogvideox-ddim", "cogvideox-dpm")

levels = st.floats(0.0, 1.0)
schedulers = pytest.mark.parametrize("name", SCHEDULERS)
predictions = pytest.mark.parametrize("prediction", PREDICTIONS)


def schedule_of(name: str, prediction: str = "epsilon") -> DiffusionSchedule:
    kept = DiffusionSchedule.of(SCHEDULERS[name]).kept
    return DiffusionSchedule(kept, prediction)  # type: ignore[arg-type]


def level_of(kept: float) -> float:
    """Solved for t: (1 - t) / t is the root of kept / (1 - kept)."""
    return 1.0 if kept == 0 else 1 / (1 + math.sqrt(kept / (1 - kept)))


def randn(seed: int) -> torch.Tensor:
    return torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(seed))


def predicted_of(schedule: Schedule, image: torch.Tensor, noise: torch.Tensor, level: float) -> torch.Tensor:
    """What a model that knows image and noise predicts."""
    if isinstance(schedule, FlowSchedule):
        return image - noise if schedule.reversed else noise - image
    assert isinstance(schedule, DiffusionSchedule)
    signal_scale, noise_scale = schedule.scales(level)
    known = {"epsilon": noise, "sample": image, "v_prediction": signal_scale * noise - noise_scale * image}
    return known[schedule.prediction]


# --- noise levels ---


@pytest.mark.parametrize("name", FLOWS)
@given(level=levels)
def test_flow_matching_mixes_image_and_noise_by_the_level(name: str, level: float) -> None:
    assert FLOWS[name].scales(level) == (1 - level, level)


def test_flow_matching_tells_the_model_the_level_in_its_own_unit() -> None:
    """FLUX 1 at pure noise, SD3 1000, Mochi 0."""
    assert [schedule.timestep(1.0) for schedule in FLOWS.values()] == [1.0, 1000.0, 0.0]
    assert [schedule.timestep(0.0) for schedule in FLOWS.values()] == [0.0, 0.0, 1000.0]
    assert [schedule.timestep(0.25) for schedule in FLOWS.values()] == [0.25, 250.0, 750.0]


@schedulers
@given(level=levels)
def test_signal_to_noise_is_flow_matchings_wherever_the_schedule_reaches(name: str, level: float) -> None:
    schedule = schedule_of(name)
    assume(level_of(schedule.kept[0]) <= level <= level_of(schedule.kept[-1]))
    signal, noise = schedule.scales(level)
    assert signal**2 + noise**2 == pytest.approx(1.0, abs=1e-12)
    assert signal * level == pytest.approx(noise * (1 - level), abs=1e-12)


@schedulers
@given(timestep=st.integers(0, 999))
@example(timestep=0)
@example(timestep=999)
def test_a_timestep_has_its_own_level_and_mixture(name: str, timestep: int) -> None:
    assume(name != "dpm++-zero-snr" or timestep < 998)
    schedule = schedule_of(name)
    kept = float(SCHEDULERS[name].alphas_cumprod[timestep])
    assert schedule.timestep(level_of(kept)) == pytest.approx(timestep, abs=1e-5)
    assert schedule.scales(level_of(kept)) == pytest.approx((math.sqrt(kept), math.sqrt(1 - kept)), abs=1e-9)


@pytest.mark.parametrize("name", [name for name in SCHEDULERS if not name.startswith("dpm++")])
@pytest.mark.parametrize("timestep", [0, 1, 500, 999])
def test_the_mixture_is_the_schedulers_own(name: str, timestep: int) -> None:
    image, noise = randn(0), randn(1)
    expected = SCHEDULERS[name].add_noise(image, noise, torch.tensor([timestep]))
    signal_scale, noise_scale = schedule_of(name).scales(level_of(float(SCHEDULERS[name].alphas_cumprod[timestep])))
    torch.testing.assert_close(signal_scale * image + noise_scale * noise, expected, atol=1e-6, rtol=1e-6)


@schedulers
@given(one=levels, other=levels)
def test_timesteps_rise_with_the_level_and_stay_in_range(name: str, one: float, other: float) -> None:
    schedule = schedule_of(name)
    lower, higher = (schedule.timestep(level) for level in sorted((one, other)))
    assert 0.0 <= lower <= higher <= 999.0
    assert schedule.scales(max(one, other))[1] >= schedule.scales(min(one, other))[1]


@schedulers
def test_levels_beyond_the_schedule_are_its_ends(name: str) -> None:
    """The image itself is timestep 0, which keeps a little noise; noise alone is timestep 999."""
    schedule, kept = schedule_of(name), SCHEDULERS[name].alphas_cumprod
    first, last = float(kept[0]), float(kept.min())
    assert (schedule.timestep(0.0), schedule.timestep(1.0)) == (0.0, 999.0)
    for level, end in ((0.0, first), (1.0, last)):
        assert schedule.scales(level) == pytest.approx((math.sqrt(end), math.sqrt(1 - end)), abs=1e-9)


def test_dpm_solvers_last_value_is_no_higher_than_the_one_before() -> None:
    """It writes 2^-24 in the place of a zero."""
    kept = SCHEDULERS["dpm++-zero-snr"].alphas_cumprod
    assert kept[-1] > kept[-2]
    assert schedule_of("dpm++-zero-snr").kept[-2:] == (float(kept[-2]),) * 2


@pytest.mark.parametrize("name", ZERO_SNR)
def test_a_schedule_without_terminal_signal_reaches_noise_alone(name: str) -> None:
    assert schedule_of(name).scales(1.0) == (0.0, 1.0)


# --- image and noise ---


def check_split(schedule: Schedule, level: float, seed: int) -> None:
    mixture, predicted = randn(seed).double(), randn(seed + 1).double()
    image, noise = schedule.split(mixture, predicted, level)
    signal_scale, noise_scale = schedule.scales(level)
    torch.testing.assert_close(signal_scale * image + noise_scale * noise, mixture, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("name", FLOWS)
@given(level=levels, seed=st.integers(0, 99))
@example(level=0.0, seed=0)
@example(level=1.0, seed=0)
def test_a_split_mixture_of_flow_matching_mixes_again(name: str, level: float, seed: int) -> None:
    check_split(FLOWS[name], level, seed)


@schedulers
@predictions
@given(level=levels, seed=st.integers(0, 99))
@example(level=0.0, seed=0)
@example(level=1.0, seed=0)
def test_a_split_mixture_mixes_again(name: str, prediction: str, level: float, seed: int) -> None:
    schedule = schedule_of(name, prediction)
    assume(prediction != "epsilon" or schedule.scales(level)[0] > 1e-6)
    check_split(schedule, level, seed)


@pytest.mark.parametrize("name", [*FLOWS, *SCHEDULERS])
@predictions
@given(level=levels, seed=st.integers(0, 99))
def test_what_a_perfect_model_sees_is_image_and_noise(name: str, prediction: str, level: float, seed: int) -> None:
    schedule = FLOWS[name] if name in FLOWS else schedule_of(name, prediction)
    signal_scale, noise_scale = schedule.scales(level)
    assume(name in FLOWS or prediction != "epsilon" or signal_scale > 1e-6)
    image, noise = randn(seed).double(), randn(seed + 1).double()
    mixture = signal_scale * image + noise_scale * noise
    seen = schedule.split(mixture, predicted_of(schedule, image, noise, level), level)
    torch.testing.assert_close(seen, (image, noise), atol=1e-8, rtol=1e-8)


@pytest.mark.parametrize("name", ZERO_SNR)
def test_noise_alone_does_not_show_the_image_that_goes_with_a_noise(name: str) -> None:
    with pytest.raises(HiddenPartError, match=r"level 1.0 the mixture holds no image.*Take a noise level below 1.0"):
        schedule_of(name, "epsilon").split(randn(0), randn(1), 1.0)
    assert torch.equal(schedule_of(name, "v_prediction").split(randn(0), randn(1), 1.0)[0], -randn(1))


def test_the_image_alone_does_not_show_the_noise_that_goes_with_it() -> None:
    with pytest.raises(HiddenPartError, match=r"level 0.0 the mixture holds no noise.*Take a noise level above 0.0"):
        DiffusionSchedule((1.0, 0.5), "sample").split(randn(0), randn(1), 0.0)


# --- steps ---


@pytest.mark.parametrize("shift", [1.0, 3.0, 7.0])
@pytest.mark.parametrize("name", FLOWS)
def test_a_step_of_flow_matching_is_eulers(name: str, shift: float) -> None:
    schedule, scheduler = FLOWS[name], FlowMatchEulerDiscreteScheduler(shift=shift)
    scheduler.set_timesteps(5)
    latents = randn(0)
    for place, timestep in enumerate(scheduler.timesteps):
        level, to = scheduler.sigmas[place : place + 2].tolist()
        told = timestep / 1000 if schedule.timesteps == 1 else 1000 - timestep if schedule.reversed else timestep
        assert schedule.timestep(level) == pytest.approx(float(told), abs=1e-3)
        velocity = randn(place + 1)
        ours = step(schedule, latents, -velocity if schedule.reversed else velocity, noise_level=level, to=to)
        latents = scheduler.step(velocity, timestep, latents).prev_sample
        torch.testing.assert_close(ours, latents, atol=1e-5, rtol=1e-5)


def check_steps(scheduler: Any, prediction: str, *, skip_last: bool = False) -> None:
    schedule, kept = DiffusionSchedule.of(scheduler), scheduler.alphas_cumprod
    assert schedule.prediction == prediction
    scheduler.set_timesteps(8)
    timesteps = scheduler.timesteps.tolist()
    latents = randn(0)
    for place, timestep in enumerate(timesteps[:-1] if skip_last else timesteps):
        level = level_of(float(kept[timestep]))
        to = level_of(float(kept[timesteps[place + 1]])) if place + 1 < len(timesteps) else 0.0
        predicted = randn(place + 1)
        ours = step(schedule, latents, predicted, noise_level=level, to=to)
        latents = scheduler.step(predicted, timestep, latents).prev_sample
        torch.testing.assert_close(ours, latents, atol=1e-5, rtol=1e-5)


@predictions
@pytest.mark.parametrize("betas", ["linear", "scaled_linear"])
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_a_step_is_ddims(prediction: str, betas: str, spacing: str) -> None:
    scheduler = DDIMScheduler(
        beta_schedule=betas, prediction_type=prediction, timestep_spacing=spacing, clip_sample=False,
        set_alpha_to_one=False, **BETAS,
    )  # fmt: skip
    check_steps(scheduler, prediction)


@pytest.mark.parametrize("prediction", ["v_prediction", "sample"])
@pytest.mark.parametrize("scheduler_class", [DDIMScheduler, CogVideoXDDIMScheduler])
def test_a_step_from_noise_alone_is_ddims(prediction: str, scheduler_class: type) -> None:
    scheduler = scheduler_class(
        beta_schedule="scaled_linear", prediction_type=prediction, timestep_spacing="trailing", clip_sample=False,
        set_alpha_to_one=False, rescale_betas_zero_snr=True, **BETAS,
    )  # fmt: skip
    assert float(scheduler.alphas_cumprod[-1]) == 0.0
    check_steps(scheduler, prediction)


@predictions
@pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # the scheduler's own
def test_a_step_is_dpm_solvers_of_first_order(prediction: str) -> None:
    """DPM++'s first order is DDIM; PixArt's first step is one."""
    scheduler = DPMSolverMultistepScheduler(solver_order=1, prediction_type=prediction)
    check_steps(scheduler, prediction, skip_last=True)


@pytest.mark.parametrize("name", [*FLOWS, *SCHEDULERS])
@given(level=levels, to=levels, seed=st.integers(0, 99))
def test_a_perfect_model_leads_to_the_mixture_at_any_level(name: str, level: float, to: float, seed: int) -> None:
    schedule = FLOWS[name] if name in FLOWS else schedule_of(name, "v_prediction")
    image, noise = randn(seed), randn(seed + 1)
    at, there = schedule.scales(level), schedule.scales(to)
    predicted = predicted_of(schedule, image, noise, level)
    found = step(schedule, at[0] * image + at[1] * noise, predicted, noise_level=level, to=to)
    torch.testing.assert_close(found, there[0] * image + there[1] * noise, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32], ids=str)
def test_a_step_keeps_the_dtype_and_computes_in_float32(dtype: torch.dtype) -> None:
    mixture, velocity = randn(0).to(dtype), randn(1).to(dtype)
    found = step(FlowSchedule(), mixture, velocity, noise_level=0.9, to=0.85)
    assert found.dtype == dtype
    exact = mixture.double() - 0.05 * velocity.double()
    torch.testing.assert_close(found, exact.to(dtype), atol=1e-6, rtol=torch.finfo(dtype).eps)


@given(level=st.floats(1e-3, 1.0), steps=st.integers(1, 60))
def test_denoising_levels_are_even_and_stop_before_the_image(level: float, steps: int) -> None:
    found = denoising_levels(level, steps)
    assert len(found) == steps and found[0] == pytest.approx(level, abs=1e-12)
    gaps = [one - other for one, other in zip(found, [*found[1:], 0.0], strict=True)]
    assert gaps == pytest.approx([level / steps] * steps, abs=1e-10)


# --- what is refused ---


@pytest.mark.parametrize("level", [-1e-9, 1.0000001, float("nan"), float("inf")])
def test_a_noise_level_outside_zero_to_one_is_refused(level: float) -> None:
    with pytest.raises(NoiseLevelError, match=f"noise level is {level}. Give a number from 0"):
        check_noise_level(level)


@pytest.mark.parametrize("level", [0, 1, 0.5])
def test_a_noise_level_is_a_float(level: float) -> None:
    checked = check_noise_level(level)
    assert checked == level and isinstance(checked, float)


def test_an_unknown_prediction_is_refused() -> None:
    flow = DPMSolverMultistepScheduler(prediction_type="flow_prediction", use_flow_sigmas=True)
    with pytest.raises(UnknownPredictionError, match="predicts 'flow_prediction'; known are epsilon, v_prediction"):
        DiffusionSchedule.of(flow)


def test_a_scheduler_of_flow_matching_is_no_schedule_of_diffusion() -> None:
    with pytest.raises(NotADiffusionScheduleError, match="A FlowMatchEulerDiscreteScheduler has no alphas_cumprod"):
        DiffusionSchedule.of(FlowMatchEulerDiscreteScheduler())


@pytest.mark.parametrize("kept", [(), (0.5, 0.6), (1.2, 0.5), (0.5, -0.1), (0.5, float("nan"))], ids=str)
def test_values_that_do_not_fall_from_one_to_zero_are_refused(kept: tuple[float, ...]) -> None:
    with pytest.raises(NotADiffusionScheduleError, match=f"The {len(kept)} values rise somewhere, or leave"):
        DiffusionSchedule(kept)


def test_every_error_is_the_librarys_own() -> None:
    errors = (NoiseLevelError, UnknownPredictionError, NotADiffusionScheduleError, HiddenPartError)
    assert all(issubclass(error, RefamError) and issubclass(error, ValueError) for error in errors)
