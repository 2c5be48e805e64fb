"""One answer said aloud while it is written: each sentence is given to the voice as soon as it is finished.

    text   |first sentence.|second sentence.|third ...
    voice        |..first..|
                  |......second......|               a few are made at the same time
    player       |first         |second              in order, without a pause

The player's clock is one for all of them: a sentence is due when those before it will have been heard.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, field

from tutti.events import AudioDelta, Usage
from tutti.gateway.composed.part import Part, accompanying
from tutti.gateway.composed.sentences import Sentences, seconds_of, speakable
from tutti.request import Request, SamplingParams, Script

_AHEAD = 3  # sentences that are made at a time


@dataclass(slots=True)
class _Saying:
    """A sentence that is being said: its sound so far, in seconds of the `expected`; None ends it."""

    expected: float
    sounds: asyncio.Queue[AudioDelta | None] = field(default_factory=asyncio.Queue)
    made: float = 0.0
    done: bool = False

    @property
    def left(self) -> float:
        """About how many seconds of sound are still to come."""
        return 0.0 if self.done else max(self.expected - self.made, 0.0)


class Mouth:
    """Says output `index` of `request` by the part `voice`; what it costs goes to `spend`, the sound to `emit`."""

    def __init__(
        self,
        voice: Part,
        request: Request,
        index: int,
        spend: Callable[[Usage], None],
        emit: Callable[[AudioDelta], None],
    ) -> None:
        self._voice = voice
        self._request = request
        self._index = index
        self._spend = spend
        self._emit = emit
        self._sentences = Sentences()
        self._waiting: asyncio.Queue[str | None] = asyncio.Queue()
        self._begun: asyncio.Queue[_Saying | None] = asyncio.Queue()
        self._making: list[_Saying] = []  # and not at their end
        self._places = asyncio.Semaphore(_AHEAD)
        self._number = 0
        self._started: float | None = None  # when the player did, in seconds since the epoch
        self._made = 0.0  # seconds of sound

    def push(self, text: str) -> None:
        """More of what is to be said."""
        for sentence in self._sentences.push(text):
            self._waiting.put_nowait(sentence)

    def finish(self) -> None:
        """Nothing more comes."""
        for sentence in (*self._sentences.finish(), None):
            self._waiting.put_nowait(sentence)

    async def run(self) -> None:
        """Say everything. Raises the voice's error."""
        async with asyncio.TaskGroup() as group:
            group.create_task(self._play())
            while (sentence := await self._waiting.get()) is not None:
                text = speakable(sentence)
                if text:
                    await self._places.acquire()
                    saying = _Saying(seconds_of(text))
                    request = self._asked(text)
                    self._making.append(saying)
                    self._begun.put_nowait(saying)
                    group.create_task(self._make(saying, request))
            self._begun.put_nowait(None)

    async def _make(self, saying: _Saying, request: Request) -> None:
        """Have one sentence said; a long one is said in several readings."""
        try:
            with self._voice.naming():
                readings = self._voice.processor.readings(request, self._voice.backend.info.context)
            for reading in readings:
                async with aclosing(self._voice.events(reading, self._spend)) as events:
                    async for event in events:
                        if isinstance(event, AudioDelta):
                            saying.made += event.seconds
                            self._heard(event)
                            saying.sounds.put_nowait(event)
        finally:
            saying.done = True
            self._making.remove(saying)
            self._places.release()
            saying.sounds.put_nowait(None)

    async def _play(self) -> None:
        """Hand the sound on, sentence after sentence."""
        while (saying := await self._begun.get()) is not None:
            while (sound := await saying.sounds.get()) is not None:
                self._emit(AudioDelta(self._request.id, sound.pcm, sound.rate, self._index))

    def _heard(self, sound: AudioDelta) -> None:
        if self._started is None:
            self._started = time.time()
        self._made += sound.seconds

    def _due(self) -> float | None:
        """When the next sentence is to be heard, in seconds since the epoch; None: as soon as may be."""
        ahead = self._made + sum(one.left for one in self._making)
        if not ahead:
            return None
        return (self._started or time.time()) + ahead

    def _asked(self, text: str) -> Request:
        manner, whole = self._voice.spec.manner, self._request
        own, stages = self._voice.sampled(whole)
        self._number += 1
        asked = Request(
            id=f"{whole.id}#{self._voice.name}-{self._index}-{self._number}",
            parts=(Script(text, manner.instructions),),
            sampling=own or SamplingParams(max_tokens=None),
            stage_sampling=stages,
            modalities=("audio",),
            live=whole.live,
            voice=whole.voice or manner.voice,
            language=whole.language or manner.language,
            deadline=self._due() if whole.live else None,
            arrival=time.time(),
        )
        return accompanying(asked, whole)
