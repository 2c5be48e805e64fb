"""Sending requests at a rate and measuring what comes back: the engine in this process, or any OpenAI server.

A `Sender` turns one `Job` into a filled `Record`; `drive` decides when each is sent. Nothing here prints.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from tutti.cli.measure import Record
from tutti.errors import ConfigError, TuttiError
from tutti.events import Failed, TextDelta
from tutti.request import Request, SamplingParams, Tokens

if TYPE_CHECKING:
    import httpx

    from tutti.engine.client import EngineClient

# Prompts are drawn from these words where a server cannot be asked for its tokens.
WORDS = (
    "the of and to in is that it was for on are with as his they be at one have this from or had by hot but some what "
    "there we can out other were all your when up use word how said an each she which do their time if will way about "
    "many then them would write like so these her long make thing see him two has look more day could go come did my "
    "sound no most number who over know water than call first people may down side been now find any new work part"
).split()


@dataclass(frozen=True, slots=True)
class Job:
    """One request to send: a prompt as token ids or as text, and how many tokens to answer with."""

    prompt: tuple[int, ...] | str
    output: int


class Sender(Protocol):
    """Sends one request and fills its record; a failure is written into the record, not raised."""

    async def send(self, job: Job, record: Record) -> None:
        """Send `job` now."""
        ...


async def drive(
    jobs: Sequence[Job],
    sender: Sender,
    *,
    rate: float = math.inf,
    concurrency: int | None = None,
    seed: int = 0,
    watch: Callable[[Sequence[Record]], None] = lambda records: None,
) -> tuple[list[Record], float]:
    """The records of all jobs, and the seconds they took together.

    `rate` is requests per second (Poisson arrivals; inf: all at once); `concurrency` the most in flight. `watch` sees
    the records a few times a second.
    """
    draw = random.Random(seed)
    records = [Record() for _ in jobs]
    places = asyncio.Semaphore(concurrency or len(jobs) or 1)
    start = time.perf_counter()

    async def one(job: Job, record: Record) -> None:
        async with places:
            record.sent = time.perf_counter()
            await sender.send(job, record)

    async def keep_watching() -> None:
        while True:
            watch(records)
            await asyncio.sleep(0.25)

    watching = asyncio.ensure_future(keep_watching())
    try:
        async with asyncio.TaskGroup() as group:
            due = start
            for job, record in zip(jobs, records, strict=True):
                if math.isfinite(rate):
                    await asyncio.sleep(max(0.0, due - time.perf_counter()))
                    due += draw.expovariate(rate)
                group.create_task(one(job, record))
        return records, time.perf_counter() - start
    finally:
        watching.cancel()


def random_jobs(
    count: int, *, pool: Sequence[int] | None, prompt: int, output: int, shared: int = 0, seed: int = 0
) -> list[Job]:
    """`count` jobs of `shared` common and `prompt` own random tokens from `pool`, or of so many words without one."""
    draw = random.Random(seed)
    if pool is None:
        start = draw.choices(WORDS, k=shared)
        return [Job(" ".join(start + draw.choices(WORDS, k=prompt)), output) for _ in range(count)]
    prefix = draw.choices(pool, k=shared)
    return [Job(tuple(prefix + draw.choices(pool, k=prompt)), output) for _ in range(count)]


@dataclass(frozen=True, slots=True)
class EngineSender:
    """Sends to an engine in this process. Prompts are token ids; exactly `output` tokens are generated."""

    engine: EngineClient

    async def send(self, job: Job, record: Record) -> None:
        """See `Sender`."""
        assert not isinstance(job.prompt, str)
        record.prompt_tokens = len(job.prompt)
        sampling = SamplingParams(temperature=0.0, max_tokens=job.output, ignore_eos=True)
        request = Request(id=f"bench-{id(record)}", parts=(Tokens(job.prompt),), sampling=sampling)
        async with aclosing(self.engine.generate(request)) as events:
            async for event in events:
                if isinstance(event, TextDelta) and event.tokens:
                    record.piece(len(event.tokens))
                elif isinstance(event, Failed):
                    record.error = event.error.message
        record.ended = time.perf_counter()


@dataclass(frozen=True, slots=True)
class HttpSender:
    """Sends to an OpenAI server, streaming. `chat` uses /v1/chat/completions instead of /v1/completions."""

    client: httpx.AsyncClient
    model: str
    chat: bool
    ignore_eos: bool

    async def send(self, job: Job, record: Record) -> None:
        """See `Sender`. Tokens are the server's own count (`usage`), where it gives one."""
        import httpx

        usage: dict[str, Any] = {}
        try:
            async with self.client.stream("POST", self._path, json=self._body(job)) as response:
                if response.status_code != 200:
                    record.error = message_of(response.status_code, await response.aread())
                    return
                async for line in response.aiter_lines():
                    if line.startswith("data: ") and line != "data: [DONE]":
                        chunk = json.loads(line.removeprefix("data: "))
                        if "error" in chunk:
                            record.error = str(chunk["error"])
                        usage = chunk.get("usage") or usage
                        if self._has_text(chunk):
                            record.piece()
        except (httpx.HTTPError, json.JSONDecodeError) as error:
            record.error = f"{type(error).__name__}: {error}"
            return
        record.ended = time.perf_counter()
        words = len(job.prompt.split()) if isinstance(job.prompt, str) else len(job.prompt)
        record.prompt_tokens = usage.get("prompt_tokens", words)
        record.output_tokens = usage.get("completion_tokens", record.output_tokens)

    @property
    def _path(self) -> str:
        return "/v1/chat/completions" if self.chat else "/v1/completions"

    def _body(self, job: Job) -> dict[str, Any]:
        body: dict[str, Any] = {
            "model": self.model,
            "max_tokens": job.output,
            "temperature": 0.0,
            "stream": True,
            "stream_options": {"include_usage": True},
        }
        if self.ignore_eos:
            body["ignore_eos"] = True
        if self.chat:
            return body | {"messages": [{"role": "user", "content": job.prompt}]}
        return body | {"prompt": job.prompt}

    def _has_text(self, chunk: dict[str, Any]) -> bool:
        if not chunk.get("choices"):
            return False
        choice = chunk["choices"][0]
        if not self.chat:
            return bool(choice.get("text"))
        delta = choice.get("delta") or {}
        return any(delta.get(name) for name in ("content", "reasoning_content", "reasoning", "tool_calls"))


