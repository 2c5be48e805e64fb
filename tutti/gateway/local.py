"""The local engine as a backend: text in, text out, around an engine that knows only tokens.

Here a prompt becomes tokens (the processor's work), its length is checked against the context, one request for n
outputs becomes n requests of the engine, and tokens become text again: incrementally, cut at stop strings.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import aclosing
from functools import partial
from typing import TYPE_CHECKING

import msgspec

from tutti.errors import ContextOverflow, InvalidRequest, TuttiError
from tutti.events import Done, Event, Failed, TextDelta, Usage
from tutti.gateway.backend import BackendModel
from tutti.gateway.merge import merge
from tutti.gateway.traces import Traces
from tutti.request import POOLED, Chat, Insertion, Media, Pair, Request, Script, Text, Tokens
from tutti.settings import BARE, Preset, read_settings

if TYPE_CHECKING:
    from tutti.engine.client import EngineClient, EngineInfo, EngineStats
    from tutti.models.processor import Processor, TextStream

_LONG_PROMPT = 20_000  # characters; tokenizing more than these would hold up other streams
_CONTEXTS = 10  # as long is an answer at most that goes on in a full context and was given no end
_TOKENIZERS = 2  # long prompts that are tokenized at a time; the others wait their turn


class LocalBackend:
    """Serves the model behind one engine. See `Backend`."""

    def __init__(
        self,
        processor: Processor,
        engine: EngineClient,
        info: EngineInfo,
        names: Sequence[str] = (),
        root: str | None = None,
        preset: Preset = BARE,
    ) -> None:
        """`info` is what `engine.ready()` said; `names` are what the model is called, the first one mainly.

        `root` says which checkpoint it is (a path or a name), `preset` what the model was made with.
        """
        self.engine = engine
        self.info = info
        self.traces = Traces(read_settings().traces)
        engine.traced = self.traces.complete
        self._processor = processor
        self._models = tuple(
            BackendModel(
                name,
                root or info.model,
                info.context,
                int(time.time()),
                info.outputs,
                info.voices,
                preset,
                info.embeds,
            )
            for name in names or (info.model,)
        )
        self._threads = ThreadPoolExecutor(_TOKENIZERS, thread_name_prefix="tokenizer")

    @classmethod
    async def open(
        cls,
        processor: Processor,
        engine: EngineClient,
        names: Sequence[str] = (),
        root: str | None = None,
        preset: Preset = BARE,
    ) -> LocalBackend:
        """The backend of `engine`, once that is ready. Raises what `engine.ready` raises."""
        return cls(processor, engine, await engine.ready(), names, root, preset)

    @property
    def processor(self) -> Processor:
        """See `Backend`."""
        return self._processor

    @property
    def all_traces(self) -> tuple[Traces, ...]:
        """See `Backend`."""
        return (self.traces,)

    def models(self) -> tuple[BackendModel, ...]:
        """See `Backend`."""
        return self._models

    async def stats(self) -> EngineStats:
        """See `Backend`."""
        return await self.engine.stats()

    async def reset_prefix_cache(self) -> None:
        """See `Backend`."""
        await self.engine.reset_prefix_cache()

    async def close(self) -> None:
        """See `Backend`."""
        self._threads.shutdown(wait=False, cancel_futures=True)
        await self.engine.close()

    async def tokenize(self, request: Request) -> Request:
        """See `Backend`."""
        return await self._tokenize(request, None)

    async def prepare(self, request: Request) -> Request:
        """See `Backend`."""
        self._check_modalities(request)
        return self._fit(await self._tokenize(request, self._context(request)))

    def _context(self, request: Request) -> int:
        """The longest sequence of tokens that `request` may become."""
        return self.info.context if request.context is None else min(request.context, self.info.context)

    async def _tokenize(self, request: Request, context: int | None) -> Request:
        request = self._begun(request)
        work = partial(self._processor.prepare, request, context=context)
        if _quick(request):
            return work()
        return await asyncio.get_running_loop().run_in_executor(self._threads, work)

    def _begun(self, request: Request) -> Request:
        """`request` with what the model was made with before its conversation."""
        preset = self._models[0].preset
        if not (preset.system or preset.messages):
            return request
        parts = tuple(
            msgspec.structs.replace(part, messages=preset.begin(part.messages), begins=False)
            if isinstance(part, Chat) and part.begins
            else part
            for part in request.parts
        )
        return msgspec.structs.replace(request, parts=parts)

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        """See `Backend`."""
        request = await self._read(request)
        if request.sampling.n == 1:
            async with aclosing(self._output(request, request, 0)) as events:
                async for event in events:
                    yield event
            return
        outputs = [partial(self._output, request, part, k) for k, part in enumerate(output_requests(request))]
        async with aclosing(merge(outputs, len(outputs))) as merged:
            async for _, event in merged:
                yield event

    async def _read(self, request: Request) -> Request:
        """`prepare`, with its part of the request's trace."""
        self.traces.open(request)
        start = time.time()
        try:
            prepared = await self.prepare(request)
        except TuttiError as error:
            self.traces.close(request.id, "error", error)
            raise
        except asyncio.CancelledError:
            self.traces.close(request.id, "cancelled")
            raise
        outputs = () if request.sampling.n == 1 else tuple(part.id for part in output_requests(request))
        self.traces.read(request.id, start, time.time(), outputs)
        return prepared

    async def _output(self, request: Request, part: Request, index: int) -> AsyncGenerator[Event, None]:
        """The events of one output: `part` is what the engine is asked, `request` what the caller knows."""
        decoder = OutputDecoder(self._processor, part, request.id, index)
        async with aclosing(self.engine.generate(part)) as events:
            async for event in events:
                if isinstance(event, Failed):
                    self.traces.close(part.id, "error", event.error)  # if its engine could not any more
                for ours in decoder.decode(event):
                    yield ours
                if decoder.stopped and not decoder.ended:
                    self.traces.stop(part.id)
                    self.engine.cancel(part.id)  # its stream ends with what the request has cost
        if not decoder.ended:
            for ours in decoder.close():
                yield ours

    def _fit(self, request: Request) -> Request:
        """`request` with `max_tokens` filled in. Raises ContextOverflow, stating both numbers, and InvalidRequest."""
        if any(isinstance(part, Text) for part in request.parts):
            return request  # its prompt stays text, for a model that draws
        context = self._context(request)
        prompt = sum(len(part.ids) for part in request.parts if isinstance(part, Tokens)) + len(request.reply)
        wanted = request.sampling.max_tokens
        if prompt == 0:
            raise InvalidRequest("The prompt is empty: give at least one token.", param="prompt")
        if request.pooled:
            if prompt > context:
                raise ContextOverflow(
                    f"The text has {prompt} tokens, but the model takes {context} tokens. Shorten it, or ask for it "
                    "to be cut with truncate_prompt_tokens: -1.",
                    param="input",
                )
            return request
        if prompt >= context:
            raise ContextOverflow(
                f"The prompt has {prompt} tokens, but the model's context is {context} tokens, output included. "
                "Shorten the prompt.",
                param="prompt",
            )
        if wanted is not None and request.context is not None and request.shift is None:
            wanted = min(wanted, context - prompt)
        elif wanted is not None and request.shift is None and prompt + wanted > context:
            raise ContextOverflow(
                f"The prompt has {prompt} tokens and max_tokens asks for {wanted} more, {prompt + wanted} together, "
                f"but the model's context is {context} tokens. Shorten the prompt or ask for at most "
                f"{context - prompt} tokens.",
                param="max_tokens",
            )
        if wanted is None and request.shift is not None:
            wanted = self._processor.generation_defaults.get("max_tokens", _CONTEXTS * context)
        elif wanted is None:
            wanted = min(context - prompt, self._processor.generation_defaults.get("max_tokens", context))
        if wanted == request.sampling.max_tokens:
            return request
        sampling = msgspec.structs.replace(request.sampling, max_tokens=wanted)
        return msgspec.structs.replace(request, sampling=sampling)

    def _check_modalities(self, request: Request) -> None:
        """Raises InvalidRequest where a vector or a score is wanted of a model that has none, or the other way round.

        What else a model may lack, the engine knows by its stages.
        """
        if request.pooled or not set(self.info.outputs).isdisjoint(POOLED):
            self._models[0].require(request.modalities[0])


