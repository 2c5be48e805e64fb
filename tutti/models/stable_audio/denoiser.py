"""Stable Audio's transformer. All its sounds have one length, so any may share a batch; what is too much is cut off."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from tutti.errors import InvalidRequest
from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.cosine import CosineDPM, cosine_dpm
from tutti.models.drawing.denoiser import Canvas, Condition, Conditions, Denoiser, Row
from tutti.models.drawing.parts import component, load_module
from tutti.request import Drawing, Request

Prepared = tuple[
    Tensor, Tensor
]  # the text's rows and the seconds' [tokens + 2, width], and both seconds [1, 2 width]


class StableAudioDenoiser(Denoiser):
    """See the module. Latents are [channels, length]; a velocity is what the network tells of noise and sound."""

    def __init__(self, net: Any, projection: Any, sampler: CosineDPM, *, device: str) -> None:
        """`projection` reads where a sound begins and ends."""
        from diffusers.models.embeddings import get_1d_rotary_pos_embed

        settings = net.config
        super().__init__(sampler, channels=settings.in_channels, pixels=1, device=device)
        self.net = net
        self.projection = projection
        self.wandering = sampler
        self.length = settings.sample_size
        turns = get_1d_rotary_pos_embed(
            settings.attention_head_dim // 2, self.length + 1, use_real=True, repeat_interleave_real=False
        )
        self.turns = tuple(one.to(self.device) for one in turns)

    def shape(self, drawing: Drawing) -> tuple[int, ...]:
        """See `Denoiser.shape`: always the same."""
        return self.channels, self.length

    def key(self, state: Canvas) -> Hashable:
        """See the module."""
        return state.latents.shape

    def cost(self, state: Canvas) -> int:
        """See `Denoiser.cost`: latents, the time, and what is read."""
        return sum(self.length + 1 + self.width(one) for one in state.prepared)

    def preview(self, state: Canvas) -> None:
        """See `Denoiser.preview`: there are none."""

    @torch.inference_mode()
    def start(self, request: Request, condition: Conditions) -> Canvas:
        """See `DenoiseModel.start`."""
        drawing = request.drawing
        assert drawing is not None
        if not (drawing.seconds and drawing.steps and request.sampling.seed is not None):
            raise InvalidRequest("the sound's seconds, steps and seed must be given", param="seconds")
        generator = torch.Generator("cpu").manual_seed(request.sampling.seed)
        levels = self.sampler.levels(drawing.steps, self.length)
        shape = self.shape(drawing)
        latents = self.sampler.opened(self._random(shape, generator), levels)
        history = self.wandering.begin(shape, generator.initial_seed())
        rows = self._rows(condition, drawing)
        return Canvas(drawing, latents, levels.to(self.device), rows, history=history)

    def _rows(self, condition: Conditions, drawing: Drawing) -> tuple[Prepared, ...]:
        """What the network is told in every step; guided away from no text, it is told of the seconds alone."""
        begin, end = (drawing.seconds_start or 0.0), (drawing.seconds_start or 0.0) + (drawing.seconds or 0.0)
        told = self.projection(
            start_seconds=torch.tensor([begin], device=self.device),
            end_seconds=torch.tensor([end], device=self.device),
        )
        seconds = told.seconds_start_hidden_states[0], told.seconds_end_hidden_states[0]
        both = torch.cat(seconds, dim=1)

        def prepared(text: Condition) -> Prepared:
            return torch.cat([text[0], *seconds]), both

        rows = (prepared(condition.prompt),)
        if condition.negative is not None:
            return *rows, prepared(condition.negative)
        return (*rows, (torch.zeros_like(rows[0][0]), both)) if (drawing.guidance or 0.0) > 1 else rows

    def combine(self, positive: Tensor, negative: Tensor, drawing: Drawing) -> Tensor:
        """Guidance, counted from what the negative text gives: 1 is none."""
        return negative + (drawing.guidance or 0.0) * (positive - negative)

    def predict(self, rows: list[Row]) -> list[Tensor]:
        """See `Denoiser.predict`."""
        net = self.net
        levels = torch.stack([row.level for row in rows])
        latents = self.wandering.scaled(torch.stack([row.latents for row in rows]), levels[:, None, None])
        found = net(
            latents.to(net.dtype),
            self.wandering.times(levels),
            encoder_hidden_states=torch.stack([row.prepared[0] for row in rows]).to(net.dtype),
            global_hidden_states=torch.stack([row.prepared[1] for row in rows]).to(net.dtype),
            rotary_embedding=self.turns,
            return_dict=False,
        )[0]
        return list(found.float())


def build(checkpoint: Checkpoint, options: BuildOptions) -> StableAudioDenoiser:
    """The stage's model."""
    return StableAudioDenoiser(
        load_module(checkpoint, "transformer", options),
        load_module(checkpoint, "projection_model", options),
        cosine_dpm(component(checkpoint.config, "scheduler")),
        device=options.device,
    )