@asynccontextmanager
async def open_server(url: str, api_key: str | None) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the server at `url`. Raises ConfigError when nothing answers there."""
    import httpx

    headers = {"Authorization": f"Bearer {api_key}"} if api_key else {}
    limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
    base = url.rstrip("/").removesuffix("/v1")
    async with httpx.AsyncClient(base_url=base, headers=headers, limits=limits, timeout=None) as client:
        yield client


async def first_model(client: httpx.AsyncClient) -> str:
    """The first model that the server names. Raises ConfigError."""
    import httpx

    try:
        response = await client.get("/v1/models", timeout=10)
        response.raise_for_status()
        return str(response.json()["data"][0]["id"])
    except httpx.ConnectError as error:
        raise ConfigError(f"no server answers at {client.base_url}; start one: tutti serve MODEL") from error
    except (httpx.HTTPError, LookupError, ValueError) as error:
        raise ConfigError(
            f"{client.base_url}v1/models names no model ({error}); give one with --model"
        ) from error


async def token_pool(client: httpx.AsyncClient, model: str) -> list[int] | None:
    """Ids of plain words, if the server has /tokenize (Tutti and vLLM do); None where it has not."""
    import httpx

    body = {"model": model, "prompt": " ".join(WORDS), "add_special_tokens": False}
    try:
        response = await client.post("/tokenize", json=body, timeout=10)
        return [int(token) for token in response.json()["tokens"]] if response.status_code == 200 else None
    except (httpx.HTTPError, LookupError, ValueError, TypeError):
        return None


def message_of(status: int, body: bytes) -> str:
    """A server's error as one line."""
    try:
        return f"HTTP {status}: {json.loads(body)['error']['message']}"
    except (ValueError, LookupError, TypeError):
        return f"HTTP {status}: {body[:200].decode(errors='replace')}"


def raise_if_all_failed(records: Sequence[Record]) -> None:
    """A benchmark of nothing is an error. Raises TuttiError with the first failure."""
    if records and all(record.error is not None for record in records):
        raise TuttiError(f"every request failed; the first: {records[0].error}")
