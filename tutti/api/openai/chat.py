"""`POST /v1/chat/completions`."""

from __future__ import annotations

import time
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

import msgspec
from msgspec import UNSET, UnsetType
from starlette.types import ASGIApp

from tutti.api.defaults import answer_length
from tutti.api.endpoint import Call
from tutti.api.openai import answers, drawn
from tutti.api.openai.attachments import gather
from tutti.api.openai.fields import ChatFields, PictureFields
from tutti.api.openai.job import Job, Tally, json_response
from tutti.api.openai.logprobs import LogprobEncoder
from tutti.api.openai.message import MessageBuilder, MessageStream
from tutti.api.openai.parse import parse
from tutti.api.openai.sampling import sampling_params, structured_outputs
from tutti.api.openai.spoken import SpokenStream, whole
from tutti.api.openai.tools import read_tools
from tutti.api.reading import reading, thinking
from tutti.api.stream import DONE, EventStream, sse
from tutti.events import AudioDelta, Done, Failed, ImageDone, Progress, PromptLogprobs, TextDelta, Usage
from tutti.request import Chat, Request, Tokens


async def chat_completions(call: Call) -> ASGIApp:
    """Answer one call, streaming or not."""
    fields = parse(call.body, ChatFields)
    job = await ChatJob.of(call, fields)
    if fields.stream:
        return await EventStream.open(job.stream())
    return json_response(await job.answer())


