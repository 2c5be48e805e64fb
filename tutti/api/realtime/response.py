"""One answer under way: asked of the gateway, told to the client, ended by itself, by its client or by who interrupts.

    created -> (items) -> done: completed | incomplete | cancelled | failed

The work is a task. Cancelling it closes the gateway's stream, which ends the engine's request within a step; how it
ended is told by one callback, in whichever way.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any

from tutti.api.realtime.config import SessionConfig
from tutti.api.realtime.conversation import Conversation
from tutti.api.realtime.errors import error_detail, expected
from tutti.api.realtime.items import COMPLETED, INCOMPLETE, Item, new_id
from tutti.api.realtime.outbox import Outbox
from tutti.api.realtime.output import Output
from tutti.api.realtime.prompt import Prompt, make_prompt
from tutti.events import AudioDelta, Done, Failed, TextDelta, Usage
from tutti.gateway.gateway import Gateway
from tutti.gateway.keys import Caller
from tutti.gateway.lease import Lease
from tutti.request import Request


@dataclass(frozen=True, slots=True)
class Wish:
    """What is to be answered, and how.

    `items` are what the answer is to; None: the conversation, as it is when the answer begins. `apart`: the answer is
    no part of the conversation.
    """

    config: SessionConfig
    items: tuple[Item, ...] | None = None
    apart: bool = False
    metadata: dict[str, str] | None = None


class Response:
    """One answer."""

    def __init__(
        self,
        wish: Wish,
        conversation: Conversation,
        gateway: Gateway,
        caller: Caller,
        outbox: Outbox,
        ended: Callable[[Response], None],
    ) -> None:
        """It begins at once. `ended` is called when all of it was told."""
        self.id = new_id("resp")
        self.wish = wish
        self._conversation = conversation
        self._gateway = gateway
        self._caller = replace(caller, call=self.id)  # by which it is found in the traces
        self._outbox = outbox
        self._ended = ended
        self._output = Output(outbox.put, self.id, wish.config, None if wish.apart else conversation)
        self._prompt: Prompt | None = None
        self._spent: Usage | None = None
        self._generated: list[int] = []  # tokens
        self._reason = "client_cancelled"  # why it was cancelled, if it was
        self._limit = ""  # what cut it short, if anything did
        outbox.put("response.created", response=self._shown("in_progress"))
        self._over = asyncio.Event()
        self._task = asyncio.create_task(self._answer())
        self._task.add_done_callback(self._end)

    async def cancel(self, reason: str) -> None:
        """End it early, and see it told. `reason`: client_cancelled | turn_detected."""
        self._reason = reason
        self._task.cancel()
        await self._over.wait()

    @property
    def seconds(self) -> float:
        """How much sound it gave so far."""
        return self._output.seconds

    def is_saying(self, item_id: str) -> bool:
        """Whether the item is one of this answer's."""
        return any(item.id == item_id for item in self._output.items)

    async def _answer(self) -> str:
        """Tell the answer; OpenAI's reason if it is cut short, else "". Raises TuttiError."""
        wish, conversation = self.wish, self._conversation
        async with self._gateway.lease(wish.config.model) as lease:
            if wish.items is None:
                prompt = await make_prompt(
                    lease, wish.config, lambda: conversation.remembered, conversation.forget
                )
            else:
                given = list(wish.items)
                prompt = await make_prompt(lease, wish.config, lambda: given, None)
            self._prompt = prompt
            request: Request | None = prompt.request
            while request is not None:
                request = await self._tell(lease, request, prompt)
        return self._limit

    async def _tell(self, lease: Lease, request: Request, prompt: Prompt) -> Request | None:
        """Tell what answers `request`; the request that goes on with it in silence, if it turns out to be a call."""
        async with aclosing(lease.generate(request, self._caller)) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    self._generated += event.tokens
                    self._output.add(prompt.parser.push(event.text) if event.text else ())
                    if self._output.only_calls and "audio" in request.modalities:
                        silent = prompt.silent(self._generated)
                        if silent is not None:
                            return silent
                elif isinstance(event, AudioDelta):
                    self._output.hear(event)
                elif isinstance(event, Usage):
                    self._spent = event
                elif isinstance(event, Failed):
                    raise event.error.error()
                elif isinstance(event, Done):
                    self._output.add(prompt.parser.finish())
                    self._limit = "max_output_tokens" if event.reason == "length" else ""
                await self._outbox.room()
        return None

    def _end(self, task: asyncio.Task[str]) -> None:
        try:
            status, details = self._outcome(task)
            self._output.finish(
                COMPLETED if status == "completed" else INCOMPLETE,
                whole=status in ("completed", "incomplete"),
            )
            self._outbox.put("response.done", response=self._shown(status, details))
        finally:
            self._over.set()
            self._ended(self)

    def _outcome(self, task: asyncio.Task[str]) -> tuple[str, dict[str, Any]]:
        """OpenAI's status and its details."""
        if task.cancelled():
            return "cancelled", {"type": "cancelled", "reason": self._reason}
        if (error := task.exception()) is not None:
            return "failed", {"type": "failed", "error": _cause(error)}
        if reason := task.result():
            return "incomplete", {"type": "incomplete", "reason": reason}
        return "completed", {"type": "completed"}

    def _shown(self, status: str, details: dict[str, Any] | None = None) -> dict[str, Any]:
        config = self.wish.config
        shown: dict[str, Any] = {
            "object": "realtime.response",
            "id": self.id,
            "status": status,
            "status_details": details,
            "output": [item.shown() for item in self._output.items],
            "conversation_id": None if self.wish.apart else self._conversation.id,
            "output_modalities": config.output_modalities,
            "max_output_tokens": config.max_output_tokens,
            "audio": {"output": {"format": config.audio.output.format, "voice": config.audio.output.speaker}},
            "usage": None,
            "metadata": self.wish.metadata,
        }
        if details is not None and self._prompt is not None:
            shown["usage"] = self._prompt.usage(self._spent, len(self._generated))
        return shown


def _cause(error: BaseException) -> dict[str, Any]:
    """The error of an answer that failed."""
    detail = error_detail(expected(error, "a response"), None)
    return {name: detail[name] for name in ("type", "code", "message")}
