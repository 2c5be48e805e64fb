"""A model behind a server that speaks Ollama's API: see `Session`."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from datetime import datetime
from typing import Any

from tutti.cli.attach import content_of
from tutti.cli.card import Card, card_of
from tutti.cli.client import Client, Object
from tutti.cli.drawn import StepBar
from tutti.cli.manner import OLLAMAS, OURS, Manner
from tutti.cli.printer import Printer
from tutti.cli.session import Answer, Cost, Message, spinner
from tutti.cli.sheet import Sheet
from tutti.cli.waiting import waiting
from tutti.cli.wording import ago, size_of, table
from tutti.errors import (
    InvalidModelName,
    InvalidRequest,
    ModelNotFound,
    NotFound,
    ServerError,
    ServerNotFound,
)

EMBEDDING = "embedding"  # the capability of models that give vectors and no answers
CHATS = "completion"  # that of those that write
DRAWS = ("image", "video", "sound")  # those of models that draw, film and make sounds

_SENSES = {"vision": ("image", "video"), "audio": ("audio",)}
_NANO = 1e-9


class RemoteSession:
    """The model called `name` behind `client`, which belongs to the session."""

    parameters = OLLAMAS | {"num_keep", "num_batch", "num_gpu", "main_gpu", "num_thread", "use_mmap"}
    voices: tuple[str, ...] = ()

    def __init__(self, client: Client, name: str, card: Card, keep_alive: str = "") -> None:
        self.name = name
        self.card = card
        self._client = client
        self._keep_alive = keep_alive
        self._completes = False  # known of a base model, which continues the last message as it stands

    @property
    def modalities(self) -> frozenset[str]:
        """See `Session`."""
        return frozenset(kind for word in self.card.capabilities for kind in _SENSES.get(word, ()))

    async def load(self, think: str | None = None) -> None:
        """Have the server load the model now. Raises ServerError, which also says that it cannot think."""
        with spinner(f"loading {self.name}"):
            body = self._body(think) | {"stream": False}
            await self._client.post("/api/generate", body)

    async def ask(self, messages: Sequence[Message], manner: Manner, printer: Printer) -> Answer:
        """See `Session`."""
        if manner.speak is not None:
            raise InvalidRequest(
                "a server's answers are not spoken: start with --speak, in a process of its own"
            )
        if not self._completes:
            try:
                return await self._answer(messages, manner, printer)
            except ServerError as error:
                if not error.message.endswith("does not support chat"):
                    raise
            self._completes = True
        return await self._answer(messages, manner, printer)

    async def _answer(self, messages: Sequence[Message], manner: Manner, printer: Printer) -> Answer:
        body = self._body(manner.think) | _manner(manner)
        if self._completes:
            last = _wired(messages[-1])
            path, body = "/api/generate", body | {"prompt": last["content"], "images": last.get("images", [])}
            body |= {"system": manner.system} if manner.system else {}
        else:
            path, body = "/api/chat", body | {"messages": _conversation(messages, manner)}
            body |= _drawn(manner.sheet) if "image" in self.card.capabilities else {}
        said: list[str] = []
        pictures: list[bytes] = []
        with StepBar() as bar:
            async with aclosing(self._lines(path, body, messages)) as lines:
                async for line in lines:
                    if line.get("total"):
                        printer.pause()
                        bar.show(int(line.get("completed") or 0), int(line["total"]))
                    _show(line, printer, said)
                    images = (line.get("message") or {}).get("images") or ()
                    pictures += [base64.b64decode(image) for image in images]
                    if line.get("done"):
                        reason = str(line.get("done_reason") or "stop")
                        return Answer("".join(said), _cost(line), reason, tuple(pictures))
        raise ServerError("the server ended the answer before it was complete")

    async def other(self, name: str) -> RemoteSession:
        """See `Session`. This one stays where the other cannot be had."""
        card = await shown(self._client, name)
        if card is None:
            raise ModelNotFound(f"model '{name}' not found")
        session = RemoteSession(self._client, name, card, self._keep_alive)
        await session.load()
        return session

    async def save(self, name: str, messages: Sequence[Message], manner: Manner) -> None:
        """See `Session`."""
        body: Object = {"model": name, "from": self.card.parent or self.name}
        body |= {"system": manner.system} if manner.system else {}
        kept = {key: value for key, value in manner.parameters.items() if key not in OURS}
        body |= {"parameters": kept} if kept else {}
        whole = [*self.card.messages, *(_wired(message) for message in messages)]
        body |= {"messages": whole} if whole else {}
        try:
            async with aclosing(self._client.lines("/api/create", body)) as steps:
                async for _ in steps:
                    pass
        except ServerError as error:
            if "invalid model name" in error.message:
                raise InvalidModelName(error.message) from error
            raise

    async def stored(self) -> str:
        """See `Session`."""
        now = time.time()
        models = (await self._client.get("/api/tags")).get("models") or []
        rows = [
            (
                str(model["name"]),
                str(model["digest"]).removeprefix("sha256:")[:12],
                size_of(int(model["size"])),
                ago(moment(model["modified_at"]), now),
            )
            for model in models
        ]
        return table(("NAME", "ID", "SIZE", "MODIFIED"), rows)

    async def embed(self, text: str, truncate: bool | None, dimensions: int) -> list[float]:
        """The vector of `text`, of a model that gives them. Raises ServerError."""
        body: Object = {"model": self.name, "input": text}
        body |= {"keep_alive": self._keep_alive} if self._keep_alive else {}
        body |= {} if truncate is None else {"truncate": truncate}
        body |= {"dimensions": dimensions} if dimensions > 0 else {}
        vectors = (await self._client.post("/api/embed", body)).get("embeddings")
        if not vectors:
            raise ServerError("no embeddings returned")
        return list(vectors[0])

    def names_files(self, prompt: str) -> bool:
        """Whether a prompt shows the model files. Raises InvalidRequest on those it cannot take."""
        return not isinstance(content_of(prompt, self.modalities), str)

    async def draw(self, prompt: str, sheet: Sheet) -> tuple[str, bytes]:
        """What the model says of a picture of `prompt`, and the picture's PNG file. Raises ServerError."""
        if sheet.asked and "image" not in self.card.capabilities:
            raise InvalidRequest(f"{self.name} does not draw: {', '.join(sheet.asked)} means nothing to it")
        body = _manner_of(sheet) | {"model": self.name, "prompt": prompt}
        body |= {} if sheet.negative is None else {"negative_prompt": sheet.negative}
        with spinner("drawing"):
            (drawn,) = (await self._client.post("/v1/images/generations", body))["data"]
        return str(drawn.get("revised_prompt") or ""), base64.b64decode(drawn["b64_json"])

    async def close(self) -> None:
        """See `Session`. The server keeps the model as long as it does."""
        await self._client.close()

    def _body(self, think: str | None) -> Object:
        """What every request has."""
        body: Object = {"model": self.name}
        body |= {"keep_alive": self._keep_alive} if self._keep_alive else {}
        if think is not None:
            body["think"] = {"true": True, "false": False}.get(think, think)
        return body

    async def _lines(
        self, path: str, body: Object, messages: Sequence[Message]
    ) -> AsyncGenerator[Object, None]:
        """The lines of an answer; before the first one, media that take a while are named."""
        with waiting(messages) as sign:
            async with aclosing(self._client.lines(path, body)) as lines:
                async for line in lines:
                    if sign is not None:
                        sign.end()
                    yield line


