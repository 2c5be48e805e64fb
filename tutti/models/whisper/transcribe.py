"""Recordings of any length: windows of 30 seconds, each from where the last finished segment of the one before ends.

    window 1   |0.00 segment 2.40|2.40 segment 28.1|28.1 cut off ...|
    window 2                                       |0.00 segment ...

The way of the paper (Radford et al. 2022, section 3.8). Torch-free: it makes requests and reads what they answer.
"""

from __future__ import annotations

import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tutti.events import Failed, TextDelta
from tutti.models.processor.speech import Generate, Segment, Task
from tutti.models.whisper.tokens import SpeechTokens
from tutti.request import MediaInput, Request, SamplingParams, Tokens

if TYPE_CHECKING:
    from tutti.models.processor.processor import Processor

Recorder = Callable[[np.ndarray], MediaInput]  # a window's samples as the part of a request

_LEAST = 5  # units (0.1 s) of a recording's end that are worth a window of their own


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of a window, and when they are said, in units of a time token (20 ms) since its beginning."""

    start: int
    end: int
    tokens: tuple[int, ...]  # words alone


@dataclass(frozen=True, slots=True)
class Said:
    """What a window was answered: its tokens without the end, and their mean log-probability."""

    tokens: list[int]
    logprob: float


def cut(tokens: Sequence[int], special: SpeechTokens, length: int) -> tuple[list[Piece], int]:
    """The pieces that `tokens` make of a window of `length` units, and how many units on the next window begins.

    Two times in a row end a piece and begin another. What follows the last such pair is cut off by the window's end and
    said again in the next one, unless it ends with a time: then nothing is said behind that, to the window's end.
    """
    first = special.first_time
    is_time = [token >= first for token in tokens]
    ends = [place for place in range(1, len(tokens)) if is_time[place - 1] and is_time[place]]
    whole = is_time[-2:] == [False, True]
    if not ends:
        last = next((token - first for token in reversed(tokens) if token > first), length)
        return [Piece(0, min(last, length), _words(tokens, special))], length
    if whole:
        ends.append(len(tokens))
    pieces: list[Piece] = []
    begin = clock = 0
    for end in ends:
        start = tokens[begin] - first if is_time[begin] else clock
        clock = min(max(tokens[end - 1] - first, clock), length)
        pieces.append(Piece(min(start, clock), clock, _words(tokens[begin:end], special)))
        begin = end
    return pieces, length if whole else max(1, clock)


def _words(tokens: Sequence[int], special: SpeechTokens) -> tuple[int, ...]:
    return tuple(token for token in tokens if token < special.end)


class Windows:
    """One recording on its way through the model."""

    def __init__(
        self,
        processor: Processor,
        generate: Generate,
        special: SpeechTokens,
        context: int,
        window: int,
        unit: int,
    ) -> None:
        """`window` and `unit` (from one time to the next) are in samples, `context` in tokens of the decoder."""
        self.processor = processor
        self.generate = generate
        self.special = special
        self.context = context
        self.window = window
        self.unit = unit

    async def language(self, recording: MediaInput) -> str | None:
        """The likeliest language of the recording; None where the model knows one only."""
        codes = {token: code for code, token in self.special.languages.items()}
        if not codes:
            return None
        one = SamplingParams(temperature=0.0, max_tokens=1, allowed_token_ids=tuple(codes))
        said = await self._ask([self.special.start], recording, one)
        return codes[said.tokens[0]]

    async def segments(
        self, samples: np.ndarray, rate: int, task: Task, listen: Recorder
    ) -> AsyncGenerator[Segment, None]:
        """The segments of `samples`, window by window; `listen` makes the request's part of a window."""
        timed = (task.timestamps or len(samples) > self.window) and self.special.no_timestamps is not None
        prompt = self.special.prompt(task.language, task.name, timed, self._before(task.prompt))
        params = SamplingParams(temperature=task.temperature, max_tokens=None, logprobs=0)
        begin, total = 0, -(-len(samples) // self.unit)
        seconds = self.unit / rate
        while begin == 0 or total - begin >= _LEAST:
            first = begin * self.unit
            window = samples[first : first + self.window]
            said = await self._ask(prompt, listen(window), params)
            pieces, advance = cut(said.tokens, self.special, -(-len(window) // self.unit))
            for piece in pieces:
                text = self.processor.tokenizer.decode(piece.tokens)
                if text.strip():
                    start, end = ((begin + at) * seconds for at in (piece.start, piece.end))
                    end = min(end, len(samples) / rate)
                    yield Segment(start, end, text, piece.tokens, said.logprob, begin * seconds)
            begin += advance

    def _before(self, text: str) -> list[int]:
        """The tokens of what came before: half of the context at most, the end of it."""
        if not text.strip():
            return []
        ids = self.processor.tokenizer.encode(f" {text.strip()}", add_special_tokens=False)
        return ids[-(self.context // 2 - 1) :]

    async def _ask(self, prompt: Sequence[int], recording: MediaInput, params: SamplingParams) -> Said:
        """One window. Raises the error of a request that failed."""
        request = Request(id=uuid.uuid4().hex, parts=(Tokens(tuple(prompt)), recording), sampling=params)
        tokens: list[int] = []
        logprobs: list[float] = []
        async with aclosing(self.generate(request)) as events:
            async for event in events:
                if isinstance(event, Failed):
                    raise event.error.error()
                if isinstance(event, TextDelta):
                    tokens += event.tokens
                    logprobs += [one.logprob for one in event.logprobs or ()]
        mean = sum(logprobs) / len(logprobs) if logprobs else 0.0
        return Said([token for token in tokens if token != self.special.end], mean)
