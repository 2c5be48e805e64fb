"""A composition as a backend: to the gateway it is one model like any other.

Its parts are local backends, each with a process of its own, so they work at the same time. What a request needs of
them and in which order is `answer`'s; this is what they have in common: their names, their account, their end.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing

import msgspec

from tutti.engine.client import EngineInfo, EngineStats
from tutti.errors import InvalidRequest
from tutti.events import Event
from tutti.gateway.backend import BackendModel
from tutti.gateway.composed.answer import Answering
from tutti.gateway.composed.part import Account, Part, check_stages
from tutti.gateway.composed.processor import ComposedProcessor, composed_processor
from tutti.gateway.composed.readers import Asked, Ears, Reader, Readers
from tutti.gateway.composed.wiring import Wiring
from tutti.gateway.traces import Traces
from tutti.hub.composition import Composition
from tutti.request import Chat, Request, Script


class ComposedBackend:
    """Serves a composition whose parts are ready. See `Backend`."""

    def __init__(
        self, composition: Composition, wiring: Wiring, parts: Sequence[Part], names: Sequence[str] = ()
    ) -> None:
        """`names` are what it is called, the first one mainly; the file's own name unless given."""
        self.composition = composition
        self.wiring = wiring
        self.parts = {part.name: part for part in parts}
        readers = {modality: _reader(modality, self.parts[name]) for modality, name in wiring.readers.items()}
        self._readers = Readers(readers)
        self._processor = composed_processor(self.parts, wiring, readers)
        self.info = _info(composition, wiring, self.parts, self._processor)
        self._models = tuple(
            BackendModel(
                name,
                str(composition.path),
                self.info.context,
                int(time.time()),
                self.info.outputs,
                self.info.voices,
            )
            for name in names or (composition.name,)
        )

    @property
    def processor(self) -> ComposedProcessor:
        """See `Backend`."""
        return self._processor

    @property
    def all_traces(self) -> tuple[Traces, ...]:
        """See `Backend`: each part has its own, of the same call."""
        return tuple(part.backend.traces for part in self.parts.values())

    def models(self) -> tuple[BackendModel, ...]:
        """See `Backend`."""
        return self._models

    async def tokenize(self, request: Request) -> Request:
        """See `Backend`: the brain's prompt."""
        brain = self.parts[self.wiring.brain]
        written = await self._written(request, Account(request.id))
        with brain.naming():
            return await brain.backend.tokenize(written)

    async def prepare(self, request: Request) -> Request:
        """See `Backend`: the brain's prompt. What reading media costs is counted where `generate` does it."""
        return await self._prepare(request, Account(request.id))

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """See `Backend`."""
        check_stages(request, self.parts)
        if any(isinstance(part, Script) for part in request.parts):
            events = self._recite(request)
        else:
            self._check(request)
            chat = next((part for part in request.parts if isinstance(part, Chat)), None)
            account = Account(request.id)
            ready = await self._prepare(request, account)
            events = Answering(self.parts, self.wiring, ready, chat, account).events()
        async with aclosing(events):
            async for event in events:
                yield event

    async def stats(self) -> EngineStats:
        """See `Backend`: of all parts together. Raises EngineDied while one is gone."""
        found = await asyncio.gather(*(self._stats(part) for part in self.parts.values()))
        added = {
            name: sum(getattr(one, name) for one in found)
            for name in EngineStats.__struct_fields__
            if name not in ("kv_usage", "stages")
        }
        stages = [
            msgspec.structs.replace(stage, name=f"{name}.{stage.name}")
            for name, one in zip(self.parts, found, strict=True)
            for stage in one.stages
        ]
        used = 1 - added["blocks_free"] / added["blocks_total"] if added["blocks_total"] else 0.0
        return EngineStats(**added, kv_usage=used, stages=tuple(stages))

    async def reset_prefix_cache(self) -> None:
        """See `Backend`."""
        await asyncio.gather(*(part.backend.reset_prefix_cache() for part in self.parts.values()))

    async def close(self) -> None:
        """See `Backend`."""
        await asyncio.gather(*(part.backend.close() for part in self.parts.values()))

    async def _stats(self, part: Part) -> EngineStats:
        with part.naming():
            return await part.backend.stats()

    async def _prepare(self, request: Request, account: Account) -> Request:
        """The request as the brain's tokens, all that others read in it read."""
        brain = self.parts[self.wiring.brain]
        written = await self._written(request, account)
        with brain.naming():
            return await brain.backend.prepare(written)

    async def _written(self, request: Request, account: Account) -> Request:
        """The request with the brain's system message, and with text for the media that others read."""
        written = await self._readers.written(request, account.add)
        system = self.parts[self.wiring.brain].spec.manner.system
        return written if not system else _opened(written, system)

    async def _recite(self, request: Request) -> AsyncGenerator[Event, None]:
        """A text is only said: the voice's own affair."""
        voice = self._processor.voice
        if voice is None:
            raise InvalidRequest(
                f"{self.composition.name} does not say texts that it is given", param="model"
            )
        own, stages = voice.sampled(request)
        manner = voice.spec.manner
        asked = msgspec.structs.replace(
            request,
            sampling=own or request.sampling,
            stage_sampling=stages,
            voice=request.voice or manner.voice,
            language=request.language or manner.language,
        )
        account = Account(request.id)
        last: Event | None = None
        async with aclosing(voice.events(asked, account.add)) as events:
            async for event in events:
                if last is not None:
                    yield last
                last = event
        yield account.of(0)
        if last is not None:
            yield last

    def _check(self, request: Request) -> None:
        """Raises InvalidRequest on what this composition does not give."""
        if "audio" in request.modalities and self.wiring.voice is None:
            raise InvalidRequest(f"{self.composition.name} gives text only", param="modalities")
        sampling = request.sampling
        if self.wiring.writer != self.wiring.brain and (
            sampling.logprobs is not None or sampling.prompt_logprobs is not None
        ):
            raise InvalidRequest(
                f"{self.wiring.writer} writes the answer from what {self.wiring.brain} wrote: there are no "
                "log-probabilities of it",
                param="logprobs",
            )


