"""Trains pico's text model on a CPU: `python -m pico.train`, the first stage. Seeded, resumable, stoppable.

Loss on the answers alone; see `training` for the optimizers and the learning rate.
"""

from __future__ import annotations

import torch
from tokenizers import Tokenizer
from torch.nn import functional as F
from transformers import Qwen2ForCausalLM

from .batches import Batch, batches
from .decoder import Through, normed, through_layer, through_layers
from .evaluate import examine, make_examination, print_table
from .model import CONTEXT, build_model, save_model
from .tokenizer import build_tokenizer, save_tokenizer
from .training import Options, Run, compiled, make_optimizers, options, rate_at, split_parameters, update
from .transformers_engine import TransformersEngine

STEPS = 8_000
CHECK_EVERY = 1000


def train(chosen: Options) -> None:
    """Leaves the checkpoint in the work folder's `text`."""
    tokenizer = _tokenizer(chosen)
    model = build_model(chosen.seed)
    run = Run(chosen.work, "text", model, make_optimizers(*split_parameters(model, model.model.layers)))
    print(
        f"{sum(p.numel() for p in model.parameters()):,} parameters, {chosen.steps} steps, from step {run.step}"
    )
    losses: list[float] = []
    through = compiled(through_layer)
    for pool, batch in batches(tokenizer, chosen.seed, run.pool):
        if run.step >= chosen.steps:
            break
        rate = rate_at(run.step, chosen.steps)
        losses.append(update(loss_of(model, batch, through), model.parameters(), run.optimizers, rate))
        run.step += 1
        if run.step % 25 == 0:
            heldout = _check(model, tokenizer, run.step) if run.step % CHECK_EVERY == 0 else ""
            run.note(losses, heldout)
            losses = []
            if heldout:
                run.save(pool + 1)
    save_model(model, tokenizer, chosen.text)
    print(f"saved {chosen.text}")


def loss_of(model: Qwen2ForCausalLM, batch: Batch, through: Through = through_layer) -> torch.Tensor:
    """Mean loss per answer token (nats). Padding is on the right, so that the causal mask alone is enough."""
    targets = batch.targets.flatten()
    chosen = (targets >= 0).nonzero().flatten()
    # Filled up with positions that nothing is learned from: few shapes, as in `batches`.
    empty = (targets < 0).nonzero().flatten()
    chosen = torch.cat([chosen, empty[: -len(chosen) % 256]])
    with torch.autocast("cpu", torch.bfloat16):
        embedded = model.model.embed_tokens(batch.ids)
        states, _ = through_layers(model.model, embedded, torch.arange(batch.ids.shape[1])[None], through)
        logits = model.lm_head(normed(states[-1].flatten(0, 1)[chosen], model.model.norm))
    return F.cross_entropy(logits.float(), targets[chosen])


def _check(model: Qwen2ForCausalLM, tokenizer: Tokenizer, step: int) -> str:
    """A quick look at held-out prompts while training; the gate is `pico.evaluate` on the saved checkpoint."""
    model.eval()
    results = examine(TransformersEngine(model, tokenizer), make_examination(seed=step, per_kind=10))
    model.train()
    print_table(results)
    return f"{100 * results.gated_accuracy:.1f}"


def _tokenizer(chosen: Options) -> Tokenizer:
    path = chosen.text / "tokenizer.json"
    if not path.exists():
        save_tokenizer(build_tokenizer(chosen.seed), chosen.text, CONTEXT)
    return Tokenizer.from_file(str(path))


def main() -> None:
    train(options("train", "Train pico's text model.", STEPS))


if __name__ == "__main__":
    main()
