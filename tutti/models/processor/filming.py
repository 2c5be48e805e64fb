"""What may be asked of a model that films, besides what a model that draws is asked (`drawer`). No torch."""

from __future__ import annotations

import math
from dataclasses import dataclass

import msgspec

from tutti.errors import InvalidRequest
from tutti.request import Drawing

MOST_FPS = 120.0
MOST_PIXELS = 500_000_000  # of all frames together: 1.5 GB as RGB
MOST_GUIDANCE = 100.0


@dataclass(frozen=True, slots=True)
class Filming:
    """One model's habits: `frames`, `fps` of them a second.

    A latent frame is `every` frames but for the first, which is one: so many frames may be asked for as are a multiple
    of it and one more, in at most `places` latent frames. `guidance_2` is the scale of the second of two networks; None
    where there is one.
    """

    frames: int
    fps: float
    every: int = 1
    places: int = 1024
    guidance_2: float | None = None

    def complete(self, drawing: Drawing, asked: Drawing) -> Drawing:
        """`drawing`, which is complete as a picture, with what a film needs. Raises InvalidRequest.

        `asked` is what was asked for: who says `guidance` alone means both networks.
        """
        second = asked.guidance_2
        if second is None and self.guidance_2 is not None:
            second = self.guidance_2 if asked.guidance is None else asked.guidance
        whole = msgspec.structs.replace(
            drawing,
            frames=self.frames if asked.frames is None else asked.frames,
            fps=float(self.fps if asked.fps is None else asked.fps),
            guidance_2=second,
        )
        self._check(whole)
        return whole

    def nearest(self, frames: float) -> int:
        """The number of frames that can be filmed and is next to `frames`."""
        return max(0, round((frames - 1) / self.every)) * self.every + 1

    def _check(self, drawing: Drawing) -> None:
        frames, fps = drawing.frames or 0, drawing.fps or 0.0
        most = (self.places - 1) * self.every + 1
        if not 1 <= frames <= most:
            raise InvalidRequest(
                f"num_frames must be from 1 to {most:,}, got {frames}; this model's habit is {self.frames}",
                param="num_frames",
            )
        if (frames - 1) % self.every:
            raise InvalidRequest(
                f"num_frames must be a multiple of {self.every} and one more; take {self.nearest(frames)} for {frames}",
                param="num_frames",
            )
        pixels = frames * (drawing.width or 0) * (drawing.height or 0)
        if pixels > MOST_PIXELS:
            raise InvalidRequest(
                f"{frames} frames of {drawing.width}x{drawing.height} are {pixels:,} pixels, and at most "
                f"{MOST_PIXELS:,} are filmed: ask for fewer frames, or smaller ones",
                param="num_frames",
            )
        if not (math.isfinite(fps) and 1 <= fps <= MOST_FPS):
            raise InvalidRequest(f"fps must be from 1 to {MOST_FPS:g}, got {fps:g}", param="fps")
        if drawing.guidance_2 is None:
            return
        if self.guidance_2 is None:
            raise InvalidRequest(
                "guidance_scale_2 is for models of two networks, and this one has one: give guidance_scale",
                param="guidance_scale_2",
            )
        if not (math.isfinite(drawing.guidance_2) and 0 <= drawing.guidance_2 <= MOST_GUIDANCE):
            raise InvalidRequest(
                f"guidance_scale_2 must be from 0 to {MOST_GUIDANCE:g}, got {drawing.guidance_2}",
                param="guidance_scale_2",
            )


def refuse_film(drawing: Drawing) -> None:
    """Raises InvalidRequest where a film is asked of a model that draws pictures."""
    for name, value in (
        ("num_frames", drawing.frames),
        ("fps", drawing.fps),
        ("guidance_scale_2", drawing.guidance_2),
    ):
        if value is not None:
            raise InvalidRequest(f"{name} is for models that film, and this one draws pictures", param=name)


def refuse_sound(drawing: Drawing) -> None:
    """Raises InvalidRequest where a sound is asked of a model that draws or films."""
    for name, value in (("seconds", drawing.seconds), ("seconds_start", drawing.seconds_start)):
        if value is not None:
            raise InvalidRequest(
                f"{name} is for models that make sounds (how long a film is, num_frames says)", param=name
            )
