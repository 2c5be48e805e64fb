"""Pictures in an answer: `message.images` whole, `delta.images` in a stream, as OpenRouter and LiteLLM have them.

A picture is one data URI, a PNG that says in itself how it was made.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence

from tutti.api.openai import answers
from tutti.events import ImageDone
from tutti.gateway.backend import BackendModel


def modalities(asked: Sequence[str] | None, model: BackendModel) -> tuple[str, ...]:
    """What is wanted of the model; who does not say gets text, and a picture where a model that writes draws one.

    Text is always there. Raises InvalidRequest on what the model does not give.
    """
    for modality in asked or ():
        model.require(modality)
    drawn = "image" in (model.outputs if asked is None else asked)
    return ("text", *(["audio"] if "audio" in (asked or ()) else []), *(["image"] if drawn else []))


def image(event: ImageDone) -> answers.Image:
    """A finished picture."""
    return answers.Image(answers.ImageUrl(f"data:image/png;base64,{base64.b64encode(event.png).decode()}"))
