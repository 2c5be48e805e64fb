"""Wan's transformers. Films of a size share a batch.

Where there are two transformers, the first has the steps of much noise and the second those of little, each with its
own scale of guidance; requests share a batch that are on the same side of the boundary. Films that begin with a picture
share batches with those that do not, where a model has both.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import msgspec
import torch
from torch import Tensor
from torch.nn.functional import pad

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.denoiser import Canvas, Condition, Row
from tutti.models.drawing.describe import vae_pixels
from tutti.models.drawing.film import FilmDenoiser
from tutti.models.drawing.flow import FlowMatching, flow_matching
from tutti.models.drawing.parts import component, load_module
from tutti.models.drawing.unipc import UniPC, unipc
from tutti.models.wan.config import PATCH, TOKENS, boundary, channels, every, is_small
from tutti.request import Drawing

_GIVEN = ("hidden_states", "encoder_hidden_states", "temb", "rotary_emb")


class WanDenoiser(FilmDenoiser):
    """See the module. Beside a film that begins with a picture stands what `wan.vae` made of it."""

    adapts = True
    parts = True

    def __init__(
        self,
        nets: tuple[Any, ...],
        sampler: UniPC | FlowMatching,
        *,
        boundary: float | None,
        **shape: Any,
    ) -> None:
        """`nets` are one transformer, or two with a `boundary` between them; `shape` as for `FilmDenoiser`."""
        super().__init__(sampler, patch=PATCH, **shape)
        self.net = nets[0]
        self.nets = nets
        for net in nets:
            self.gate.guard_stream(net, "blocks", _GIVEN)
        self.timed = sampler
        self.boundary = None if boundary is None else boundary * sampler.scale

    @property
    def networks(self) -> tuple[Any, ...]:
        """See `Denoiser.networks`."""
        return self.nets

    def prepare(self, condition: Condition) -> Tensor:
        """The text, padded with zeros: float [512, width]."""
        return pad(condition[0], (0, 0, 0, TOKENS - len(condition[0])))

    def width(self, prepared: Tensor) -> int:
        """See `Denoiser.width`."""
        return len(prepared)

    def key(self, state: Canvas) -> Hashable:
        """See the module."""
        return state.latents.shape, self._second(state.drawing, state.done)

    def signal(self, block: Any, hidden: Tensor, temb: Tensor) -> Tensor:
        """See `Denoiser.signal`."""
        table = block.scale_shift_table if temb.ndim == 3 else block.scale_shift_table.unsqueeze(0)
        shift, scale = (table + temb.float()).unbind(-2)[:2]
        if temb.ndim == 3:  # one for all tokens
            shift, scale = shift[:, None], scale[:, None]
        found: Tensor = (block.norm1(hidden.float()) * (1 + scale) + shift).type_as(hidden)
        return found

    def feature_bytes(self) -> int:
        """See `Denoiser.feature_bytes`."""
        heads, size = self.net.config.num_attention_heads, self.net.config.attention_head_dim
        return int(heads) * int(size) * int(self.net.dtype.itemsize)

    def step(self, states: list[Canvas]) -> list[Canvas]:
        """See `DenoiseModel.step`: what was kept of the first network means nothing to the second."""
        return super().step(
            [
                replace(state, memories=())
                if self._second(state.drawing, state.done)
                and not self._second(state.drawing, max(0, state.done - 1))
                else state
                for state in states
            ]
        )

    def serve_adapters(self, checkpoint: Checkpoint, paths: Mapping[str, Path], room: int) -> None:
        """See `models.protocols.NamesAdapters`: what `Adapters` says of two networks."""
        self.adapters.serve(checkpoint, self.net, paths, room, *self.nets[1:])

    def manner(self, state: Canvas) -> Drawing:
        """See `Denoiser.manner`: each transformer has its scale."""
        if not self._second(state.drawing, state.done):
            return state.drawing
        return msgspec.structs.replace(state.drawing, guidance=state.drawing.guidance_2)

    def predict(self, rows: list[Row]) -> list[Tensor]:
        """See `Denoiser.predict`; the rows are on one side of the boundary."""
        net = self.nets[self._second(rows[0].drawing, rows[0].done)]
        shown, seen = self.shown(rows), None
        times = torch.tensor([self._time(row.drawing, row.done) for row in rows], device=self.device)
        if rows[0].beside and not self.holds:
            shown = torch.cat([shown, torch.stack([row.beside[0] for row in rows])], dim=1)
            if len(rows[0].beside) > 1:
                seen = torch.cat([row.beside[1] for row in rows]).to(net.dtype)
        found = net(
            hidden_states=shown.to(net.dtype),
            timestep=self.times(rows, times),
            encoder_hidden_states=torch.stack([row.prepared for row in rows]).to(net.dtype),
            encoder_hidden_states_image=seen,
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
        channels=channels(config),
        pixels=vae_pixels(config),
        every=every(config),
        device=options.device,
        holds=is_small(config),
    )
