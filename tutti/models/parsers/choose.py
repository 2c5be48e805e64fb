"""Which parsers read a model's answers: by name, else by what its chat template and vocabulary show.

The names are vLLM's. To add a syntax: a file for its parser, and an entry here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from tutti.errors import ConfigError, InvalidRequest
from tutti.models.parsers import grammar
from tutti.models.parsers.base import OutputParser
from tutti.models.parsers.compose import ComposedParser
from tutti.models.parsers.harmony import HarmonyParser
from tutti.models.parsers.hermes import HermesParser
from tutti.models.parsers.llama3_json import Llama3JsonParser
from tutti.models.parsers.mistral import ARGS, CALLS, MistralParser, new_mistral_id
from tutti.models.parsers.plain import PlainParser
from tutti.models.parsers.tagged_json import TaggedJsonParser
from tutti.models.parsers.thinking import (
    CLOSE,
    OPEN,
    ThinkingParser,
    inside_thinking,
    unfinished_thought,
)
from tutti.request import Chat, StructuredOutputs

NONE = "none"
TOOL_PARSERS = {
    "hermes": "hermes",
    "llama3_json": "llama3_json",
    "llama4_json": "llama3_json",
    "json": "json",
    "mistral": "mistral",
    "openai": "harmony",
    "harmony": "harmony",
    NONE: NONE,
}
REASONING_PARSERS = {
    "deepseek_r1": "thinking",
    "qwen3": "thinking",
    "thinking": "thinking",
    "openai_gptoss": "harmony",
    "openai": "harmony",
    "harmony": "harmony",
    NONE: NONE,
}


@dataclass(frozen=True, slots=True)
class TemplateTraits:
    """What a template of Ollama's says of answers: whether they hold thoughts, and what tool calls begin with.

    `call_tag` is "" where that is the call's JSON, None where the template knows of no tools.
    """

    thinks: bool
    call_tag: str | None


@dataclass(frozen=True, slots=True)
class ParserChoice:
    """The parsers of one model. `special_tokens` are the tokens that decoding skips unless told not to.

    `call_tag` is what stands before calls that only the template tells of ("json").
    """

    tool: str
    reasoning: str
    special_tokens: frozenset[str] = frozenset()
    template: str = ""
    call_tag: str = ""

    @property
    def reads_prompt(self) -> bool:
        """Whether `output_parser` must know the prompt: it may end inside a thought."""
        return self.reasoning == "thinking"

    def output_parser(self, chat: Chat, prompt: str) -> OutputParser:
        """The parser for the answer to `chat`, rendered as `prompt`. Tools are read only where some are offered."""
        tools = bool(chat.tools) and chat.tool_choice != NONE
        if "harmony" in (self.tool, self.reasoning):
            return HarmonyParser(
                tools and self.tool == "harmony", needs_special_tokens=self._special(HarmonyParser.marks)
            )
        reader = self._tool_parser(chat) if tools else PlainParser()
        if self.reasoning != "thinking" or _thought_is_over(prompt):
            return reader
        special = self._special(ThinkingParser.marks)
        thinking = ThinkingParser(_thinks_already(chat, prompt), needs_special_tokens=special)
        return ComposedParser(thinking, reader)

    def tool_grammar(self, chat: Chat, prompt: str, *, parallel: bool = True) -> StructuredOutputs | None:
        """The form of an answer that calls a tool as `chat.tool_choice` demands, or None. Raises InvalidRequest."""
        functions = grammar.wanted_tools(chat)
        if not functions:
            return None
        if self.tool == NONE:
            raise InvalidRequest(
                "tool_choice demands a call, and this model is served with --tool-call-parser none",
                param="tool_choice",
            )
        several = parallel and not isinstance(chat.tool_choice, dict)
        if self.tool == "harmony":
            return grammar.structural_tag(grammar.harmony_calls(functions, several))
        if self.tool == "llama3_json":
            calls = grammar.llama3_calls(functions, several)
        elif self.tool == "json":
            calls = grammar.tagged_calls(functions, self.call_tag, several)
        elif self.tool == "mistral":
            calls = self._mistral_form()(functions, several)
        else:
            calls = grammar.hermes_calls(functions, several)
        if self.reasoning == "thinking" and not _thought_is_over(prompt):
            calls = grammar.after_thought(calls, _thinks_already(chat, prompt))
        return grammar.structural_tag(calls)

    def thoughtful(self, form: StructuredOutputs, chat: Chat, prompt: str) -> StructuredOutputs:
        """`form`, a JSON schema or any JSON object, behind a thought. Raises InvalidRequest where none can be told."""
        if self.reasoning != "thinking":
            raise InvalidRequest(
                "this model's thoughts cannot come before an answer of a given form: leave one of the two out",
                param="think",
            )
        if _thought_is_over(prompt):
            return form
        inside = _thinks_already(chat, prompt)
        return grammar.structural_tag(grammar.after_thought(grammar.json_answer(form), inside))

    def _tool_parser(self, chat: Chat) -> OutputParser:
        if self.tool == "llama3_json":
            special = self._special(Llama3JsonParser.marks)
            return Llama3JsonParser(_names(chat), needs_special_tokens=special)
        if self.tool == "mistral":
            return MistralParser(new_mistral_id, needs_special_tokens=self._special(MistralParser.marks))
        if self.tool == "json":
            return TaggedJsonParser(_names(chat), self.call_tag, self.special_tokens)
        if self.tool == "hermes":
            return HermesParser(needs_special_tokens=self._special(HermesParser.marks))
        return PlainParser()

    def _special(self, marks: Collection[str]) -> bool:
        return not self.special_tokens.isdisjoint(marks)

    def _mistral_form(self) -> Callable[..., grammar.Format]:
        if ARGS in self.template:
            return grammar.mistral_args_calls
        listed = f"{CALLS}[" in self.template.replace(" ", "") or not self.template
        return grammar.mistral_list_calls if listed else grammar.mistral_named_calls


def choose_parsers(
    template: str,
    *,
    special_tokens: frozenset[str] = frozenset(),
    known_tokens: Callable[[str], bool] = lambda name: False,
    traits: TemplateTraits | None = None,
    tool: str | None = None,
    reasoning: str | None = None,
) -> ParserChoice:
    """The parsers for a model with this chat template; `known_tokens` says whether its vocabulary has a token.

    `traits` are those of a template of Ollama's: it says itself whether there are thoughts, and a syntax of calls that
    no parser is made for is read as JSON behind its tag. Raises ConfigError on a name that is not known, with those
    that are.
    """
    seen_tool, seen_reasoning = _recognize(template, known_tokens)
    if traits is not None and "harmony" not in (seen_tool, seen_reasoning):
        seen_reasoning = "thinking" if traits.thinks else NONE
        if seen_tool == "hermes" and traits.call_tag not in (None, HermesParser.marks[0]):
            seen_tool = "json"
    return ParserChoice(
        tool=seen_tool if tool is None else _named(tool, TOOL_PARSERS, "--tool-call-parser"),
        reasoning=seen_reasoning
        if reasoning is None
        else _named(reasoning, REASONING_PARSERS, "--reasoning-parser"),
        special_tokens=special_tokens,
        template=template,
        call_tag=(traits and traits.call_tag) or "",
    )


def _named(name: str, names: dict[str, str], flag: str) -> str:
    if name not in names:
        raise ConfigError(
            f"{flag}: {name!r} is not known; choose one of {', '.join(sorted(names))}", param=flag
        )
    return names[name]


def _recognize(template: str, known: Callable[[str], bool]) -> tuple[str, str]:
    """Tool and reasoning parser by the marks that template or vocabulary have.

    A template without tools is given them in the Hermes form, so that is the one to expect where nothing else shows.
    """
    if "<|channel|>" in template and "<|message|>" in template:
        return "harmony", "harmony"
    if CALLS in template:
        tool = "mistral"
    elif "<tool_call>" not in template and (
        "<|python_tag|>" in template or "Environment: ipython" in template
    ):
        tool = "llama3_json"
    else:
        tool = "hermes"
    thinks = OPEN in template or CLOSE in template or (known(OPEN) and known(CLOSE))
    return tool, "thinking" if thinks else NONE


def _thinks_already(chat: Chat, prompt: str) -> bool:
    """Whether the answer starts inside a thought."""
    content = chat.messages[-1].get("content") if chat.continue_final_message and chat.messages else None
    return unfinished_thought(content) if isinstance(content, str) else inside_thinking(prompt)


def _thought_is_over(prompt: str) -> bool:
    """Whether the prompt itself closed the thought of this answer, as templates do to switch thinking off."""
    return prompt.rstrip().endswith(CLOSE)


def _names(chat: Chat) -> frozenset[str]:
    functions = (tool.get("function") for tool in chat.tools)
    return frozenset(
        function["name"] for function in functions if isinstance(function, dict) and "name" in function
    )
