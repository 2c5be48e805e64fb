"""Pictures in an answer: `message.images` whole, `delta.images` in a stream, as OpenRouter and LiteLLM have them.

A picture is one data URI, a PNG that says in itself how it was made.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from tutti.api.openai import answers
from tutti.api.openai.fields import PictureFields
from tutti.events import ImageDone
from tutti.gateway.backend import BackendModel
from tutti.request import Drawing


def modalities(asked: Sequence[str] | None, model: BackendModel) -> tuple[str, ...]:
    """What is wanted of the model; who does not say gets text, and a picture where a model that writes draws one.

    Text is always there. Raises InvalidRequest on what the model does not give.
    """
    for modality in asked or ():
        model.require(modality)
    drawn = "image" in (model.outputs if asked is None else asked)
    return ("text", *(["audio"] if "audio" in (asked or ()) else []), *(["image"] if drawn else []))


def drawing(fields: PictureFields | None) -> Drawing:
    """How pictures are drawn. Raises InvalidRequest."""
    from tutti.models.processor.drawer import parse_sides

    if fields is None:
        return Drawing()
    width, height = parse_sides(fields.size)
    return Drawing(
        width=width,
        height=height,
        steps=fields.num_inference_steps,
        guidance=fields.guidance_scale,
        cache=fields.cache,
        cache_threshold=fields.cache_threshold,
        lora=fields.lora.name if fields.lora else None,
        lora_scale=fields.lora.scale if fields.lora else 1.0,
    )


def image(event: ImageDone) -> answers.Image:
    """A finished picture."""
    return answers.Image(answers.ImageUrl(f"data:image/png;base64,{base64.b64encode(event.png).decode()}"))
