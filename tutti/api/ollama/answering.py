"""One answer under way: from the events of a request to pieces of content, thinking and calls, and to its account."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncGenerator, Iterable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field

from msgspec import UNSET

from tutti.api.ollama.answers import FunctionCall, TokenLogprob, ToolCall, TopLogprob
from tutti.api.openai.logprobs import LogprobEncoder
from tutti.events import Done, Event, Failed, ImageDone, Progress, TextDelta, Usage
from tutti.events import TokenLogprob as Likelihood
from tutti.models.parsers.base import ContentDelta, Delta, OutputParser, ReasoningDelta, ToolCallDelta

_NANO = 1_000_000_000


@dataclass(slots=True)
class Piece:
    """What is new of an answer."""

    content: str = ""
    thinking: str = ""
    calls: list[ToolCall] = field(default_factory=list)
    logprobs: list[TokenLogprob] = field(default_factory=list)
    images: list[str] = field(default_factory=list)  # base64
    step: tuple[int, int] = (0, 0)  # done and in all, of a picture

    def __bool__(self) -> bool:
        return bool(
            self.content or self.thinking or self.calls or self.logprobs or self.images or self.step[1]
        )

    def add(self, other: Piece) -> None:
        """Take what follows in."""
        self.content += other.content
        self.thinking += other.thinking
        self.calls += other.calls
        self.logprobs += other.logprobs
        self.images += other.images


class Answering:
    """Reads one answer. `parser` splits it (None: all of it is content); thoughts are left out unless shown."""

    def __init__(
        self,
        parser: OutputParser | None,
        encoder: LogprobEncoder,
        started: int,
        *,
        show_thinking: bool,
        loading: float = 0.0,
    ) -> None:
        """`started` is when the call came, by `time.perf_counter_ns`; `loading` took so many seconds."""
        self.tokens: list[int] = []
        self.reason = "stop"
        self._parser = parser
        self._encoder = encoder
        self._started = started
        self._loading = loading
        self._show_thinking = show_thinking
        self._calls = _Calls()
        self._usage: Usage | None = None

    async def pieces(self, events: AsyncGenerator[Event, None]) -> AsyncGenerator[Piece, None]:
        """The pieces, none of them empty; closes `events`. Raises what ended the answer early."""
        async with aclosing(events):
            async for event in events:
                if isinstance(event, Failed):
                    raise event.error.error()
                if isinstance(event, TextDelta):
                    self.tokens += event.tokens
                    piece = self._piece(event.text, event.logprobs or ())
                elif isinstance(event, Progress):
                    piece = Piece(step=(event.done, event.total))
                elif isinstance(event, ImageDone) and not event.preview:
                    piece = Piece(images=[base64.b64encode(event.png).decode()])
                elif isinstance(event, Done):
                    self.reason = "length" if event.reason == "length" else "stop"
                    piece = self._last()
                else:
                    if isinstance(event, Usage):
                        self._usage = event
                    continue
                if piece:
                    yield piece

    def account(self) -> dict[str, str | int]:
        """The fields of `answers.Account`, when the answer has ended."""
        found: dict[str, str | int] = {
            "done_reason": self.reason,
            "total_duration": time.perf_counter_ns() - self._started,
            "load_duration": _nanoseconds(self._loading),
        }
        if self._usage is not None:
            found |= {
                "prompt_eval_count": self._usage.prompt_tokens,
                "prompt_eval_duration": _nanoseconds(self._usage.prefill_time),
                "eval_count": self._usage.completion_tokens,
                "eval_duration": _nanoseconds(self._usage.decode_time),
            }
        return found

    def _piece(self, text: str, logprobs: Sequence[Likelihood]) -> Piece:
        deltas: Iterable[Delta] = ()
        if text:
            deltas = [ContentDelta(text)] if self._parser is None else self._parser.push(text)
        piece = self._read(deltas)
        if logprobs:
            piece.logprobs = self._likelihoods(logprobs)
        return piece

    def _last(self) -> Piece:
        piece = self._read(() if self._parser is None else self._parser.finish())
        self._calls.end(piece)
        return piece

    def _read(self, deltas: Iterable[Delta]) -> Piece:
        piece = Piece()
        for delta in deltas:
            if isinstance(delta, ToolCallDelta):
                self._calls.take(delta, piece)
                continue
            self._calls.end(piece)
            if isinstance(delta, ContentDelta):
                piece.content += delta.text
            elif isinstance(delta, ReasoningDelta) and self._show_thinking:
                piece.thinking += delta.text
        return piece

    def _likelihoods(self, logprobs: Sequence[Likelihood]) -> list[TokenLogprob]:
        return [
            TokenLogprob(
                one.token,
                one.logprob,
                one.bytes,
                [TopLogprob(top.token, top.logprob, top.bytes) for top in one.top_logprobs] or UNSET,
            )
            for one in self._encoder.chat(logprobs).content
        ]


class _Calls:
    """Calls come in pieces of JSON text; Ollama's clients get each of them whole, its arguments as an object."""

    def __init__(self) -> None:
        self._open: ToolCallDelta | None = None
        self._arguments = ""
        self._count = 0

    def take(self, delta: ToolCallDelta, piece: Piece) -> None:
        """More of a call; another that was open is complete."""
        if delta.name is not None:
            self.end(piece)
            self._open = delta
        self._arguments += delta.arguments

    def end(self, piece: Piece) -> None:
        """The open call, if there is one, is over; one that was cut short is content, so that nobody runs it."""
        call, text = self._open, self._arguments
        if call is None:
            return
        self._open, self._arguments = None, ""
        try:
            arguments = json.loads(text or "{}")
        except ValueError:
            arguments = None
        if isinstance(arguments, dict):
            piece.calls.append(ToolCall(call.id, FunctionCall(self._count, call.name or "", arguments)))
            self._count += 1
        else:
            piece.content += f"{call.name}{text}"


def _nanoseconds(seconds: float) -> int:
    """A measured time; one that is too short to be seen is told as the shortest, since clients divide by it."""
    return max(round(seconds * _NANO), 1)
