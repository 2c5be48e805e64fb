"""The memory plan of a graph that draws: the same sum as `engine.plan`'s, with room for steps instead of a KV cache.

    weights + runtime + texts + VAE + kept prompts + pictures under way + a step = budget

What a step takes grows with its tokens, so what is left decides how large a picture may be, and how many share a step.
"""

from __future__ import annotations

from collections.abc import Sequence

from tutti.engine.plan import (
    ITEM_BYTES,
    RUNTIME_BYTES,
    DrawingRoom,
    MemoryPlan,
    Row,
    activation_bytes,
    auto_share,
    weight_bytes,
)
from tutti.formats.checkpoint import Checkpoint
from tutti.graph import StageShape
from tutti.settings import EngineOptions

_LIBRARIES = 350_000_000  # bytes that diffusers and transformers take beside the runtime, measured as RSS
_LEAST = 1024  # tokens a step must have: a picture of 512 x 512 pixels in patches of 16
# Bytes of a picture's latents and velocity, and of what is kept of one that it begins from, at 1024 x 1024 pixels.
_LATENTS = 4 * 128 * 128 * 16 * 4
_STEP = {
    "cpu": 8192,
    "cuda": 65536,
}  # tokens in a step of several: enough to fill the machine, few enough to be short


def make_picture_plan(
    checkpoint: Checkpoint,
    denoiser: StageShape,
    once: Sequence[StageShape],
    options: EngineOptions,
    *,
    device: str,
    dtype: str,
    available: int,
) -> MemoryPlan:
    """The plan for drawing on `device`, which has `available` bytes; `once` are the stages of one pass."""
    item = ITEM_BYTES[dtype]
    budget = options.memory if options.memory is not None else int(available * auto_share(device))
    widest = max(activation_bytes(shape, shape.rows, 0, item) for shape in once)
    kept = denoiser.memory * item + _LATENTS
    fixed = [
        Row("weights", weight_bytes(checkpoint, None, item, device), dtype),
        Row("runtime", RUNTIME_BYTES + _LIBRARIES if device == "cpu" else 0, "interpreter and libraries"),
        Row("texts and VAE", widest, "the larger of their steps, estimated"),
        Row("prompt cache", options.encoder_cache_memory_bytes, "what was made of prompts before"),
    ]
    token = activation_bytes(denoiser, 1, 0, item)
    room = budget - sum(row.bytes for row in fixed)
    requests = max(1, min(options.max_num_seqs, (room - _LEAST * token) // 2 // kept))
    largest = max(_LEAST, (room - requests * kept) // token)
    tokens = min(_STEP.get(device, 8192), largest)
    rows = (
        *fixed,
        Row("pictures", requests * kept, f"of {requests} requests under way"),
        Row("a step", tokens * token, f"{tokens:,} tokens, estimated"),
    )
    fits = sum(row.bytes for row in rows) <= budget <= available
    return MemoryPlan(
        device,
        dtype,
        budget,
        rows,
        context=0,
        block_size=options.block_size,
        blocks=(),
        kv_tokens=0,
        bytes_per_token=0,
        fits=fits,
        fixed=sum(row.bytes for row in fixed),
        drawing=DrawingRoom(tokens, largest, requests),
    )
