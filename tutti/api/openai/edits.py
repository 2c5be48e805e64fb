"""`POST /v1/images/edits` and `/v1/images/variations`: pictures of pictures.

A form with files, as OpenAI's clients send it, or JSON with data URIs and URLs. What becomes of a picture is the
model's matter: one that edits looks at it, another begins from it, within a mask if there is one.
"""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace
from starlette.types import ASGIApp

from tutti.api.endpoint import Call
from tutti.api.multipart import Form, parse_form
from tutti.api.openai.attachments import gather
from tutti.api.openai.images import ImageFields, ImageJob
from tutti.api.openai.parse import convert, parse
from tutti.errors import InvalidRequest
from tutti.request import Media

_FORM = "multipart/"
_SOURCES = ("image", "images", "url")  # fields that hold pictures; the last one is vLLM-Omni's


class EditFields(ImageFields, kw_only=True):
    """What programs send besides. `image` (or `images`) is one URL or several, each as text or as an object with it."""

    prompt: str = ""
    image: Any = None
    images: Any = None
    url: Any = None
    mask: Any = None


async def edits(call: Call) -> ASGIApp:
    """What the prompt makes of pictures."""
    fields, media = await _read(call)
    if not fields.prompt.strip():
        raise InvalidRequest("The prompt is missing: say what is to become of the picture.", param="prompt")
    return await (await ImageJob.of(call, fields, media, "image_edit")).answer()


async def variations(call: Call) -> ASGIApp:
    """Other pictures like one."""
    fields, media = await _read(call)
    return await (await ImageJob.of(call, fields, media, "image_edit")).answer()


async def _read(call: Call) -> tuple[EditFields, list[Media]]:
    """What was sent, and the pictures, the mask last. Raises InvalidRequest, FetchError."""
    files: dict[str, list[bytes]] = {}
    if call.content_type.lower().startswith(_FORM):
        form = parse_form(call.body, call.content_type)
        fields = _of_form(form)
        files = {name: form.all_files(name) for name in ("image", "mask")}
    else:
        fields = parse(call.body, EditFields)
    pictures = [Media("image", data) for data in files.get("image", ())]
    masks = [Media("mask", data) for data in files.get("mask", ())]
    pictures += await fetched(call, {name: getattr(fields, name) for name in _SOURCES})
    masks += [replace(one, modality="mask") for one in await fetched(call, {"mask": fields.mask})]
    if not pictures:
        raise InvalidRequest("The field 'image' is missing: send a picture.", param="image")
    return fields, [*pictures, *masks]


def _of_form(form: Form) -> EditFields:
    """The form's fields, whose texts are read as the numbers that they say. An empty field is as good as none."""
    values: dict[str, Any] = {name: texts[-1] for name, texts in form.fields.items() if texts[-1]}
    values |= {name: form.values(name) for name in _SOURCES if form.values(name)}
    return convert(values, EditFields, "", strict=False)


async def fetched(call: Call, values: dict[str, Any]) -> list[Media]:
    """The pictures that fields point to, in order. Raises InvalidRequest, FetchError."""
    parts: list[dict[str, Any]] = []
    names: dict[tuple[int, int], str] = {}
    for name, value in values.items():
        for number, one in enumerate(value if isinstance(value, list) else [] if value is None else [value]):
            place = f"{name}[{number}]" if isinstance(value, list) else name
            names[0, len(parts)] = place
            parts.append({"type": "image_url", "image_url": _url(one, place)})
    _, media = await gather(
        [{"role": "user", "content": parts}], frozenset({"image"}), call.fetching, names=names
    )
    return media


def _url(value: Any, place: str) -> str:
    """Where a picture is. Raises InvalidRequest."""
    if isinstance(value, dict):
        value = value.get("image_url", value.get("url"))
        value = value.get("url") if isinstance(value, dict) else value
    if not isinstance(value, str) or not value:
        raise InvalidRequest(
            f"{place} must be a file, a data URI or a URL, for instance data:image/png;base64,...; "
            "files that were uploaded before are not kept here.",
            param=place,
        )
    return value
