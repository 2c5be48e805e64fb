"""OpenAI's messages in the form a chat template takes them.

Templates differ in what they accept as a message's content; `Accepts` says it of one template. Nothing here renders.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from tutti.errors import InvalidRequest

Message = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Accepts:
    """What a template takes: content as a string, as a list of parts, None for no content, the developer's role.

    `media` are the modalities that the model takes; `marks` is what stands in a text where one is, by modality, for
    templates that take text alone.
    """

    text: bool
    parts: bool
    none: bool
    developer: bool
    media: frozenset[str] = frozenset()
    marks: Mapping[str, str] = field(default_factory=dict)


# The types of content parts, OpenAI's and vLLM's, and what they hold.
MEDIA_PARTS = {
    "image": "image",
    "image_url": "image",
    "input_image": "image",
    "audio": "audio",
    "audio_url": "audio",
    "input_audio": "audio",
    "video": "video",
    "video_url": "video",
    "input_video": "video",
}


def normalize(messages: Sequence[Mapping[str, Any]], accepts: Accepts) -> list[Message]:
    """The messages for a template that `accepts` these forms, copied where changed.

    A medium becomes `{"type": "image"}` (or audio, video): where it stands; what it is follows the conversation in the
    request. Raises InvalidRequest naming the message that is not of OpenAI's form.
    """
    if not messages:
        raise InvalidRequest("messages must hold at least one message", param="messages")
    return [_message(message, accepts, f"messages[{index}]") for index, message in enumerate(messages)]


def said(modalities: Iterable[str]) -> str:
    """What a model of these modalities takes, in words: text always."""
    return ", ".join(("text", *sorted(modalities)))


def modality_of(part: Any) -> str | None:
    """The modality of a content part, None for text."""
    return MEDIA_PARTS.get(str(part.get("type"))) if isinstance(part, Mapping) else None


def _message(message: Mapping[str, Any], accepts: Accepts, place: str) -> Message:
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise InvalidRequest(f"{place} must be an object with a role", param=place)
    made = dict(message)
    if made["role"] == "developer" and not accepts.developer:
        made["role"] = "system"
    if "content" in made:
        made["content"] = _content(made["content"], accepts, f"{place}.content")
    if made.get("tool_calls"):
        made["tool_calls"] = [
            _tool_call(call, f"{place}.tool_calls[{index}]") for index, call in enumerate(made["tool_calls"])
        ]
    else:
        # OpenAI's clients send null back; templates ask `tool_calls is defined`.
        made.pop("tool_calls", None)
    if isinstance(made.get("reasoning"), str):
        made.setdefault("reasoning_content", made["reasoning"])
    return made


def _content(content: Any, accepts: Accepts, place: str) -> str | list[Message] | None:
    if content is None:
        return None if accepts.none else ""
    if isinstance(content, str):
        return content if accepts.text or not accepts.parts else [{"type": "text", "text": content}]
    if not isinstance(content, Sequence):
        raise InvalidRequest(f"{place} must be a string or a list of parts", param=place)
    parts = [_part(part, accepts, f"{place}[{index}]") for index, part in enumerate(content)]
    if accepts.parts:
        return parts
    if any(part["type"] != "text" and part["type"] not in accepts.marks for part in parts):
        raise InvalidRequest(
            f"{place} holds media, and this model's chat template has no place for them", param=place
        )
    return flat(parts, accepts.marks)


def flat(parts: Sequence[Message], marks: Mapping[str, str]) -> str:
    """The parts of a content as one text: texts below each other, media as their `marks`."""
    text, after_text = "", False
    for part in parts:
        is_text = part["type"] == "text"
        if is_text and after_text:
            text += "\n"
        text += part["text"] if is_text else marks[part["type"]]
        after_text = is_text
    return text


def _part(part: Any, accepts: Accepts, place: str) -> Message:
    if isinstance(part, str):
        return {"type": "text", "text": part}
    kind = part.get("type", "text") if isinstance(part, Mapping) else type(part).__name__
    modality = modality_of(part)
    if modality in accepts.media:
        return {"type": modality}
    if kind not in ("text", "input_text", "output_text", "refusal"):
        takes = said(accepts.media)
        raise InvalidRequest(
            f"{place}: a part of type {kind!r} was sent, and this model takes {takes} only", param=place
        )
    text = part.get("refusal" if kind == "refusal" else "text")
    if not isinstance(text, str):
        raise InvalidRequest(f"{place} must have a text", param=place)
    return {"type": "text", "text": text}


def _tool_call(call: Any, place: str) -> Message:
    """A tool call with its arguments as an object: OpenAI's wire form is JSON text, templates want the value."""
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InvalidRequest(f"{place} must have a function with a name", param=place)
    return {**call, "function": {**function, "arguments": parse_arguments(function.get("arguments"))}}


def parse_arguments(arguments: Any) -> Any:
    """The value of a call's arguments; text that is not JSON stays as the model wrote it."""
    if not isinstance(arguments, str):
        return {} if arguments is None else arguments
    if not arguments.strip():
        return {}
    try:
        return json.loads(arguments)
    except ValueError:
        return arguments
