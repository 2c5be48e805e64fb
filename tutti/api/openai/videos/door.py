"""`POST` and `GET /v1/videos`, `GET` and `DELETE /v1/videos/{id}`, `GET /v1/videos/{id}/content`."""

from __future__ import annotations

import asyncio
import uuid
from pathlib import Path

from starlette.responses import FileResponse, Response
from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.openai.edits import fetched
from tutti.api.openai.job import json_response
from tutti.api.openai.videos.fields import Deleted, Page, Video, VideoError, VideoFields, read_fields
from tutti.api.openai.videos.store import COMPLETED, FAILED, Job
from tutti.api.openai.videos.work import VideoWork
from tutti.errors import InvalidRequest, NotFound, StoreError
from tutti.gateway.gateway import Gateway
from tutti.request import Media, Request, Text

_PAGE, _LARGEST_PAGE = 20, 100


class Videos:
    """The handlers around the jobs of one server, which are kept in `folder`; None: it keeps none."""

    def __init__(self, gateway: Gateway, folder: Path | None) -> None:
        self._work = None if folder is None else VideoWork(gateway, folder)

    async def resume(self) -> None:
        """Go on with what was not done when the server ended."""
        if self._work is not None:
            await self._work.resume()

    async def close(self) -> None:
        """Stop; the next server goes on."""
        if self._work is not None:
            await self._work.close()

    async def create(self, call: Call) -> ASGIApp:
        """A job, which begins at once."""
        request = await _request(call, read_fields(call.body, call.content_type))
        return json_response(_shown(self._there().begin(call.caller.key, request)))

    async def get(self, call: Call) -> ASGIApp:
        """A job as it is now. Raises NotFound."""
        return json_response(_shown(await self._there().look(call.caller.key, call.path["video"])))

    async def list(self, call: Call) -> ASGIApp:
        """The caller's jobs, a page of them. Raises InvalidRequest."""
        order, limit = call.query.get("order", "desc"), call.query.get("limit", str(_PAGE))
        if order not in ("asc", "desc"):
            raise InvalidRequest(f"order must be asc or desc, got {order!r}.", param="order")
        if not (limit.isdecimal() and 1 <= int(limit) <= _LARGEST_PAGE):
            raise InvalidRequest(f"limit must be from 1 to {_LARGEST_PAGE}, got {limit!r}.", param="limit")
        jobs, more = self._there().store.page(
            call.caller.key, call.query.get("after"), int(limit), newest_first=order == "desc"
        )
        first, last = (jobs[0].id, jobs[-1].id) if jobs else (None, None)
        return json_response(Page([_shown(job) for job in jobs], first, last, more))

    async def delete(self, call: Call) -> ASGIApp:
        """Forget a job; what is being made is stopped. Raises NotFound."""
        await self._there().delete(call.caller.key, call.path["video"])
        return json_response(Deleted(call.path["video"]))

    async def content(self, call: Call) -> ASGIApp:
        """The video as a file, or its first frame (`variant=thumbnail`), which is a sketch until the video is done.

        Raises NotFound, InvalidRequest.
        """
        from tutti.media.film import CONTENT_TYPE, still

        variant = call.query.get("variant", "video")
        if variant not in ("video", "thumbnail"):
            raise InvalidRequest(f"variant must be video or thumbnail, got {variant!r}.", param="variant")
        work = self._there()
        job = await work.look(call.caller.key, call.path["video"])
        if job.status == FAILED:
            raise InvalidRequest(f"The video failed: {job.message}", param="video_id")
        if variant == "thumbnail" and (sketch := work.sketches.get(job.id)) is not None:
            return Response(sketch, media_type="image/png")
        if job.status != COMPLETED:
            raise InvalidRequest(
                f"The video is not done: it is {job.status}, {job.progress} percent. Ask again later.",
                param="video_id",
            )
        path = work.store.film(job.id)
        if not path.is_file():
            raise NotFound(f"The file of the video {job.id!r} is gone.", param="video_id")
        if variant == "video":
            return FileResponse(path, media_type=CONTENT_TYPE, filename=path.name)
        picture = await asyncio.to_thread(lambda: still(path.read_bytes()))
        return Response(picture, media_type="image/webp")

    def _there(self) -> VideoWork:
        if self._work is None:
            raise InvalidRequest("This server keeps no videos.")
        return self._work


async def _request(call: Call, fields: VideoFields) -> Request:
    """The request of a call, complete. Raises InvalidRequest, InvalidMedia, FetchError, and as `Call.lease` does."""
    from tutti.models.processor.drawer import DrawingProcessor, drawing_request
    from tutti.models.processor.filmer import Filmer

    lease = await call.lease(fields.model)
    processor = lease.backend.processor
    drawer = processor.drawer if isinstance(processor, DrawingProcessor) else None
    if not (isinstance(drawer, Filmer) and drawer.film):
        gives = ", ".join(lease.model.outputs)
        raise InvalidRequest(f"The model {lease.model.name} does not film: it gives {gives}.", param="model")
    drawer.check_count(len(fields.pictures))
    request = drawing_request(
        fields.prompt,
        fields.negative_prompt,
        fields.drawing(drawer.film),
        id=f"video_{uuid.uuid4().hex}",
        model=lease.model.name,
        seed=fields.seed,
        priority=fields.priority or 0,
        media=await _media(call, fields),
    )
    return await lease.prepare(request)


async def _media(call: Call, fields: VideoFields) -> list[Media]:
    """The pictures that the film begins and ends with. Raises InvalidRequest, FetchError."""
    found: list[Media] = []
    for name, value in fields.pictures.items():
        sent = isinstance(value, bytes)
        found += [Media("image", value)] if sent else await fetched(call, {name: value})
    return found


def _shown(job: Job) -> Video:
    """A job as OpenAI shows it; of one that cannot be read any more, that."""
    try:
        request = job.read()
    except StoreError as error:
        broken = VideoError(error.code, error.message)
        return Video(
            id=job.id,
            model="",
            status=FAILED,
            progress=job.progress,
            created_at=job.created,
            prompt="",
            size="",
            seconds="",
            error=broken,
        )
    drawing = request.drawing
    assert drawing is not None
    prompt = next(part.text for part in request.parts if isinstance(part, Text))
    return Video(
        id=job.id,
        model=request.model,
        status=job.status,
        progress=job.progress,
        created_at=job.created,
        completed_at=job.completed,
        prompt=prompt,
        size=f"{drawing.width}x{drawing.height}",
        seconds=f"{(drawing.frames or 0) / (drawing.fps or 1):.3g}",
        error=VideoError(job.code, job.message) if job.status == FAILED else None,
        seed=request.sampling.seed,
        num_frames=drawing.frames,
        fps=drawing.fps,
        num_inference_steps=drawing.steps,
    )
