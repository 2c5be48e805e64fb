"""Flow matching by Euler's method (Lipman et al. 2022; Esser et al. 2024), as the pipelines of its models set it up.

The noise level sigma goes from 1 (noise alone) to 0. `levels` are those of a request, the last one 0; a step from one
to the next moves the latents by their difference times the velocity that the network tells. The arithmetic is in the
types that diffusers' `FlowMatchEulerDiscreteScheduler` uses, so that both reach the same values.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutti.errors import CheckpointError

_UNKNOWN = (
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "invert_sigmas",
    "stochastic_sampling",
)


class Sampler(ABC):
    """How latents go from noise to a picture, level by level; as flow matching has it, unless a subclass differs.

    What it remembers of a request's steps is its own.
    """

    __slots__ = ()

    @abstractmethod
    def levels(self, steps: int, tokens: int) -> Tensor:
        """The noise levels of a request of so many latent `tokens`: float32 [steps + 1]."""

    def step(
        self, latents: Tensor, velocity: Tensor, levels: Tensor, done: int, history: Any
    ) -> tuple[Tensor, Any]:
        """The float32 latents after the step that follows `done` ones, and the history for the next (first: `begun`).

        Euler's method remembers nothing.
        """
        return latents + (levels[done + 1] - levels[done]) * velocity, None

    def begun(self, generator: torch.Generator) -> Any:
        """The history of a first step, whose noise was the last that came from `generator`."""
        return

    def opened(self, noise: Tensor, levels: Tensor) -> Tensor:
        """The latents that a drawing begins with, of float32 `noise`."""
        return noise

    def noised(self, latents: Tensor, noise: Tensor, level: Tensor) -> Tensor:
        """The float32 `latents` mixed with `noise` as far as `level` says."""
        return level * noise + (1.0 - level) * latents

    def rest(self, levels: Tensor, strength: float) -> Tensor:
        """The `levels` that are left where a drawing begins from a picture: with a `strength` of 1 all, of 0.5 half.

        At least one step is.
        """
        steps = len(levels) - 1
        return levels[min(int(steps - min(steps * strength, steps)), steps - 1) :]


@dataclass(frozen=True, slots=True)
class FlowMatching(Sampler):
    """A scheduler's settings. `dynamic`: the shift depends on the picture's size, by `base` and `largest`.

    These are (tokens, shift) of two sizes; between them the shift is linear in the tokens. `terminal` is the level of
    the last step.
    """

    shift: float = 1.0
    dynamic: bool = False
    linear: bool = False
    terminal: float | None = None
    base: tuple[int, float] = (256, 0.5)
    largest: tuple[int, float] = (4096, 1.15)
    scale: int = 1000  # what a level is multiplied by to be the network's time
    whole: bool = (
        False  # whether the levels are spread over those of the training, and then shifted once more
    )

    def levels(self, steps: int, tokens: int) -> Tensor:
        """The noise levels of a picture of `tokens` latent tokens: float32 [steps + 1], the last one 0."""
        sigmas: np.ndarray
        if self.whole:
            least: np.ndarray = np.array(1 / self.scale, dtype=np.float32)
            if not self.dynamic:
                least = self.shift * least / (1 + (self.shift - 1) * least)
            sigmas = np.linspace(self.scale, float(least) * self.scale, steps) / self.scale
        else:
            sigmas = np.linspace(1.0, 1 / steps, steps).astype(np.float32)
        return self._shifted(sigmas, tokens)

    def times(self, steps: int) -> tuple[float, ...]:
        """What the network is told of each step's level, where that does not depend on the size."""
        return tuple((self.levels(steps, 0)[:-1] * self.scale).tolist())

    def _shifted(self, sigmas: np.ndarray, tokens: int) -> Tensor:
        if self.dynamic:
            mu = self.size_shift(tokens)
            weight = mu if self.linear else math.exp(mu)
            sigmas = weight / (weight + (1 / sigmas - 1) ** 1.0)
        else:
            sigmas = self.shift * sigmas / (1 + (self.shift - 1) * sigmas)
        rest = 1 - sigmas
        if self.terminal and rest[-1] > 0:  # a single step goes all the way
            sigmas = 1 - rest / (rest[-1] / (1 - self.terminal))
        return torch.cat([torch.from_numpy(sigmas).to(torch.float32), torch.zeros(1)])

    def size_shift(self, tokens: int) -> float:
        """The shift's exponent for a picture of `tokens`."""
        (few, low), (many, high) = self.base, self.largest
        slope = (high - low) / (many - few)
        return tokens * slope + (low - slope * few)


def flow_matching(settings: Mapping[str, Any]) -> FlowMatching:
    """The sampler of a scheduler_config.json. Raises CheckpointError on settings that no pipeline we serve has."""
    kind = settings.get("_class_name", "FlowMatchEulerDiscreteScheduler")
    if kind != "FlowMatchEulerDiscreteScheduler":
        raise CheckpointError(f"scheduler_config.json: {kind} is not supported for this model")
    unknown = [name for name in _UNKNOWN if settings.get(name)]
    if unknown:
        raise CheckpointError(f"scheduler_config.json: {', '.join(unknown)} is not supported")
    return FlowMatching(
        shift=float(settings.get("shift", 1.0)),
        dynamic=bool(settings.get("use_dynamic_shifting", False)),
        linear=settings.get("time_shift_type", "exponential") == "linear",
        terminal=settings.get("shift_terminal"),
        base=(settings.get("base_image_seq_len", 256), settings.get("base_shift", 0.5)),
        largest=(settings.get("max_image_seq_len", 4096), settings.get("max_shift", 1.15)),
        scale=settings.get("num_train_timesteps", 1000),
    )
