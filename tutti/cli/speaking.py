"""Sending requests that are answered aloud, and what the server says of its stages meanwhile.

Works with any server that streams OpenAI's spoken answers; the stages' numbers come from Tutti's own `/metrics`, and
are absent elsewhere.
"""

from __future__ import annotations

import asyncio
import base64
import json
import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutti.cli.load import Job, message_of
from tutti.cli.measure import Record
from tutti.errors import InvalidMedia

if TYPE_CHECKING:
    import httpx

_HEADER = 44  # bytes of a WAV file before its samples
_USUAL_RATE = 24_000  # Hz, of sound without a header
_SAMPLING = 0.5  # seconds between two looks at the queues


@dataclass(frozen=True, slots=True)
class SpeakingSender:
    """Sends to a chat that answers aloud, or (`reading`) has texts read aloud.

    `media` are content parts that go with every text; `body` is added to every request.
    """

    client: httpx.AsyncClient
    model: str
    reading: bool = False
    voice: str | None = None
    media: tuple[Mapping[str, Any], ...] = ()
    body: Mapping[str, Any] = field(default_factory=dict)

    async def send(self, job: Job, record: Record) -> None:
        """See `load.Sender`. The record also gets the pieces of sound."""
        import httpx

        assert isinstance(job.prompt, str)
        path = "/v1/audio/speech" if self.reading else "/v1/chat/completions"
        wav = _Wav()
        try:
            async with self.client.stream("POST", path, json=self._body(job)) as response:
                if response.status_code != 200:
                    record.error = message_of(response.status_code, await response.aread())
                    return
                async for line in response.aiter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        self._take(json.loads(line.removeprefix("data: ")), record, wav)
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            record.error = f"{type(error).__name__}: {error}"
            return
        if not record.sounds:
            record.error = record.error or "no sound came"
        record.ended = time.perf_counter()

    def _body(self, job: Job) -> dict[str, Any]:
        body: dict[str, Any] = {"model": self.model, "stream": True}
        if self.reading:
            body |= {"input": job.prompt, "response_format": "wav", "stream_format": "sse"}
            return body | ({} if self.voice is None else {"voice": self.voice}) | dict(self.body)
        audio = {"format": "wav"} | ({} if self.voice is None else {"voice": self.voice})
        content: Any = job.prompt
        if self.media:
            content = [*self.media, {"type": "text", "text": job.prompt}]
        body |= {"messages": [{"role": "user", "content": content}], "max_tokens": job.output}
        body |= {"modalities": ["text", "audio"], "audio": audio, "temperature": 0.0}
        return body | {"stream_options": {"include_usage": True}} | dict(self.body)

    def _take(self, event: dict[str, Any], record: Record, wav: _Wav) -> None:
        """One event of either stream."""
        if "error" in event:
            record.error = str(event["error"])
        usage = event.get("usage") or {}
        record.prompt_tokens = usage.get("prompt_tokens", usage.get("input_tokens", record.prompt_tokens))
        data = event.get("audio")
        if event.get("choices"):
            audio = event["choices"][0]["delta"].get("audio") or {}
            data = audio.get("data")
            if audio.get("transcript"):
                record.piece()
        if data and (seconds := wav.seconds(base64.b64decode(data))):
            record.sound(seconds)


class _Wav:
    """How long the pieces of a streamed WAV file sound."""

    def __init__(self) -> None:
        self._rate = 0

    def seconds(self, piece: bytes) -> float:
        """The length of the next piece."""
        if not self._rate:
            self._rate = _USUAL_RATE
            if piece.startswith(b"RIFF"):
                self._rate = int.from_bytes(piece[24:28], "little")
                piece = piece[_HEADER:]
        return len(piece) / 2 / self._rate


def media_part(path: Path, modality: str) -> dict[str, Any]:
    """The file as a content part. Raises InvalidMedia when it cannot be read."""
    try:
        data = base64.b64encode(path.read_bytes()).decode()
    except OSError as error:
        raise InvalidMedia(f"{path}: {error.strerror}") from error
    return {"type": f"{modality}_url", f"{modality}_url": {"url": f"data:;base64,{data}"}}


@dataclass(frozen=True, slots=True)
class Counters:
    """One stage's counters since the server's start, and how much waits for it."""

    steps: float = 0.0
    items: float = 0.0
    seconds: float = 0.0
    waiting: float = 0.0


@dataclass(frozen=True, slots=True)
class StageLoad:
    """What a stage did in a while. `busy` is the share of that time it spent in steps; `queue` the mean."""

    name: str
    steps: int
    batch: float
    step_ms: float
    busy: float
    queue: float


@dataclass(slots=True)
class Stages:
    """What the stages do while a benchmark runs. Empty for a server that does not tell."""

    loads: list[StageLoad] = field(default_factory=list)
    memory: int | None = None  # bytes: the engine's peak
    underruns: int | None = None  # as the server sees its listeners, who have no patience


@asynccontextmanager
async def watch_stages(client: httpx.AsyncClient, model: str) -> AsyncIterator[Stages]:
    """Look at the server's metrics before, during and after what is done within."""
    found = Stages()
    before, first = await _scrape(client, model)
    queues: dict[str, list[float]] = {name: [] for name in before}

    async def look() -> None:
        while True:
            await asyncio.sleep(_SAMPLING)
            counters, _ = await _scrape(client, model)
            for name, stage in counters.items():
                queues.setdefault(name, []).append(stage.waiting)

    start = time.perf_counter()
    looking = asyncio.ensure_future(look())
    try:
        yield found
    finally:
        seconds = time.perf_counter() - start
        looking.cancel()
        with suppress(asyncio.CancelledError):
            await looking
    after, last = await _scrape(client, model)
    found.loads = [
        _load(name, before.get(name, Counters()), stage, seconds, queues.get(name, []))
        for name, stage in after.items()
    ]
    if "tutti_engine_memory_peak_bytes" in last:
        found.memory = int(last["tutti_engine_memory_peak_bytes"])
        name = "tutti_audio_underruns_total"
        found.underruns = int(last.get(name, 0) - first.get(name, 0))


def _load(name: str, before: Counters, after: Counters, seconds: float, queue: list[float]) -> StageLoad:
    steps, busy = after.steps - before.steps, after.seconds - before.seconds
    return StageLoad(
        name,
        int(steps),
        (after.items - before.items) / steps if steps else 0.0,
        busy / steps * 1000 if steps else 0.0,
        busy / seconds,
        sum(queue) / len(queue) if queue else 0.0,
    )


async def _scrape(client: httpx.AsyncClient, model: str) -> tuple[dict[str, Counters], dict[str, float]]:
    """The stages' counters, and the model's other numbers by name; nothing where a server has no such metrics."""
    import httpx
    from prometheus_client.parser import text_string_to_metric_families

    try:
        answer = await client.get("/metrics", timeout=10)
    except httpx.HTTPError:
        return {}, {}
    if answer.status_code != 200:
        return {}, {}
    stages: dict[str, dict[str, float]] = {}
    numbers: dict[str, float] = {}
    for family in text_string_to_metric_families(answer.text):
        for sample in family.samples:
            if sample.labels.get("model_name") != model or not sample.name.startswith("tutti_"):
                continue
            if "stage" in sample.labels:
                kind = sample.name.removeprefix("tutti_stage_").removesuffix("_total")
                stages.setdefault(sample.labels["stage"], {})[kind] = sample.value
            else:
                numbers[sample.name] = sample.value
    known = Counters.__dataclass_fields__
    return {
        name: Counters(**{kind: value for kind, value in found.items() if kind in known})
        for name, found in stages.items()
    }, numbers
