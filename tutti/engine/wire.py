"""What the front and the engine say to each other. The same messages whether a process boundary lies between or not.

Torch-free: the front imports it.
"""

from __future__ import annotations

import msgspec

from tutti.events import ErrorValue, Event
from tutti.request import Request
from tutti.trace import Trace


class Submit(msgspec.Struct, frozen=True, tag="submit"):
    """Serve this request."""

    request: Request


class Cancel(msgspec.Struct, frozen=True, tag="cancel"):
    """Stop serving these requests; their streams are closed."""

    ids: tuple[str, ...]


class Call(msgspec.Struct, frozen=True, tag="call"):
    """Ask for something else; answered by a `Reply` with the same number. `what`: stats | reset_prefix_cache."""

    number: int
    what: str


class Wake(msgspec.Struct, frozen=True, tag="wake"):
    """Look again: something a request waited for (a compiled grammar) may be ready."""


class Shutdown(msgspec.Struct, frozen=True, tag="shutdown"):
    """End the loop."""


ToEngine = Submit | Cancel | Call | Wake | Shutdown


class EngineInfo(msgspec.Struct, frozen=True, tag="info"):
    """What is being served, known once the engine is ready. Sizes in tokens, times in seconds."""

    model: str
    architectures: tuple[str, ...]
    inputs: tuple[str, ...]  # modalities
    outputs: tuple[str, ...]
    voices: tuple[str, ...]
    context: int
    vocab_size: int
    dtype: str
    device: str
    max_num_seqs: int
    max_num_batched_tokens: int
    block_size: int
    kv_tokens: int
    plan: str
    load_time: float
    pid: int
    family: str = ""  # the checkpoint's own name for its kind
    parameters: int = 0
    size: int = 0  # bytes of the checkpoint's tensors
    memory: int = 0  # bytes of the whole plan
    quantization: str = ""  # of the weights in memory
    fingerprint: str = ""  # 64 hexadecimal digits that tell checkpoints apart
    embeds: bool = False  # whether it makes vectors of prompts beside what it is for


class StageStats(msgspec.Struct, frozen=True):
    """One stage of the graph: what waits for it now, and counters since the start."""

    name: str
    kind: str
    waiting: int = 0  # requests, or items of them
    steps: int = 0
    items: int = 0  # of all steps' batches
    step_time: float = 0.0  # seconds
    kv_usage: float = 0.0  # of its KV cache, if it has one, in [0, 1]
    media_items: int = 0  # see `EngineStats`
    media_hits: int = 0
    skipped: int = 0  # a request's steps of denoising that its feature cache spared


class EngineStats(msgspec.Struct, frozen=True, tag="stats"):
    """Gauges of now and counters since the start."""

    running: int = 0
    waiting: int = 0
    kv_usage: float = 0.0
    blocks_total: int = 0
    blocks_free: int = 0
    prefix_queries: int = 0  # tokens
    prefix_hits: int = 0  # tokens
    preemptions: int = 0
    prompt_tokens: int = 0
    generation_tokens: int = 0
    steps: int = 0
    step_time: float = 0.0  # seconds spent in steps
    requests: int = 0
    failures: int = 0
    media_items: int = 0  # pictures and recordings that encoders were asked for
    media_hits: int = 0  # of those, the ones they had seen before
    underruns: int = 0  # times that a listener's player ran dry
    seconds_dry: float = 0.0  # for how long, all together
    memory_peak: int = 0  # bytes: the most that each of the engine's processes has held, all together
    stages: tuple[StageStats, ...] = ()


class Events(msgspec.Struct, frozen=True, tag="events"):
    """What a turn of the loop produced."""

    events: tuple[Event, ...]


class Traced(msgspec.Struct, frozen=True, tag="traced"):
    """How a request went that ends now; it comes before its last events."""

    trace: Trace


class Reply(msgspec.Struct, frozen=True, tag="reply"):
    """The answer to a `Call`."""

    number: int
    stats: EngineStats | None = None
    error: ErrorValue | None = None


class Fatal(msgspec.Struct, frozen=True, tag="fatal"):
    """The engine could not start, or cannot go on."""

    error: ErrorValue


FromEngine = EngineInfo | Events | Traced | Reply | Fatal
