"""How a picture was made, as the JSON that its file carries: the fields of a request that makes it again. No torch."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tutti.request import Request, Text


def note_of(request: Request) -> str:
    """The note of a request's picture, film or sound, with the names that the endpoints here have for these."""
    drawing = request.drawing
    assert drawing is not None
    texts: list[str | None] = [part.text for part in request.parts if isinstance(part, Text)]
    texts = texts or [drawing.prompt]
    fields: dict[str, Any] = {
        "model": _public(request.model) or None,
        "prompt": texts[0],
        "negative_prompt": texts[1] if len(texts) > 1 else None,
        "size": f"{drawing.width}x{drawing.height}" if drawing.width else None,
        "num_inference_steps": drawing.steps,
        "guidance_scale": drawing.guidance,
        "true_cfg_scale": drawing.true_guidance,
        "strength": drawing.strength,
        "cache": drawing.cache,
        "cache_threshold": drawing.cache_threshold,
        "lora": None if drawing.lora is None else {"name": drawing.lora, "scale": drawing.lora_scale},
        "seed": request.sampling.seed,
        "num_frames": drawing.frames,
        "fps": drawing.fps,
        "guidance_scale_2": drawing.guidance_2,
        "seconds": drawing.seconds,
        "seconds_start": drawing.seconds_start,
    }
    return json.dumps(
        {name: value for name, value in fields.items() if value is not None}, ensure_ascii=False
    )


def _public(model: str) -> str:
    """A model's name as others may read it: of a folder of this machine, its last part."""
    return Path(model).name if model.startswith(("/", ".", "~")) else model
