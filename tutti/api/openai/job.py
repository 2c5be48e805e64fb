"""What both endpoints share: a request under way, its name, its model, what it has cost so far."""

from __future__ import annotations

import time
import uuid
from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import msgspec
from starlette.responses import Response

from tutti.api.defaults import sampling_defaults
from tutti.api.endpoint import Call
from tutti.api.openai import answers
from tutti.api.openai.fields import SamplingFields
from tutti.events import Usage
from tutti.gateway.backend import BackendModel
from tutti.gateway.lease import Lease

if TYPE_CHECKING:
    from tutti.models.processor import Processor

_encoder = msgspec.json.Encoder()


def json_response(value: object, status: int = 200) -> Response:
    """`value` as JSON."""
    return Response(_encoder.encode(value), status, media_type="application/json")


@dataclass(frozen=True, slots=True)
class Job:
    """One call's identity. `id` is what the caller sees; the engine's requests have ids of their own."""

    call: Call
    lease: Lease
    id: str
    created: int

    @classmethod
    async def of(cls, call: Call, fields: SamplingFields, prefix: str) -> Job:
        """The job of `fields`. Raises as `Call.lease` does."""
        lease = await call.lease(fields.model)
        return cls(call, lease, f"{prefix}-{fields.request_id or call.caller.call}", int(time.time()))

    @property
    def model(self) -> BackendModel:
        """The model that is asked."""
        return self.lease.model

    @property
    def processor(self) -> Processor:
        """Its tokenizer, templates and parsers."""
        return self.lease.backend.processor

    @property
    def defaults(self) -> dict[str, Any]:
        """The model's own sampling, for what the caller does not say."""
        return sampling_defaults(self.model, self.processor)

    def request_id(self) -> str:
        """A fresh id for a request of this job."""
        return f"{self.id}-{uuid.uuid4().hex[:8]}"


@dataclass(slots=True)
class Tally:
    """Counts the tokens of a job. A prompt counts once, however many outputs it has."""

    prompts: dict[int, int] = field(default_factory=dict)
    outputs: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    cached: dict[int, int] = field(default_factory=dict)

    def add(self, prompt: int, choice: int, usage: Usage) -> None:
        """Take the account of one output."""
        self.prompts[prompt] = usage.prompt_tokens
        self.outputs[choice] = usage.completion_tokens
        if usage.index == 0:
            self.cached[prompt] = usage.cached_tokens

    def usage(self) -> answers.Usage:
        """All of it."""
        return _usage(sum(self.prompts.values()), sum(self.outputs.values()), sum(self.cached.values()))

    def so_far(self, prompt: int, choice: int) -> answers.Usage:
        """What one choice has cost, in the middle of a stream."""
        return _usage(self.prompts.get(prompt, 0), self.outputs[choice], self.cached.get(prompt, 0))


def _usage(prompt: int, output: int, cached: int) -> answers.Usage:
    return answers.Usage(prompt, output, prompt + output, answers.PromptTokensDetails(cached))
