"""The memory plan of a graph that draws: the same sum as `engine.plan`'s, with room for steps instead of a KV cache.

    weights + runtime + texts + VAE + kept prompts + adapters + pictures under way + feature caches + a step = budget

What a step takes grows with its tokens, so what is left decides how large a picture may be, and how many share a step.
Beside a language model the last four are in that one's plan.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
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
from tutti.settings import Degrees, EngineOptions

_LIBRARIES = 350_000_000  # bytes that diffusers and transformers take beside the runtime, measured as RSS
_ADAPTERS = 8  # in memory at once
_TURNS = 16  # pictures under way beside what writes: more wait as their conditions


@dataclass(frozen=True, slots=True)
class SharedNetwork:
    """A denoiser that several ranks compute: which of its tensors are its own, and of which each rank has a share.

    `networks` are how the names of the first begin, `layers` are the names of the second. `devices` are those of the
    other ranks, with the bytes `available` on each; none: they share the leader's memory.
    """

    degrees: Degrees
    networks: tuple[str, ...]
    layers: tuple[str, ...]
    devices: tuple[str, ...]
    available: tuple[int, ...] = ()

    def spared(self, checkpoint: Checkpoint, quantization: str | None, item: int) -> int:
        """The bytes of weights that a rank does not have, which others do."""
        if not self.layers:
            return 0
        whole = _weights(checkpoint, quantization, item, self.layers)
        return whole - whole // self.degrees.tensor


def make_picture_plan(
    checkpoint: Checkpoint,
    denoiser: StageShape,
    once: Sequence[StageShape],
    options: EngineOptions,
    *,
    device: str,
    dtype: str,
    available: int,
    ranks: SharedNetwork | None = None,
) -> MemoryPlan:
    """The plan for drawing on `device`, which has `available` bytes; `once` are the stages of one pass.

    `ranks` are those that compute the denoiser together with this one.
    """
    item = ITEM_BYTES[dtype]
    check_quantization(options.quantization, checkpoint.config["components"])
    budget = _budget(options, device, available)
    spared = 0 if ranks is None else ranks.spared(checkpoint, options.quantization, item)
    widest = max((activation_bytes(shape, shape.rows, 0, item) for shape in once), default=0)
    prompts = options.encoder_cache_memory_bytes if once else 0
    forms = _forms(checkpoint, options, dtype)
    fixed = [
        Row("weights", _weights(checkpoint, options.quantization, item) - spared, forms),
        Row("runtime", RUNTIME_BYTES + _LIBRARIES if device == "cpu" else 0, "interpreter and libraries"),
        Row("texts and VAE", widest, "the larger of their steps, estimated"),
        Row("prompt cache", prompts, "what was made of prompts before"),
    ]
    adapters = _adapter_rows(options, item)
    fixed += adapters
    left = budget - sum(row.bytes for row in fixed)
    others = (
        []
        if ranks is None
        else _fixed_of_rank(
            checkpoint,
            ranks,
            adapters,
            quantization=options.quantization,
            item=item,
            device=device,
            forms=forms,
        )
    )
    if ranks is not None and ranks.available:  # who has the least decides what all have room for
        own = sum(row.bytes for row in others)
        left = min(left, *(_budget(options, device, free) - own for free in ranks.available))
    elif ranks is not None:  # all take of one memory
        left = (left - len(ranks.devices) * sum(row.bytes for row in others)) // ranks.degrees.ranks
    room = _room(denoiser, options, left, adapters, item=item, requests=options.max_num_seqs, device=device)
    rows = (*fixed, *_rows(room))
    beside = (
        ()
        if ranks is None
        else tuple(_rank_plans(ranks, [*others, *_rows(room)], room, options, device, dtype))
    )
    if ranks is not None and not ranks.available:
        budget -= sum(plan.budget for plan in beside)
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
        beside=beside,
    )


def _budget(options: EngineOptions, device: str, available: int) -> int:
    return options.memory if options.memory is not None else int(available * auto_share(device))


def _fixed_of_rank(
    checkpoint: Checkpoint,
    ranks: SharedNetwork,
    adapters: Sequence[Row],
    *,
    quantization: str | None,
    item: int,
    device: str,
    forms: str,
) -> list[Row]:
    """What a rank that does not lead holds before it draws: the denoiser alone, or its share of it."""
    weights = _weights(checkpoint, quantization, item, ranks.networks)
    weights -= ranks.spared(checkpoint, quantization, item)
    return [
        Row("weights", weights, f"{forms}, of the denoiser"),
        Row("runtime", RUNTIME_BYTES + _LIBRARIES if device == "cpu" else 0, "interpreter and libraries"),
        *adapters,
    ]


def _rank_plans(
    ranks: SharedNetwork,
    rows: Sequence[Row],
    room: DrawingRoom,
    options: EngineOptions,
    device: str,
    dtype: str,
) -> Iterator[MemoryPlan]:
    """The plans of the ranks that do not lead; without memory of its own, one has what it needs."""
    total = sum(row.bytes for row in rows)
    for number, name in enumerate(ranks.devices):
        free = ranks.available[number] if ranks.available else None
        budget = total if free is None else _budget(options, device, free)
        yield MemoryPlan(
            name,
            dtype,
            budget,
            tuple(rows),
            context=0,
            block_size=options.block_size,
            blocks=(),
            kv_tokens=0,
            bytes_per_token=0,
            fits=free is None or total <= budget <= free,
            drawing=room,
        )


def _weights(
    checkpoint: Checkpoint, quantization: str | None, item: int, beginnings: tuple[str, ...] = ("",)
) -> int:
    """Bytes that the weights take once loaded, quantized as they are kept or as is asked; of names that begin so."""
    total = 0
    for name, info in checkpoint.tensors.items():
        if not name.startswith(beginnings):
            continue
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
