"""A model that answers inside this process: what `tutti run` talks to.

Owns the way from a conversation to printed pieces of text. Commands, prompts and files of history are `repl`'s.
"""

from __future__ import annotations

import asyncio
import signal
import sys
import time
import uuid
from collections.abc import AsyncGenerator, AsyncIterator, Iterator
from contextlib import AbstractContextManager, aclosing, asynccontextmanager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from tutti.cli.attach import content_of, media_in
from tutti.cli.manner import Manner
from tutti.cli.printer import Printer
from tutti.cli.speech import SpeechFile
from tutti.cli.waiting import waiting
from tutti.errors import InvalidRequest
from tutti.events import AudioDelta, Done, Event, Failed, TextDelta, Usage
from tutti.hub.composition import is_composition
from tutti.request import Chat, Part, Request, SamplingParams, Text
from tutti.settings import EngineOptions

if TYPE_CHECKING:
    from tutti.engine.wire import EngineInfo
    from tutti.gateway.composed.backend import ComposedBackend
    from tutti.gateway.local import LocalBackend
    from tutti.llm.stream import AsyncLLM
    from tutti.models.processor import Processor


Prompt = tuple[Part, ...]  # a Chat or a Text, and the media it mentions


@dataclass(frozen=True, slots=True)
class Answer:
    """What came: the answer's text (thinking left out), its account, and why it ended."""

    text: str
    usage: Usage | None
    reason: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Session:
    """A loaded model. `load_time` is in seconds, from the command to being ready."""

    name: str
    backend: LocalBackend | ComposedBackend
    info: EngineInfo
    load_time: float

    @property
    def processor(self) -> Processor:
        """The model's tokenizer, templates and parsers."""
        return self.backend.processor

    @property
    def draws(self) -> bool:
        """Whether the model gives pictures and nothing else."""
        return self.info.outputs == ("image",)

    async def ask(self, prompt: Prompt, manner: Manner, printer: Printer) -> Answer:
        """Answer and print while it comes. Cancelling the task ends the answer. Raises TuttiError."""
        start = time.monotonic()
        part = prompt[0]
        speech = None if manner.speak is None else SpeechFile(manner.speak)
        chat = part if isinstance(part, Chat) else Chat(())
        parser = self.processor.output_parser(chat) if isinstance(part, Chat) else None
        said: list[str] = []
        usage, reason = None, "cancelled"
        keep_special = parser is not None and parser.needs_special_tokens
        request = self._request(prompt, manner, keep_special=keep_special)
        async with aclosing(self._events(request, chat)) as events:
            async for event in events:
                match event:
                    case TextDelta():
                        deltas = [event.text] if parser is None else parser.push(event.text)
                        _show(deltas, printer, said)
                    case AudioDelta() if speech is not None:
                        speech.add(event)
                    case Usage():
                        usage = event
                    case Failed():
                        raise event.error.error()
                    case Done():
                        reason = event.reason
        if parser is not None:
            _show(parser.finish(), printer, said)
        if speech is not None:
            speech.close()
        return Answer("".join(said), usage, reason, time.monotonic() - start)

    async def _events(self, request: Request, chat: Chat) -> AsyncGenerator[Event, None]:
        """The answer's events; before the first one, media that take a while are named."""
        with waiting(chat.messages) as sign:
            async with aclosing(self.backend.generate(request)) as events:
                async for event in events:
                    if sign is not None:
                        sign.end()
                    yield event

    def message(self, text: str) -> dict[str, Any]:
        """What a person typed, with the files it names. Raises InvalidRequest on those the model cannot take."""
        return {"role": "user", "content": content_of(text, self.processor.modalities)}

    def chat(self, messages: list[dict[str, Any]], manner: Manner) -> Prompt:
        """The prompt for `messages`; a base model, which has no chat template, gets the last one as it stands."""
        media = media_in(messages)
        if not self.processor.has_chat_template:
            if media:
                raise InvalidRequest(
                    "this model has no chat template, so there is no place for media in its prompt"
                )
            return (Text(messages[-1]["content"]),)
        if manner.system:
            messages = [{"role": "system", "content": manner.system}, *messages]
        return (Chat(tuple(messages), template_kwargs=manner.template_kwargs()), *media)

    def _request(self, prompt: Prompt, manner: Manner, *, keep_special: bool) -> Request:
        chosen = {"max_tokens": None, **self.processor.generation_defaults, **manner.parameters}
        sampling = SamplingParams(
            **chosen, skip_special_tokens=not keep_special, structured_outputs=manner.form
        )
        return Request(
            id=uuid.uuid4().hex,
            parts=prompt,
            sampling=sampling,
            modalities=("text",) if manner.speak is None else ("text", "audio"),
            voice=manner.voice,
            model=self.name,
            arrival=time.time(),
        )


