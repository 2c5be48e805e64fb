"""Chat templates: a conversation to the text of a prompt, as transformers' `apply_chat_template` renders it.

Owns where templates are found, which one a conversation takes, and how failures in them are told. The messages'
forms are in `messages`, the Jinja environment in `sandbox`; templates of Ollama's, which stand in the place of a
checkpoint's own where a model of the store has one, are in `ollama`.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tutti.errors import CheckpointError, ConfigError, InvalidRequest
from tutti.models.processor.files import read_json, read_text
from tutti.models.processor.messages import Accepts, Message, normalize
from tutti.models.processor.ollama import OllamaTemplate
from tutti.models.processor.tools import with_tools
from tutti.request import Chat

if TYPE_CHECKING:
    import jinja2

_PROBE, _BEHIND = "tutti-probe", "tutti-behind"
_CUT = "TUTTI_CONTINUES_HERE "  # the trailing space tells whether the template trims what it is given
_NO_MARKS: Mapping[str, str] = {}
_KEPT = 16  # templates of callers that stay compiled


class ChatTemplate:
    """One template. Raises InvalidRequest when `source` is not Jinja."""

    writes_begin = True  # the token with which a text begins is the template's to write
    inserts = False

    def __init__(
        self,
        source: str,
        special_tokens: Mapping[str, str],
        media: frozenset[str] = frozenset(),
        marks: Mapping[str, str] = _NO_MARKS,
    ) -> None:
        """`media` are the modalities that the model takes besides text, `marks` what stands in a text for them."""
        from tutti.models.processor import sandbox  # imports Jinja: 0.1 s, at the first template

        self.source = source
        self._media = media
        self._marks = marks
        self._special_tokens = special_tokens
        try:
            self._compiled: jinja2.Template = sandbox.environment().from_string(source)
            self.variables = sandbox.undeclared(source)
            self._tests_none = sandbox.tests_none(source)
        except sandbox.TemplateError as error:
            raise InvalidRequest(
                f"the chat template is not valid Jinja: {error}", param="chat_template"
            ) from error

    @property
    def knows_tools(self) -> bool:
        """Whether the template itself presents tools."""
        return "tools" in self.variables

    @cached_property
    def accepts(self) -> Accepts:
        """The forms of content the template renders, found by rendering each once."""
        text = self._probe([{"role": "user", "content": _PROBE}])
        parts = self._probe([{"role": "user", "content": [{"type": "text", "text": _PROBE}]}])
        return Accepts(
            text=_PROBE in text,
            # A template that expects a string prints the list as Python writes it, with its keys.
            parts=_PROBE in parts and "'type'" not in parts and '"type"' not in parts,
            none=self._tests_none,
            developer="developer" in self.source,
            media=self._media,
            marks=self._marks,
        )

    @cached_property
    def takes_system(self) -> bool:
        """Whether the template renders a system message."""
        opening = {"role": "system", "content": _PROBE}
        return _PROBE in self._probe(normalize([opening, {"role": "user", "content": "x"}], self.accepts))

    def placeholder(self, modality: str) -> str | None:
        """What the template writes where a medium is; None where it takes none."""
        parts = [{"type": "text", "text": _PROBE}, {"type": modality}, {"type": "text", "text": _BEHIND}]
        text = self._probe([{"role": "user", "content": parts}]) if self.accepts.parts else ""
        _, found, after = text.partition(_PROBE)
        return after.partition(_BEHIND)[0].strip() if found and _BEHIND in after else None

    def render(self, chat: Chat) -> str:
        """The prompt of `chat`. Raises InvalidRequest with the template's own words when it refuses."""
        messages = normalize(chat.messages, self.accepts)
        tools = [] if chat.tool_choice == "none" else list(chat.tools)
        if not self.knows_tools:
            messages = with_tools(messages, tools, system_role=self.takes_system)
        if not chat.continue_final_message:
            return self._render(messages, chat, tools)
        if chat.add_generation_prompt:
            raise InvalidRequest(
                "continue_final_message continues the last message and add_generation_prompt starts a new one: "
                "set add_generation_prompt to false",
                param="continue_final_message",
            )
        final = marked(messages[-1])
        return cut(self._render([*messages[:-1], final], chat, tools))

    def _render(self, messages: list[Message], chat: Chat, tools: list[dict[str, Any]]) -> str:
        variables = {"documents": None} | dict(self._special_tokens) | chat.template_kwargs
        variables |= {"messages": messages, "tools": tools or None}
        variables["add_generation_prompt"] = chat.add_generation_prompt
        return self._run(variables)

    def _run(self, variables: dict[str, Any]) -> str:
        from tutti.models.processor import sandbox

        try:
            return self._compiled.render(variables)
        except sandbox.RaisedByTemplate as error:
            raise InvalidRequest(
                f"the chat template refused the messages: {error}", param="messages"
            ) from error
        except Exception as error:
            raise InvalidRequest(
                f"the chat template failed on these messages: {type(error).__name__}: {error}",
                param="messages",
            ) from error

    def _probe(self, messages: list[Message]) -> str:
        """What the template makes of `messages`, or "" when it refuses them."""
        try:
            return self._render(messages, Chat(messages=(), add_generation_prompt=False), [])
        except InvalidRequest:
            return ""


