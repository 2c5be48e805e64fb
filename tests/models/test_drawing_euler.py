"""Euler's method on the levels of a diffusion model: as diffusers' scheduler has them."""

from __future__ import annotations

from typing import Any

import diffusers
import pytest
import torch

from tutti.errors import CheckpointError
from tutti.models.drawing.euler import euler_discrete

SCHEDULES: list[dict[str, Any]] = [
    {},
    {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    {"timestep_spacing": "leading", "steps_offset": 1},
    {"timestep_spacing": "trailing"},
    {
        "beta_schedule": "scaled_linear",
        "beta_start": 0.00085,
        "beta_end": 0.012,
        "timestep_spacing": "trailing",
        "rescale_betas_zero_snr": True,
    },
]
KINDS = [diffusers.EulerDiscreteScheduler, diffusers.EulerAncestralDiscreteScheduler]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("settings", SCHEDULES)
@pytest.mark.parametrize("steps", [1, 3, 50])
def test_levels_times_and_the_first_noise_are_the_schedulers(
    kind: type[Any], settings: dict[str, Any], steps: int
) -> None:
    scheduler = kind(**settings)
    scheduler.set_timesteps(steps)
    sampler = euler_discrete({"_class_name": kind.__name__, **scheduler.config})
    levels = sampler.levels(steps, 64)
    torch.testing.assert_close(levels, scheduler.sigmas, atol=0, rtol=0)
    torch.testing.assert_close(sampler.times(levels[:-1]), scheduler.timesteps, atol=1e-3, rtol=0)
    opened = sampler.opened(torch.ones(1), levels)
    torch.testing.assert_close(opened[0], torch.as_tensor(scheduler.init_noise_sigma), atol=1e-5, rtol=1e-6)
    velocity, before = torch.full((2,), 0.5), torch.ones(2)
    time, generator = scheduler.timesteps[0], torch.Generator().manual_seed(5)
    history = sampler.begun(generator)
    latents = scheduler.step(velocity, time, before, generator=generator).prev_sample
    ours, _ = sampler.step(before, velocity, levels, 0, history)
    # Near level 4096, the scheduler's own detour over the finished latents rounds as much as that.
    torch.testing.assert_close(ours, latents, atol=1e-3 if levels[0] > 100 else 1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "settings",
    [
        {"_class_name": "PNDMScheduler"},
        {"use_karras_sigmas": True},
        {"prediction_type": "sample"},
        {"rescale_betas_zero_snr": True},
        {"beta_schedule": "squaredcos_cap_v2"},
    ],
)
def test_a_schedule_that_is_not_ours_is_refused(settings: dict[str, Any]) -> None:
    with pytest.raises(CheckpointError, match="not supported"):
        euler_discrete({"_class_name": "EulerDiscreteScheduler", **settings})
