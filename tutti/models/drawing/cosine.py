"""DPM-Solver++ as a stochastic equation (Lu et al. 2022), as Stable Audio is sampled (Evans et al. 2024).

The levels, sigma, fall from 500 to 0.3 by equal factors, and then to 0. A step goes on from what the network says of
the finished latents, by how that has changed since the step before, and lays new noise over them. The noise of all
steps is one Brownian path, which the request's seed tells (`torchsde`, as in diffusers): what it does between two
levels depends on nothing else. The arithmetic is in the types of diffusers' `CosineDPMSolverMultistepScheduler`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from tutti.errors import CheckpointError, ConfigError
from tutti.models.drawing.flow import Sampler

_FIXED = {  # and what counts where the file does not say
    "prediction_type": ("v_prediction", "v_prediction"),
    "final_sigmas_type": ("zero", "zero"),
}


@dataclass(frozen=True, slots=True, eq=False)
class Wander:
    """What a request's next step needs: its Brownian `path`, and the last prediction of the finished latents."""

    path: Any
    finished: Tensor | None = None


@dataclass(frozen=True, slots=True)
class CosineDPM(Sampler):
    """A scheduler's settings. `data` is how much sounds differ from silence; `karras` spreads levels by `rho`."""

    least: float = 0.3
    most: float = 500.0
    data: float = 1.0
    karras: bool = False
    rho: float = 7.0
    order: int = 2
    heun: bool = False

    def levels(self, steps: int, tokens: int) -> Tensor:
        """See `Sampler.levels`; the size does not matter."""
        if self.karras:
            ramp = torch.linspace(0, 1, steps)
            low, high = (level ** (1 / self.rho) for level in (self.least, self.most))
            sigmas = (high + ramp * (low - high)) ** self.rho
        else:
            sigmas = torch.linspace(math.log(self.least), math.log(self.most), steps).exp().flip(0)
        return torch.cat([sigmas.to(torch.float32), torch.zeros(1)])

    def begin(self, shape: tuple[int, ...], seed: int) -> Wander:
        """What the first step needs, of latents of `shape`. Raises ConfigError where torchsde is not installed."""
        try:
            from torchsde import BrownianInterval
        except ImportError as error:
            raise ConfigError(
                f"this model's sampler needs torchsde, which is not installed ({error}): "
                "pip install 'tutti-engine[draw]'"
            ) from error
        # On the CPU, so that a seed is one sound on every machine.
        path = BrownianInterval(
            t0=torch.tensor(self.least),
            t1=torch.tensor(self.most),
            size=(1, *shape),
            dtype=torch.float32,
            device="cpu",
            entropy=seed,
            tol=1e-6,
            pool_size=24,
            halfway_tree=True,
        )
        return Wander(path)

    def opened(self, noise: Tensor, levels: Tensor) -> Tensor:
        """See `Sampler.opened`."""
        return noise * (self.most**2 + 1) ** 0.5

    def scaled(self, latents: Tensor, level: Tensor) -> Tensor:
        """The latents as the network takes them."""
        return latents * (1 / ((level**2 + self.data**2) ** 0.5))

    def times(self, levels: Tensor) -> Tensor:
        """What the network is told of `levels` [rows]: float32 [rows]."""
        return levels.atan() / math.pi * 2

    def step(
        self, latents: Tensor, velocity: Tensor, levels: Tensor, done: int, history: Wander
    ) -> tuple[Tensor, Wander]:
        """See `Sampler.step`; the history begins with `begin`."""
        here, there = levels[done], levels[done + 1]
        kept = self.data**2 / (here**2 + self.data**2)
        drawn = -here * self.data / (here**2 + self.data**2) ** 0.5
        finished = kept * latents + drawn * velocity
        after = replace(history, finished=finished)
        if done == len(levels) - 2:  # to level 0, where no noise is left
            return finished, after
        h = torch.log(here) - torch.log(there)
        share = 1 - torch.exp(-2.0 * h)
        moved = (there / here * torch.exp(-h)) * latents + share * finished
        if self.order == 2 and history.finished is not None:
            before = torch.log(levels[done - 1]) - torch.log(here)
            change = (1.0 / (before / h)) * (finished - history.finished)
            moved = moved + (share / (-2.0 * h) + 1.0 if self.heun else 0.5 * share) * change
        return moved + there * torch.sqrt(share) * self._noise(history, here, there), after

    def _noise(self, history: Wander, here: Tensor, there: Tensor) -> Tensor:
        """What the path does between two levels, as noise of deviation 1; [] levels, on any device."""
        low, high = (min(max(float(one), self.least), self.most) for one in (there, here))
        moved: Tensor = history.path(low, high)[0].to(here.device)
        return -moved / (here - there).sqrt()


def cosine_dpm(settings: Mapping[str, Any]) -> CosineDPM:
    """The sampler of a scheduler_config.json. Raises CheckpointError on settings that are not served."""
    kind = settings.get("_class_name")
    if kind != "CosineDPMSolverMultistepScheduler":
        raise CheckpointError(
            f"scheduler_config.json: {kind} is not supported for this model, CosineDPMSolverMultistepScheduler is"
        )
    unknown = [name for name, (ours, usual) in _FIXED.items() if settings.get(name, usual) != ours]
    schedule, order = settings.get("sigma_schedule", "exponential"), settings.get("solver_order", 2)
    unknown += ["sigma_schedule"] * (schedule not in ("exponential", "karras"))
    unknown += ["solver_order"] * (order not in (1, 2))
    unknown += ["solver_type"] * (settings.get("solver_type", "midpoint") not in ("midpoint", "heun"))
    if unknown:
        raise CheckpointError(f"scheduler_config.json: {', '.join(unknown)} is not supported for this model")
    return CosineDPM(
        least=float(settings.get("sigma_min", 0.3)),
        most=float(settings.get("sigma_max", 500)),
        data=float(settings.get("sigma_data", 1.0)),
        karras=schedule == "karras",
        rho=float(settings.get("rho", 7.0)),
        order=order,
        heun=settings.get("solver_type") == "heun",
    )
