"""The memory plan: where every byte of a device goes, known before a weight is loaded.

    weights + activations + runtime + KV pools = budget

What does not fit is refused with this sum shown. Nothing here needs luck: the only estimate is that of the
activations, which on a GPU is replaced by a measurement once the model is there. Torch-free, so that `tutti fit`
answers at once.

A device beside the main one has a plan of its own (`Beside`). CPU devices share the machine's memory: theirs are parts
of one sum.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from math import prod
from pathlib import Path

from tutti.engine.drawing_room import DrawingRoom
from tutti.errors import OutOfMemory
from tutti.formats.checkpoint import Checkpoint
from tutti.formats.lora import adapter_bytes
from tutti.formats.shapes import kept_bytes, weight_shapes
from tutti.graph import KVGroup, StageShape
from tutti.settings import EngineOptions, format_size

ITEM_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}
RUNTIME_BYTES = (
    450_000_000  # interpreter, torch and its buffers, measured as RSS of an engine with a tiny model
)
_AUTO_SHARE = 0.5  # of the available memory, when no budget is given on a CPU
_AUTO_SHARE_GPU = 0.9


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the sum."""

    name: str
    bytes: int
    note: str = ""


@dataclass(frozen=True, slots=True)
class Pool:
    """The KV cache of an autoregressive stage that follows another: its context, and its blocks per KV group."""

    context: int
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class MemoryPlan:
    """The sum. `blocks` has one count per KV group, the null block included.

    `context`, `blocks` and what is per token are of the stage that takes text; `followers` are the pools of the
    autoregressive stages behind it, by name. `memories` are the most requests that run at once where each keeps a
    memory of its media; None where none does. `beside` are the plans of the other devices, which have no `blocks`.
    `fixed` are the bytes that are needed before the first token is cached. `drawing` is of a graph that draws; one that
    does nothing else has no tokens to cache.
    """

    device: str
    dtype: str
    budget: int
    rows: tuple[Row, ...]
    context: int
    block_size: int
    blocks: tuple[int, ...]
    kv_tokens: int  # tokens of full-length requests that all pools hold together
    bytes_per_token: int
    fits: bool
    notes: tuple[str, ...] = ()
    followers: Mapping[str, Pool] = field(default_factory=dict)
    memories: int | None = None
    beside: tuple[MemoryPlan, ...] = ()
    fixed: int = 0
    drawing: DrawingRoom | None = None

    @property
    def total(self) -> int:
        """Bytes of all rows."""
        return sum(row.bytes for row in self.rows)

    @property
    def concurrency(self) -> float:
        """Requests of the full context that fit at once."""
        return self.kv_tokens / self.context if self.context else 0.0

    def text(self) -> str:
        """The plan as people read it."""
        lines = [f"memory plan for {self.device}, {self.dtype}:"]
        lines += [f"  {row.name:<14}{format_size(row.bytes):>10}  {row.note}".rstrip() for row in self.rows]
        sign = "<=" if self.fits else "> "
        lines.append(
            f"  {'total':<14}{format_size(self.total):>10}  {sign} budget {format_size(self.budget)}"
        )
        lines += [f"  {line}" for line in self.capacity.splitlines()]
        lines += [f"  note: {note}" for note in self.notes]
        return "\n".join([*lines, *(plan.text() for plan in self.beside)])

    @property
    def capacity(self) -> str:
        """What the KV cache holds, and what can be drawn; in lines."""
        lines = []
        if self.blocks:
            lines.append(
                f"KV cache: {self.kv_tokens:,} tokens ({format_size(self.bytes_per_token)} each), "
                f"{self.concurrency:.1f} requests of {self.context:,} tokens at once"
            )
        if self.drawing is not None:
            lines.append(
                f"drawing: {self.drawing.tokens:,} tokens in a step of several pictures, "
                f"at most {self.drawing.largest:,} in one; {self.drawing.requests} pictures under way"
            )
        return "\n".join(lines)


