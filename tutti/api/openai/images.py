"""`POST /v1/images/generations`: a picture of a text, whole or with previews while it comes.

What is drawn from pictures (`edits`) is the same job, with media. A unified model is told what to draw, and what it
says to that is heard by nobody unless it says no more.
"""

from __future__ import annotations

import asyncio
import base64
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any, Literal

import msgspec
from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.openai.fields import PictureFields
from tutti.api.openai.job import json_response
from tutti.api.openai.parse import parse
from tutti.api.stream import EventStream, named_sse
from tutti.errors import InvalidRequest, NotDrawn
from tutti.events import Event, Failed, ImageDone, Progress, TextDelta
from tutti.gateway.lease import Lease
from tutti.request import Drawing, Media, Request

_MOST = 10  # pictures of one request, as OpenAI has it
Format = Literal["png", "webp", "jpeg"]


class ImageFields(PictureFields, kw_only=True, forbid_unknown_fields=False):
    """What programs send, as OpenAI names it; from `negative_prompt` on it is vLLM-Omni's names, and
    `cache` to `lora` are ours.

    `quality`, `style` and `moderation` are taken and change nothing: what they mean is a model's own.
    """

    prompt: str
    model: str | None = None
    n: int | None = None
    response_format: Literal["b64_json", "url"] | None = None
    output_format: Format | None = None
    output_compression: int | None = None
    background: str | None = None
    stream: bool | None = None
    partial_images: int | None = None
    negative_prompt: str | None = None
    true_cfg_scale: float | None = None
    strength: float | None = None
    seed: int | None = None
    priority: int | None = None

    def __post_init__(self) -> None:
        if self.n is not None and not 1 <= self.n <= _MOST:
            raise InvalidRequest(f"n must be from 1 to {_MOST}, got {self.n}.", param="n")
        if self.response_format == "url":
            raise InvalidRequest(
                "response_format url is not supported, since pictures are not kept here: take b64_json.",
                param="response_format",
            )
        if self.background == "transparent":
            raise InvalidRequest(
                "background must be opaque: no model here draws without.", param="background"
            )
        if self.output_compression is not None and not 0 <= self.output_compression <= 100:
            raise InvalidRequest("output_compression must be from 0 to 100.", param="output_compression")
        if self.partial_images and not self.stream:
            raise InvalidRequest("partial_images needs stream: true.", param="partial_images")

    @property
    def drawing(self) -> Drawing:
        """How it is to be drawn. Raises InvalidRequest."""
        return msgspec.structs.replace(
            super().drawing,
            true_guidance=self.true_cfg_scale,
            previews=self.partial_images or 0,
            decoded=True,
            strength=self.strength,
        )


async def generations(call: Call) -> ASGIApp:
    """Answer one call."""
    return await (await ImageJob.of(call, parse(call.body, ImageFields))).answer()


@dataclass(slots=True)
class ImageJob:
    """The pictures of one call; `request` is complete: its size and its seed are known."""

    call: Call
    lease: Lease
    fields: ImageFields
    request: Request
    kind: str = "image_generation"  # how the names of its events begin

    @classmethod
    async def of(
        cls,
        call: Call,
        fields: ImageFields,
        media: Sequence[Media] = (),
        kind: str = "image_generation",
    ) -> ImageJob:
        """The job of `fields`, which draws from `media`, if there are any.

        Raises InvalidRequest, InvalidMedia, and as `Call.lease` does.
        """
        from tutti.models.processor.drawer import drawing_request

        lease = await call.lease(fields.model)
        model = lease.model
        if "image" not in model.outputs:
            gives = ", ".join(model.outputs)
            raise InvalidRequest(f"The model {model.name} does not draw: it gives {gives}.", param="model")
        request = drawing_request(
            fields.prompt,
            fields.negative_prompt,
            fields.drawing,
            id=f"image-{uuid.uuid4().hex}",
            model=model.name,
            n=fields.n or 1,
            seed=fields.seed,
            priority=fields.priority or 0,
            media=media,
        )
        return cls(call, lease, fields, await lease.prepare(request), kind)

    async def answer(self) -> ASGIApp:
        """What is sent: all at once, or a stream where that was asked for."""
        if self.fields.stream:
            return await EventStream.open(self.events())
        return json_response(await self.whole())

    @property
    def about(self) -> dict[str, Any]:
        """What is said of all pictures."""
        drawing = self.request.drawing
        assert drawing is not None
        return {
            "background": "opaque",
            "output_format": self.fields.output_format or "png",
            "size": f"{drawing.width}x{drawing.height}",
        }

    async def whole(self) -> dict[str, Any]:
        """All pictures in one answer. Raises what ended one early."""
        data: dict[int, dict[str, Any]] = {}
        said: dict[int, str] = {}
        async with aclosing(self._events()) as events:
            async for event in events:
                if isinstance(event, TextDelta):
                    said[event.index] = said.get(event.index, "") + event.text
                elif isinstance(event, ImageDone) and not event.preview:
                    seed = (self.request.sampling.seed or 0) + event.index
                    data[event.index] = {"b64_json": await self._encoded(event), "seed": seed}
        for index, text in said.items():
            data[index]["revised_prompt"] = text
        return {"created": int(time.time()), "data": [data[k] for k in sorted(data)], **self.about}

    async def events(self) -> AsyncGenerator[bytes, None]:
        """The same as OpenAI's events; steps are comments, which every reader of such streams passes over."""
        shown = 0
        async with aclosing(self._events()) as events:
            async for event in events:
                if isinstance(event, Progress):
                    yield f": step {event.done} of {event.total}\n\n".encode()
                elif isinstance(event, ImageDone):
                    kind = f"{self.kind}.{'partial_image' if event.preview else 'completed'}"
                    value: dict[str, Any] = {
                        "type": kind,
                        "b64_json": await self._encoded(event),
                        **self.about,
                    }
                    value["created_at"] = int(time.time())
                    if event.preview:
                        value["partial_image_index"] = shown
                        shown += 1
                    yield named_sse(kind, value)

    async def _events(self) -> AsyncGenerator[Event, None]:
        """The events of all pictures. Raises what ended one early, and NotDrawn where one did not come."""
        said: dict[int, str] = {}
        drawn: set[int] = set()
        async with aclosing(self.lease.generate(self.request, self.call.caller)) as events:
            async for event in events:
                if isinstance(event, Failed):
                    raise event.error.error()
                if isinstance(event, TextDelta):
                    said[event.index] = said.get(event.index, "") + event.text
                elif isinstance(event, ImageDone) and not event.preview:
                    drawn.add(event.index)
                yield event
        for text in (text for index, text in said.items() if index not in drawn):
            raise NotDrawn.instead(text)

    async def _encoded(self, event: ImageDone) -> str:
        """The file in the format that was asked for, in base 64."""
        from tutti.media.image import transcode

        quality = self.fields.output_compression
        data = await asyncio.to_thread(
            transcode, event.png, self.fields.output_format or "png", 90 if quality is None else quality
        )
        return base64.b64encode(data).decode()
