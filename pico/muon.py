"""Muon (Jordan et al., 2024) for many small matrices: those of one shape are made orthogonal together.

The same steps as `torch.optim.Muon` with its own coefficients and `adjust_lr_fn="original"`, which takes matrix after matrix:
on a CPU, where a matrix of 256 x 256 is little work, calling is then most of what it costs.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

MOMENTUM = 0.95
_COEFFICIENTS, _ROUNDS = (3.4445, -4.7750, 2.0315), 5
_LEAST = 1e-7


class Muon(torch.optim.Optimizer):
    """Moves matrices along their gradients' momentum (Nesterov's), made orthogonal, with decoupled weight decay."""

    def __init__(self, matrices: Iterable[nn.Parameter], lr: float, weight_decay: float) -> None:
        super().__init__(matrices, {"lr": lr, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:
        """One step; what has no gradient stays as it is. There is no `closure`."""
        assert closure is None
        for group in self.param_groups:
            moved = [p for p in group["params"] if p.grad is not None]
            shapes: dict[torch.Size, list[nn.Parameter]] = {}
            for parameter in moved:
                shapes.setdefault(parameter.shape, []).append(parameter)
            for (high, wide), alike in shapes.items():
                directions = orthogonal(torch.stack(self._momentum(alike)).bfloat16()).to(alike[0].dtype)
                rate = group["lr"] * max(1, high / wide) ** 0.5
                torch._foreach_mul_(alike, 1 - group["lr"] * group["weight_decay"])
                torch._foreach_add_(alike, list(directions.unbind()), alpha=-rate)

    def _momentum(self, alike: list[nn.Parameter]) -> list[Tensor]:
        """Takes the gradients into the running means, and looks a step ahead."""
        gradients = [p.grad for p in alike if p.grad is not None]
        for parameter in alike:
            if not self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        means = [self.state[parameter]["momentum"] for parameter in alike]
        torch._foreach_lerp_(means, gradients, 1 - MOMENTUM)
        return list(torch._foreach_lerp(gradients, means, MOMENTUM))


def orthogonal(matrices: Tensor) -> Tensor:
    """About the nearest orthogonal matrix of each of [matrices, rows, columns], by Newton and Schulz's iteration."""
    tall = matrices.shape[1] > matrices.shape[2]
    x = matrices.mT.contiguous() if tall else matrices
    x = x / x.flatten(1).norm(dim=1).clamp(min=_LEAST)[:, None, None]
    a, b, c = _COEFFICIENTS
    for _ in range(_ROUNDS):
        gram = x @ x.mT
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