async def shown(client: Client, name: str) -> Card | None:
    """What the server says of a model; None where it has no such one. Raises ServerError, NoServer."""
    try:
        return card_of(await client.post("/api/show", {"model": name}))
    except ServerNotFound:
        return None


async def unload(client: Client, name: str) -> None:
    """Have the server drop the model. Raises NotFound, ServerError, NoServer."""
    missing = NotFound(f'couldn\'t find model "{name}" to stop')
    if await shown(client, name) is None:
        raise missing
    try:
        await client.post("/api/generate", {"model": name, "keep_alive": 0, "stream": False})
    except ServerNotFound as error:
        raise missing from error


def moment(text: str) -> float:
    """A time as Go and we write it (RFC 3339), in seconds since the epoch. Raises ServerError."""
    try:
        return datetime.fromisoformat(text).timestamp()
    except (ValueError, OverflowError, TypeError) as error:
        raise ServerError(f"the server says a time that is none: {text!r}") from error


def _conversation(messages: Sequence[Message], manner: Manner) -> list[Object]:
    system = [{"role": "system", "content": manner.system}] if manner.system else []
    return [*system, *map(_wired, messages)]


def _wired(message: Message) -> Object:
    """A message as Ollama's API has it: its media are `images`, in base64."""
    content = message["content"]
    if isinstance(content, str):
        return {"role": message["role"], "content": content}
    text = "\n".join(part["text"] for part in content if part["type"] == "text")
    images = [base64.b64encode(part["media"].data).decode() for part in content if "media" in part]
    return {"role": message["role"], "content": text, "images": images}


