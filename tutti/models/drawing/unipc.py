"""Flow matching by UniPC (Zhao et al. 2023: a predictor of several steps, and a corrector), with B(h) = e^h - 1.

Like Euler's method (`flow`), a step goes from one noise level to the next; unlike it, it remembers what the last steps
predicted of the finished latents, and corrects the step before by what the network says after it. What is remembered
is a request's own (`History`). The arithmetic is in the types of diffusers' `UniPCMultistepScheduler` with
`use_flow_sigmas`, so that both reach the same values.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import Tensor

from tutti.errors import CheckpointError
from tutti.models.drawing.flow import Sampler

_EDGE = 1e-6  # the first level stays so far below 1, whose logarithm there is none of
_UNKNOWN = (
    "use_karras_sigmas",
    "use_exponential_sigmas",
    "use_beta_sigmas",
    "use_dynamic_shifting",
    "shift_terminal",
    "thresholding",
    "solver_p",
)
_FIXED = {  # and what counts where the file does not say
    "use_flow_sigmas": (True, False),
    "prediction_type": ("flow_prediction", "epsilon"),
    "predict_x0": (True, True),
    "solver_type": ("bh2", "bh2"),
}


@dataclass(frozen=True, slots=True, eq=False)
class History:
    """What a request's next step needs of those before: `before`, the latents that the last one began with.

    `finished` are the last predictions of the finished latents, the newest last; `order` is that of the last step.
    """

    before: Tensor
    finished: tuple[Tensor, ...]
    order: int


@dataclass(frozen=True, slots=True)
class UniPC(Sampler):
    """A scheduler's settings. `uncorrected` are the numbers of the steps that are not corrected."""

    shift: float = 1.0
    order: int = 2
    falling: bool = True  # the last steps are of lower order
    zero: bool = True  # the last level is 0, and not that of the last step
    uncorrected: tuple[int, ...] = ()
    scale: int = 1000  # what a level is multiplied by to be the network's time

    def levels(self, steps: int, tokens: int) -> Tensor:
        """The noise levels of a request of so many `steps`: float32 [steps + 1]."""
        sigmas = self._sigmas(steps)
        last = 0.0 if self.zero else sigmas[-1]
        return torch.from_numpy(np.concatenate([sigmas, [last]]).astype(np.float32))

    def times(self, steps: int) -> tuple[float, ...]:
        """What the network is told of each step's level: whole numbers, as it was trained with."""
        return tuple(np.trunc(self._sigmas(steps) * self.scale).tolist())

    def step(
        self, latents: Tensor, velocity: Tensor, levels: Tensor, done: int, history: History | None
    ) -> tuple[Tensor, History]:
        """The float32 latents after the step that follows `done` ones, and what the next one needs of it."""
        finished = latents - levels[done] * velocity
        if history is not None and done - 1 not in self.uncorrected:
            latents = _corrected(history, finished, levels, done)
        known = (*(() if history is None else history.finished), finished)[-self.order :]
        left = len(levels) - 1 - done
        order = min(self.order, left if self.falling else self.order, done + 1)
        span = _Span(levels[done], levels[done + 1], finished)
        bases = [(levels[done - back], known[-1 - back]) for back in range(1, order)]
        if order == 2:  # where the weight is nearly this anyhow
            weights = torch.full((1,), 0.5, device=latents.device)
        else:
            matrix, values = span.conditions(bases)
            weights = torch.linalg.solve(matrix[:-1, :-1], values[:-1]) if bases else values[:0]
        return span.moved(latents, bases, weights), History(latents, known, order)

    def _sigmas(self, steps: int) -> np.ndarray:
        return _sigmas(self.shift, self.scale, steps)


def _corrected(history: History, finished: Tensor, levels: Tensor, done: int) -> Tensor:
    """Where the last step should have led, now that the prediction after it is known."""
    known, order = history.finished, history.order
    span = _Span(levels[done - 1], levels[done], known[-1])
    bases = [(levels[done - 1 - back], known[-1 - back]) for back in range(1, order)]
    if order == 1:
        weights = torch.full((1,), 0.5, device=finished.device)
    else:
        weights = torch.linalg.solve(*span.conditions(bases))
    return span.moved(history.before, [*bases, (levels[done], finished)], weights)


Base = tuple[Tensor, Tensor]  # a level, and the prediction of the finished latents that was made there


class _Span:
    """One step, from level `here` to `there`, by the prediction `finished` that was made here.

    `h` is, with its sign turned, how far that is in the logarithm of the ratio of signal to noise.
    """

    def __init__(self, here: Tensor, there: Tensor, finished: Tensor) -> None:
        self.here = here
        self.there = there
        self.finished = finished
        self.h = _log_ratio(here) - _log_ratio(there)

    def place(self, level: Tensor) -> Tensor:
        """Where a level is, in spans from here: 1 is there."""
        return (_log_ratio(level) - _log_ratio(self.here)) / -self.h

    def conditions(self, bases: list[Base]) -> tuple[Tensor, Tensor]:
        """The equations [order, order] and [order] for the weights of the `bases`, and of what is found there."""
        one = torch.ones((), device=self.here.device)
        places = torch.stack([*(self.place(level) for level, _ in bases), one])
        growth = torch.expm1(self.h)
        phi = growth / self.h - 1
        rows, values = [], []
        factorial = 1
        for number in range(1, len(bases) + 2):
            rows.append(torch.pow(places, number - 1))
            values.append(phi * factorial / growth)
            factorial *= number + 1
            phi = phi / self.h - 1 / factorial
        return torch.stack(rows), torch.stack(values)

    def moved(self, latents: Tensor, bases: list[Base], weights: Tensor) -> Tensor:
        """`latents` there: by the prediction, and by how those at the `bases` differ from it."""
        growth = torch.expm1(self.h)
        plain = self.there / self.here * latents - (1 - self.there) * growth * self.finished
        if not bases:
            return plain
        change = torch.zeros_like(latents)
        for (level, other), weight in zip(bases, weights, strict=True):
            change = change + weight * ((other - self.finished) / self.place(level))
        return plain - (1 - self.there) * growth * change


@lru_cache(maxsize=256)
def _sigmas(shift: float, scale: int, steps: int) -> np.ndarray:
    """The levels but the last one, float64 [steps]; never changed by who gets them."""
    sigmas = np.linspace(1, 1 / scale, steps + 1)[:-1]
    sigmas = shift * sigmas / (1 + (shift - 1) * sigmas)
    if abs(sigmas[0] - 1) < _EDGE:
        sigmas[0] -= _EDGE
    return sigmas


def _log_ratio(level: Tensor) -> Tensor:
    """Half the logarithm of the ratio of signal to noise; infinite at level 0."""
    return torch.log(1 - level) - torch.log(level)


def unipc(settings: Mapping[str, Any]) -> UniPC:
    """The sampler of a scheduler_config.json. Raises CheckpointError on settings that no pipeline we serve has."""
    unknown = [name for name in _UNKNOWN if settings.get(name)]
    unknown += [name for name, (ours, usual) in _FIXED.items() if settings.get(name, usual) != ours]
    if unknown:
        raise CheckpointError(f"scheduler_config.json: {', '.join(unknown)} is not supported for this model")
    return UniPC(
        shift=float(settings.get("flow_shift", 1.0)),
        order=int(settings.get("solver_order", 2)),
        falling=bool(settings.get("lower_order_final", True)),
        zero=settings.get("final_sigmas_type", "zero") == "zero",
        uncorrected=tuple(settings.get("disable_corrector") or ()),
        scale=int(settings.get("num_train_timesteps", 1000)),
    )
