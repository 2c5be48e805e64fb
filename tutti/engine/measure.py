"""What a step really takes of a GPU's memory, found by running one."""

from __future__ import annotations

import torch

from tutti.engine.batching import forward_inputs
from tutti.engine.kv.cache import KVCache
from tutti.engine.scheduler import Scheduled
from tutti.engine.sequence import Sequence
from tutti.models.protocols import CausalModel
from tutti.request import Request, SamplingParams


def peak_activations(
    model: CausalModel, *, tokens: int, rows: int, block_size: int, dtype: torch.dtype, device: torch.device
) -> int:
    """Bytes a step of `tokens` tokens and `rows` rows of logits takes beyond weights and cache, on a CUDA device."""
    tokens = min(tokens, model.context - 1)
    blocks = [-(-tokens // block_size) + 1] * len(model.groups)
    cache = KVCache(model.groups, blocks, block_size, dtype=dtype, device=device, prefix_caching=False)
    prompt = [0] * tokens
    chain = cache.chain([])
    request = Request(id="measure", parts=())
    sequence = Sequence(request, SamplingParams(), prompt, tokens, tokens + 1, chain, 0)
    sequence.held = cache.admit(chain, prompt, 0)
    if not cache.grow(sequence.held, tokens):
        raise AssertionError("a cache made for one request could not hold it")
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    with torch.inference_mode():
        hidden = model.forward(forward_inputs([Scheduled(sequence, tokens)], cache, device), cache.layers)
        logits = model.logits(hidden[:1].expand(rows, -1).contiguous())
        logits.softmax(-1)  # sampling makes one copy
    torch.cuda.synchronize(device)
    return int(torch.cuda.max_memory_allocated(device) - before)
