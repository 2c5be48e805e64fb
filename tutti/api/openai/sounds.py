"""`POST /v1/audio/generate`: a sound of a text, as a file in one piece."""

from __future__ import annotations

import asyncio
import uuid
from contextlib import aclosing
from typing import Literal

import msgspec
from starlette.responses import Response
from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.openai.parse import parse
from tutti.errors import InvalidRequest
from tutti.events import AudioDelta, Failed
from tutti.request import Drawing


class SoundFields(msgspec.Struct, kw_only=True):
    """What programs send. `input`, `audio_length` and `audio_start` are vLLM-Omni's names for the fields above them."""

    prompt: str | None = None
    input: str | None = None
    model: str | None = None
    seconds: float | None = None
    audio_length: float | None = None
    seconds_start: float | None = None
    audio_start: float | None = None
    negative_prompt: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    response_format: Literal["wav", "flac", "mp3", "opus", "aac", "pcm"] = "wav"
    priority: int | None = None
    # What changes the answer and is not served here: refused rather than ignored.
    n: int | None = None
    speed: float | None = None
    stream_format: Literal["audio"] | None = None

    def __post_init__(self) -> None:
        for ours, theirs in (
            ("prompt", "input"),
            ("seconds", "audio_length"),
            ("seconds_start", "audio_start"),
        ):
            given = getattr(self, theirs)
            if given is None:
                continue
            if getattr(self, ours) is not None:
                raise InvalidRequest(
                    f"{ours} and {theirs} are two names for one thing: give one.", param=theirs
                )
            setattr(self, ours, given)
        if self.prompt is None:
            raise InvalidRequest("The field 'prompt' is missing.", param="prompt")
        if self.n not in (None, 1):
            raise InvalidRequest(
                "n must be 1: an answer is one file. Ask again with another seed.", param="n"
            )
        if self.speed not in (None, 1):
            raise InvalidRequest("speed must be 1: sounds are as long as seconds says.", param="speed")

    @property
    def drawing(self) -> Drawing:
        """How it is to be made."""
        return Drawing(
            steps=self.num_inference_steps,
            guidance=self.guidance_scale,
            seconds=self.seconds,
            seconds_start=self.seconds_start,
        )


async def sounds(call: Call) -> ASGIApp:
    """Answer one call. Raises InvalidRequest, and as `Call.lease` does."""
    from tutti.media.audio_writer import CONTENT_TYPES, write_sounds  # NumPy: others never wait for it
    from tutti.models.processor.drawer import drawing_request

    fields = parse(call.body, SoundFields)
    lease = await call.lease(fields.model)
    model = lease.model
    if "sound" not in model.outputs:
        gives = ", ".join(model.outputs)
        raise InvalidRequest(f"The model {model.name} makes no sounds: it gives {gives}.", param="model")
    request = drawing_request(
        fields.prompt or "",
        fields.negative_prompt,
        fields.drawing,
        id=f"sound-{uuid.uuid4().hex}",
        model=model.name,
        seed=fields.seed,
        priority=fields.priority or 0,
    )
    made: list[AudioDelta] = []
    async with aclosing(lease.generate(await lease.prepare(request), call.caller)) as events:
        async for event in events:
            if isinstance(event, Failed):
                raise event.error.error()
            if isinstance(event, AudioDelta):
                made.append(event)
    kind = CONTENT_TYPES[fields.response_format]
    if fields.response_format == "pcm":  # which says nothing of itself
        kind = f"{kind}; rate={made[0].rate}; channels={made[0].channels}"
    return Response(await asyncio.to_thread(write_sounds, made, fields.response_format), media_type=kind)
