"""Wan's transformers. Films of a size share a batch.

Where there are two transformers, the first has the steps of much noise and the second those of little, each with its
own scale of guidance; requests share a batch that are on the same side of the boundary.
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Mapping
from dataclasses import replace
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.nn.functional import pad

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.denoiser import Canvas, Condition, Denoiser, Latents, Row
from tutti.models.drawing.describe import vae_pixels
from tutti.models.drawing.flow import FlowMatching, flow_matching
from tutti.models.drawing.parts import component, load_module
from tutti.models.drawing.unipc import UniPC, unipc
from tutti.models.wan.config import TOKENS, boundary, every
from tutti.request import Drawing


class WanDenoiser(Denoiser):
    """See the module."""

    def __init__(
        self,
        nets: tuple[Any, ...],
        sampler: UniPC | FlowMatching,
        *,
        boundary: float | None,
        pixels: int,
        every: int,
        device: str,
    ) -> None:
        """`nets` are one transformer, or two with a `boundary` between them; a latent frame is `every` frames."""
        super().__init__(sampler, channels=nets[0].config.in_channels, pixels=pixels, device=device)
        self.nets = nets
        self.timed = sampler
        self.boundary = None if boundary is None else boundary * sampler.scale
        self.every = every

    @property
    def networks(self) -> tuple[Any, ...]:
        """See `Denoiser.networks`."""
        return self.nets

    def shape(self, drawing: Drawing) -> tuple[int, ...]:
        """See `Denoiser.shape`."""
        channels, rows, columns = super().shape(drawing)
        return channels, ((drawing.frames or 1) - 1) // self.every + 1, rows, columns

    def prepare(self, condition: Condition) -> Tensor:
        """The text, padded with zeros: float [512, width]."""
        return pad(condition[0], (0, 0, 0, TOKENS - len(condition[0])))

    def width(self, prepared: Tensor) -> int:
        """See `Denoiser.width`."""
        return len(prepared)

    def key(self, state: Canvas) -> Hashable:
        """See the module."""
        return state.latents.shape, self._second(state.drawing, state.done)

    def cost(self, state: Canvas) -> int:
        """See `Denoiser.cost`: patches of all latent frames."""
        frames = state.latents.shape[1]
        return sum(frames * math.prod(state.tokens) + self.width(one) for one in state.prepared)

    def manner(self, state: Canvas) -> Drawing:
        """See `Denoiser.manner`: each transformer has its scale."""
        if not self._second(state.drawing, state.done):
            return state.drawing
        return msgspec.structs.replace(state.drawing, guidance=state.drawing.guidance_2)

    def combine(self, positive: Tensor, negative: Tensor, drawing: Drawing) -> Tensor:
        """Guidance, counted from the negative text's velocity: 1 is none."""
        return negative + (drawing.guidance or 0.0) * (positive - negative)

    def preview(self, state: Canvas) -> Latents | None:
        """See `Denoiser.preview`: of the film, its first frame."""
        found = super().preview(state)
        return None if found is None else replace(found, latents=found.latents[:, :1])

    def predict(self, rows: list[Row]) -> list[Tensor]:
        """See `Denoiser.predict`; the rows are on one side of the boundary."""
        net = self.nets[self._second(rows[0].drawing, rows[0].done)]
        times = [self._time(row.drawing, row.done) for row in rows]
        found = net(
            hidden_states=torch.stack([row.latents for row in rows]).to(net.dtype),
            timestep=torch.tensor(times, device=self.device),
            encoder_hidden_states=torch.stack([row.prepared for row in rows]).to(net.dtype),
            return_dict=False,
        )[0]
        return list(found.float())

    def _time(self, drawing: Drawing, done: int) -> float:
        """What the network is told of the noise before the step that follows `done` ones."""
        return self.timed.times(drawing.steps or 0)[done]

    def _second(self, drawing: Drawing, done: int) -> bool:
        """Whether that step is the second transformer's."""
        last = (drawing.steps or 0) - 1
        return self.boundary is not None and self._time(drawing, min(done, last)) < self.boundary


def _sampler(settings: Mapping[str, Any]) -> UniPC | FlowMatching:
    """The models' own is UniPC; distilled ones come with Euler's method. Raises CheckpointError on others."""
    if settings.get("_class_name") == "UniPCMultistepScheduler":
        return unipc(settings)
    return replace(flow_matching(settings), whole=True)


def build(checkpoint: Checkpoint, options: BuildOptions) -> WanDenoiser:
    """The stage's model."""
    config = checkpoint.config
    names = ("transformer",) if boundary(config) is None else ("transformer", "transformer_2")
    return WanDenoiser(
        tuple(load_module(checkpoint, name, options) for name in names),
        _sampler(component(config, "scheduler")),
        boundary=boundary(config),
        pixels=vae_pixels(config),
        every=every(config),
        device=options.device,
    )
