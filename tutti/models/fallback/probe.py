"""Four tokens through a model nobody here knows, before it serves: does it do what was read from its configuration?

The same two tokens a, b are computed twice, together and one after the other, in one batch with each other:

    step 1: | a b | a |      step 2: | b |

Both b must come out alike. They do not where a layer keeps a state of its own, where positions are counted instead of
taken, where tokens see past their request. And every layer must have asked for the attention that was described.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from tutti.graph import BuildOptions
from tutti.kernels.paged import LayerCache, PagedBatch
from tutti.models import reading
from tutti.models.fallback.attention import AttentionCall
from tutti.models.fallback.config import normalized, refused
from tutti.models.protocols import ForwardInputs
from tutti.models.reading import Config

if TYPE_CHECKING:
    from tutti.models.fallback.model import FallbackModel

BLOCK = 4
# Of the difference, against the values' norm. In half precision a rounding may change which experts are chosen.
TOLERANCE = {"float32": 1e-3, "bfloat16": 0.25, "float16": 0.25}


def check(model: FallbackModel, config: Config, options: BuildOptions) -> None:
    """Raises CheckpointError when the model does not do what it was described to do."""
    calls: list[AttentionCall] = []
    caches = _caches(model, options)
    a, b = model.vocab_size // 2, model.vocab_size // 3
    try:
        first = model.forward(
            _inputs(model, [a, b, a], [0, 1, 0], [2, 1], [2, 1], [1, 2], options), caches, calls
        )
        second = model.forward(_inputs(model, [b], [1], [1], [2], [2], options), caches)
        logits = model.logits(second)
    except (TypeError, AttributeError, KeyError, IndexError, RuntimeError, ValueError) as error:
        raise refused(config, f"it does not run over paged, flattened batches ({error})") from error
    _check_calls(model, config, calls)
    tolerance = TOLERANCE[options.dtype]
    for one, other in ((first[0], first[2]), (first[1], second[0])):
        if _distance(one, other) > tolerance:
            raise refused(config, "its answers depend on how tokens are split into steps")
    if logits.shape != (1, model.vocab_size):
        raise refused(config, f"it gives {logits.shape[-1]} logits for {model.vocab_size} tokens")


def _check_calls(model: FallbackModel, config: Config, calls: list[AttentionCall]) -> None:
    described = {
        layer: AttentionCall(layer, group.kv_heads, group.key_dim, group.value_dim, group.window, True, ())
        for group in model.groups
        for layer in group.layers
    }
    if sorted(call.layer for call in calls) != sorted(described):
        raise refused(
            config,
            f"config.json describes {len(described)} layers, and {len(calls)} asked for attention through "
            "transformers' interface",
        )
    longest = reading.context(normalized(config))
    for call in calls:
        wanted = described[call.layer]
        window = call.window if call.window is not None and call.window < longest else None
        found = AttentionCall(
            call.layer, call.kv_heads, call.key_dim, call.value_dim, window, call.causal, call.unknown
        )
        if found != wanted:
            raise refused(config, f"it asks for {found} where config.json describes {wanted}")


def _distance(one: Tensor, other: Tensor) -> float:
    return ((one - other).float().norm() / one.float().norm()).item()


def _caches(model: FallbackModel, options: BuildOptions) -> list[LayerCache]:
    """A cache of two blocks, besides the null block, for every layer."""
    caches = {}
    for group in model.groups:
        for layer in group.layers:
            shape, dtype = (3, group.kv_heads, BLOCK), getattr(torch, options.dtype)
            key = torch.zeros(*shape, group.key_dim, dtype=dtype, device=options.device)
            value = torch.zeros(*shape, group.value_dim, dtype=dtype, device=options.device)
            caches[layer] = LayerCache(key, value)
    return [caches[layer] for layer in sorted(caches)]


def _inputs(
    model: FallbackModel,
    tokens: list[int],
    positions: list[int],
    queries: list[int],
    lengths: list[int],
    blocks: list[int],
    options: BuildOptions,
) -> ForwardInputs:
    """A step of requests with one block each."""
    owners = [block for block, query in zip(blocks, queries, strict=True) for _ in range(query)]
    batch = PagedBatch(
        torch.tensor([0, *torch.tensor(queries).cumsum(0).tolist()], dtype=torch.int32),
        torch.tensor(lengths, dtype=torch.int32),
        torch.tensor(blocks, dtype=torch.int32)[:, None],
        torch.tensor([block * BLOCK + position for block, position in zip(owners, positions, strict=True)]),
        max(queries),
        max(lengths),
    ).to(options.device)
    return ForwardInputs(
        torch.tensor(tokens, device=options.device),
        torch.tensor(positions, device=options.device),
        (batch,) * len(model.groups),
    )
