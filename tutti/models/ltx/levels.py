"""The noise levels of later LTX-Video models: the first half linear and close together, the second quadratic."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutti.errors import CheckpointError
from tutti.models.drawing.flow import FlowMatching, Sampler, flow_matching

_NEAR = 0.025  # noise that the linear half takes away


@dataclass(frozen=True, slots=True)
class LinearQuadratic(Sampler):
    """The levels of Movie Gen (Polyak et al. 2024), as LTX-Video has them; steps are Euler's."""

    scale: int = 1000

    def levels(self, steps: int, tokens: int) -> Tensor:
        """See `Sampler.levels`."""
        if steps < 2:
            return torch.tensor([1.0, 0.0])
        linear = steps // 2
        rest = steps - linear
        lacking = linear - _NEAR * steps
        square = lacking / (linear * rest**2)
        slope = _NEAR / linear - 2 * lacking / rest**2
        gone = [number * _NEAR / linear for number in range(linear)]
        gone += [square * (n**2 + linear**2) + slope * n for n in range(linear, steps)]
        return torch.tensor([*(1.0 - one for one in gone), 0.0])


def sampler(settings: Mapping[str, Any], *, conditional: bool) -> FlowMatching | LinearQuadratic:
    """The sampler of a scheduler_config.json. Raises CheckpointError on settings that no model we serve has."""
    found = flow_matching(settings)
    if not conditional:
        return found
    if found.dynamic or found.terminal or found.shift != 1.0:
        raise CheckpointError(
            "scheduler_config.json: levels that are shifted are not supported for this model"
        )
    return LinearQuadratic(found.scale)
