"""One choice of a chat completion, from text to message: what the model's parser finds in it, as deltas or whole."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import UNSET

from tutti.api.openai import answers
from tutti.models.parsers.base import ContentDelta, Delta, OutputParser, ReasoningDelta


class MessageStream:
    """The deltas of one choice. Without a parser, all text is content."""

    def __init__(
        self, parser: OutputParser | None, *, parallel_calls: bool = True, show_reasoning: bool = True
    ) -> None:
        self.called = False  # whether a tool is called
        self._parser = parser
        self._parallel_calls = parallel_calls
        self._show_reasoning = show_reasoning

    def push(self, text: str) -> list[answers.Delta]:
        """What `text` adds to the message."""
        if self._parser is None:
            return [answers.Delta(content=text)] if text else []
        return self._deltas(self._parser.push(text)) if text else []

    def finish(self) -> list[answers.Delta]:
        """What was held back."""
        return [] if self._parser is None else self._deltas(self._parser.finish())

    def finish_reason(self, reason: str, named: bool) -> str:
        """OpenAI's word for how the choice ended: calls of the model's own choice are a reason of their own."""
        return "tool_calls" if reason == "stop" and self.called and not named else reason

    def _deltas(self, found: Iterable[Delta]) -> list[answers.Delta]:
        return [delta for piece in found if (delta := self._delta(piece)) is not None]

    def _delta(self, piece: Delta) -> answers.Delta | None:
        if isinstance(piece, ContentDelta):
            return answers.Delta(content=piece.text)
        if isinstance(piece, ReasoningDelta):
            if not self._show_reasoning:
                return None
            return answers.Delta(reasoning_content=piece.text, reasoning=piece.text)
        if piece.index > 0 and not self._parallel_calls:
            return None
        self.called = True
        if piece.name is None:
            call = answers.ToolCall(piece.index, function=answers.FunctionCall(arguments=piece.arguments))
        else:
            function = answers.FunctionCall(piece.name, piece.arguments)
            call = answers.ToolCall(piece.index, piece.id, "function", function)
        return answers.Delta(tool_calls=[call])


class MessageBuilder:
    """Joins deltas to a whole message."""

    def __init__(self) -> None:
        self._content: list[str] = []
        self._reasoning: list[str] = []
        self._calls: dict[int, tuple[answers.ToolCall, list[str]]] = {}

    def add(self, deltas: Iterable[answers.Delta]) -> None:
        """Take deltas in."""
        for delta in deltas:
            if isinstance(delta.content, str):
                self._content.append(delta.content)
            if isinstance(delta.reasoning_content, str):
                self._reasoning.append(delta.reasoning_content)
            for call in delta.tool_calls or ():
                self._add_call(call)

    def message(self, role: str) -> answers.Message:
        """The message so far. Its content is null where it only calls tools."""
        content = "".join(self._content)
        reasoning = "".join(self._reasoning) or UNSET
        calls = [self._call(call, pieces) for _, (call, pieces) in sorted(self._calls.items())]
        return answers.Message(
            role,
            content if content or not calls else None,
            reasoning_content=reasoning,
            reasoning=reasoning,
            tool_calls=calls or UNSET,
        )

    def _add_call(self, delta: answers.ToolCall) -> None:
        assert isinstance(delta.index, int) and isinstance(delta.function, answers.FunctionCall)
        _, pieces = self._calls.setdefault(delta.index, (delta, []))
        pieces.append(delta.function.arguments)

    def _call(self, first: answers.ToolCall, pieces: list[str]) -> answers.ToolCall:
        assert isinstance(first.function, answers.FunctionCall)
        function = answers.FunctionCall(first.function.name, "".join(pieces))
        return answers.ToolCall(id=first.id, type="function", function=function)
