"""Euler's method on the noise levels of a diffusion model (Karras et al. 2022), for networks that tell the noise.

The levels, sigma, are how much noise was added to latents that are otherwise as they were: they go from about 15 to 0.
A step from one to the next moves the latents by their difference times the noise that the network tells, so it is the
same step as flow matching's. The arithmetic is in the types of diffusers' `EulerDiscreteScheduler`.
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
    "rescale_betas_zero_snr",
    "trained_betas",
    "sigma_min",
    "sigma_max",
)
_FIXED = {
    "prediction_type": "epsilon",
    "interpolation_type": "linear",
    "timestep_type": "discrete",
    "final_sigmas_type": "zero",
}
_SPACINGS = ("leading", "trailing", "linspace")
_SCHEDULES = ("scaled_linear", "linear")


@dataclass(frozen=True, slots=True, eq=False)
class EulerDiscrete(Sampler):
    """A scheduler's settings. `trained` float64 [times] are the levels of the training, the least first."""

    trained: np.ndarray
    spacing: str
    offset: int

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


def euler_discrete(settings: Mapping[str, Any]) -> EulerDiscrete:
    """The sampler of a scheduler_config.json. Raises CheckpointError on settings that are not served."""
    kind = settings.get("_class_name")
    if kind != "EulerDiscreteScheduler":
        raise CheckpointError(
            f"scheduler_config.json: {kind} is not supported for this model, EulerDiscreteScheduler is"
        )
    unknown = [name for name in _UNKNOWN if settings.get(name)]
    unknown += [name for name, value in _FIXED.items() if settings.get(name, value) != value]
    spacing, schedule = settings.get("timestep_spacing", "linspace"), settings.get("beta_schedule", "linear")
    unknown += ["timestep_spacing"] * (spacing not in _SPACINGS)
    unknown += ["beta_schedule"] * (schedule not in _SCHEDULES)
    if unknown:
        raise CheckpointError(f"scheduler_config.json: {', '.join(unknown)} is not supported")
    begin, end = settings.get("beta_start", 0.0001), settings.get("beta_end", 0.02)
    count = settings.get("num_train_timesteps", 1000)
    if schedule == "linear":
        betas = torch.linspace(begin, end, count, dtype=torch.float32)
    else:
        betas = torch.linspace(begin**0.5, end**0.5, count, dtype=torch.float32) ** 2
    kept = torch.cumprod(1.0 - betas, dim=0)
    return EulerDiscrete(
        (((1 - kept) / kept) ** 0.5).double().numpy(), spacing, settings.get("steps_offset", 0)
    )