@dataclass(slots=True)
class ChatJob:
    """One chat completion under way."""

    job: Job
    fields: ChatFields
    chat: Chat
    request: Request
    messages: list[MessageStream]  # one per choice
    logprobs: LogprobEncoder
    tally: Tally = field(default_factory=Tally)
    prompt_ids: list[int] | UnsetType = UNSET
    spoken: list[SpokenStream] = field(default_factory=list)  # one per choice of a spoken stream

    @classmethod
    async def of(cls, call: Call, fields: ChatFields) -> ChatJob:
        """The job of `fields`. Raises InvalidRequest, and as `Call.lease` does."""
        job = await Job.of(call, fields, "chatcmpl")
        form = structured_outputs(fields)
        chat = _chat(fields, constrained=form is not None)
        read = reading(
            job.processor,
            chat,
            form,
            parallel=fields.parallel_tool_calls is not False,
            outputs=fields.n or 1,
        )
        max_tokens, context = answer_length(
            job.model,
            fields.max_tokens if fields.max_completion_tokens is None else fields.max_completion_tokens,
        )
        sampling = sampling_params(
            fields,
            job.defaults,
            max_tokens=max_tokens,
            logprobs=(fields.top_logprobs or 0) if fields.logprobs else None,
            structured_outputs=read.form,
            **read.changes,
        )
        modalities = drawn.modalities(fields.modalities, job.model)
        request = Request(
            id=job.request_id(),
            parts=(chat, (fields.image or PictureFields()).drawing) if "image" in modalities else (chat,),
            sampling=sampling,
            stage_sampling=fields.stage_sampling or {},
            modalities=modalities,
            live=bool(fields.stream),
            voice=None if fields.spoken is None else fields.spoken.voice,
            model=job.model.name,
            cache_salt=fields.cache_salt,
            priority=fields.priority or 0,
            context=context,
            arrival=time.time(),
        )
        encoder = LogprobEncoder(
            job.processor.tokenizer, fields.top_logprobs or 0, bool(fields.return_tokens_as_token_ids)
        )
        messages = [
            MessageStream(
                parser,
                parallel_calls=fields.parallel_tool_calls is not False,
                show_reasoning=fields.include_reasoning is not False,
            )
            for parser in read.parsers
        ]
        return cls(job, fields, chat, request, messages, encoder)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The events of a streamed answer. Raises what ends it early."""
        await self._prepare()
        messages = self.messages
        form = self.fields.spoken
        self.spoken = [] if form is None else [SpokenStream(form.encoding) for _ in messages]
        named = isinstance(self.chat.tool_choice, dict)
        opened = False
        async with aclosing(self.job.lease.generate(self.request, self.job.call.caller)) as events:
            async for event in events:
                if isinstance(event, Failed):
                    raise event.error.error()
                if not opened:
                    opened = True
                    for chunk in self._opening(len(messages)):
                        yield chunk
                if isinstance(event, TextDelta):
                    for chunk in self._chunks(event, messages[event.index].push(event.text)):
                        yield chunk
                elif isinstance(event, AudioDelta):
                    for delta in self.spoken[event.index].sound(event):
                        yield self._chunk(answers.ChunkChoice(event.index, delta))
                elif isinstance(event, Progress):
                    yield f": step {event.done} of {event.total}\n\n".encode()
                elif isinstance(event, ImageDone) and not event.preview:
                    yield self._chunk(
                        answers.ChunkChoice(event.index, answers.Delta(images=[drawn.image(event)]))
                    )
                elif isinstance(event, Usage):
                    self.tally.add(0, event.index, event)
                elif isinstance(event, Done):
                    message = messages[event.index]
                    last = self._said(event.index, message.finish())
                    if self.spoken:
                        last += self.spoken[event.index].finish()
                    for delta in last:
                        yield self._chunk(answers.ChunkChoice(event.index, delta))
                    reason = message.finish_reason(event.reason, named)
                    stop = UNSET if event.stop is None else event.stop
                    end = answers.ChunkChoice(event.index, answers.Delta(), None, reason, stop)
                    yield self._chunk(end)
        if self.fields.include_usage:
            job = self.job
            yield sse(answers.Chunk(job.id, job.created, job.model.name, [], self.tally.usage()))
        yield DONE

    async def answer(self) -> answers.ChatCompletion:
        """The whole answer. Raises what ended it early."""
        await self._prepare()
        choices = [_Choice(message) for message in self.messages]
        prompt_logprobs: answers.PromptLogprobs | UnsetType = UNSET
        async with aclosing(self.job.lease.generate(self.request, self.job.call.caller)) as events:
            async for event in events:
                if isinstance(event, Failed):
                    raise event.error.error()
                if isinstance(event, TextDelta):
                    choices[event.index].take(event)
                elif isinstance(event, AudioDelta):
                    choices[event.index].sounds.append(event)
                elif isinstance(event, ImageDone) and not event.preview:
                    choices[event.index].images.append(drawn.image(event))
                elif isinstance(event, PromptLogprobs):
                    prompt_logprobs = self.logprobs.prompt(event.logprobs)
                elif isinstance(event, Usage):
                    self.tally.add(0, event.index, event)
                elif isinstance(event, Done):
                    choices[event.index].end(event)
        job = self.job
        return answers.ChatCompletion(
            job.id,
            job.created,
            job.model.name,
            [self._choice(index, choice) for index, choice in enumerate(choices)],
            self.tally.usage(),
            prompt_logprobs,
            self.prompt_ids,
        )

    async def _prepare(self) -> None:
        """Fetch the media; tokenize the prompt now where its tokens are wanted before the end."""
        job = self.job
        messages, media = await gather(
            self.chat.messages,
            job.processor.modalities,
            job.call.fetching,
            soundtracks=self.fields.hears_videos,
        )
        if media:
            chat = msgspec.structs.replace(self.chat, messages=tuple(messages))
            self.request = msgspec.structs.replace(
                self.request, parts=(chat, *self.request.parts[1:], *media)
            )
        if self.fields.continuous_usage or self.fields.return_token_ids:
            self.request = await job.lease.prepare(self.request)
            ids = [token for part in self.request.parts if isinstance(part, Tokens) for token in part.ids]
            self.tally.prompts[0] = len(ids)
            if self.fields.return_token_ids:
                self.prompt_ids = ids

    @property
    def _role(self) -> str:
        return "assistant" if self.fields.opens_answer else str(self.fields.messages[-1]["role"])

    @property
    def _echo(self) -> str:
        """The text that `echo` puts before the answer: that of the last message, if it is the answer's own."""
        last = self.fields.messages[-1]
        content = last.get("content")
        return (
            content
            if self.fields.echo and last.get("role") == self._role and isinstance(content, str)
            else ""
        )

    def _opening(self, choices: int) -> list[bytes]:
        opening = [
            self._chunk(
                answers.ChunkChoice(index, answers.Delta(role=self._role, content="")), self.prompt_ids
            )
            for index in range(choices)
        ]
        if self._echo:
            delta = answers.Delta(content=self._echo)
            opening += [self._chunk(answers.ChunkChoice(index, delta)) for index in range(choices)]
        return opening

    def _chunks(self, event: TextDelta, deltas: list[answers.Delta]) -> list[bytes]:
        """The chunks of an event; its tokens and log-probabilities go with the first."""
        if event.tokens:
            self.tally.outputs[event.index] += len(event.tokens)
        logprobs = None if event.logprobs is None else self.logprobs.chat(event.logprobs)
        tokens = list(event.tokens) if self.fields.return_token_ids and event.tokens else UNSET
        deltas = self._said(event.index, deltas)
        if not deltas and (logprobs is not None or tokens is not UNSET):
            deltas = [answers.Delta()]
        choices = [answers.ChunkChoice(event.index, delta) for delta in deltas]
        if choices:
            choices[0].logprobs = logprobs
            choices[0].token_ids = tokens
        return [self._chunk(choice) for choice in choices]

    def _said(self, index: int, deltas: list[answers.Delta]) -> list[answers.Delta]:
        """The deltas of a choice; where it is spoken, content is transcript."""
        return [self.spoken[index].text(delta) for delta in deltas] if self.spoken else deltas

    def _chunk(self, choice: answers.ChunkChoice, prompt_ids: list[int] | UnsetType = UNSET) -> bytes:
        job = self.job
        usage = self.tally.so_far(0, choice.index) if self.fields.continuous_usage else UNSET
        return sse(answers.Chunk(job.id, job.created, job.model.name, [choice], usage, prompt_ids))

    def _choice(self, index: int, choice: _Choice) -> answers.Choice:
        message = choice.builder.message(self._role)
        message.images = choice.images or UNSET
        if self._echo:
            message.content = self._echo + (message.content or "")
        if self.fields.spoken is not None:
            message.audio = whole(choice.sounds, self.fields.spoken.encoding, message.content or "")
            message.content = None
        return answers.Choice(
            index,
            message,
            self.logprobs.chat(choice.logprobs) if self.fields.logprobs else None,
            choice.stream.finish_reason(choice.reason, isinstance(self.chat.tool_choice, dict)),
            choice.stop,
            choice.tokens if self.fields.return_token_ids else UNSET,
        )


