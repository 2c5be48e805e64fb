"""How a picture, a film or a sound was asked for at the command line."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tutti.request import Drawing


@dataclass(frozen=True, slots=True)
class Sheet:
    """What the flags say; what is None is the model's own habit."""

    output: Path | None = None
    size: str | None = None
    steps: int | None = None
    guidance: float | None = None
    negative: str | None = None
    seed: int | None = None
    strength: float | None = None
    mask: Path | None = None
    frames: int | None = None
    fps: float | None = None
    seconds: float | None = None
    cache: str | None = None
    cache_threshold: float | None = None
    lora: Path | None = None
    lora_scale: float = 1.0

    @property
    def asked(self) -> list[str]:
        """The flags that were typed and mean something to a model that draws only."""
        picture = ("output", "size", "steps", "guidance", "negative", "strength", "mask", "frames", "fps")
        own = (*picture, "seconds", "cache", "cache_threshold", "lora")
        return [f"--{name.replace('_', '-')}" for name in own if getattr(self, name) is not None]

    @property
    def drawing(self) -> Drawing:
        """The same, as the part of a request. Raises InvalidRequest."""
        from tutti.models.processor.drawer import parse_sides
        from tutti.request import Drawing

        width, height = parse_sides(self.size)
        return Drawing(
            width=width,
            height=height,
            steps=self.steps,
            guidance=self.guidance,
            strength=self.strength,
            frames=self.frames,
            fps=self.fps,
            seconds=self.seconds,
            cache=self.cache,
            cache_threshold=self.cache_threshold,
            lora=self.adapter,
            lora_scale=self.lora_scale,
        )

    @property
    def adapter(self) -> str | None:
        """The name that the adapter has in the engine."""
        return None if self.lora is None else self.lora.stem.replace("=", "-")

    @property
    def modules(self) -> tuple[str, ...]:
        """What the engine is told of the adapter."""
        return () if self.lora is None else (f"{self.adapter}={self.lora}",)
