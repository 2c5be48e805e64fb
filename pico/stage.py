"""One stage of training: its steps, its log, and how it goes on after a stop.

A step's batch and noise come from the number of the step alone, so that a run which was stopped and resumed learns
what an undisturbed one learns.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random
from typing import Any

import torch
from torch import Tensor, nn

LOG_EVERY, SAVE_EVERY = 50, 250
Losses = Mapping[str, Tensor]
"""What a step computed; "loss" is what is made smaller, the others are logged."""


@dataclass(frozen=True, slots=True)
class Options:
    work: Path
    steps: int
    threads: int

    def file(self, name: str) -> Path:
        """A file of the working folder, which is made if need be."""
        self.work.mkdir(parents=True, exist_ok=True)
        return self.work / name

    def of(self, steps: int) -> Options:
        """The same with another number of steps."""
        return replace(self, steps=steps)


def options(description: str, steps: int, arguments: Sequence[str] | None = None) -> Options:
    """Reads the command line; sets the number of threads."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--work", type=Path, default=Path("build") / "pico", help="where the stages leave what they made")
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--threads", type=int, default=2)
    chosen = parser.parse_args(arguments)
    torch.set_num_threads(chosen.threads)
    return Options(chosen.work, chosen.steps, chosen.threads)


def train(
    name: str,
    model: nn.Module,
    optimizers: Sequence[torch.optim.Optimizer],
    chosen: Options,
    losses_of: Callable[[Random], Losses],
    rate: Callable[[float], float] | None = None,
) -> None:
    """Trains `model` in place and leaves it in evaluation mode; `rate` of the full learning rate by share of the steps."""
    state = chosen.file(f"{name}.resume.pt")
    step, seconds = _resume(state, model, optimizers)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("full_rate", group["lr"])
    print(f"{name}: {sum(p.numel() for p in model.parameters()):,} parameters, {chosen.steps} steps, from {step}", flush=True)
    started, sums = time.monotonic() - seconds, {}
    model.train()
    while step < chosen.steps:
        torch.manual_seed(step)
        losses = losses_of(Random(f"{name}|{step}"))
        _update(model, optimizers, losses["loss"], (rate or trapezoid)(step / chosen.steps))
        step += 1
        for key, value in losses.items():
            sums[key] = sums.get(key, 0.0) + float(value.detach())
        if step % LOG_EVERY == 0:
            told = "  ".join(f"{key} {value / LOG_EVERY:.4f}" for key, value in sums.items())
            print(f"{name} {step}  {time.monotonic() - started:.0f} s  {told}", flush=True)
            sums = {}
        if step % SAVE_EVERY == 0 or step == chosen.steps:
            _save(state, model, optimizers, step, time.monotonic() - started)
    model.eval()


def trapezoid(share: float) -> float:
    """A short rise, a plateau, and a linear fall to zero over the last two thirds."""
    return min(1.0, 0.05 + share / 0.03, max(0.02, (1 - share) / 0.67))


def _update(model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], loss: Tensor, rate: float) -> None:
    loss.backward()
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["full_rate"] * rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)


def _save(path: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer], step: int, seconds: float) -> None:
    partial = path.with_suffix(".partial")
    states = [optimizer.state_dict() for optimizer in optimizers]
    torch.save({"model": model.state_dict(), "optimizers": states, "step": step, "seconds": seconds}, partial)
    partial.replace(path)


def _resume(path: Path, model: nn.Module, optimizers: Sequence[torch.optim.Optimizer]) -> tuple[int, float]:
    if not path.exists():
        return 0, 0.0
    state: dict[str, Any] = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["step"], state["seconds"]
