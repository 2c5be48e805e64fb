"""`POST /v1/responses`, and `GET` and `DELETE /v1/responses/{id}`."""

from __future__ import annotations

import time
import uuid
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.errors import said
from tutti.api.openai.job import json_response
from tutti.api.openai.parse import parse
from tutti.api.openai.responses import answers
from tutti.api.openai.responses.answers import COMPLETED, FAILED, IN_PROGRESS, INCOMPLETE
from tutti.api.openai.responses.fields import ResponseFields
from tutti.api.openai.responses.items import Item, ItemReader, input_items
from tutti.api.openai.responses.output import Output
from tutti.api.openai.responses.store import Kept, ResponseStore
from tutti.api.openai.responses.tools import read_tools
from tutti.api.reading import thinking
from tutti.api.stream import SSE, EventStream, named_sse
from tutti.api.turn import Ask, Turn
from tutti.errors import TuttiError
from tutti.request import Chat


class Responses:
    """The handlers around one store."""

    def __init__(self, store: ResponseStore | None = None) -> None:
        self._store = store or ResponseStore()

    async def create(self, call: Call) -> ASGIApp:
        """Answer one call, streaming or not."""
        job = await ResponseJob.of(call, parse(call.body, ResponseFields), self._store)
        if job.fields.stream:
            return await EventStream.open(job.stream(), replace(SSE, error=job.failed))
        return json_response(await job.answer())

    async def get(self, call: Call) -> ASGIApp:
        """A response that was given. Raises NotFound."""
        return json_response(self._store.get(call.caller.key, call.path["response"]).response)

    async def delete(self, call: Call) -> ASGIApp:
        """Forget it. Raises NotFound."""
        name = call.path["response"]
        self._store.delete(call.caller.key, name)
        return json_response(answers.Deleted(name))


@dataclass(slots=True)
class ResponseJob:
    """One response under way."""

    turn: Turn
    fields: ResponseFields
    given: list[Item]
    before: Kept | None
    store: ResponseStore
    owner: str | None
    created: int
    output: Output = field(default_factory=Output)
    told: int = 0  # events of the stream

    @classmethod
    async def of(cls, call: Call, fields: ResponseFields, store: ResponseStore) -> ResponseJob:
        """The job of `fields`. Raises InvalidRequest, NotFound (of what it follows), and as `Call.lease` does."""
        owner = call.caller.key
        named = fields.previous_response_id
        before = None if named is None else store.get(owner, named, "previous_response_id")
        given = input_items(fields.input)
        reader = ItemReader(fields.instructions)
        if before is not None:
            reader.read((f"previous item {index}", item) for index, item in enumerate(before.conversation))
        reader.read((f"input[{index}]", item) for index, item in enumerate(given))
        ask = _ask(fields, reader)
        turn = Turn(call, await call.lease(fields.model), ask, f"resp_{uuid.uuid4().hex}")
        return cls(turn, fields, given, before, store, owner, int(time.time()))

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The events of a streamed answer. Raises what ends it early."""
        turn = self.turn
        async with aclosing(turn.deltas()) as spoken:
            async for deltas in spoken:
                if not self.told:
                    yield self._lifecycle("created", IN_PROGRESS)
                    yield self._lifecycle("in_progress", IN_PROGRESS)
                for event in self.output.add(deltas):
                    yield self._event(event)
        for event in self.output.finish(self._status):
            yield self._event(event)
        response = self._end()
        yield self._event({"type": f"response.{response.status}", "response": response})

    async def answer(self) -> answers.Response:
        """The whole answer. Raises what ended it early."""
        async with aclosing(self.turn.deltas()) as spoken:
            async for deltas in spoken:
                self.output.add(deltas)
        self.output.finish(self._status)
        return self._end()

    def failed(self, error: TuttiError) -> bytes:
        """The last event of a stream that an error ends."""
        response = self._response(FAILED)
        response.error = {"code": "server_error", "message": said(error)}
        return self._event({"type": "response.failed", "response": response})

    @property
    def _status(self) -> str:
        return INCOMPLETE if self.turn.reason == "length" else COMPLETED

    def _end(self) -> answers.Response:
        """The response, complete; kept if it is to be."""
        turn = self.turn
        response = self._response(self._status)
        response.completed_at = int(time.time())
        response.usage = answers.Usage(
            turn.prompt_tokens,
            answers.InputDetails(turn.cached_tokens),
            turn.output_tokens,
            answers.OutputDetails(turn.reasoning_tokens),
            turn.prompt_tokens + turn.output_tokens,
        )
        if response.status == INCOMPLETE:
            response.incomplete_details = {"reason": "max_output_tokens"}
        if self.fields.kept:
            self.store.put(self.owner, Kept.of(response, self.given, self.before))
        return response

    def _lifecycle(self, name: str, status: str) -> bytes:
        return self._event({"type": f"response.{name}", "response": self._response(status)})

    def _event(self, event: dict[str, Any]) -> bytes:
        """One event, numbered and named after its type."""
        event["sequence_number"] = self.told
        self.told += 1
        return named_sse(event["type"], event)

    def _response(self, status: str) -> answers.Response:
        """The response as it is: what was asked, with the defaults filled in, and the items that are complete."""
        fields, turn = self.fields, self.turn
        text = fields.text
        form = None if text is None or text.format is None else text.format
        shown: dict[str, Any] = {
            "format": {"type": "text"} if form is None else {"type": form.type, **msgspec.to_builtins(form)}
        }
        if text is not None and text.verbosity is not None:
            shown["verbosity"] = text.verbosity
        reasoning = fields.reasoning
        return answers.Response(
            turn.id,
            self.created,
            status,
            turn.model.name,
            list(self.output.items),
            turn.sampling.temperature,
            turn.sampling.top_p,
            fields.tools or [],
            "auto" if fields.tool_choice is None else fields.tool_choice,
            fields.parallel_tool_calls is not False,
            shown,
            {
                "effort": None if reasoning is None else reasoning.effort,
                "summary": None if reasoning is None else reasoning.summary,
            },
            fields.truncation or "disabled",
            fields.kept,
            instructions=fields.instructions,
            max_output_tokens=fields.max_output_tokens,
            previous_response_id=fields.previous_response_id,
            metadata=fields.metadata or {},
            user=fields.user,
        )


def _ask(fields: ResponseFields, reader: ItemReader) -> Ask:
    """What is asked of the model. Raises InvalidRequest."""
    form = fields.form
    tools, choice = read_tools(fields.tools, fields.tool_choice)
    effort = None if fields.reasoning is None else fields.reasoning.effort
    chat = Chat(
        messages=tuple(reader.messages),
        tools=tools,
        tool_choice=choice,
        template_kwargs=thinking(effort, constrained=form is not None),
    )
    given = {"temperature": fields.temperature, "top_p": fields.top_p}
    return Ask(
        chat,
        reader.names,
        {name: value for name, value in given.items() if value is not None},
        fields.max_output_tokens,
        form,
        fields.parallel_tool_calls is not False,
        fields.truncation == "auto",
    )