class _Choice:
    """One choice of an answer that is not streamed."""

    def __init__(self, stream: MessageStream) -> None:
        self.stream = stream
        self.builder = MessageBuilder()
        self.logprobs: list[Any] = []
        self.tokens: list[int] = []
        self.sounds: list[AudioDelta] = []
        self.images: list[answers.Image] = []
        self.reason = "stop"
        self.stop: int | str | None = None

    def take(self, event: TextDelta) -> None:
        """A piece of it."""
        self.builder.add(self.stream.push(event.text))
        self.tokens += event.tokens
        self.logprobs += event.logprobs or ()

    def end(self, event: Done) -> None:
        """Its end."""
        self.builder.add(self.stream.finish())
        self.reason = event.reason
        self.stop = event.stop


def _chat(fields: ChatFields, *, constrained: bool) -> Chat:
    """The conversation."""
    tools, choice = read_tools(fields)
    variables: dict[str, Any] = {}
    if fields.documents is not None:
        variables["documents"] = fields.documents
    variables |= thinking(fields.reasoning_effort, constrained)
    return Chat(
        messages=tuple(fields.messages),
        tools=tools,
        tool_choice=choice,
        template=fields.chat_template,
        template_kwargs=variables | (fields.chat_template_kwargs or {}),
        add_generation_prompt=fields.opens_answer,
        continue_final_message=bool(fields.continue_final_message),
    )
