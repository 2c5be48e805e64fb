"""Prompts by Ollama's templates: conversations and insertions in the form that a Go template takes them.

What a template sees, how messages are collated, and how a template older than `.Messages` is run turn by turn follow
Ollama's own description and code (docs/template.md, template/template.go); running it is `gotemplate`'s matter.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

from tutti.errors import InvalidRequest
from tutti.models.parsers.choose import TemplateTraits
from tutti.models.processor.gotemplate.values import Names, Record, Records
from tutti.models.processor.messages import Accepts, Message, flat, normalize
from tutti.models.processor.tools import with_tools
from tutti.request import Chat, Insertion

if TYPE_CHECKING:
    from tutti.models.processor.gotemplate.syntax import Syntax

_STEPS, _STEPS_EACH = 100_000, 2_000  # of a run, and more for every message and tool
_SIGNS, _SIGNS_EACH = 1_000_000, 8  # that a run may make, and more for every sign of the conversation

_TYPESCRIPT = {
    "string": "string",
    "number": "number",
    "integer": "number",
    "boolean": "boolean",
    "array": "any[]",
    "object": "Record<string, any>",
    "null": "null",
}


@dataclass(frozen=True, slots=True)
class _Turn:
    """A message as it is rendered; `fields` are those of Ollama's template messages."""

    role: str
    content: str
    fields: Mapping[str, Any]


