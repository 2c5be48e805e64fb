"""What the gateway asks of whatever answers requests: the local engine, later any other server.

Interfaces and values only.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from tutti.errors import InvalidRequest
from tutti.events import Event
from tutti.gateway.traces import Traces
from tutti.request import Request
from tutti.settings import BARE, Preset

if TYPE_CHECKING:
    from tutti.engine.client import EngineInfo, EngineStats
    from tutti.models.processor import Processor


_SAID = {"embedding": "embeddings", "score": "scores"}  # of modalities, in messages


@dataclass(frozen=True, slots=True)
class BackendModel:
    """A model under one of the names it is served by.

    `root` is the checkpoint (a path or a name) behind it; `context` the longest sequence in tokens, prompt and output
    together; `created` is in seconds since the epoch. `outputs` are the modalities it gives, `voices` those it speaks
    with, the first one mainly; `preset` is what it was made with. `embeds`: it makes vectors of prompts, too, although
    it answers them.
    """

    name: str
    root: str
    context: int
    created: int
    outputs: tuple[str, ...] = ("text",)
    voices: tuple[str, ...] = ()
    preset: Preset = BARE
    embeds: bool = False

    def gives(self, modality: str) -> bool:
        """Whether the model gives `modality`."""
        return modality in self.outputs or (modality == "embedding" and self.embeds)

    def require(self, modality: str) -> None:
        """Raises InvalidRequest where the model does not give `modality`."""
        if not self.gives(modality):
            given = " and ".join(_SAID.get(output, output) for output in self.outputs)
            raise InvalidRequest(
                f"The model {self.name!r} gives {given}, not {_SAID.get(modality, modality)}.", param="model"
            )


class Backend(Protocol):
    """Answers requests for the models it names."""

    @property
    def processor(self) -> Processor:
        """The model's tokenizer, chat template and output parsers."""
        ...

    @property
    def info(self) -> EngineInfo:
        """What its engine serves; of several, what they are together."""
        ...

    @property
    def all_traces(self) -> tuple[Traces, ...]:
        """Those of the latest requests, of each engine behind it; none where none are kept."""
        ...

    def models(self) -> tuple[BackendModel, ...]:
        """What is served here; the first name is the main one."""
        ...

    async def tokenize(self, request: Request) -> Request:
        """The request with its prompt as tokens, however long. Raises InvalidRequest."""
        ...

    async def prepare(self, request: Request) -> Request:
        """The request with its prompt as tokens, its length checked and `max_tokens` filled in.

        Preparing a prepared request changes nothing. Raises InvalidRequest and its kinds.
        """
        ...

    def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """The events of `request`, text filled in; `prepare` is done where the caller has not.

        Raises what `prepare` raises; what fails later is a `Failed` event. Closing the iterator cancels the request.
        """
        ...

    async def stats(self) -> EngineStats:
        """What the engine is doing now. Raises EngineDied while there is none."""
        ...

    async def reset_prefix_cache(self) -> None:
        """Forget every cached prefix that no running request uses."""
        ...

    async def close(self) -> None:
        """End what answers. Requests in flight fail."""
        ...