def _show(deltas: list[Any], printer: Printer, said: list[str]) -> None:
    """Print what a parser made of the text; `said` collects the answer itself."""
    from tutti.models.parsers.base import ContentDelta, ReasoningDelta, ToolCallDelta

    for delta in deltas:
        if isinstance(delta, str):
            printer.answer(delta)
            said.append(delta)
        elif isinstance(delta, ContentDelta):
            printer.answer(delta.text)
            said.append(delta.text)
        elif isinstance(delta, ReasoningDelta):
            printer.thinking(delta.text)
        elif isinstance(delta, ToolCallDelta):  # nobody here calls tools: it is shown as it stands
            printer.answer(f"{delta.name} " if delta.name is not None else delta.arguments)


@asynccontextmanager
async def open_session(options: EngineOptions) -> AsyncIterator[Session]:
    """Load a model into this process. Raises the TuttiError that keeps it from loading."""
    start = time.monotonic()
    name = options.served_model_name[0]
    with spinner(f"loading {name}"):
        llm = await open_llm(options, in_process=True)
    async with llm:
        yield Session(name, llm.backend, llm.info, time.monotonic() - start)


async def open_llm(options: EngineOptions, *, in_process: bool) -> AsyncLLM:
    """The model that `options` describe, ready to answer. The parts of a graph by file are processes anyhow."""
    from tutti.llm.stream import AsyncLLM

    named = msgspec.structs.asdict(options)
    name = named.pop("model")
    return await AsyncLLM.open(name, in_process=in_process and not is_composition(name), **named)


@contextmanager
def interrupts(task: asyncio.Task[Any]) -> Iterator[None]:
    """Within it, Ctrl+C cancels `task` and nothing else."""
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGINT, task.cancel)
    try:
        yield
    finally:
        loop.remove_signal_handler(signal.SIGINT)


def spinner(text: str) -> AbstractContextManager[object]:
    """A sign of life on a terminal while something takes a while; nothing elsewhere."""
    if not sys.stderr.isatty():
        return nullcontext()
    from rich.console import Console

    return Console(stderr=True).status(text)


def print_statistics(answer: Answer, load_time: float, out: TextIO) -> None:
    """What the answer cost, in Ollama's form."""
    usage = answer.usage
    if usage is None:
        return
    prefill, decode = usage.prefill_time, usage.decode_time
    rows = [
        ("total duration:", _duration(answer.seconds)),
        ("load duration:", _duration(load_time)),
        ("prompt eval count:", f"{usage.prompt_tokens} token(s)"),
        ("prompt eval duration:", _duration(prefill)),
        ("prompt eval rate:", f"{usage.prompt_tokens / prefill if prefill else 0:.2f} tokens/s"),
        ("eval count:", f"{usage.completion_tokens} token(s)"),
        ("eval duration:", _duration(decode)),
        ("eval rate:", f"{(usage.completion_tokens - 1) / decode if decode else 0:.2f} tokens/s"),
    ]
    out.write("".join(f"{name:<22}{value}\n" for name, value in rows))
    out.flush()


def _duration(seconds: float) -> str:
    """Go's form: 1.234567s, 45.3ms, 1m2.5s."""
    if seconds < 1:
        return f"{seconds * 1000:.6g}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:.3f}s" if minutes else f"{rest:.6g}s"
