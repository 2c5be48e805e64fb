"""What `tutti run` talks to: a model in this process (`local`) or one behind a server (`remote`), asked alike.

Owns what both have in common, and what an answer is and costs. Commands, prompts and history are `repl`'s.
"""

from __future__ import annotations

import asyncio
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol, TextIO

from tutti.cli.attach import content_of, media_in

if TYPE_CHECKING:
    from tutti.cli.card import Card
    from tutti.cli.manner import Manner
    from tutti.cli.printer import Printer

Message = dict[str, Any]  # OpenAI's, whose media are parts with the bytes of a file


@dataclass(frozen=True, slots=True)
class Cost:
    """What an answer cost. Times in seconds, counts in tokens."""

    total: float
    load: float
    prompt_tokens: int
    prefill: float
    tokens: int
    decode: float


@dataclass(frozen=True, slots=True)
class Answer:
    """What came: the answer's text (thinking left out), what it cost, if that is known, and why it ended.

    `pictures` are PNG files that say how they were drawn.
    """

    text: str
    cost: Cost | None
    reason: str
    pictures: tuple[bytes, ...] = ()


class Session(Protocol):
    """A model, ready to answer. `card` says what it is."""

    name: str
    card: Card

    @property
    def parameters(self) -> frozenset[str]:
        """The names of the parameters that it takes, Ollama's where it has one."""
        ...

    @property
    def modalities(self) -> frozenset[str]:
        """What it takes besides text."""
        ...

    @property
    def voices(self) -> tuple[str, ...]:
        """Who may speak its answers; nobody, where they cannot be spoken."""
        ...

    async def ask(self, messages: Sequence[Message], manner: Manner, printer: Printer) -> Answer:
        """The answer to the last message, printed while it comes. Cancelling the task ends it. Raises TuttiError."""
        ...

    async def other(self, name: str) -> Session:
        """The model called `name` in the place of this one, which is closed. Raises ModelNotFound, TuttiError."""
        ...

    async def save(self, name: str, messages: Sequence[Message], manner: Manner) -> None:
        """Make a model `name` that begins where this conversation is. Raises InvalidModelName, TuttiError."""
        ...

    async def stored(self) -> str:
        """The table of the models that `other` may be asked for. Raises TuttiError."""
        ...

    async def close(self) -> None:
        """Give back what the session holds."""
        ...


def message_of(text: str, session: Session) -> Message:
    """What a person typed, with the files it names, which are told. Raises InvalidRequest on those it cannot take."""
    message: Message = {"role": "user", "content": content_of(text, session.modalities)}
    for part in message["content"] if media_in([message]) else ():
        if "media" in part:
            print(f"Added {part['type']} '{part['path']}'", file=sys.stderr)
    return message


async def answer_to(
    session: Session,
    messages: Sequence[Message],
    manner: Manner,
    watch: Callable[[asyncio.Task[Answer]], AbstractContextManager[object]],
) -> Answer | None:
    """The answer, printed while it comes; None when who `watch`es the task interrupted it. Raises TuttiError.

    Its pictures go into files, which are named.
    """
    from tutti.cli import drawn
    from tutti.cli.printer import terminal_printer

    printer = terminal_printer(wrap=manner.wrap, hide_thinking=manner.hide_thinking)
    task = asyncio.ensure_future(session.ask(messages, manner, printer))
    try:
        with watch(task):
            answer = await task
    except asyncio.CancelledError:
        printer.end()
        return None
    except BaseException:
        if printer.used:
            printer.end()
        raise
    printer.end()
    for png, file in zip(
        answer.pictures, drawn.keep(list(answer.pictures), manner.sheet.output), strict=True
    ):
        drawn.preview(png, sys.stdout)
        print(file)
    return answer


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


def print_statistics(cost: Cost | None, out: TextIO) -> None:
    """What an answer cost, in Ollama's form; what is not known is left out."""
    if cost is None:
        return
    rows = [
        ("total duration:", _duration(cost.total) if cost.total else ""),
        ("load duration:", _duration(cost.load) if cost.load else ""),
        ("prompt eval count:", _tokens(cost.prompt_tokens)),
        ("prompt eval duration:", _duration(cost.prefill) if cost.prefill else ""),
        ("prompt eval rate:", _rate(cost.prompt_tokens, cost.prefill)),
        ("eval count:", _tokens(cost.tokens)),
        ("eval duration:", _duration(cost.decode) if cost.decode else ""),
        ("eval rate:", _rate(cost.tokens, cost.decode)),
    ]
    out.write("".join(f"{name:<22}{value}\n" for name, value in rows if value))
    out.flush()


def _tokens(count: int) -> str:
    return f"{count} token(s)" if count else ""


def _rate(count: int, seconds: float) -> str:
    return f"{count / seconds:.2f} tokens/s" if seconds else ""


def _duration(seconds: float) -> str:
    """Go's form: 1.234567s, 45.3ms, 1m2.5s."""
    if seconds < 1:
        return f"{seconds * 1000:.6g}ms"
    minutes, rest = divmod(seconds, 60)
    return f"{int(minutes)}m{rest:.3f}s" if minutes else f"{rest:.6g}s"