Template = ChatTemplate | OllamaTemplate


class ChatTemplates:
    """The templates of one model by name; `named` is empty for a model that has none (a base model)."""

    def __init__(
        self,
        sources: Mapping[str, str],
        special_tokens: Mapping[str, str],
        media: frozenset[str] = frozenset(),
        ollama: str | None = None,
        marks: Mapping[str, str] = _NO_MARKS,
    ) -> None:
        """`ollama`, a Go template, stands in the place of `sources`; `marks` stand in texts for media.

        Raises InvalidRequest.
        """
        self._special_tokens = special_tokens
        self._media = media
        self._marks = marks
        jinja = {name: ChatTemplate(source, special_tokens, media, marks) for name, source in sources.items()}
        self._placeholders = partial(_placeholders, jinja.get("default"), media, marks)
        self.ollama = None if ollama is None else OllamaTemplate(ollama, self._placeholders())
        self.named: Mapping[str, Template] = jinja if self.ollama is None else {"default": self.ollama}
        self._given: dict[tuple[bool, str], Template] = {}

    @property
    def source(self) -> str:
        """The text of the template that a conversation with tools takes, or "" without any."""
        template = self.named.get("tool_use") or self.named.get("default")
        return template.source if template else ""

    @property
    def knows_tools(self) -> bool:
        """Whether the template that a conversation with tools takes presents them itself."""
        template = self.named.get("tool_use") or self.named.get("default")
        return template is not None and template.knows_tools

    @property
    def inserts(self) -> bool:
        """Whether the model's template has a text written between two others."""
        return self.ollama is not None and self.ollama.inserts

    def choose(self, chat: Chat) -> Template:
        """The template for `chat`: its own (Go's, a name, Jinja text), else the model's. Raises InvalidRequest."""
        if chat.go_template is not None:
            return self.go(chat.go_template)
        if chat.template is not None:
            return self.named.get(chat.template) or self._kept(False, chat.template)
        if chat.tools and chat.tool_choice != "none" and "tool_use" in self.named:
            return self.named["tool_use"]
        if "default" in self.named:
            return self.named["default"]
        if self.named:
            raise InvalidRequest(
                f"this model has no default chat template; name one of {', '.join(sorted(self.named))}",
                param="chat_template",
            )
        raise InvalidRequest(
            "this model has no chat template (it may be a base model). Serve it with --chat-template FILE, send "
            "chat_template with the request, or use /v1/completions",
            param="messages",
        )

    def render(self, chat: Chat) -> str:
        """The prompt of `chat`. Raises InvalidRequest."""
        return self.choose(chat).render(chat)

    def go(self, source: str) -> OllamaTemplate:
        """A caller's template of Ollama's. Raises InvalidRequest."""
        template = self._kept(True, source)
        assert isinstance(template, OllamaTemplate)
        return template

    def _kept(self, go: bool, source: str) -> Template:
        template = self._given.pop((go, source), None)
        if template is None and go:
            template = OllamaTemplate(source, self._placeholders())
        elif template is None:
            template = ChatTemplate(source, self._special_tokens, self._media, self._marks)
        self._given[go, source] = template  # the last used is the last dropped
        while len(self._given) > _KEPT:
            del self._given[next(iter(self._given))]
        return template