def _manner(manner: Manner) -> Object:
    """How to answer, as fields of a request. Raises InvalidRequest on what the API has no word for."""
    unknown = sorted(OURS.keys() & manner.parameters.keys())
    if unknown:
        raise InvalidRequest(f"Ollama's API has no {', '.join(unknown)}: leave it out")
    body: Object = {"options": manner.parameters} if manner.parameters else {}
    if manner.form is not None:
        schema: Any = manner.form.json
        body["format"] = (
            "json" if schema is None else json.loads(schema) if isinstance(schema, str) else schema
        )
    return body


def _manner_of(sheet: Sheet) -> Object:
    """How to draw, by the names of OpenAI's endpoints. Raises InvalidRequest on what is not for a server."""
    given = {
        "size": sheet.size,
        "num_inference_steps": sheet.steps,
        "guidance_scale": sheet.guidance,
        "cache": sheet.cache,
        "cache_threshold": sheet.cache_threshold,
    }
    others = {
        "--strength": sheet.strength,
        "--mask": sheet.mask,
        "--frames": sheet.frames,
        "--fps": sheet.fps,
    }
    wrong = [name for name, value in others.items() if value is not None]
    if wrong:
        raise InvalidRequest(f"{', '.join(wrong)}: this model draws what it is told, and no films")
    return {name: value for name, value in given.items() if value is not None}


def _drawn(sheet: Sheet) -> Object:
    """The fields of a request whose answer may have a picture."""
    return {"modalities": ["text", "image"], "image": _manner_of(sheet)}


def _show(line: Object, printer: Printer, said: list[str]) -> None:
    """Print what is new; `said` collects the answer itself."""
    message = line.get("message") or {"content": line.get("response"), "thinking": line.get("thinking")}
    if thinking := message.get("thinking"):
        printer.thinking(thinking)
    if content := message.get("content"):
        printer.answer(content)
        said.append(content)
    for call in message.get("tool_calls") or ():  # nobody here calls tools: it is shown as it stands
        function = call["function"]
        printer.answer(
            f"{function['name']} {json.dumps(function.get('arguments') or {}, ensure_ascii=False)}"
        )


def _cost(line: Object) -> Cost:
    """The account in an answer's last line, whose durations are in nanoseconds."""

    def seconds(name: str) -> float:
        return float(line.get(name) or 0) * _NANO

    return Cost(
        total=seconds("total_duration"),
        load=seconds("load_duration"),
        prompt_tokens=int(line.get("prompt_eval_count") or 0),
        prefill=seconds("prompt_eval_duration"),
        tokens=int(line.get("eval_count") or 0),
        decode=seconds("eval_duration"),
    )
