"""What may be asked of a model that makes sounds of a text. No torch.

Such a model is asked as one that draws is (`drawer`), for seconds where that one is asked for a size.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tutti.errors import InvalidRequest
from tutti.models.processor.drawer import Drawer
from tutti.models.processor.pictures import Sources
from tutti.request import Drawing

_LEAST = 0.01  # seconds
_SHOWN = {  # what pictures and films are asked for, by the names that callers have for it
    "width": "size",
    "height": "size",
    "frames": "num_frames",
    "fps": "fps",
    "guidance_2": "guidance_scale_2",
    "true_guidance": "true_cfg_scale",
    "strength": "strength",
    "cache": "cache",
    "cache_threshold": "cache_threshold",
    "lora": "lora",
}


@dataclass(frozen=True, slots=True)
class SoundMaker(Drawer):
    """One model's habits: a sound has `seconds`, and at most these, counted from where it begins (`seconds_start`)."""

    seconds: float = 0.0

    @property
    def output(self) -> str:
        """See `Drawer.output`."""
        return "sound"

    @property
    def door(self) -> tuple[str, str]:
        """See `Drawer.door`."""
        return "makes sounds", "audio/generate"

    def read(self, originals: Sequence[bytes], masks: Sequence[bytes]) -> Sources | None:
        """See `Drawer.read`: it takes no pictures."""
        if originals or masks:
            raise InvalidRequest("this model makes sounds of a text: it takes no pictures", param="image")
        return None

    def _whole(self, drawing: Drawing, width: int, height: int) -> Drawing:
        """See `Drawer._whole`."""
        for field, name in _SHOWN.items():
            if getattr(drawing, field) is not None:
                raise InvalidRequest(f"{name} is for models that draw, and this one makes sounds", param=name)
        if drawing.previews:
            raise InvalidRequest("a sound is not heard before it is made", param="partial_images")
        start = 0.0 if drawing.seconds_start is None else drawing.seconds_start
        whole = Drawing(
            steps=self.steps if drawing.steps is None else drawing.steps,
            guidance=self.guidance if drawing.guidance is None else drawing.guidance,
            seconds=self.seconds - start if drawing.seconds is None else drawing.seconds,
            seconds_start=start,
        )
        self._check(whole)
        self._check_length(start, whole.seconds or 0.0)
        return whole

    def _check_length(self, start: float, seconds: float) -> None:
        if not (math.isfinite(start) and 0 <= start <= self.seconds - _LEAST):
            raise InvalidRequest(
                f"seconds_start must be at least 0 and less than {self.seconds:.4g}, where this model's sounds "
                f"end, got {start:g}",
                param="seconds_start",
            )
        if not (math.isfinite(seconds) and seconds >= _LEAST):
            raise InvalidRequest(
                f"seconds must be a number from {_LEAST:g} to {self.seconds:.4g}, got {seconds:g}",
                param="seconds",
            )
        if start + seconds > self.seconds + 1e-6:
            raise InvalidRequest(
                f"this model's sounds last {self.seconds:.4g} seconds at most, and {seconds:g} seconds"
                f"{f' from {start:g} on' if start else ''} are more: ask for less",
                param="seconds",
            )
