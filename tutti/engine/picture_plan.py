"""The memory plan of a graph that draws: the same sum as `engine.plan`'s, with room for steps instead of a KV cache.

    weights + runtime + texts + VAE + kept prompts + adapters + pictures under way + feature caches + a step = budget

What a step takes grows with its tokens, so what is left decides how large a picture may be, and how many share a step.
Beside a language model the last four are in that one's plan.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

from tutti.engine.drawing_room import DrawingRoom, drawing_room
from tutti.engine.plan import (
    ITEM_BYTES,
    RUNTIME_BYTES,
    MemoryPlan,
    Row,
    activation_bytes,
    auto_share,
)
from tutti.formats.checkpoint import Checkpoint
from tutti.formats.lora import named_adapters
from tutti.formats.quantization import ROW_BYTES, check_quantization, form_of, is_matrix
from tutti.graph import StageShape
from tutti.settings import EngineOptions

_LIBRARIES = 350_000_000  # bytes that diffusers and transformers take beside the runtime, measured as RSS
_ADAPTERS = 8  # in memory at once
_TURNS = 16  # pictures under way beside what writes: more wait as their conditions


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
    check_quantization(options.quantization, checkpoint.config["components"])
    budget = options.memory if options.memory is not None else int(available * auto_share(device))
    widest = max((activation_bytes(shape, shape.rows, 0, item) for shape in once), default=0)
    prompts = options.encoder_cache_memory_bytes if once else 0
    fixed = [
        Row("weights", _weights(checkpoint, options.quantization, item), _forms(checkpoint, options, dtype)),
        Row("runtime", RUNTIME_BYTES + _LIBRARIES if device == "cpu" else 0, "interpreter and libraries"),
        Row("texts and VAE", widest, "the larger of their steps, estimated"),
        Row("prompt cache", prompts, "what was made of prompts before"),
    ]
    adapters = _adapter_rows(options, item)
    fixed += adapters
    left = budget - sum(row.bytes for row in fixed)
    room = _room(denoiser, options, left, adapters, item=item, requests=options.max_num_seqs, device=device)
    rows = (*fixed, *_rows(room))
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
        drawing=room,
    )


def _weights(checkpoint: Checkpoint, quantization: str | None, item: int) -> int:
    """Bytes that the weights take once loaded, quantized as they are kept or as is asked."""
    total = 0
    for name, info in checkpoint.tensors.items():
        form = form_of(quantization, name.partition(".")[0])
        kept = checkpoint.kept_bytes(name)
        if form is not None and is_matrix(name, info.shape):
            kept = prod(info.shape) + ROW_BYTES[form] * info.shape[0]
        total += prod(info.shape) * item if kept is None else kept
    return total


def _forms(checkpoint: Checkpoint, options: EngineOptions, dtype: str) -> str:
    """How the weights are kept, in words."""
    forms = [one for one in (options.quantization, checkpoint.quantization) if one]
    return f"{', '.join(forms)} matrices, {dtype} elsewhere" if forms else dtype


def room_beside(
    denoiser: StageShape, options: EngineOptions, left: int, *, device: str, dtype: str
) -> tuple[DrawingRoom, list[Row]]:
    """The room of a denoiser beside a language model, of the `left` bytes that both share, and its rows of the plan.

    What pictures do not need is the KV cache's; they have a quarter at most.
    """
    item = ITEM_BYTES[dtype]
    adapters = _adapter_rows(options, item)
    room = _room(denoiser, options, left // 4, adapters, item=item, requests=_TURNS, device=device)
    libraries = [Row("libraries", _LIBRARIES, "that draw")] if device == "cpu" else []
    return room, [*libraries, *adapters, *_rows(room)]


def _room(
    denoiser: StageShape,
    options: EngineOptions,
    left: int,
    adapters: Sequence[Row],
    *,
    item: int,
    requests: int,
    device: str,
) -> DrawingRoom:
    return drawing_room(
        denoiser,
        left,
        item=item,
        token=activation_bytes(denoiser, 1, 0, item),
        requests=min(options.max_num_seqs, requests),
        adapters=sum(row.bytes for row in adapters),
        device=device,
        most=options.max_num_batched_tokens,
    )


def _adapter_rows(options: EngineOptions, item: int) -> list[Row]:
    sizes = sorted(path.stat().st_size for path in named_adapters(options.lora_modules).values())
    adapters = sum(sizes[-_ADAPTERS:]) * (2 if item == 4 else 1)  # files have 16 bits, most of them
    if not adapters:
        return []
    return [Row("adapters", adapters, f"{min(len(sizes), _ADAPTERS)} of {len(sizes)} at once, at most")]


def _rows(room: DrawingRoom) -> tuple[Row, ...]:
    count = room.features / room.picture
    return (
        Row("pictures", room.requests * room.kept, f"of {room.requests} requests under way"),
        Row("feature caches", room.features, f"of {count:.1f} large pictures, at most"),
        Row("a step", room.tokens * room.token, f"{room.tokens:,} tokens, estimated"),
    )
