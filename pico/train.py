"""Trains pico on a CPU: `python -m pico.train`. Seeded, resumable, stoppable (Ctrl-C saves what there is).

Muon (Jordan et al., 2024) moves the matrices of the layers, AdamW the rest; loss on the answers alone; the learning
rate warms up, stays, and falls to zero over the last part.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import Qwen2ForCausalLM

from .batches import Batch, batches
from .evaluate import examine, make_examination, print_table
from .model import CONTEXT, build_model, save_model
from .tokenizer import build_tokenizer, save_tokenizer
from .transformers_engine import TransformersEngine

WARM_UP, FALL = 100, 0.9
MUON_RATE, ADAM_RATE = 0.01, 3e-3


@dataclass(frozen=True, slots=True)
class Options:
    out: Path
    work: Path
    steps: int
    seed: int
    threads: int
    check_every: int


def main() -> None:
    options = _options()
    torch.set_num_threads(options.threads)
    tokenizer = _tokenizer(options)
    train(options, tokenizer)


def train(options: Options, tokenizer: Tokenizer) -> None:
    model = build_model(options.seed)
    optimizers = make_optimizers(model)
    step, first_pool, seconds = _resume(options, model, optimizers)
    log = options.work / "log.csv"
    if step == 0:
        log.write_text("step,minutes,tokens_per_second,loss,heldout_percent\n")
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {options.steps} steps, from step {step}"
    )
    started, tokens, losses = time.monotonic() - seconds, 0, []
    window = time.monotonic()
    for pool, batch in batches(tokenizer, options.seed, first_pool):
        if step >= options.steps:
            break
        losses.append(train_step(model, optimizers, batch, rate_at(step, options.steps)))
        tokens += batch.ids.numel()
        step += 1
        if step % 25 == 0:
            speed, loss = tokens / (time.monotonic() - window), sum(losses) / len(losses)
            minutes = (time.monotonic() - started) / 60
            heldout = _check(model, tokenizer, step) if step % options.check_every == 0 else ""
            print(
                f"step {step}  {minutes:.1f} min  {speed:,.0f} tokens/s  loss {loss:.4f}  {heldout}",
                flush=True,
            )
            with log.open("a") as file:
                file.write(f"{step},{minutes:.1f},{speed:.0f},{loss:.4f},{heldout}\n")
            if heldout:
                _save(options, model, optimizers, step, pool + 1, time.monotonic() - started)
            tokens, losses, window = 0, [], time.monotonic()
    save_model(model, tokenizer, options.out)
    print(f"saved {options.out}")


def train_step(
    model: Qwen2ForCausalLM, optimizers: list[torch.optim.Optimizer], batch: Batch, rate: float
) -> float:
    """One update at a fraction `rate` of the full learning rate; returns the mean loss per answer token (nats).

    Padding is on the right, so that the causal mask alone is enough.
    """
    targets = batch.targets.flatten()
    chosen = (targets >= 0).nonzero().flatten()
    # Filled up with positions that nothing is learned from: few shapes, as in `batches`.
    empty = (targets < 0).nonzero().flatten()
    chosen = torch.cat([chosen, empty[: -len(chosen) % 256]])
    with torch.autocast("cpu", torch.bfloat16):
        hidden = model.model(batch.ids, use_cache=False).last_hidden_state.flatten(0, 1)[chosen]
        logits = model.lm_head(hidden)
    loss = F.cross_entropy(logits.float(), targets[chosen])
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["lr"] = group["full_rate"] * rate
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
    return loss.item()


def make_optimizers(model: Qwen2ForCausalLM) -> list[torch.optim.Optimizer]:
    matrices = [p for p in model.model.layers.parameters() if p.ndim == 2]
    others = [p for p in model.parameters() if not any(p is m for m in matrices)]
    muon = torch.optim.Muon(matrices, lr=MUON_RATE, weight_decay=0.05, adjust_lr_fn="original")
    adam = torch.optim.AdamW(others, lr=ADAM_RATE, betas=(0.9, 0.98), weight_decay=0.0)
    for optimizer in (muon, adam):
        for group in optimizer.param_groups:
            group["full_rate"] = group["lr"]
    return [muon, adam]


def rate_at(step: int, steps: int) -> float:
    """Warm-up, plateau, linear fall to zero."""
    return max(0.0, min(1.0, (step + 1) / WARM_UP, (steps - step) / (steps * FALL)))


def _check(model: Qwen2ForCausalLM, tokenizer: Tokenizer, step: int) -> str:
    """A quick look at held-out prompts while training; the gate is `pico.evaluate` on the saved checkpoint."""
    model.eval()
    results = examine(TransformersEngine(model, tokenizer), make_examination(seed=step, per_kind=10))
    model.train()
    print_table(results)
    return f"{100 * results.gated_accuracy:.1f}"


def _tokenizer(options: Options) -> Tokenizer:
    options.work.mkdir(parents=True, exist_ok=True)
    path = options.work / "tokenizer.json"
    if not path.exists():
        save_tokenizer(build_tokenizer(options.seed), options.work, CONTEXT)
    return Tokenizer.from_file(str(path))


def _save(
    options: Options,
    model: Qwen2ForCausalLM,
    optimizers: list[torch.optim.Optimizer],
    step: int,
    pool: int,
    seconds: float,
) -> None:
    state = {
        "model": model.state_dict(),
        "optimizers": [o.state_dict() for o in optimizers],
        "step": step,
        "pool": pool,
        "seconds": seconds,
    }
    partial = options.work / "resume.partial"
    torch.save(state, partial)
    partial.replace(options.work / "resume.pt")


def _resume(
    options: Options, model: Qwen2ForCausalLM, optimizers: list[torch.optim.Optimizer]
) -> tuple[int, int, float]:
    path = options.work / "resume.pt"
    if not path.exists():
        return 0, 0, 0.0
    state = torch.load(path, weights_only=True)
    model.load_state_dict(state["model"])
    for optimizer, saved in zip(optimizers, state["optimizers"], strict=True):
        optimizer.load_state_dict(saved)
    return state["step"], state["pool"], state["seconds"]


def _options() -> Options:
    parser = argparse.ArgumentParser(
        prog="python -m pico.train", description="Train pico, the demonstration model."
    )
    parser.add_argument("--out", type=Path, default=Path(__file__).parents[1] / "tutti" / "assets" / "pico")
    parser.add_argument(
        "--work", type=Path, default=Path("build") / "pico", help="checkpoints to resume from, and the log"
    )
    parser.add_argument("--steps", type=int, default=10000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument(
        "--check-every", type=int, default=1000, help="steps between looks at held-out prompts"
    )
    return Options(**vars(parser.parse_args()))


if __name__ == "__main__":
    main()
