"""Recordings of any length: windows of 30 seconds, each from where the last finished segment of the one before ends.

    window 1   |0.00 segment 2.40|2.40 segment 28.1|28.1 cut off ...|
    window 2                                       |0.00 segment ...

The way of the paper (Radford et al. 2022, section 3.8). Torch-free: it makes requests and reads what they answer.
"""

from __future__ import annotations

import math
import uuid
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from tutti.events import Failed, TextDelta, TokenTimes
from tutti.models.processor.speech import Generate, Segment, Task, Word, compression
from tutti.models.whisper.tokens import SpeechTokens
from tutti.models.whisper.words import words_of
from tutti.request import MediaInput, Request, SamplingParams, Tokens

if TYPE_CHECKING:
    from tutti.models.processor.processor import Processor

Recorder = Callable[[np.ndarray], MediaInput]  # a window's samples as the part of a request

_LEAST = 5  # units (0.1 s) of a recording's end that are worth a window of their own
# What makes an answer doubtful, and at which temperatures it is then tried again (section 4.5 of the paper).
_MOST_REPETITION, _LEAST_LOGPROB, _SILENCE = 2.4, -1.0, 0.6
_AGAIN = (0.2, 0.4, 0.6, 0.8, 1.0)
_SEED = 0  # the same recording gives the same words


@dataclass(frozen=True, slots=True)
class Piece:
    """Tokens of a window, and when they are said, in units of a time token (20 ms) since its beginning."""

    start: int
    end: int
    places: tuple[int, ...]  # in the answer, of words alone


@dataclass(frozen=True, slots=True)
class Said:
    """What a window was answered: its tokens without the end, their mean log-probability, how they were sampled.

    `times` (seconds from the window's beginning) are when each token is said, and the end, if that was asked for;
    `silence` is the probability that nobody speaks, where that was asked.
    """

    tokens: list[int]
    logprob: float
    temperature: float
    times: tuple[float, ...] = ()
    silence: float | None = None

    def doubtful(self, text: str) -> bool:
        """Whether it is likely to be wrong: it goes round in circles, or the model itself is unsure."""
        return compression(text) > _MOST_REPETITION or self.unsure

    @property
    def unsure(self) -> bool:
        """Whether the model had better said something else."""
        return self.logprob < _LEAST_LOGPROB

    @property
    def nobody(self) -> bool:
        """Whether it is made up: nobody speaks."""
        return self.unsure and self.silence is not None and self.silence > _SILENCE


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
        return [Piece(0, min(last, length), _words(tokens, special, 0, len(tokens)))], length
    if whole:
        ends.append(len(tokens))
    pieces: list[Piece] = []
    begin = clock = 0
    for end in ends:
        start = tokens[begin] - first if is_time[begin] else clock
        clock = min(max(tokens[end - 1] - first, clock), length)
        pieces.append(Piece(min(start, clock), clock, _words(tokens, special, begin, end)))
        begin = end
    return pieces, length if whole else max(1, clock)


def _words(tokens: Sequence[int], special: SpeechTokens, begin: int, end: int) -> tuple[int, ...]:
    return tuple(place for place in range(begin, end) if tokens[place] < special.end)


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
        begin, total = 0, -(-len(samples) // self.unit)
        seconds = self.unit / rate
        while begin == 0 or total - begin >= _LEAST:
            window = samples[begin * self.unit :][: self.window]
            said = await self._hear(prompt, listen(window), task)
            pieces, advance = cut(said.tokens, self.special, -(-len(window) // self.unit))
            if said.nobody:
                pieces, advance = [], -(-len(window) // self.unit)
            for piece in pieces:
                segment = self._segment(piece, said, begin * seconds, seconds, task)
                if segment.text.strip():
                    yield replace(segment, end=min(segment.end, len(samples) / rate))
            begin += advance

    def _segment(self, piece: Piece, said: Said, begin: float, seconds: float, task: Task) -> Segment:
        """A piece of a window that begins at `begin`; a unit of time lasts `seconds`."""
        tokens = tuple(said.tokens[place] for place in piece.places)
        words: tuple[Word, ...] = ()
        if said.times and tokens:
            marks = [begin + said.times[place] for place in (*piece.places, piece.places[-1] + 1)]
            words = words_of(tokens, marks, self.processor.tokenizer.decode, task.language)
        return Segment(
            start=begin + piece.start * seconds,
            end=begin + piece.end * seconds,
            text=self.processor.tokenizer.decode(tokens),
            tokens=tokens,
            logprob=said.logprob,
            window=begin,
            temperature=said.temperature,
            silence=said.silence,
            words=words,
        )

    async def _hear(self, prompt: Sequence[int], recording: MediaInput, task: Task) -> Said:
        """A window; one whose answer is doubtful is asked again, unless nobody speaks in it."""
        silence: float | None = None
        again = _AGAIN if task.temperature == 0 else ()
        for temperature in (task.temperature, *again):
            params = SamplingParams(temperature=temperature, max_tokens=None, logprobs=0, seed=_SEED)
            said = await self._ask(prompt, recording, params, times=task.words)
            if said.unsure and silence is None:
                silence = await self._silence(recording)
            said = replace(said, silence=silence)
            words = [token for token in said.tokens if token < self.special.end]
            if said.nobody or not said.doubtful(self.processor.tokenizer.decode(words)):
                break
        return said

    async def _silence(self, recording: MediaInput) -> float | None:
        """The probability that nobody speaks; None where the model does not tell."""
        if self.special.nobody is None:
            return None
        one = SamplingParams(
            temperature=0.0, max_tokens=1, logprobs=0, allowed_token_ids=(self.special.nobody,)
        )
        return math.exp((await self._ask([self.special.start], recording, one)).logprob)

    def _before(self, text: str) -> list[int]:
        """The tokens of what came before: half of the context at most, the end of it."""
        if not text.strip():
            return []
        ids = self.processor.tokenizer.encode(f" {text.strip()}", add_special_tokens=False)
        return ids[-(self.context // 2 - 1) :]

    async def _ask(
        self, prompt: Sequence[int], recording: MediaInput, params: SamplingParams, *, times: bool = False
    ) -> Said:
        """One request. Raises the error of one that failed."""
        request = Request(
            id=uuid.uuid4().hex,
            parts=(Tokens(tuple(prompt)), recording),
            sampling=params,
            modalities=("text", "times") if times else ("text",),
        )
        tokens: list[int] = []
        logprobs: list[float] = []
        said: tuple[float, ...] = ()
        async with aclosing(self.generate(request)) as events:
            async for event in events:
                if isinstance(event, Failed):
                    raise event.error.error()
                if isinstance(event, TextDelta):
                    tokens += event.tokens
                    logprobs += [one.logprob for one in event.logprobs or ()]
                elif isinstance(event, TokenTimes):
                    said = event.seconds
        mean = sum(logprobs) / len(logprobs) if logprobs else 0.0
        if tokens[-1:] == [self.special.end]:
            tokens.pop()
        elif said:  # cut off by the context: the end is when the last token is said
            said = (*said, said[-1])
        return Said(tokens, mean, params.temperature, said)
