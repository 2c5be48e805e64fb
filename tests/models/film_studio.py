"""An engine that films with the tiny pipelines, for tests."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np

from tests.models.film_pipelines import film_pipeline
from tests.models.studio import Studio as Drawer
from tutti.events import Failed, VideoDelta
from tutti.models.processor.drawer import drawing_request
from tutti.request import Drawing, Request


class Studio(Drawer):
    """An engine that films, and what it emitted."""

    def submit(self, name: str, prompt: str = "a cat walks", **asked: Any) -> Request:
        fields = {"width": 32, "height": 16, "frames": 5, "steps": 3, "seed": 5, **asked}
        negative, seed, media = (fields.pop(key, None) for key in ("negative", "seed", "media"))
        request = self.processor.prepare(
            drawing_request(prompt, negative, Drawing(**fields), id=name, seed=seed, media=media or ())
        )
        self.engine.loop.submit(request)
        return request

    def finish(self) -> dict[str, np.ndarray | Failed]:
        """Work until nothing is left; the film of each request, or how it failed."""
        while self.engine.loop.turn():
            pass
        found: dict[str, np.ndarray | Failed] = {}
        for event in self.events:
            if isinstance(event, Failed):
                found[event.request] = event
            elif isinstance(event, VideoDelta):
                piece = np.frombuffer(event.frames, np.uint8).reshape(*event.shape, 3).astype(int)
                before = found.get(event.request)
                found[event.request] = piece if before is None else np.concatenate([before, piece])
        self.events.clear()
        return found

    def film(self, prompt: str = "a cat walks", **asked: Any) -> np.ndarray:
        self.submit("one", prompt, **asked)
        found = self.finish()["one"]
        assert isinstance(found, np.ndarray), found
        return found


@functools.cache
def studio(family: str) -> Studio:
    return Studio(film_pipeline(family)[1])
