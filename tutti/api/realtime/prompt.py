"""From a session to a request: settings and items become an ordinary chat, as long as the context allows.

A recording is the same file in every turn, so what was made of it before is found again by its digest.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tutti.api.realtime.capable import sampling
from tutti.api.realtime.config import Retention, SessionConfig, Tool, ToolChoice
from tutti.api.realtime.items import Item, as_chat
from tutti.errors import ContextOverflow
from tutti.events import Usage
from tutti.gateway.lease import Lease
from tutti.models.parsers.base import OutputParser
from tutti.request import Chat, MediaInput, Request, Tokens

_KEPT = 0.75  # share of the items that stay when they are too many for the context
_ROOM = 8  # an eighth of the context is left for an answer whose length is not limited


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request that is ready, and what reads its answer."""

    request: Request
    parser: OutputParser

    @property
    def tokens(self) -> int:
        """How long it is."""
        return sum(len(part.ids) for part in self.request.parts if isinstance(part, Tokens))

    def silent(self, generated: Sequence[int]) -> Request | None:
        """The request that goes on behind the tokens `generated`, without a voice: nobody listens to a call.

        None where some of their text may still be held back, as the beginning of a stop string.
        """
        request = self.request
        if request.sampling.stop:
            return None
        parts = (part for part in request.parts if not isinstance(part, Tokens))
        ids = [token for part in request.parts if isinstance(part, Tokens) for token in part.ids]
        limit = request.sampling.max_tokens
        rest = None if limit is None else max(limit - len(generated), 1)
        return msgspec.structs.replace(
            request,
            id=_new_id(),
            parts=(Tokens((*ids, *generated)), *parts),
            sampling=msgspec.structs.replace(request.sampling, max_tokens=rest),
            modalities=("text",),
            live=False,
        )

    def usage(self, spent: Usage | None, generated: int) -> dict[str, Any]:
        """OpenAI's account of `generated` tokens; `spent` is the engine's, which a cancelled answer has not."""
        cached = min(spent.cached_tokens, self.tokens) if spent is not None else 0
        return {
            "total_tokens": self.tokens + generated,
            "input_tokens": self.tokens,
            "output_tokens": generated,
            "input_token_details": {
                **self._kinds(self.tokens),
                "cached_tokens": cached,
                "cached_tokens_details": self._kinds(cached),
            },
            "output_token_details": {"text_tokens": generated},
        }

    def _kinds(self, until: int) -> dict[str, int]:
        """What the first `until` tokens are."""
        found = {"audio_tokens": 0, "image_tokens": 0}
        for part in self.request.parts:
            if isinstance(part, MediaInput):
                inside = sum(max(min(until - start, length), 0) for start, length in part.spans)
                kind = f"{part.modality}_tokens"
                found[kind] = found.get(kind, 0) + inside
        return {"text_tokens": until - sum(found.values()), **found}


async def make_prompt(
    lease: Lease,
    config: SessionConfig,
    items: Callable[[], list[Item]],
    forget: Callable[[float], bool] | None,
) -> Prompt:
    """The prompt of an answer to `items()`.

    When it is too long for the context, `forget(share)` leaves older items out, until it fits or answers False.
    Raises InvalidRequest and its kinds, ContextOverflow among them.
    """
    ratio = config.truncation.retention_ratio if isinstance(config.truncation, Retention) else _KEPT
    while True:
        try:
            return await _fitting(lease, config, items())
        except ContextOverflow:
            if forget is None or config.truncation == "disabled" or not forget(ratio):
                raise


async def _fitting(lease: Lease, config: SessionConfig, items: list[Item]) -> Prompt:
    model, processor = lease.model, lease.backend.processor
    messages, media = as_chat(items)
    if config.instructions:
        messages.insert(0, {"role": "system", "content": config.instructions})
    effort = None if config.reasoning is None else config.reasoning.effort
    chat = Chat(
        messages=tuple(messages),
        tools=tuple(_tool(tool) for tool in config.tools),
        tool_choice=_choice(config.tool_choice) if config.tools else "none",
        # Thinking aloud is heard by nobody and keeps the listener waiting, unless it is asked for.
        template_kwargs={"enable_thinking": effort not in (None, "none", "minimal")}
        | ({} if effort is None else {"reasoning_effort": effort}),
    )
    parser = processor.output_parser(chat)
    form = processor.tool_grammar(chat, parallel=config.parallel_tool_calls)
    changes: dict[str, Any] = {"skip_special_tokens": False} if parser.needs_special_tokens else {}
    if form is not None:
        changes["structured_outputs"] = form
    request = Request(
        id=_new_id(),
        parts=(chat, *media),
        sampling=sampling(config, model, processor, **changes),
        stage_sampling=config.stage_sampling,
        modalities=("text", "audio") if config.speaks and form is None else ("text",),
        live=config.speaks,
        voice=config.audio.output.speaker,
        model=model.name,
        context=model.context if config.max_output_tokens == "inf" else None,
    )
    prompt = Prompt(await lease.prepare(request), parser)
    if config.max_output_tokens == "inf" and prompt.tokens > model.context - model.context // _ROOM:
        raise ContextOverflow(
            f"The conversation has {prompt.tokens} tokens, and the model's context is {model.context} tokens, an "
            "answer included. Delete items, or let the session truncate them.",
            param="conversation",
        )
    return prompt


def _new_id() -> str:
    return f"resp-{uuid.uuid4().hex}"


def _tool(tool: Tool) -> dict[str, Any]:
    """As chats have it."""
    function: dict[str, Any] = {"name": tool.name, "parameters": tool.parameters or {"type": "object"}}
    if tool.description is not None:
        function["description"] = tool.description
    return {"type": "function", "function": function}


def _choice(choice: str | ToolChoice) -> str | dict[str, Any]:
    """As chats have it."""
    if isinstance(choice, ToolChoice):
        return {"type": "function", "function": {"name": choice.name}}
    return choice
