"""What two loops in different processes say to each other, and how a tensor in it travels.

A message is msgpack; of a tensor it holds type and shape only. The bytes follow by themselves, through shared memory
(`engine.line`). Nothing is pickled, so what crosses is a closed set: what stages emit.
"""

from __future__ import annotations

from typing import Any

import msgspec
import torch
from torch import Tensor

from tutti.engine.credits import Room
from tutti.engine.plan import MemoryPlan
from tutti.engine.stage import TokenOutput
from tutti.engine.tracing import Passed
from tutti.engine.wire import Fatal, StageStats
from tutti.errors import StageFailed
from tutti.events import Event, Failed
from tutti.graph import Chunk
from tutti.models.drawing.denoiser import Conditions
from tutti.models.protocols import Sound
from tutti.request import Request
from tutti.settings import EngineOptions


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """The first message to a process: which stages it runs on which device, and how."""

    options: EngineOptions
    device: str
    threads: int
    stages: tuple[str, ...]
    plan: MemoryPlan
    traced: bool  # whether to tell of every step


class Admit(msgspec.Struct, frozen=True, tag="admit"):
    """A request that needs stages there."""

    request: Request


class Emitted(msgspec.Struct, frozen=True, tag="emitted", omit_defaults=True):
    """A `Chunk` for the stages there that follow its stage, or for the caller; it has one of the four payloads."""

    request: str
    stage: str
    final: bool
    part: int | None = None
    tokens: TokenOutput | None = None
    rows: Tensor | None = None
    sound: Sound | None = None
    event: Event | None = None

    @classmethod
    def of(cls, chunk: Chunk) -> Emitted:
        """The message of `chunk`. Raises StageFailed on a payload that cannot cross."""
        head = (chunk.request, chunk.stage, chunk.final, chunk.part)
        match chunk.payload:
            case TokenOutput():
                return cls(*head, tokens=chunk.payload)
            case Tensor():
                return cls(*head, rows=chunk.payload)
            case Sound():
                return cls(*head, sound=chunk.payload)
        if isinstance(chunk.payload, Event):
            return cls(*head, event=chunk.payload)
        raise StageFailed(
            f"stage {chunk.stage} emits a {type(chunk.payload).__name__}, which cannot cross to another process",
            stage=chunk.stage,
        )

    @property
    def chunk(self) -> Chunk:
        """The chunk again."""
        payloads = (self.tokens, self.rows, self.sound, self.event)
        payload = next(one for one in payloads if one is not None)
        return Chunk(self.request, self.stage, payload, self.final, self.part)


class Heard(msgspec.Struct, frozen=True, tag="heard"):
    """The request's listener got more sound: now they run dry at `dry`, in monotonic seconds."""

    request: str
    dry: float


class Release(msgspec.Struct, frozen=True, tag="release"):
    """Forget this request."""

    request: str


class ResetCaches(msgspec.Struct, frozen=True, tag="reset_caches"):
    """Forget every prefix, and what encoders made of media."""


class Ready(msgspec.Struct, frozen=True, tag="ready"):
    """The process serves its stages; `voices` are those of the stages there."""

    voices: tuple[str, ...]


class Report(msgspec.Struct, frozen=True, tag="report"):
    """What the stages there did since the start, and the most bytes that their process has held."""

    stages: tuple[StageStats, ...]
    memory_peak: int


class Join(msgspec.Struct, frozen=True, tag="join"):
    """The first message to a process that computes a stage's network together with others (`engine.ranks`)."""

    options: EngineOptions
    device: str
    threads: int
    plan: MemoryPlan
    stage: str
    rank: int
    meeting: str  # a file that is not there yet, by which all meet


class Take(msgspec.Struct, frozen=True, tag="take"):
    """A request that all ranks draw, and what edges brought for it."""

    number: int
    request: Request
    condition: Conditions


class Advance(msgspec.Struct, frozen=True, tag="advance"):
    """The requests of the next step."""

    numbers: tuple[int, ...]


class Drop(msgspec.Struct, frozen=True, tag="drop"):
    """Forget this request."""

    number: int


Message = (
    Begin
    | Admit
    | Emitted
    | Room
    | Heard
    | Release
    | ResetCaches
    | Ready
    | Report
    | Passed
    | Join
    | Take
    | Advance
    | Drop
    | Failed
    | Fatal
)


class Decoder:
    """Reads messages. After each, `tensors` are those in it, yet to be filled, in the order of their bytes."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self._decoder = msgspec.msgpack.Decoder(Message, dec_hook=self._empty)

    def decode(self, body: bytes) -> Message:
        """The message of `body`."""
        self.tensors = []
        return self._decoder.decode(body)

    def _empty(self, kind: type, value: Any) -> Tensor:
        dtype, shape = value
        tensor = torch.empty(shape, dtype=getattr(torch, dtype))
        self.tensors.append(tensor)
        return tensor


def encode(message: Message) -> tuple[bytes, list[Tensor]]:
    """The body of `message`, and its tensors, dense and in main memory, whose bytes are to follow in their order."""
    tensors: list[Tensor] = []

    def describe(value: Any) -> Any:
        if not isinstance(value, Tensor):
            raise TypeError(f"a {type(value).__name__} cannot cross to another process")
        tensors.append(value.detach().cpu().contiguous())
        return str(value.dtype).removeprefix("torch."), tuple(value.shape)

    return msgspec.msgpack.encode(message, enc_hook=describe), tensors


def memory_of(tensor: Tensor) -> memoryview:
    """The bytes of a dense `tensor` in main memory."""
    return tensor.flatten().view(torch.uint8).numpy().data
