"""What all stages of training share: the optimizers, the rate, the log, and going on where a run stopped.

Muon moves the matrices of the layers, AdamW the rest; the learning rate warms up, stays, and falls to zero over the last
part. Most of a step is many small operations on rows, which a compiler makes one of: `compiled`.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from .muon import Muon

Function = TypeVar("Function", bound=Callable[..., Any])
WARM_UP, FALL = 100, 0.9
NOTE_EVERY, SAVE_EVERY = 50, 250
Losses = Mapping[str, Tensor]
"""What is lost in a step: "loss" is made smaller, all are noted."""
MUON_RATE, ADAM_RATE = 0.01, 3e-3


@dataclass(frozen=True, slots=True)
class Options:
    """What a stage is told: the folder in which the stages leave what they make, how long to learn, and from which seed."""

    work: Path
    steps: int
    threads: int
    seed: int

    @property
    def text(self) -> Path:
        """The folder of the text model's checkpoint."""
        return self.work / "text"


def options(stage: str, description: str, steps: int) -> Options:
    """Reads the command line of a stage; sets the number of threads."""
    parser = argparse.ArgumentParser(prog=f"python -m pico.{stage}", description=description)
    parser.add_argument(
        "--work", type=Path, default=Path("build") / "pico", help="where the stages leave what they make"
    )
    parser.add_argument("--steps", type=int, default=steps)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    return Options(chosen.work, chosen.steps, chosen.threads, chosen.seed)


def compiled(function: Function, wanted: bool = True) -> Function:
    """The same function of tensors of any shape, compiled where a C++ compiler is, and only when it is first called."""
    if not wanted or shutil.which("c++") is None:
        return function
    made: Function = torch.compile(function, dynamic=True)
    return made


def make_optimizers(
    matrices: Iterable[nn.Parameter], others: Iterable[nn.Parameter], rate: float = 1.0
) -> list[torch.optim.Optimizer]:
    """`rate` scales the full learning rates of both."""
    muon = Muon(matrices, lr=MUON_RATE * rate, weight_decay=0.05)
    adam = torch.optim.AdamW(list(others), lr=ADAM_RATE * rate, betas=(0.9, 0.98), weight_decay=0.0)
    for optimizer in (muon, adam):
        for group in optimizer.param_groups:
            group["full_rate"] = group["lr"]
    return [muon, adam]


def split_parameters(
    model: nn.Module, layers: nn.Module | None = None
) -> tuple[list[nn.Parameter], list[nn.Parameter]]:
    """The matrices of the layers (of all of the model if none are named), and all other parameters."""
    matrices = [p for p in (layers or model).parameters() if p.ndim == 2]
    known = {id(p) for p in matrices}
    return matrices, [p for p in model.parameters() if id(p) not in known]


def rate_at(step: int, steps: int) -> float:
    """Warm-up, plateau, linear fall to zero."""
    return max(0.0, min(1.0, (step + 1) / WARM_UP, (steps - step) / (steps * FALL)))


def update(
    loss: torch.Tensor,
    parameters: Iterable[nn.Parameter],
    optimizers: list[torch.optim.Optimizer],
    rate: float,
) -> float:
    """One step down the loss at a fraction `rate` of the full learning rates; returns the loss."""
    loss.backward()  # type: ignore[no-untyped-call]
    nn.utils.clip_grad_norm_(parameters, 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["full_rate"] * rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.item()


class Run:
    """One stage's run: where it is, how long it took, by the clock and of all cores together, its log, and its state on
    disk."""

    def __init__(
        self, work: Path, name: str, model: nn.Module, optimizers: list[torch.optim.Optimizer]
    ) -> None:
        """Goes on where an earlier run of the stage stopped, if its state is in `work`."""
        work.mkdir(parents=True, exist_ok=True)
        self.path, self.log = work / f"{name}.resume.pt", work / f"{name}.csv"
        self.model, self.optimizers = model, optimizers
        self.step, self.pool, seconds, cpu = 0, 0, 0.0, 0.0
        if self.path.exists():
            state = torch.load(self.path, weights_only=True)
            model.load_state_dict(state["model"])
            for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
                rates = [group["full_rate"] for group in optimizer.param_groups]  # as they are asked for now
                optimizer.load_state_dict(saved)
                for group, rate in zip(optimizer.param_groups, rates, strict=True):
                    group["full_rate"] = rate
            self.step, self.pool, seconds = state["step"], state["pool"], state["seconds"]
            cpu = state["cpu"]
        else:
            self.log.write_text("step,minutes,cpu minutes,loss,heldout\n")
        self.started, self.started_cpu = time.monotonic() - seconds, time.process_time() - cpu

    def note(self, losses: list[float], heldout: str = "") -> None:
        """One line of the log, printed too."""
        minutes, loss = (time.monotonic() - self.started) / 60, sum(losses) / len(losses)
        cpu = (time.process_time() - self.started_cpu) / 60
        print(
            f"step {self.step}  {minutes:.1f} min, {cpu:.1f} of CPU  loss {loss:.4f}  {heldout}", flush=True
        )
        with self.log.open("a") as file:
            file.write(f"{self.step},{minutes:.1f},{cpu:.1f},{loss:.4f},{heldout}\n")

    def save(self, next_pool: int) -> None:
        """Everything a later run needs to go on from `next_pool`."""
        state = {
            "model": self.model.state_dict(),
            "optimizers": [o.state_dict() for o in self.optimizers],
            "step": self.step,
            "pool": next_pool,
            "seconds": time.monotonic() - self.started,
            "cpu": time.process_time() - self.started_cpu,
        }
        partial = self.path.with_suffix(".partial")
        torch.save(state, partial)
        partial.replace(self.path)


def learn(
    name: str,
    model: nn.Module,
    optimizers: list[torch.optim.Optimizer],
    chosen: Options,
    losses_of: Callable[[Random], Losses],
    examine: Callable[[], Losses] | None = None,
) -> None:
    """A whole stage; `losses_of` makes a batch and computes what is lost, `examine` tells how it does on what it never saw.
    Leaves `model` ready to be used.

    A batch comes from the number of its step alone, so that a run which was stopped learns what another one does.
    """
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group.setdefault("full_rate", group["lr"])
    run = Run(chosen.work, name, model, optimizers)
    size = sum(p.numel() for p in model.parameters())
    print(f"{name}: {size:,} parameters, {chosen.steps} steps, from {run.step}", flush=True)
    noted: dict[str, list[float]] = {}
    model.train()
    while run.step < chosen.steps:
        torch.manual_seed(chosen.seed + run.step)
        losses = losses_of(Random(f"{name}|{chosen.seed}|{run.step}"))
        update(losses["loss"], model.parameters(), optimizers, rate_at(run.step, chosen.steps))
        run.step += 1
        for key, value in losses.items():
            noted.setdefault(key, []).append(value.item())
        if run.step % NOTE_EVERY == 0:
            loss = noted.pop("loss")
            means = {key: sum(values) / len(values) for key, values in noted.items()}
            if examine is not None and run.step % SAVE_EVERY == 0:
                model.eval()
                means |= {f"unseen {key}": value.item() for key, value in examine().items()}
                model.train()
            run.note(loss, "  ".join(f"{key} {value:.3f}" for key, value in means.items()))
            noted.clear()
        if run.step % SAVE_EVERY == 0 or run.step == chosen.steps:
            run.save(0)
    model.eval()