class OllamaTemplate:
    """A template of Ollama's. Raises InvalidRequest when `source` is none."""

    writes_begin = False  # the tokenizer puts the token before the prompt with which a text begins

    def __init__(self, source: str, placeholders: Mapping[str, str] | None = None) -> None:
        """`placeholders` are what stands in a prompt where a medium is, by modality."""
        from tutti.models.processor.gotemplate.syntax import TemplateError, parse

        self.source = source
        self._placeholders = dict(placeholders or {})
        try:
            self.syntax = parse(source)
        except TemplateError as error:
            raise InvalidRequest(f"the template is not valid: {error}", param="template") from error

    @property
    def knows_tools(self) -> bool:
        """Whether it presents tools."""
        return "tools" in self.syntax.variables

    @property
    def inserts(self) -> bool:
        """Whether it has a text written between two others."""
        return "suffix" in self.syntax.variables

    @cached_property
    def thinks(self) -> bool:
        """Whether it speaks of thoughts."""
        return not self.syntax.variables.isdisjoint(("thinking", "think"))

    @property
    def traits(self) -> TemplateTraits:
        """What the parsers of answers must know of it."""
        return TemplateTraits(self.thinks, self.syntax.call_tag if self.knows_tools else None)

    def render(self, chat: Chat) -> str:
        """The prompt of `chat`. Raises InvalidRequest in the template's words when it cannot be run."""
        from tutti.models.processor.template import cut, marked

        media = frozenset(self._placeholders)
        messages = normalize(chat.messages, Accepts(True, bool(media), False, False, media))
        tools = [] if chat.tool_choice == "none" else list(chat.tools)
        if not self.knows_tools:
            messages = with_tools(messages, tools, system_role="system" in self.syntax.variables)
        if chat.continue_final_message:
            messages = [*messages[:-1], marked(messages[-1])]
        turns = _collated([self._turn(message, messages) for message in messages])
        text = self._whole(turns, tools, _thinking(chat, self.thinks))
        return cut(text) if chat.continue_final_message else text

    def insert(self, part: Insertion) -> str:
        """The prompt that has the text between `part.prefix` and `part.suffix` written."""
        values = {"Prompt": part.prefix, "Suffix": part.suffix, "Response": "", "Think": False}
        return self._run(self.syntax, values | {"ThinkLevel": "", "IsThinkSet": False}, 1)

    def _turn(self, message: Message, messages: Sequence[Message]) -> _Turn:
        content = _flat(message.get("content"), self._placeholders)
        calls = [_call(call, number) for number, call in enumerate(message.get("tool_calls") or ())]
        name, call_id = message.get("name"), message.get("tool_call_id")
        if message["role"] == "tool" and not name:
            name = _called(messages, call_id)
        fields = {
            "Thinking": str(message.get("reasoning_content") or ""),
            "Images": [],
            "ToolCalls": calls,
            "ToolName": name or "",
            "ToolCallID": call_id or "",
        }
        return _Turn(message["role"].lower(), content, fields)

    def _whole(self, turns: Sequence[_Turn], tools: Sequence[Any], thinking: Mapping[str, Any]) -> str:
        if "messages" not in self.syntax.variables:
            return self._turn_by_turn(turns, thinking)
        messages = [
            Record("message", {"Role": turn.role, "Content": turn.content, **turn.fields}) for turn in turns
        ]
        values = {"System": _system(turns), "Messages": messages, "Response": "", **thinking}
        values["Tools"] = Records([_tool(tool) for tool in tools]) if tools else None
        return self._run(self.syntax, values, len(turns) + len(tools))

    def _turn_by_turn(self, turns: Sequence[_Turn], thinking: Mapping[str, Any]) -> str:
        """The text of a template that knows one system text, one prompt and one response: each round, joined."""
        rounds = list(_rounds(turns))
        texts = []
        for number, values in enumerate(rounds, 1):
            last = number == len(rounds)
            texts.append(
                self._run(self.syntax.before_answer if last else self.syntax, {**values, **thinking}, 1)
            )
        return "".join(texts)

    def _run(self, syntax: Syntax, values: Mapping[str, Any], things: int) -> str:
        from tutti.models.processor.gotemplate.execute import Budget, TemplateFault, execute

        signs = _SIGNS + _SIGNS_EACH * _signs(values)
        budget = Budget(_STEPS + _STEPS_EACH * things + signs // 100, signs)
        try:
            return execute(syntax, values, budget)
        except TemplateFault as error:
            raise InvalidRequest(f"the model's template failed: {error}", param="messages") from error


def _collated(turns: Sequence[_Turn]) -> list[_Turn]:
    """Turns of the same role in a row as one, but for those of tools."""
    made: list[_Turn] = []
    for turn in turns:
        if made and made[-1].role == turn.role != "tool":
            before = made[-1]
            calls = [*before.fields["ToolCalls"], *turn.fields["ToolCalls"]]
            fields = {**before.fields, "ToolCalls": calls}
            made[-1] = _Turn(turn.role, f"{before.content}\n\n{turn.content}", fields)
        else:
            made.append(turn)
    return made


def _system(turns: Sequence[_Turn]) -> str:
    return "\n\n".join(turn.content for turn in turns if turn.role == "system")


def _rounds(turns: Sequence[_Turn]) -> Iterator[dict[str, str]]:
    """What a template sees of each round, the last one unanswered or with the beginning of its answer."""
    values = {"System": "", "Prompt": "", "Response": ""}
    for turn in turns:
        name = {"system": "System", "user": "Prompt", "assistant": "Response"}.get(turn.role)
        if name is None:
            continue  # such templates know no results of tools
        if (name == "System" and (values["Prompt"] or values["Response"])) or (
            name == "Prompt" and values["Response"]
        ):
            yield values
            values = {"System": "", "Prompt": "", "Response": ""}
        values = {**values, name: turn.content}
    yield values


def _thinking(chat: Chat, able: bool) -> dict[str, Any]:
    """What a template sees of thinking: a model that can thinks unless it is told not to."""
    wanted = chat.template_kwargs.get("enable_thinking", True if able else None)
    effort = chat.template_kwargs.get("reasoning_effort")
    level = effort if isinstance(effort, str) else "medium"
    return {"Think": bool(wanted), "ThinkLevel": level if wanted else "", "IsThinkSet": wanted is not None}


def _flat(content: Any, placeholders: Mapping[str, str]) -> str:
    """A message's content as one text, media as their placeholders."""
    return flat(content, placeholders) if isinstance(content, list) else content or ""


def _called(messages: Sequence[Message], call_id: Any) -> str:
    """The name of the function whose call had this id."""
    for message in messages:
        for call in message.get("tool_calls") or ():
            if call_id is not None and call.get("id") == call_id:
                return str(call["function"]["name"])
    return ""


def _call(call: Mapping[str, Any], number: int) -> Record:
    function = call["function"]
    arguments = function.get("arguments")
    fields = {
        "Index": number,
        "Name": function["name"],
        "Arguments": _sorted(arguments) if isinstance(arguments, Mapping) else {},
    }
    return Record("call", {"ID": call.get("id") or "", "Function": Record("function call", fields)})


def _sorted(value: Any) -> Any:
    """JSON values with keys in order, as Go writes maps."""
    if isinstance(value, Mapping):
        return {key: _sorted(value[key]) for key in sorted(value)}
    return [_sorted(one) for one in value] if isinstance(value, list | tuple) else value


def _tool(tool: Any) -> Record:
    """A tool's definition with its fields in the order in which Ollama writes them; others follow."""
    tool = tool if isinstance(tool, Mapping) else {}
    function = tool.get("function")
    function = _function(function if isinstance(function, Mapping) else {})
    fields = {"Type": tool.get("type") or "function", "Items": tool.get("items"), "Function": function}
    known = {"type": fields["Type"], "items": fields["Items"], "function": function.plain}
    return Record("tool", fields, _with_rest(known, tool))


def _function(function: Mapping[str, Any]) -> Record:
    given = function.get("parameters")
    parameters = _parameters(given if isinstance(given, Mapping) else {})
    name, description = function.get("name") or "", function.get("description") or ""
    fields = {"Name": name, "Description": description, "Parameters": parameters}
    known = {"name": name, "description": description, "parameters": parameters.plain}
    return Record("function", fields, _with_rest(known, function))


def _parameters(schema: Mapping[str, Any]) -> Record:
    properties = dict(sorted(_properties(schema.get("properties")).items()))
    known = {
        "type": schema.get("type") or "object",
        "$defs": _sorted(schema.get("$defs")),
        "items": _sorted(schema.get("items")),
        "required": schema.get("required") or None,
        "properties": {name: one.plain for name, one in properties.items()},
    }
    fields = {
        "Type": known["type"],
        "Defs": known["$defs"],
        "Items": known["items"],
        "Required": list(known["required"] or []),
        "Properties": properties,
    }
    return Record("schema", fields, _with_rest(known, schema))


def _properties(given: Any) -> dict[str, Record]:
    if not isinstance(given, Mapping):
        return {}
    return {name: _property(schema) for name, schema in given.items() if isinstance(schema, Mapping)}


def _property(schema: Mapping[str, Any]) -> Record:
    kinds = schema.get("type")
    types = Names([kinds] if isinstance(kinds, str) else kinds if isinstance(kinds, list) else [])
    any_of = [_property(one) for one in schema.get("anyOf") or () if isinstance(one, Mapping)]
    inner = _properties(schema.get("properties"))
    fields = {
        "AnyOf": any_of,
        "Type": types,
        "Items": _sorted(schema.get("items")),
        "Description": schema.get("description") or "",
        "Enum": list(schema.get("enum") or ()),
        "Properties": inner,
        "Required": list(schema.get("required") or ()),
        "ToTypeScriptType": _typescript(types, any_of),
    }
    known = {
        "anyOf": [one.plain for one in any_of] or None,
        "type": types or None,
        "items": fields["Items"],
        "description": fields["Description"] or None,
        "enum": fields["Enum"] or None,
        "properties": {name: one.plain for name, one in inner.items()} or None,
        "required": fields["Required"] or None,
    }
    return Record("property", fields, _with_rest(known, schema))


def _typescript(types: Sequence[str], any_of: Sequence[Record]) -> str:
    if any_of:
        return " | ".join(one.fields["ToTypeScriptType"] for one in any_of)
    return " | ".join(_TYPESCRIPT.get(kind, "any") for kind in types) or "any"


def _with_rest(known: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
    """The fields that Ollama knows, those without a value left out, then what else the caller said."""
    made = {key: value for key, value in known.items() if value is not None}
    return made | {key: _sorted(value) for key, value in given.items() if key not in known}


def _signs(value: Any) -> int:
    """How many signs there are in a value."""
    if isinstance(value, str):
        return len(value)
    if isinstance(value, Record):
        return _signs(value.fields)
    if isinstance(value, Mapping):
        return sum(len(str(key)) + _signs(one) for key, one in value.items())
    return sum(map(_signs, value)) if isinstance(value, list) else 1
