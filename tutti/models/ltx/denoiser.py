"""LTX-Video's transformer. Films of a size share a batch, with prompts of any length, with a picture or without.

Later models (`stirs`) have noise laid over the picture before every step, less of it as the film gets clearer, so that
it does not stand still; and they count the first frame as one frame where they place latents in time. They take a last
picture, too, whose tokens stand before those of the film.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from tutti.errors import CheckpointError
from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.drawing.denoiser import Canvas, Condition, Conditions, Latents, Row, Sight
from tutti.models.drawing.film import FilmDenoiser
from tutti.models.drawing.flow import FlowMatching
from tutti.models.drawing.parts import component, load_module, value
from tutti.models.ltx.config import every, is_conditional, pixels
from tutti.models.ltx.levels import LinearQuadratic, sampler
from tutti.request import Request

_STIRRED = 0.15  # noise over a picture, at the first step


class LtxDenoiser(FilmDenoiser):
    """See the module. Beside a film that begins with a picture stands its latent frame.

    Of a model that stirs: first and last frame as the network is shown them, then the same without noise.
    """

    adapts = True

    def __init__(
        self, net: Any, sampler: FlowMatching | LinearQuadratic, *, stirs: bool, noisy: bool, **shape: Any
    ) -> None:
        """`noisy`: the VAE takes noise with the latents. `shape` as for `FilmDenoiser`."""
        super().__init__(sampler, channels=net.config.in_channels, patch=1, holds=True, **shape)
        self.net = net
        self.scale = sampler.scale
        self.stirs = stirs
        self.noisy = noisy
        self.gate.guard_stream(net, "transformer_blocks", ())

    def signal(self, block: Any, hidden: Tensor, temb: Tensor) -> Tensor:
        """See `Denoiser.signal`."""
        table = block.scale_shift_table
        shift, scale = (table + temb.unflatten(-1, (len(table), -1))).unbind(-2)[:2]
        found: Tensor = block.norm1(hidden) * (1 + scale) + shift
        return found

    def feature_bytes(self) -> int:
        """See `Denoiser.feature_bytes`."""
        heads, size = self.net.config.num_attention_heads, self.net.config.attention_head_dim
        return int(heads) * int(size) * int(self.net.dtype.itemsize)

    def prepare(self, condition: Condition) -> Tensor:
        """See `Denoiser.prepare`."""
        return condition[0]

    def width(self, prepared: Tensor) -> int:
        """See `Denoiser.width`."""
        return len(prepared)

    def key(self, state: Canvas) -> Hashable:
        """See the module."""
        return state.latents.shape, self._ends(state)

    def _ends(self, of: Canvas | Row) -> int:
        """How many pictures stand before the film's own tokens: the last one, or none."""
        return int(self.stirs and len(of.beside) == 4)

    def cost(self, state: Canvas) -> int:
        """See `Denoiser.cost`."""
        return super().cost(state) + self._ends(state) * len(state.prepared) * _area(state.latents)

    def look(
        self, pictures: Sequence[Sight], shape: tuple[int, ...], generator: torch.Generator
    ) -> tuple[Tensor, ...]:
        """See `Denoiser.look`: of a model that stirs, when its noise has been drawn."""
        return () if self.stirs or not pictures else (self._drawn(pictures[0], generator),)

    def _drawn(self, picture: Sight, generator: torch.Generator) -> Tensor:
        """One of the latent frames that a picture may be."""
        mean, deviation = picture[0], picture[1]
        return mean + deviation * self._random(tuple(mean.shape), generator)

    @torch.inference_mode()
    def start(self, request: Request, condition: Conditions) -> Canvas:
        """See `DenoiseModel.start`."""
        state = super().start(request, condition)
        if not (self.stirs and condition.pictures):
            return state
        generator = _going_on(state)
        mean, deviation = condition.pictures[0]
        moments = zip(mean.split(1, dim=1), deviation.split(1, dim=1), strict=True)
        clear = [self._drawn(one, generator) for one in moments]
        if len(clear) == 2:  # noise that the last one would be mixed with, if it were to count in part only
            self._random(tuple(clear[1].shape), generator)
        return replace(state, beside=(*clear, *clear), chance=generator.get_state())

    def step(self, states: list[Canvas]) -> list[Canvas]:
        """See `DenoiseModel.step`."""
        return super().step(
            [self._stirred(state) if self.stirs and state.beside else state for state in states]
        )

    def _stirred(self, state: Canvas) -> Canvas:
        """`state` with noise over its pictures. The last one is before the first, as in the row of tokens."""
        generator = _going_on(state)
        clear = state.beside[len(state.beside) // 2 :]
        area, channels = _area(state.latents), len(state.latents)
        tokens = area * (self._ends(state) + state.latents.shape[1])
        noise = self._random((tokens, channels), generator)[: len(clear) * area].split(area)
        noisy = (
            one + _STIRRED * other.T.reshape(one.shape) * state.levels[state.done] ** 2
            for one, other in zip(clear, reversed(noise), strict=True)
        )
        return replace(state, beside=(*noisy, *clear), chance=generator.get_state())

    def predict(self, rows: list[Row]) -> list[Tensor]:
        """See `Denoiser.predict`."""
        net = self.net
        shown = self.shown(rows)
        times = self.times(rows, torch.stack([row.level for row in rows]) * self.scale)
        before = self._ends(rows[0]) * _area(shown)
        lengths = torch.tensor([len(row.prepared) for row in rows], device=self.device)
        text = pad_sequence([row.prepared for row in rows], batch_first=True).to(net.dtype)
        tokens = shown.flatten(2)
        if before:
            tokens = torch.cat([torch.stack([row.beside[1] for row in rows]).flatten(2), tokens], dim=2)
            times = torch.nn.functional.pad(times, (before, 0))
        tokens = tokens.transpose(1, 2).to(net.dtype)
        ends = [tokens.shape[1]] * len(rows)  # the times of tokens are laid end to end
        with self.adapters.at(range(len(rows)), ends):
            found = net(
                hidden_states=tokens,
                encoder_hidden_states=text,
                timestep=times,
                encoder_attention_mask=torch.arange(text.shape[1], device=self.device) < lengths[:, None],
                video_coords=torch.stack([self._places(row) for row in rows]),
                return_dict=False,
            )[0]
        return list(found[:, before:].float().transpose(1, 2).reshape(shown.shape))

    def _places(self, row: Row) -> Tensor:
        """Where the tokens are: float32 [3, tokens], in seconds, and in pixels down and across."""
        _, frames, rows, columns = row.latents.shape
        times = torch.arange(frames, device=self.device) * self.every
        last = times[-1:] if self._ends(row) else times[:0]
        if self.stirs:
            times = torch.cat([last, (times + 1 - self.every).clamp(min=0)])
        sides = (torch.arange(side, device=self.device) * self.pixels for side in (rows, columns))
        grid = torch.meshgrid(times, *sides, indexing="ij")
        places = torch.stack([one.flatten() for one in grid]).float()
        places[0] /= row.drawing.fps or 1.0
        return places

    def result(self, state: Canvas) -> Latents:
        """See `Denoiser.result`."""
        found = super().result(state)
        if not self.noisy:
            return found
        return replace(found, noise=self._random(tuple(state.latents.shape), _going_on(state)))


def _area(latents: Tensor) -> int:
    """The tokens of one frame of `latents` [..., rows, columns]."""
    return latents.shape[-2] * latents.shape[-1]


def _going_on(state: Canvas) -> torch.Generator:
    """The generator of a request, where it stands."""
    assert state.chance is not None
    generator = torch.Generator("cpu")
    generator.set_state(state.chance)
    return generator


def build(checkpoint: Checkpoint, options: BuildOptions) -> LtxDenoiser:
    """The stage's model. Raises CheckpointError."""
    config = checkpoint.config
    patches = [value(config, "transformer", name, 1) for name in ("patch_size", "patch_size_t")]
    if patches != [1, 1]:
        raise CheckpointError(f"transformer/config.json: patches of {patches} are not supported, latents are")
    later = is_conditional(config)
    return LtxDenoiser(
        load_module(checkpoint, "transformer", options),
        sampler(component(config, "scheduler"), conditional=later),
        stirs=later,
        noisy=bool(component(config, "vae").get("timestep_conditioning")),
        pixels=pixels(config),
        every=every(config),
        device=options.device,
    )