@dataclass(frozen=True, slots=True, eq=False)
class Beside:
    """A device beside the main one, and the stages on it: those of one pass, and those that follow another.

    `weights` are how the names of their tensors begin. `available` bytes are its own; None: it shares the main
    device's. `cached` is how much of the encoder cache its stages have, in [0, 1].
    """

    device: str
    dtype: str
    weights: tuple[str, ...]
    encoders: tuple[StageShape, ...]
    followers: Mapping[str, StageShape]
    cached: float = 0.0
    available: int | None = None


def make_plan(
    checkpoint: Checkpoint,
    shape: StageShape,
    options: EngineOptions,
    *,
    device: str,
    dtype: str,
    available: int,
    concurrency: int | None = None,
    activations: int | None = None,
    encoders: Sequence[StageShape] = (),
    followers: Mapping[str, StageShape] | None = None,
    beside: Sequence[Beside] = (),
    more: Sequence[Row] = (),
) -> MemoryPlan:
    """The plan for serving `checkpoint` on `device`, which has `available` bytes.

    `shape` is of the stage that takes text, `encoders` are those of the stages of one pass, `followers` those of the
    autoregressive stages behind it, as far as they are not on devices `beside` it; `more` is what else is needed.
    `concurrency` asks for memory for that many requests of the full context instead of all there is; `activations` is
    a measurement that replaces the estimate. The plan says in `fits` whether the sum holds; see `require`.
    """
    item = ITEM_BYTES[dtype]
    chunk = options.max_num_batched_tokens or default_token_budget(device)
    fixed = _fixed_rows(checkpoint, shape, options, device, dtype, activations, beside)
    fixed += [*_encoder_rows(encoders, options, item, 1 - sum(one.cached for one in beside)), *more]
    sharing = {one: _beside_rows(checkpoint, one, options) for one in beside if one.available is None}
    standing = sum(row.bytes for rows in (fixed, *sharing.values()) for row in rows)
    budget = _budget(options, device, available)
    room = budget - standing
    own = dict(followers or {})
    behind = own | {name: one for other in sharing for name, one in other.followers.items()}
    pages = Pages(shape.groups, chunk, options.block_size, item, tuple(behind.values()), shape.memory * item)
    context, notes = min(options.max_model_len or shape.context, shape.context), []
    if options.kv_cache_memory_bytes is not None:
        pool = options.kv_cache_memory_bytes
        if options.memory is None:  # the budget is then what the request adds up to
            budget = standing + pool
    elif concurrency is not None:
        pool = concurrency * pages.request_bytes(context)
    else:
        pool = min(room, options.max_num_seqs * pages.request_bytes(context))
    if options.max_model_len is None and concurrency is None and 0 < pool < pages.request_bytes(context):
        context = pages.longest_context(pool)
        notes.append(f"the context is cut from {shape.context:,} to {context:,} tokens to fit; see --memory")
    pool = max(pool, pages.request_bytes(context))
    blocks = pages.blocks(pool, context)
    pools = list(zip(blocks, shape.groups, strict=True))
    memories = max(1, pool // pages.request_bytes(context)) if shape.memory else None
    following = {
        name: Pool(follower_context(one, context), pages.follower_blocks(one, pool, context))
        for name, one in behind.items()
    }
    rows = (
        *fixed,
        *([_kv_row("KV cache", blocks, shape.groups, options.block_size, item)] if shape.groups else []),
        *(
            _kv_row(f"KV of {name}", following[name].blocks, one.groups, options.block_size, item)
            for name, one in own.items()
        ),
        *_memory_rows(memories, shape.memory * item),
    )
    tokens = min(
        ((count - 1) * options.block_size for count, group in pools if group.kind == "full"), default=context
    )
    per_token = sum(group.bytes_per_token(item) for group in shape.groups)
    others = [_beside_plan(one, fixed, following, options) for one, fixed in sharing.items()]
    left = budget - sum(plan.total for plan in others)
    fits = sum(row.bytes for row in rows) <= left and budget <= available
    others += [_apart_plan(checkpoint, one, options, context) for one in beside if one.available is not None]
    if budget > available:
        notes.append(f"the budget exceeds the {format_size(available)} that are available")
    return MemoryPlan(
        device,
        dtype,
        left,
        rows,
        context,
        options.block_size,
        blocks,
        tokens,
        per_token,
        fits,
        tuple(notes),
        {name: following[name] for name in own},
        memories,
        tuple(others),
        standing,
    )


def auto_share(device: str) -> float:
    """The share of a device's available memory that is taken when no budget is given."""
    return _AUTO_SHARE_GPU if device.startswith("cuda") else _AUTO_SHARE


def _budget(options: EngineOptions, device: str, available: int) -> int:
    """Bytes that everything in one memory may take."""
    return options.memory if options.memory is not None else int(available * auto_share(device))


def _beside_rows(checkpoint: Checkpoint, one: Beside, options: EngineOptions) -> list[Row]:
    """What the stages of a device beside the main one need before the first token is cached."""
    item = ITEM_BYTES[one.dtype]
    chunk = options.max_num_batched_tokens or default_token_budget(one.device)
    steps = [activation_bytes(shape, chunk, options.max_num_seqs, item) for shape in one.followers.values()]
    weights = weight_bytes(checkpoint, options.quantization, item, one.device, one.weights)
    return [
        Row("weights", weights, one.dtype),
        *([Row("activations", max(steps), f"{chunk} tokens a step, estimated")] if steps else []),
        Row("runtime", RUNTIME_BYTES if one.device.startswith("cpu") else 0, "interpreter and libraries"),
        *_encoder_rows(one.encoders, options, item, one.cached),
    ]


def _beside_plan(
    one: Beside,
    fixed: Sequence[Row],
    pools: Mapping[str, Pool],
    options: EngineOptions,
    budget: int | None = None,
) -> MemoryPlan:
    """The plan of a device beside the main one, whose followers have `pools`; without a budget it has what it needs."""
    rows = [*fixed]
    for name, shape in one.followers.items():
        blocks = pools[name].blocks
        rows.append(_kv_row(f"KV of {name}", blocks, shape.groups, options.block_size, ITEM_BYTES[one.dtype]))
    total = sum(row.bytes for row in rows)
    return MemoryPlan(
        one.device,
        one.dtype,
        total if budget is None else budget,
        tuple(rows),
        context=0,
        block_size=options.block_size,
        blocks=(),
        kv_tokens=0,
        bytes_per_token=0,
        fits=budget is None or total <= budget <= (one.available or 0),
        followers={name: pools[name] for name in one.followers},
    )


def _apart_plan(checkpoint: Checkpoint, one: Beside, options: EngineOptions, context: int) -> MemoryPlan:
    """The plan of a device beside the main one that has memory of its own, for requests of `context` tokens."""
    fixed = _beside_rows(checkpoint, one, options)
    budget = _budget(options, one.device, one.available or 0)
    chunk = options.max_num_batched_tokens or default_token_budget(one.device)
    pages = Pages((), chunk, options.block_size, ITEM_BYTES[one.dtype], tuple(one.followers.values()))
    request = pages.request_bytes(context)
    room = min(budget - sum(row.bytes for row in fixed), options.max_num_seqs * request)
    pools = {
        name: Pool(
            follower_context(shape, context), pages.follower_blocks(shape, max(room, request), context)
        )
        for name, shape in one.followers.items()
    }
    return _beside_plan(one, fixed, pools, options, budget)


def follower_context(shape: StageShape, context: int) -> int:
    """The context of a stage behind one that serves `context` tokens: speech has more tokens than its text."""
    return min(shape.context, 2 * context)


def _kv_row(name: str, blocks: tuple[int, ...], groups: tuple[KVGroup, ...], block: int, item: int) -> Row:
    pools = list(zip(blocks, groups, strict=True))
    size = sum(count * block * group.bytes_per_token(item) for count, group in pools)
    return Row(name, size, " + ".join(f"{count} blocks ({group.kind})" for count, group in pools))


def _memory_rows(count: int | None, size: int) -> list[Row]:
    return [] if count is None else [Row("memories", count * size, f"of {count} requests at once")]


@dataclass(frozen=True, slots=True)
class Pages:
    """How tokens become blocks and bytes, for the groups of one model computed `chunk` tokens at a time.

    `memory` are the bytes that a request keeps besides.
    """

    groups: tuple[KVGroup, ...]
    chunk: int
    block: int  # tokens
    item: int  # bytes
    followers: tuple[StageShape, ...] = ()
    memory: int = 0

    def request_bytes(self, context: int) -> int:
        """Bytes that one request of `context` tokens needs in all stages while it runs, the null blocks included."""
        own = self.memory + self._bytes(self.groups, context)
        return own + sum(self._bytes(one.groups, follower_context(one, context)) for one in self.followers)

    def _bytes(self, groups: tuple[KVGroup, ...], context: int) -> int:
        return sum(
            self.request_blocks(group, context) * self.block * group.bytes_per_token(self.item)
            for group in groups
        )

    def request_blocks(self, group: KVGroup, context: int) -> int:
        """Blocks of one group that one request needs, and one more for the null block."""
        whole = -(-context // self.block) + 1
        return (
            whole if group.window is None else min(whole, -(-(group.window + self.chunk) // self.block) + 2)
        )

    def blocks(self, room: int, context: int) -> tuple[int, ...]:
        """`room` bytes shared so that every group can hold equally many requests of `context` tokens."""
        return self._share(self.groups, context, room, self.request_bytes(context))

    def follower_blocks(self, shape: StageShape, room: int, context: int) -> tuple[int, ...]:
        """The follower's blocks when `room` bytes hold requests of `context` tokens in all stages."""
        return self._share(shape.groups, follower_context(shape, context), room, self.request_bytes(context))

    def _share(self, groups: tuple[KVGroup, ...], context: int, room: int, one: int) -> tuple[int, ...]:
        return tuple(max(2, self.request_blocks(group, context) * room // one) for group in groups)

    def longest_context(self, room: int) -> int:
        """The longest context, in whole blocks, of which one request fits into `room` bytes."""
        low, high = 1, 1 << 24
        while low < high:
            middle = (low + high + 1) // 2
            low, high = (
                (middle, high) if self.request_bytes(middle * self.block) <= room else (low, middle - 1)
            )
        return low * self.block


def _fixed_rows(
    checkpoint: Checkpoint,
    shape: StageShape,
    options: EngineOptions,
    device: str,
    dtype: str,
    measured: int | None,
    beside: Sequence[Beside],
) -> list[Row]:
    """What is needed before the first token is cached, less the weights that are on devices `beside`."""
    item = ITEM_BYTES[dtype]
    chunk = options.max_num_batched_tokens or default_token_budget(device)
    if not shape.groups:  # nothing is cached, so a prompt is computed in one step, however long
        chunk = max(chunk, min(options.max_model_len or shape.context, shape.context))
    activations = activation_bytes(shape, chunk, options.max_num_seqs, item) if measured is None else measured
    how = "estimated" if measured is None else "measured"
    form = options.quantization or checkpoint.quantization
    note = f"{form} matrices, {dtype} elsewhere" if form else dtype
    weights = weight_bytes(checkpoint, options.quantization, item, device)
    weights -= sum(
        weight_bytes(checkpoint, options.quantization, item, device, one.weights) for one in beside
    )
    adapters = sum(adapter_bytes(Path(path)) for path in options.adapters)
    return [
        Row("weights", weights, note),
        *([Row("adapters", adapters * 2, "at most")] if adapters else []),
        Row("activations", activations, f"{chunk} tokens a step, {how}"),
        Row("runtime", RUNTIME_BYTES if device == "cpu" else 0, "interpreter and libraries"),
    ]


def _encoder_rows(
    encoders: Sequence[StageShape], options: EngineOptions, item: int, cached: float
) -> list[Row]:
    """What a device's stages of one pass take besides their weights, with so much of the encoder cache.

    They never run beside each other: the widest counts.
    """
    if not encoders:
        return []
    widest = max(activation_bytes(shape, shape.rows, 0, item) for shape in encoders)
    rows = max(shape.rows for shape in encoders)
    found = [Row("encoders", widest, f"{rows} rows a step, estimated")]
    if cached:
        kept = int(options.encoder_cache_memory_bytes * cached)
        found.append(Row("encoder cache", kept, "pictures and sound seen before"))
    return found


def require(plan: MemoryPlan) -> MemoryPlan:
    """`plan`, if it fits. Raises OutOfMemory with the whole sum and what to do."""
    if not (plan.fits and all(one.fits for one in plan.beside)):
        raise OutOfMemory(
            f"not enough memory; nothing was loaded.\n{plan.text()}\n"
            "give more with --memory, or need less with --max-model-len, --quantization int8 or fewer --max-num-seqs"
        )
    return plan


def default_token_budget(device: str) -> int:
    """Tokens per step: enough rows to fill the arithmetic units, few enough that a step stays short."""
    return 8192 if device.startswith("cuda") else 512


def weight_bytes(
    checkpoint: Checkpoint,
    quantization: str | None,
    item: int,
    device: str,
    beginnings: tuple[str, ...] = ("",),
) -> int:
    """Bytes the weights take once loaded: as they are kept where they stay quantized, others in the activations' type.

    Matrices take 8 bits if asked. Counted are tensors whose names begin so. A tied embedding serves as table and, on
    the CPU, as a packed copy for the head; one that stays quantized is both at once.
    """
    total = 0
    for name, shape in weight_shapes(checkpoint).items():
        if not name.startswith(beginnings):
            continue
        kept = kept_bytes(checkpoint, name)
        matrix = len(shape) > 1 and "embed" not in name
        if quantization == "int8" and matrix:
            total += prod(shape) + 8 * prod(shape[:-1])
        else:
            total += prod(shape) * item if kept is None else kept
    tied = checkpoint.config.get("tie_word_embeddings", False) and "lm_head.weight" not in checkpoint.tensors
    if tied and device == "cpu" and "" in beginnings:
        name, table = _largest_embedding(checkpoint)
        if quantization == "int8":
            total += table
        elif not name or kept_bytes(checkpoint, name) is None:
            total += table * item
    return total


def activation_bytes(shape: StageShape, tokens: int, sequences: int, item: int) -> int:
    """An estimate of a step's peak: a layer's widest moment for all tokens, and the logits of all sequences."""
    layer = tokens * (6 * shape.hidden + 3 * shape.intermediate) * item
    logits = min(sequences, tokens) * shape.vocab * 4 * 2  # float32, and one copy while sampling
    return layer + logits


def _largest_embedding(checkpoint: Checkpoint) -> tuple[str, int]:
    """The name of the largest table of embeddings and its numbers; "" and 0 where there is none."""
    sizes = ((name, prod(info.shape)) for name, info in checkpoint.tensors.items() if "embed" in name)
    return max(sizes, key=lambda one: one[1], default=("", 0))


def compute_dtype(wanted: str, config: Mapping[str, object], device: str, native_bf16: bool) -> str:
    """The type of activations: as asked, else the checkpoint's, else float32 where 16 bits would only be slower."""
    if wanted != "auto":
        return {"half": "float16", "float": "float32"}.get(wanted, wanted)
    stored = str(config.get("dtype") or config.get("torch_dtype") or "float32").removeprefix("torch.")
    if stored not in ITEM_BYTES:
        stored = "bfloat16"
    if device == "cpu" and stored != "float32":
        return "bfloat16" if native_bf16 else "float32"
    return stored
