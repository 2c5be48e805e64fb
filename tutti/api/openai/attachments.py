"""The media of a conversation: content parts that are URLs or base64, brought here before the request goes on.

What a part looks like is OpenAI's (`image_url`, `input_audio`) and vLLM's (`audio_url`, `video_url`); what the bytes
mean is the model's. A conversation of text passes through untouched.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tutti.errors import FetchError, InvalidRequest
from tutti.media.fetch import FetchLimits, fetch
from tutti.models.processor.messages import Message, modality_of, said
from tutti.request import Media
from tutti.settings import format_size

_AT_ONCE = 8  # fetches of a request under way


async def gather(
    messages: Sequence[Message],
    takes: frozenset[str],
    limits: FetchLimits,
    *,
    soundtracks: bool = False,
    names: Mapping[tuple[int, int], str] | None = None,
) -> tuple[list[Message], list[Media]]:
    """The messages, each medium in them only marked (`{"type": "image"}`), and the media, in the order of the marks.

    `takes` are the modalities that the model takes; with `soundtracks`, videos are heard, too. Fetched a few at a time;
    the first failure ends the others. Raises InvalidRequest, FetchError: both name the part, as `names` has it for
    (message, part), where the caller wrote something else than these messages, else `messages[i].content[j]`.
    """
    names = names or {}
    places = [place for index, message in enumerate(messages) for place in _places(index, message, names)]
    if not places:
        return list(messages), []
    urls = [place.url(takes) for place in places]
    fetching = _Fetching(limits)
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [
                group.create_task(fetching.bring(place, url)) for place, url in zip(places, urls, strict=True)
            ]
    except* FetchError as errors:
        raise _first(errors) from None
    media = [
        Media(place.modality, task.result(), sound=soundtracks and place.modality == "video")
        for place, task in zip(places, tasks, strict=True)
    ]
    return _marked(messages, places), media


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a medium stands and the part that stands there."""

    message: int
    part: int
    modality: str
    content: Mapping[str, Any]
    name: str

    def __str__(self) -> str:
        return self.name

    def url(self, takes: frozenset[str]) -> str:
        """The URL of the medium; base64 becomes a data URI. Raises InvalidRequest, also if the model takes none."""
        if self.modality not in takes:
            known = said(takes)
            raise InvalidRequest(
                f"{self}: a part of type {self.content['type']!r} was sent, and this model takes {known} only",
                param=str(self),
            )
        kind = self.content["type"]
        value = self.content.get(kind)  # {"type": "image_url", "image_url": ...}
        if (
            value is None
        ):  # other spellings: {"type": "input_image", "image_url": ...}, {"type": "image", "url": ...}
            value = self.content.get(f"{self.modality}_url", self.content.get("url"))
        if isinstance(value, Mapping):
            if isinstance(value.get("data"), str):
                data = value["data"]
                return data if data.startswith("data:") else f"data:;base64,{data}"
            value = value.get("url")
        if not isinstance(value, str) or not value:
            example = (
                '{"data": "<base64>", "format": "wav"}' if kind == "input_audio" else '{"url": "https://..."}'
            )
            raise InvalidRequest(f"{self} must have {kind}: {example}", param=str(self))
        return value


class _Fetching:
    """The fetches of one request."""

    def __init__(self, limits: FetchLimits) -> None:
        self._limits = limits
        self._turns = asyncio.Semaphore(_AT_ONCE)
        self._total = 0

    async def bring(self, place: _Place, url: str) -> bytes:
        """The bytes of one medium. Raises FetchError."""
        try:
            async with self._turns:
                data = await fetch(url, self._limits)
            self._count(len(data))
        except FetchError as error:
            raise FetchError(f"{place}: {error.message}", param=str(place)) from error
        return data

    def _count(self, size: int) -> None:
        self._total += size
        if self._total > self._limits.most_bytes:
            raise FetchError(
                f"with this file the request's media are more than {format_size(self._limits.most_bytes)} together: "
                "send fewer or smaller ones"
            )


def _places(index: int, message: Message, names: Mapping[tuple[int, int], str]) -> list[_Place]:
    """The media of one message. What is not of OpenAI's form is left for those who read the text."""
    content = message.get("content") if isinstance(message, Mapping) else None
    if not isinstance(content, list):
        return []
    found = ((place, part, modality_of(part)) for place, part in enumerate(content))
    return [
        _Place(
            index,
            place,
            modality,
            part,
            names.get((index, place), f"messages[{index}].content[{place}]"),
        )
        for place, part, modality in found
        if modality is not None
    ]


def _marked(messages: Sequence[Message], places: Sequence[_Place]) -> list[Message]:
    """Copies of the messages, with a mark at each place."""
    marked = list(messages)
    for place in places:
        if marked[place.message] is messages[place.message]:
            marked[place.message] = {
                **messages[place.message],
                "content": [*messages[place.message]["content"]],
            }
        marked[place.message]["content"][place.part] = {"type": place.modality}
    return marked


def _first(errors: BaseExceptionGroup[FetchError]) -> FetchError:
    found = errors.exceptions[0]
    return found if isinstance(found, FetchError) else _first(found)
