"""The asynchronous Python door: streams of events, without HTTP.

    async with await AsyncLLM.open("pico") as llm:
        async for event in llm.stream("two plus three?"):
            ...

The engine runs in a process of its own, or in a thread of this one.
"""

from __future__ import annotations

import itertools
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tutti.engine.wire import EngineInfo, EngineStats
from tutti.events import Event, Failed, TextDelta
from tutti.gateway.local import LocalBackend
from tutti.gateway.opening import open_local
from tutti.hub.composition import is_composition
from tutti.llm.options import engine_options
from tutti.request import Chat, Part, Request, SamplingParams, Text, Tokens
from tutti.settings import EngineOptions

if TYPE_CHECKING:
    from tutti.gateway.composed.backend import ComposedBackend


class AsyncLLM:
    """A model as streams of events. Make one with `AsyncLLM.open`; close it when done."""

    def __init__(self, backend: LocalBackend | ComposedBackend, options: EngineOptions) -> None:
        self.backend = backend
        self.options = options
        self._numbers = itertools.count()

    @classmethod
    async def open(cls, model: str, *, in_process: bool = False, **options: Any) -> AsyncLLM:
        """Load `model` (see `LLM`; a graph by file, too) and wait until it serves.

        `in_process`: in a thread instead of a process.
        """
        chosen = engine_options(model, options)
        if is_composition(model):
            from tutti.gateway.composed.opening import open_composition

            return cls(await open_composition(chosen, in_process=in_process), chosen)
        return cls(await open_local(chosen, in_process=in_process), chosen)

    @property
    def info(self) -> EngineInfo:
        """What is being served."""
        return self.backend.info

    async def stream(
        self,
        prompt: str | Sequence[int] | Sequence[dict[str, Any]] | Request,
        sampling: SamplingParams | None = None,
    ) -> AsyncGenerator[Event, None]:
        """The events of a prompt: raw text, token ids, or a list of chat messages.

        Raises the error of a request that cannot be served; what fails later is a `Failed` event. Leaving the
        iteration cancels the request.
        """
        request = prompt if isinstance(prompt, Request) else self._request(prompt, sampling)
        async with aclosing(self.backend.generate(request)) as events:
            async for event in events:
                yield event

    async def text(
        self, prompt: str | Sequence[int] | Sequence[dict[str, Any]], sampling: SamplingParams | None = None
    ) -> AsyncGenerator[str, None]:
        """The text of the answer as it comes. Raises the request's error, also in the middle."""
        async with aclosing(self.stream(prompt, sampling)) as events:
            async for event in events:
                if isinstance(event, TextDelta) and event.text:
                    yield event.text
                elif isinstance(event, Failed):
                    raise event.error.error()

    async def stats(self) -> EngineStats:
        """Gauges and counters of the engine."""
        return await self.backend.stats()

    async def close(self) -> None:
        """End the engine."""
        await self.backend.close()

    async def __aenter__(self) -> AsyncLLM:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def _request(
        self, prompt: str | Sequence[int] | Sequence[dict[str, Any]], sampling: SamplingParams | None
    ) -> Request:
        part: Part
        if isinstance(prompt, str):
            part = Text(prompt)
        elif prompt and isinstance(prompt[0], dict):
            part = Chat(messages=tuple(prompt))  # type: ignore[arg-type]
        else:
            part = Tokens(tuple(prompt))  # type: ignore[arg-type]
        if sampling is None:
            sampling = SamplingParams(**{"max_tokens": None, **self.backend.processor.generation_defaults})
        return Request(id=f"py-{next(self._numbers)}", parts=(part,), sampling=sampling, arrival=time.time())
