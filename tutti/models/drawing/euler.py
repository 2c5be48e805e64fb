"""Euler's method on the noise levels of a diffusion model (Karras et al. 2022), for networks that tell the noise or v.

The levels, sigma, are how much noise was added to latents that are otherwise as they were: they go from about 15 to 0.
A step from one to the next moves the latents by their difference times the noise that the network tells, so it is the
same step as flow matching's. An ancestral step goes further down, and noise of the request's own leads back up. The
arithmetic is in the types of diffusers' `EulerDiscreteScheduler` and `EulerAncestralDiscreteScheduler`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutti.errors import CheckpointError
from tutti.models.drawing.flow import Sampler

_UNKNOWN = (
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "trained_betas",
    "sigma_min",
    "sigma_max",
)
_FIXED = {
    "interpolation_type": "linear",
    "timestep_type": "discrete",
    "final_sigmas_type": "zero",
}
_SPACINGS = ("leading", "trailing", "linspace")
_SCHEDULES = ("scaled_linear", "linear")
_TOLD = ("epsilon", "v_prediction")
_LEAST = 2**-24  # what stays of the picture at the last level, where that is meant to be nothing


@dataclass(frozen=True, slots=True, eq=False)
class EulerDiscrete(Sampler):
    """A scheduler's settings. `trained` float64 [times] are the levels of the training, the least first.

    `velocities`: the network tells v (Salimans and Ho 2022) instead of the noise.
    """

    trained: np.ndarray
    spacing: str
    offset: int
    velocities: bool = False

    def levels(self, steps: int, tokens: int) -> Tensor:
        """See `Sampler.levels`; the size does not matter."""
        count = len(self.trained)
        times: np.ndarray
        if self.spacing == "linspace":
            times = np.linspace(0, count - 1, steps, dtype=np.float32)[::-1]
        elif self.spacing == "leading":
            times = (np.arange(0, steps) * (count // steps))[::-1].astype(np.float32) + self.offset
        else:
            times = np.arange(count, 0, -count / steps).round().astype(np.float32) - 1
        sigmas = np.interp(times, np.arange(count), self.trained)
        return torch.from_numpy(np.concatenate([sigmas, [0.0]]).astype(np.float32))

    def times(self, levels: Tensor) -> Tensor:
        """What the network is told of `levels` [rows]: float32 [rows], the times of the training that have them."""
        found = np.interp(levels.double().cpu().numpy(), self.trained, np.arange(len(self.trained)))
        return torch.from_numpy(found.astype(np.float32)).to(levels.device)

    def noise(self, told: Tensor, latents: Tensor, levels: Tensor) -> Tensor:
        """The noise in `latents` [rows, ...] at `levels` [rows] by what the network `told` of them; all float32."""
        if not self.velocities:
            return told
        sigma = levels.view(-1, *[1] * (latents.dim() - 1))
        finished = told * (-sigma / (sigma**2 + 1) ** 0.5) + latents / (sigma**2 + 1)
        return (latents - finished) / sigma

    def opened(self, noise: Tensor, levels: Tensor) -> Tensor:
        """See `Sampler.opened`."""
        first = levels[0]
        return noise * ((first**2 + 1) ** 0.5 if self.spacing == "leading" else first)

    def noised(self, latents: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """See `Sampler.noised`."""
        return latents + noise * level

    def rest(self, levels: Tensor, strength: float) -> Tensor:
        """See `Sampler.rest`."""
        steps = len(levels) - 1
        return levels[steps - min(max(int(steps * strength), 1), steps) :]


@dataclass(frozen=True, slots=True, eq=False)
class EulerAncestral(EulerDiscrete):
    """The same with new noise in each step. The history is the state of the request's generator."""

    def begun(self, generator: torch.Generator) -> Tensor:
        """See `Sampler.begun`."""
        return generator.get_state()

    def step(
        self, latents: Tensor, velocity: Tensor, levels: Tensor, done: int, history: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See `Sampler.step`."""
        here, there = levels[done], levels[done + 1]
        up = (there**2 * (here**2 - there**2) / here**2) ** 0.5
        down = (there**2 - up**2) ** 0.5
        generator = torch.Generator("cpu")
        generator.set_state(history)
        noise = torch.randn(latents.shape, generator=generator, dtype=torch.float32).to(latents.device)
        return latents + velocity * (down - here) + noise * up, generator.get_state()


_KINDS = {"EulerDiscreteScheduler": EulerDiscrete, "EulerAncestralDiscreteScheduler": EulerAncestral}


def euler_discrete(settings: Mapping[str, Any]) -> EulerDiscrete:
    """The sampler of a scheduler_config.json. Raises CheckpointError on settings that are not served."""
    kind = settings.get("_class_name")
    if kind not in _KINDS:
        raise CheckpointError(
            f"scheduler_config.json: {kind} is not supported for this model, {' and '.join(_KINDS)} are"
        )
    unknown = [name for name in _UNKNOWN if settings.get(name)]
    unknown += [name for name, value in _FIXED.items() if settings.get(name, value) != value]
    spacing, schedule = settings.get("timestep_spacing", "linspace"), settings.get("beta_schedule", "linear")
    unknown += ["timestep_spacing"] * (spacing not in _SPACINGS)
    unknown += ["beta_schedule"] * (schedule not in _SCHEDULES)
    told = settings.get("prediction_type", "epsilon")
    unknown += ["prediction_type"] * (told not in _TOLD)
    if unknown:
        raise CheckpointError(f"scheduler_config.json: {', '.join(unknown)} is not supported")
    return _KINDS[kind](
        _trained(settings, schedule), spacing, settings.get("steps_offset", 0), told == "v_prediction"
    )


def _trained(settings: Mapping[str, Any], schedule: str) -> np.ndarray:
    """The levels of the training, float64 [times]."""
    begin, end = settings.get("beta_start", 0.0001), settings.get("beta_end", 0.02)
    count = settings.get("num_train_timesteps", 1000)
    if schedule == "linear":
        betas = torch.linspace(begin, end, count, dtype=torch.float32)
    else:
        betas = torch.linspace(begin**0.5, end**0.5, count, dtype=torch.float32) ** 2
    kept = torch.cumprod(1.0 - betas, dim=0)
    if settings.get(
        "rescale_betas_zero_snr"
    ):  # Lin et al. 2023: of the picture nothing stays in the noisiest
        root = kept.sqrt()
        kept = ((root - root[-1]) * (root[0] / (root[0] - root[-1]))) ** 2
        betas = 1.0 - torch.cat([kept[:1], kept[1:] / kept[:-1]])
        kept = torch.cumprod(1.0 - betas, dim=0)
        kept[-1] = _LEAST
    levels: np.ndarray = (((1 - kept) / kept) ** 0.5).double().numpy()
    if not np.all(np.diff(levels) > 0):
        raise CheckpointError(
            "scheduler_config.json: rescale_betas_zero_snr is not supported with these betas: the last level is not "
            "the noisiest"
        )
    return levels