class OutputDecoder:
    """Turns one output's engine events into events with text, and decides where a stop string ends it."""

    def __init__(self, processor: Processor, part: Request, request_id: str, index: int) -> None:
        """`part` is what the engine is asked; the events are those of output `index` of request `request_id`."""
        prompt = [token for tokens in part.parts if isinstance(tokens, Tokens) for token in tokens.ids]
        self.ended = False
        self._id = request_id
        self._index = index
        self._text: TextStream = processor.stream(part.sampling, prompt)
        self._tokens = 0
        self._usage = Usage(request_id, len(prompt), 0, 0)

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found: from then on only the engine's account is of interest."""
        return self._text.stop is not None

    def decode(self, event: Event) -> list[Event]:
        """What `event` is to the caller."""
        if isinstance(event, TextDelta):
            return [] if self.stopped else [self._delta(event)]
        if isinstance(event, Usage):
            self._usage = event
            return []
        if isinstance(event, Done):
            return self.close(event.reason, event.stop)
        if isinstance(event, Failed):
            if self.stopped:
                return self.close()
            self.ended = True
        return [msgspec.structs.replace(event, request=self._id, index=self._index)]

    def close(self, reason: str = "cancelled", stop: int | str | None = None) -> list[Event]:
        """What was held back, the account and the end."""
        self.ended = True
        events: list[Event] = []
        last = self._text.finish()
        if last.text:
            events.append(TextDelta(self._id, (), last.text, index=self._index))
        if last.stop is not None:
            reason, stop = "stop", last.stop
        tokens = self._tokens if self._tokens or self.stopped else self._usage.completion_tokens
        usage = msgspec.structs.replace(
            self._usage, request=self._id, index=self._index, completion_tokens=tokens
        )
        return [*events, usage, Done(self._id, reason, stop, self._index)]

    def _delta(self, event: TextDelta) -> TextDelta:
        piece = self._text.push(event.tokens)
        self._tokens += piece.taken
        tokens, logprobs = event.tokens, event.logprobs
        if piece.taken < len(tokens):  # what came behind a stop string is no part of the answer
            tokens, logprobs = tokens[: piece.taken], logprobs and logprobs[: piece.taken]
        return TextDelta(self._id, tokens, piece.text, logprobs, self._index)


