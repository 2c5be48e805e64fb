"""How an answer is asked for and read, the same for every door: thinking, parsers, calls that must come."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from tutti.models.parsers.base import OutputParser
from tutti.request import Chat, StructuredOutputs

if TYPE_CHECKING:
    from tutti.models.processor import Processor


@dataclass(frozen=True, slots=True)
class Reading:
    """How the answers to a conversation are read.

    `parsers` has one for each output, None where all of the text is content; `form` is what the text must be;
    `changes` are the sampling parameters that reading it needs.
    """

    parsers: list[OutputParser | None]
    form: StructuredOutputs | None
    changes: dict[str, Any] = field(default_factory=dict)


def reading(
    processor: Processor,
    chat: Chat,
    form: StructuredOutputs | None,
    *,
    parallel: bool,
    outputs: int = 1,
) -> Reading:
    """The reading of `outputs` answers to `chat`, in the `form` that the caller asks for, if any.

    An answer of a form the caller gave is content, all of it. Without `parallel`, a call that must come is one. Raises
    InvalidRequest.
    """
    if form is not None:
        return Reading([None] * outputs, form)
    parsers: list[OutputParser | None] = [processor.output_parser(chat) for _ in range(outputs)]
    if chat.tool_choice not in ("auto", "none"):
        form = processor.tool_grammar(chat, parallel=parallel)
    special = any(parser.needs_special_tokens for parser in parsers if parser is not None)
    return Reading(parsers, form, {"skip_special_tokens": False} if special else {})


def thinking(effort: str | None, constrained: bool) -> dict[str, Any]:
    """What chat templates are told of thinking. A form the caller asks for leaves no room for thinking aloud."""
    variables: dict[str, Any] = {}
    if effort is not None:
        variables["reasoning_effort"] = effort
        variables["enable_thinking"] = effort != "none"
    if constrained:
        variables["enable_thinking"] = False
    return variables