def _reader(modality: str, part: Part) -> Reader:
    """How a part reads. The part is known to be able to."""
    transcriber = part.processor.transcriber
    return Ears(part, transcriber) if modality == "audio" and transcriber is not None else Asked(part)


def _opened(request: Request, system: str) -> Request:
    """The request with a system message, where its conversation has none."""
    parts = [
        msgspec.structs.replace(part, messages=({"role": "system", "content": system}, *part.messages))
        if isinstance(part, Chat)
        and not any(message.get("role") in ("system", "developer") for message in part.messages)
        else part
        for part in request.parts
    ]
    return msgspec.structs.replace(request, parts=tuple(parts))


def _info(
    composition: Composition, wiring: Wiring, parts: Mapping[str, Part], processor: ComposedProcessor
) -> EngineInfo:
    """What is served, as of one engine: sizes are the brain's."""
    infos = {name: part.backend.info for name, part in parts.items()}
    brain = infos[wiring.brain]
    voices = () if wiring.voice is None else infos[wiring.voice].voices
    return msgspec.structs.replace(
        brain,
        model=composition.name,
        architectures=tuple(name for info in infos.values() for name in info.architectures),
        inputs=("text", *sorted(processor.modalities)),
        outputs=("text",) if wiring.voice is None else ("text", "audio"),
        voices=voices,
        dtype=", ".join(dict.fromkeys(info.dtype for info in infos.values())),
        device=", ".join(dict.fromkeys(info.device for info in infos.values())),
        plan="\n\n".join(f"{name}: {info.plan}" for name, info in infos.items()),
        load_time=max(info.load_time for info in infos.values()),
        parameters=sum(info.parameters for info in infos.values()),
        size=sum(info.size for info in infos.values()),
        memory=sum(info.memory for info in infos.values()),
        quantization=", ".join(dict.fromkeys(info.quantization for info in infos.values())),
    )
