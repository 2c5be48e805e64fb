"""The items that clients create: from typed fields to items, their pictures fetched and looked at."""

from __future__ import annotations

import asyncio
from typing import TypeVar

from tutti.api.realtime.conversation import FIRST
from tutti.api.realtime.errors import Refusal
from tutti.api.realtime.fields import ContentFields, FunctionCallFields, ItemFields, MessageFields
from tutti.api.realtime.items import (
    FunctionCall,
    FunctionOutput,
    HeardPart,
    Item,
    Message,
    Part,
    PicturePart,
    TextPart,
)
from tutti.api.realtime.sound import Format, Sound
from tutti.errors import InvalidMedia
from tutti.media.fetch import FetchLimits, fetch
from tutti.media.image import read_image

T = TypeVar("T")

_CONTENT = {
    "system": ("input_text",),
    "user": ("input_text", "input_audio", "input_image"),
    "assistant": ("output_text", "text"),
}
_LONGEST_ID = 128


async def read_item(
    fields: ItemFields, format: Format, takes: frozenset[str], fetching: FetchLimits, at: str = "item"
) -> Item:
    """The item of these fields, which stand at `at` in the event.

    `format` is that of its sound; `takes` are the modalities that the model takes. Raises Refusal, InvalidMedia.
    """
    if fields.id is not None and (fields.id == FIRST or not 0 < len(fields.id) <= _LONGEST_ID):
        raise Refusal("invalid_value", f"an id has 1 to {_LONGEST_ID} characters", f"{at}.id")
    identity = {} if fields.id is None else {"id": fields.id}
    if isinstance(fields, FunctionCallFields):
        call = {} if fields.call_id is None else {"call_id": fields.call_id}
        return FunctionCall(fields.name, fields.arguments, **call, **identity)
    if not isinstance(fields, MessageFields):
        return FunctionOutput(fields.call_id, fields.output, **identity)
    parts: list[Part] = []
    for index, content in enumerate(fields.content):
        place = f"{at}.content[{index}]"
        if content.type not in _CONTENT[fields.role]:
            allowed = ", ".join(_CONTENT[fields.role])
            raise Refusal(
                "invalid_value",
                f"content of type {content.type!r} cannot be given for the {fields.role}: {allowed} can",
                f"{place}.type",
            )
        try:
            parts.append(await _read_part(content, format, takes, fetching, place))
        except InvalidMedia as error:
            error.param = error.param or place
            raise
    if not parts:
        raise Refusal("invalid_value", "a message must have content", f"{at}.content")
    return Message(fields.role, parts, **identity)


async def _read_part(
    content: ContentFields, format: Format, takes: frozenset[str], fetching: FetchLimits, place: str
) -> Part:
    modality = {"input_audio": "audio", "input_image": "image"}.get(content.type)
    if modality is not None and modality not in takes:
        raise Refusal("invalid_value", f"this model does not take {modality}", f"{place}.type")
    if modality == "audio":
        sound = Sound(format.decode(_given(content.audio, f"{place}.audio")), format.hertz)
        if not sound.pcm:
            raise Refusal("invalid_value", "the sound is empty", f"{place}.audio")
        return HeardPart(sound, content.transcript)
    if modality == "image":
        url = _given(content.image_url, f"{place}.image_url")
        data = await fetch(url, fetching)
        await asyncio.to_thread(read_image, data)  # what cannot be read is told now
        return PicturePart(data, url, content.detail or "auto")
    kind = "output_text" if content.type == "text" else content.type
    return TextPart(kind, _given(content.text, f"{place}.text"))


def _given(value: T | None, param: str) -> T:
    if value is None:
        raise Refusal("missing_required_parameter", f"The field '{param}' is missing.", param)
    return value
