"""Tutti's part of `bench.omni`: one JSON line for each measurement, on standard output."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field
from typing import Any

from bench.omni.work import Job, Result, job_of
from tutti.engine.core import Engine
from tutti.events import AudioDelta, Done, Event, Failed, TextDelta
from tutti.request import Request, SamplingParams, Tokens
from tutti.settings import EngineOptions


@dataclass(slots=True)
class Heard:
    """One request as its listener sees it; times in seconds since it was sent."""

    text: float | None = None
    first: float | None = None
    end: float = 0.0
    seconds: float = 0.0  # of sound
    dry: float = 0.0  # when the player runs out of sound
    underruns: int = 0

    def take(self, event: Event, now: float) -> None:
        """An event, `now` seconds after the request was sent."""
        if isinstance(event, TextDelta) and self.text is None:
            self.text = now
        elif isinstance(event, AudioDelta):
            if self.first is None:
                self.first = self.dry = now
            elif now > self.dry + 0.1:  # what a listener notices
                self.underruns += 1
                self.dry = now
            self.seconds += event.seconds
            self.dry += event.seconds
        elif isinstance(event, Done):
            self.end = now
        elif isinstance(event, Failed):
            sys.exit(event.error.message)


@dataclass(slots=True)
class Bench:
    """An engine in this thread."""

    job: Job
    engine: Engine
    heard: dict[str, Heard] = field(default_factory=dict)
    start: float = 0.0

    def receive(self, events: list[Event]) -> None:
        """The engine's events."""
        now = time.perf_counter() - self.start
        for event in events:
            self.heard[event.request].take(event, now)

    def run(self, requests: int, *, live: bool) -> list[Heard]:
        """So many requests at once, each answered aloud."""
        job = self.job
        text = SamplingParams(temperature=0.0, max_tokens=job.text_tokens, ignore_eos=True)
        codes = SamplingParams(
            temperature=0.0, repetition_penalty=1.05, max_tokens=job.codes, ignore_eos=True
        )
        self.heard = {str(number): Heard() for number in range(requests)}
        self.start = time.perf_counter()
        for number in range(requests):
            self.engine.loop.submit(
                Request(
                    id=str(number),
                    parts=(Tokens(tuple(job.prompt(number))),),
                    sampling=text,
                    stage_sampling={"talker": codes},
                    modalities=("text", "audio"),
                    live=live,
                )
            )
        self.engine.loop.run_until(lambda: all(one.end for one in self.heard.values()))
        return list(self.heard.values())


def main() -> None:
    """Warm up, then every measurement."""
    job = job_of(__doc__)
    bench: Any = None
    options = EngineOptions(model=str(job.model), dtype=job.dtype, threads=job.threads, memory=6 * 10**9)
    engine = Engine(options, lambda events: bench.receive(events))
    bench = Bench(job, engine)
    bench.run(1, live=True)
    for requests in job.concurrency:
        for live in (True, False):
            heard = bench.run(requests, live=live)
            length = max(one.end for one in heard)
            sound = sum(one.seconds for one in heard)
            print(
                Result(
                    peer="tutti",
                    way="live" if live else "file",
                    requests=requests,
                    text_s=_mean([one.text for one in heard]),
                    first_s=_mean([one.first for one in heard]),
                    total_s=length,
                    sound_s=sound,
                    rtf=length / (sound / requests),
                    underruns=sum(one.underruns for one in heard),
                ).line(),
                flush=True,
            )


def _mean(values: list[float | None]) -> float:
    known = [value for value in values if value is not None]
    return sum(known) / len(known)


if __name__ == "__main__":
    main()
