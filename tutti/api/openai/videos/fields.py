"""What is asked of `/v1/videos`, as JSON or as a form, and what is answered."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import msgspec

from tutti.api.multipart import parse_form
from tutti.api.openai.fields import LoraFields
from tutti.api.openai.parse import convert, parse
from tutti.errors import InvalidRequest
from tutti.request import Drawing

if TYPE_CHECKING:
    from tutti.models.processor.filming import Filming

_PICTURES = ("input_reference", "last_image")
_SKETCHES = 8  # of a film on its way


class VideoFields(msgspec.Struct, kw_only=True):
    """What programs send, as OpenAI names it; from `negative_prompt` on as vLLM-Omni does, from `cache` on as we do."""

    prompt: str
    model: str | None = None
    seconds: str | float | None = None
    size: str | None = None
    input_reference: Any = None  # of JSON: an object, or a URL; of a form: the bytes of a file, too
    last_image: Any = None  # the same; diffusers' name
    negative_prompt: str | None = None
    num_inference_steps: int | None = None
    guidance_scale: float | None = None
    guidance_scale_2: float | None = None
    seed: int | None = None
    num_frames: int | None = None
    fps: float | None = None
    priority: int | None = None
    cache: str | None = None
    cache_threshold: float | None = None
    lora: LoraFields | None = None

    def drawing(self, film: Filming) -> Drawing:
        """How it is to be filmed by a model of these habits. Raises InvalidRequest."""
        from tutti.models.processor.drawer import parse_sides

        width, height = parse_sides(self.size)
        return Drawing(
            width=width,
            height=height,
            steps=self.num_inference_steps,
            guidance=self.guidance_scale,
            guidance_2=self.guidance_scale_2,
            frames=self._frames(film),
            fps=self.fps,
            previews=_SKETCHES,
            cache=self.cache,
            cache_threshold=self.cache_threshold,
            lora=self.lora.name if self.lora else None,
            lora_scale=self.lora.scale if self.lora else 1.0,
        )

    @property
    def pictures(self) -> dict[str, Any]:
        """What the film begins with, and ends with: bytes of files, and objects or URLs, by the fields' names.

        Raises InvalidRequest where the first is missing.
        """
        given = {name: getattr(self, name) for name in _PICTURES if getattr(self, name) not in (None, "")}
        if given and _PICTURES[0] not in given:
            raise InvalidRequest(
                "last_image ends a film that begins with a picture: send that, too, as input_reference.",
                param=_PICTURES[1],
            )
        return given

    def _frames(self, film: Filming) -> int | None:
        """The frames of so many seconds, or as many as are asked for; None: the model's habit."""
        if self.seconds is None or self.seconds == "":
            return self.num_frames
        if self.num_frames is not None:
            raise InvalidRequest(
                "seconds and num_frames are two ways to say one thing: give one.", param="seconds"
            )
        try:
            seconds = float(self.seconds)
        except ValueError:
            seconds = math.nan
        if not (math.isfinite(seconds) and 0 < seconds <= 3600):
            raise InvalidRequest(
                f"seconds must be a number from 0 to 3,600, got {self.seconds!r}.", param="seconds"
            )
        fps = film.fps if self.fps is None else self.fps
        return film.nearest(seconds * fps) if math.isfinite(fps) else None


def read_fields(body: bytes, content_type: str) -> VideoFields:
    """The fields of a call. Raises InvalidRequest."""
    if not content_type.lower().startswith("multipart/"):
        return parse(body, VideoFields)
    form = parse_form(body, content_type)
    values: dict[str, Any] = {name: found[-1] for name, found in form.fields.items()}
    for name in (*_PICTURES, "lora"):
        inside = {key[len(name) + 1 : -1]: text for key, text in values.items() if key.startswith(f"{name}[")}
        if inside:
            values[name] = inside
    fields = convert(values, VideoFields, "", strict=False)
    for name in _PICTURES:
        if name in form.files:
            setattr(fields, name, form.files[name])
    return fields


class VideoError(msgspec.Struct):
    """Why a video could not be made."""

    code: str
    message: str


class Video(msgspec.Struct, kw_only=True):
    """A job as OpenAI shows it; from `seed` on it is what our own fields asked, or what the model is used to."""

    id: str
    model: str
    status: str
    progress: int
    created_at: int
    prompt: str
    size: str
    seconds: str
    object: str = "video"
    completed_at: int | None = None
    expires_at: int | None = None
    error: VideoError | None = None
    remixed_from_video_id: str | None = None
    seed: int | None = None
    num_frames: int | None = None
    fps: float | None = None
    num_inference_steps: int | None = None


class Deleted(msgspec.Struct):
    """That a job is gone."""

    id: str
    object: str = "video.deleted"
    deleted: bool = True


class Page(msgspec.Struct):
    """Some of the jobs."""

    data: list[Video]
    first_id: str | None
    last_id: str | None
    has_more: bool
    object: str = "list"
