"""Where `tutti run` has a model answer: behind the server that runs, or in this process.

The server answers where one runs and can: it pulls what it does not have, as Ollama's does. What only this process can
do (a path, a graph by file, flags of the engine, speech or a picture into a file) is done here, and so is everything
where no server runs.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass
from pathlib import Path

from tutti.cli.card import Card
from tutti.cli.client import Client
from tutti.cli.flags import EngineFlags
from tutti.cli.remote import CHATS, DRAWS, shown
from tutti.errors import ServerError, ServerNotFound
from tutti.hub.composition import is_composition
from tutti.hub.progress import Progress
from tutti.hub.resolve import PACKAGED, hugging_face_id

_FILE = "a picture goes into a file"


@dataclass(frozen=True, slots=True)
class Place:
    """Where: behind a server, which says that the model is `card`; or here, and `why`, if a server was passed over."""

    card: Card | None = None
    why: str = ""


async def choose(
    client: Client, model: str, flags: EngineFlags, *, speaks: bool, draws: bool, insecure: bool
) -> Place:
    """The place for `model`, which the server has pulled by then if it must. Raises ServerError."""
    if await client.version() is None:
        return Place()
    reason = _only_here(model, flags, speaks=speaks)
    if reason:
        return Place(why=reason)
    card = await shown(client, model)
    if card is not None:
        return _behind(card, draws=draws)
    if draws:
        return Place(why=_FILE)
    if model in PACKAGED or _is_downloaded(model):
        return Place(why=f"the server has no {model}")
    try:
        await _pull(client, model, insecure=insecure)
    except ServerNotFound:
        return Place(why=f"the server has no {model}, and pulls no models")
    except ServerError as error:
        if hugging_face_id(model) and "file does not exist" in error.message:
            return Place(why=f"no registry has {model}")
        raise
    card = await shown(client, model)
    return (
        _behind(card, draws=draws) if card else Place(why=f"the server pulled {model}, and does not serve it")
    )


def _behind(card: Card, *, draws: bool) -> Place:
    """The place for a model that the server has. A picture goes into a file here, unless the model writes as well."""
    pictures = any(word in card.capabilities for word in DRAWS)
    if pictures and CHATS in card.capabilities:
        return Place(card)
    return Place(why=_FILE) if pictures or draws else Place(card)


def _only_here(model: str, flags: EngineFlags, *, speaks: bool) -> str:
    """Why no server can do what is asked; empty where one can."""
    if is_composition(model):
        return f"{model} is a graph by file"
    is_path = model.startswith((".", "/", "~")) or Path(model).expanduser().exists()
    if is_path and model not in PACKAGED:
        return f"{model} is a path"
    given = flags.given()
    if given:
        return f"{', '.join(given)} would have to be the server's flags"
    if speaks:
        return "--speak writes what the engine says"
    return ""


def _is_downloaded(model: str) -> bool:
    """Whether it is a model of Hugging Face that is on this disk; a registry of Ollama's has no such names."""
    from tutti.hub.huggingface import downloaded

    found = hugging_face_id(model)
    return found is not None and downloaded(*found, None) is not None


async def _pull(client: Client, model: str, *, insecure: bool) -> None:
    """Have the server pull the model, and show how it goes. Raises ServerError."""
    from tutti.cli.bars import Bars

    with Bars() as bars:
        async with aclosing(_progress(client, model, insecure=insecure)) as steps:
            async for progress in steps:
                bars.show(progress)


async def _progress(client: Client, model: str, *, insecure: bool) -> AsyncGenerator[Progress, None]:
    body = {"model": model, "insecure": insecure}
    async with aclosing(client.lines("/api/pull", body)) as lines:
        async for line in lines:
            yield Progress(
                str(line.get("status", "")),
                str(line.get("digest", "")),
                int(line.get("total", 0)),
                int(line.get("completed", 0)),
            )
