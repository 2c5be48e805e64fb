"""An engine that draws with the tiny pipelines, for tests, and what each of these is asked."""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from tests.models.pipelines import pipeline
from tutti.engine.core import Engine
from tutti.engine.denoise import Denoise
from tutti.events import Event, Failed, ImageDone
from tutti.gateway.opening import processor_of
from tutti.models.processor.drawer import drawing_request
from tutti.request import Drawing, Request
from tutti.settings import EngineOptions

# What each pipeline is asked besides text, size, steps and seed.
MANNERS: dict[str, dict[str, Any]] = {
    "z_image": {"guidance_scale": 3.0, "negative_prompt": "blurred"},
    "flux_dev": {"guidance_scale": 3.0, "true_cfg_scale": 2.5, "negative_prompt": "blue"},
    "flux_schnell": {"max_sequence_length": 256},
    "qwen_image": {"true_cfg_scale": 4.0, "negative_prompt": " "},
    "sd3": {"guidance_scale": 4.0, "negative_prompt": "blue"},
    "sd3_small": {"guidance_scale": 1.0},
    "sdxl": {"guidance_scale": 3.0, "negative_prompt": "blue"},
    "sdxl_turbo": {"guidance_scale": 0.0},
    "sdxl_v": {"guidance_scale": 3.0, "negative_prompt": "blue"},
}


def options(folder: Path, memory: int = 3_000_000_000, **more: Any) -> EngineOptions:
    defaults: dict[str, Any] = {"dtype": "float32", "max_num_batched_tokens": 8192, "threads": 1}
    return EngineOptions(model=str(folder), device="cpu", memory=memory, **(defaults | more))


class Studio:
    """An engine that draws, and what it emitted."""

    def __init__(self, folder: Path, **more: Any) -> None:
        self.events: list[Event] = []
        self.options = options(folder, **more)
        self.engine = Engine(self.options, self.events.extend)
        self.processor = processor_of(self.options)

    def submit(
        self, name: str, prompt: str = "a red circle", manner: dict[str, Any] | None = None, **more: Any
    ) -> Request:
        fields = {"seed": 5, "steps": 3, "width": 16, "height": 24, "previews": 0, **more}
        manner = manner or {}
        drawing = Drawing(
            width=fields["width"],
            height=fields["height"],
            steps=fields["steps"],
            guidance=manner.get("guidance_scale"),
            true_guidance=manner.get("true_cfg_scale"),
            previews=fields["previews"],
            decoded=fields.get("decoded", False),
            strength=fields.get("strength"),
            cache=fields.get("cache"),
            cache_threshold=fields.get("cache_threshold"),
            lora=fields.get("lora"),
            lora_scale=fields.get("lora_scale", 1.0),
        )
        asked = drawing_request(
            prompt,
            manner.get("negative_prompt"),
            drawing,
            id=name,
            seed=fields["seed"],
            media=fields.get("media", ()),
        )
        request = self.processor.prepare(asked)
        self.engine.loop.submit(request)
        return request

    def finish(self) -> dict[str, ImageDone | Failed]:
        """Work until nothing is left; how each request ended."""
        while self.engine.loop.turn():
            pass
        found = {
            event.request: event
            for event in self.events
            if isinstance(event, Failed) or (isinstance(event, ImageDone) and not event.preview)
        }
        self.events.clear()
        return found

    def draw(
        self, prompt: str = "a red circle", manner: dict[str, Any] | None = None, **more: Any
    ) -> np.ndarray:
        self.submit("one", prompt, manner, **more)
        return pixels(self.finish()["one"])

    def nothing_is_left(self) -> None:
        assert self.engine.loop.turn() is False
        assert not self.engine.loop._routes
        for runner in self.engine.loop.runners.values():
            assert runner.waiting == 0
        assert isinstance(self.engine.runner, Denoise) and self.engine.runner.running == 0


@functools.cache
def studio(family: str) -> Studio:
    return Studio(pipeline(family)[1])


def pixels(event: Event) -> np.ndarray:
    assert isinstance(event, ImageDone), event
    return np.asarray(Image.open(io.BytesIO(event.png))).astype(int)


def reference(family: str, output: str, prompt: str = "a red circle", **more: Any) -> Any:
    """What diffusers' pipeline draws of the same; `output` is "pil" or "latent"."""
    fields = {"width": 16, "height": 24, "num_inference_steps": 3, **MANNERS[family], **more}
    generator = torch.Generator().manual_seed(5)
    return pipeline(family)[0](prompt, generator=generator, output_type=output, **fields).images[0]
