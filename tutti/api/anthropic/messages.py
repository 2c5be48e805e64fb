"""`POST /v1/messages` and `POST /v1/messages/count_tokens`."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from functools import partial

from starlette.types import ASGIApp

from tutti.api.anthropic import answers
from tutti.api.anthropic.blocks import Blocks
from tutti.api.anthropic.errors import error_event
from tutti.api.anthropic.fields import MessageFields, PromptFields
from tutti.api.anthropic.prompt import read_prompt
from tutti.api.endpoint import Call
from tutti.api.openai.job import json_response
from tutti.api.openai.parse import parse
from tutti.api.stream import SSE, EventStream, named_sse
from tutti.api.turn import Ask, Turn


async def messages(call: Call) -> ASGIApp:
    """Answer one call, streaming or not."""
    job = await MessageJob.of(call, parse(call.body, MessageFields))
    if job.fields.stream:
        return await EventStream.open(
            job.stream(), replace(SSE, error=partial(error_event, name=call.caller.call))
        )
    return json_response(await job.answer())


async def count_tokens(call: Call) -> ASGIApp:
    """How long a prompt is."""
    fields = parse(call.body, PromptFields)
    prompt = read_prompt(fields)
    turn = Turn(call, await call.lease(fields.model), Ask(prompt.chat, prompt.names), "msg_count")
    return json_response(answers.TokenCount(await turn.count()))


@dataclass(slots=True)
class MessageJob:
    """One message under way."""

    turn: Turn
    fields: MessageFields
    blocks: Blocks = field(default_factory=Blocks)

    @classmethod
    async def of(cls, call: Call, fields: MessageFields) -> MessageJob:
        """The job of `fields`. Raises InvalidRequest, and as `Call.lease` does."""
        prompt = read_prompt(fields)
        given = {
            "temperature": fields.temperature,
            "top_p": fields.top_p,
            "top_k": fields.top_k,
            "stop": fields.stop_sequences,
        }
        ask = Ask(
            prompt.chat,
            prompt.names,
            {name: value for name, value in given.items() if value is not None},
            fields.max_tokens,
            prompt.form,
            prompt.parallel_calls,
        )
        return cls(Turn(call, await call.lease(fields.model), ask, f"msg_{call.caller.call}"), fields)

    async def stream(self) -> AsyncGenerator[bytes, None]:
        """The events of a streamed answer. Raises what ends it early."""
        turn = self.turn
        await turn.prepare()
        opened = False
        async with aclosing(turn.deltas()) as spoken:
            async for deltas in spoken:
                if not opened:
                    opened = True
                    usage = answers.Usage(turn.prompt_tokens, 0)
                    message = answers.Message(turn.id, turn.model.name, [], usage)
                    yield _event({"type": "message_start", "message": message})
                    yield _event({"type": "ping"})
                for event in self.blocks.add(deltas):
                    yield _event(event)
        for event in self.blocks.finish():
            yield _event(event)
        reason, sequence = self._end()
        delta = {"stop_reason": reason, "stop_sequence": sequence}
        yield _event({"type": "message_delta", "delta": delta, "usage": self._usage()})
        yield _event({"type": "message_stop"})

    async def answer(self) -> answers.Message:
        """The whole answer. Raises what ended it early."""
        async with aclosing(self.turn.deltas()) as spoken:
            async for deltas in spoken:
                self.blocks.add(deltas)
        self.blocks.finish()
        turn = self.turn
        return answers.Message(turn.id, turn.model.name, self.blocks.done, self._usage(), *self._end())

    def _end(self) -> tuple[str, str | None]:
        """Anthropic's word for how it ended, and the stop sequence, if it was one of the caller's."""
        turn = self.turn
        if turn.reason == "length":
            return "max_tokens", None
        if isinstance(turn.stop, str) and turn.stop in (self.fields.stop_sequences or ()):
            return "stop_sequence", turn.stop
        return "tool_use" if turn.called else "end_turn", None

    def _usage(self) -> answers.Usage:
        turn = self.turn
        return answers.Usage(turn.prompt_tokens - turn.cached_tokens, turn.output_tokens, turn.cached_tokens)


def _event(value: dict[str, object]) -> bytes:
    """One event, named after its type."""
    return named_sse(str(value["type"]), value)
