"""Runs a `CausalModel` over a small paged cache, without the engine.

Requests of a batch are computed together, `chunk` tokens a step each; their blocks are interleaved on purpose, so that
a request's cache is never contiguous.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from tutti.formats.checkpoint import open_checkpoint
from tutti.graph import BuildOptions, resolve
from tutti.kernels.paged import LayerCache, PagedBatch
from tutti.models.protocols import CausalModel, ForwardInputs
from tutti.models.registry import find_graph

BLOCK = 4


def load_model(path: object, **options: object) -> CausalModel:
    """The model of a checkpoint directory, built the way the engine does it."""
    checkpoint = open_checkpoint(str(path))
    stage = find_graph(checkpoint.config).stages[0]
    model: CausalModel = resolve(stage.build)(checkpoint, BuildOptions(**options))  # type: ignore[arg-type]
    return model


class Driver:
    """A batch of requests on one model."""

    def __init__(
        self,
        model: CausalModel,
        prompts: Sequence[Sequence[int]],
        *,
        room: int = 64,
        dtype: torch.dtype = torch.float32,
        device: str = "cpu",
    ) -> None:
        self.model = model
        self.device = device
        self.tokens = [list(prompt) for prompt in prompts]
        self.computed = [0] * len(prompts)
        self.blocks = -(-(max(map(len, prompts)) + room) // BLOCK)
        count = len(prompts)
        # Request i's logical block b is block 1 + b * count + i: interleaved.
        self.table = 1 + torch.arange(self.blocks)[None] * count + torch.arange(count)[:, None]
        caches: dict[int, LayerCache] = {}
        for group in model.groups:
            for layer in group.layers:
                shape = (1 + self.blocks * count, group.kv_heads, BLOCK)
                key = torch.full((*shape, group.key_dim), torch.nan, dtype=dtype, device=device)
                key[0] = 0
                value = torch.full((*shape, group.value_dim), torch.nan, dtype=dtype, device=device)
                value[0] = 0
                caches[layer] = LayerCache(key, key[..., : group.value_dim] if group.shared_value else value)
        self.caches = [caches[layer] for layer in sorted(caches)]

    def step(self, chunk: int) -> list[Tensor | None]:
        """Computes up to `chunk` tokens of each request.

        Returns, per request, the logits [tokens, vocab] of what was computed, None where nothing was left.
        """
        spans = [(c, min(len(t), c + chunk)) for t, c in zip(self.tokens, self.computed, strict=True)]
        active = [i for i, (first, end) in enumerate(spans) if end > first]
        tokens = torch.tensor([self.tokens[i][p] for i in active for p in range(*spans[i])])
        positions = torch.tensor([p for i in active for p in range(*spans[i])])
        slots = torch.tensor(
            [int(self.table[i, p // BLOCK]) * BLOCK + p % BLOCK for i in active for p in range(*spans[i])]
        )
        counts = [spans[i][1] - spans[i][0] for i in active]
        lengths = [spans[i][1] for i in active]
        batch = PagedBatch(
            torch.tensor([0, *torch.tensor(counts).cumsum(0).tolist()], dtype=torch.int32),
            torch.tensor(lengths, dtype=torch.int32),
            self.table[active].to(torch.int32),
            slots,
            max(counts),
            max(lengths),
        ).to(self.device)
        inputs = ForwardInputs(
            tokens.to(self.device), positions.to(self.device), (batch,) * len(self.model.groups)
        )
        logits = self.model.logits(self.model.forward(inputs, self.caches)).cpu()
        results: list[Tensor | None] = [None] * len(spans)
        for i, part in zip(active, logits.split(counts), strict=True):
            results[i] = part
            self.computed[i] = spans[i][1]
        return results


def prompt_logits(
    model: CausalModel, prompts: Sequence[Sequence[int]], chunk: int = 10**6, **options: object
) -> list[Tensor]:
    """The logits [len, vocab] of every prompt's tokens, the prompts computed together in chunks."""
    driver = Driver(model, prompts, **options)  # type: ignore[arg-type]
    parts: list[list[Tensor]] = [[] for _ in prompts]
    while any(c < len(t) for c, t in zip(driver.computed, driver.tokens, strict=True)):
        for part, logits in zip(parts, driver.step(chunk), strict=True):
            if logits is not None:
                part.append(logits)
    return [torch.cat(part) for part in parts]


def greedy(
    model: CausalModel, prompts: Sequence[Sequence[int]], count: int, chunk: int = 10**6, **options: object
) -> list[list[int]]:
    """`count` greedy tokens after each prompt, the prompts computed together in chunks, no token ending early."""
    driver = Driver(model, prompts, room=count, **options)  # type: ignore[arg-type]
    ends = [len(prompt) + count for prompt in prompts]
    while any(len(t) < end for t, end in zip(driver.tokens, ends, strict=True)):
        for i, logits in enumerate(driver.step(chunk)):
            if logits is not None and driver.computed[i] == len(driver.tokens[i]) < ends[i]:
                driver.tokens[i].append(int(logits[-1].argmax()))
    return [tokens[len(prompt) :] for tokens, prompt in zip(driver.tokens, prompts, strict=True)]