def load_templates(
    folder: Path,
    given: str | None,
    special_tokens: Mapping[str, str],
    media: frozenset[str] = frozenset(),
    ollama: str | None = None,
    marks: Mapping[str, str] = _NO_MARKS,
) -> ChatTemplates:
    """The templates of the checkpoint in `folder`, or the one `given` (a file's path, or Jinja text).

    `ollama`, the TEMPLATE of a model of the store, counts before the checkpoint's. `marks` are what stands for media,
    by modality, in the prompts of templates that have no word for them. Raises ConfigError when `given`
    cannot be used, CheckpointError when a template of the checkpoint or of the store is broken.
    """
    sources = _sources(folder) if given is None else {"default": _read_given(given)}
    try:
        return ChatTemplates(sources, special_tokens, media, ollama if given is None else None, marks)
    except InvalidRequest as error:
        if given is not None:
            raise ConfigError(f"--chat-template: {error.message}", param="chat_template") from error
        raise CheckpointError(f"{folder}: {error.message}; override it with --chat-template") from error


def _placeholders(
    template: ChatTemplate | None, media: frozenset[str], marks: Mapping[str, str]
) -> dict[str, str]:
    """What the checkpoint's own template writes for each medium, else its mark: a template of Ollama's has no word."""
    found = {} if template is None else {modality: template.placeholder(modality) for modality in media}
    return dict(marks) | {modality: text for modality, text in found.items() if text}


def _read_given(given: str) -> str:
    if any(sign in given for sign in "{}\n"):
        return given
    source = read_text(Path(given).expanduser())
    if source is None:
        raise ConfigError(f"--chat-template: there is no file {given}", param="chat_template")
    return source


def _sources(folder: Path) -> dict[str, str]:
    """The templates a folder holds, by name: files of their own, else the tokenizer's, else the older processor's."""
    sources = {}
    extra = folder / "additional_chat_templates"
    files = {
        "default": folder / "chat_template.jinja",
        **{path.stem: path for path in sorted(extra.glob("*.jinja"))},
    }
    for name, path in files.items():
        source = read_text(path)
        if source is not None:
            sources[name] = source
    if sources:
        return sources
    for name in ("tokenizer_config.json", "chat_template.json"):
        found = read_json(folder / name).get("chat_template")
        if isinstance(found, str):
            return {"default": found}
        if isinstance(found, list):
            return {entry["name"]: entry["template"] for entry in found}
        if isinstance(found, dict):
            return found
    return {}


def marked(message: Message) -> Message:
    """The final message with a mark behind its text, where the prompt will be cut."""
    content = message.get("content")
    if isinstance(content, list) and content:
        last = content[-1]
        return {**message, "content": [*content[:-1], {**last, "text": last["text"] + _CUT}]}
    if not isinstance(content, str):
        raise InvalidRequest("continue_final_message: the final message has no content", param="messages")
    return {**message, "content": content + _CUT}


def cut(rendered: str) -> str:
    """The prompt up to the mark. Raises InvalidRequest where the template left it out."""
    place = rendered.rfind(_CUT.strip())
    if place < 0:
        raise InvalidRequest(
            "continue_final_message: the chat template leaves the final message out",
            param="continue_final_message",
        )
    kept = rendered[:place]
    return kept if rendered.startswith(_CUT, place) else kept.rstrip()