def output_requests(request: Request) -> list[Request]:
    """The engine's requests, one for each of the n outputs, with ids and seeds of their own."""
    if request.sampling.n == 1:
        return [request]
    return [_output_request(request, index) for index in range(request.sampling.n)]


def _output_request(request: Request, index: int) -> Request:
    """The engine's request for output `index`, with a seed of its own."""
    seed = None if request.sampling.seed is None else request.sampling.seed + index
    sampling = msgspec.structs.replace(request.sampling, n=1, seed=seed)
    return msgspec.structs.replace(request, id=f"{request.id}#{index}", sampling=sampling)


def _quick(request: Request) -> bool:
    """Whether the prompt is short, without media, and rendered by a template we know."""
    total = 0
    for part in request.parts:
        if isinstance(part, Media):
            return False
        if isinstance(part, Text | Script):
            total += len(part.text)
        elif isinstance(part, Pair):
            total += len(part.first) + len(part.second)
        elif isinstance(part, Insertion):
            if part.go_template is not None:
                return False
            total += len(part.prefix) + len(part.suffix)
        elif isinstance(part, Chat):
            if part.template is not None or part.go_template is not None:
                return False
            total += sum(_content_size(message.get("content")) for message in part.messages)
    return total <= _LONG_PROMPT


def _content_size(content: object) -> int:
    """Characters of a message's content, which is text or a list of parts."""
    if isinstance(content, str):
        return len(content)
    if not isinstance(content, list):
        return 0
    return sum(len(str(part.get("text", ""))) for part in content if isinstance(part, dict))
