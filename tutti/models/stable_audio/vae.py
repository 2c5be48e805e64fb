"""Stable Audio's VAE, of which the half that decodes is held: latents to the samples that were asked for.

It is made of convolutions, so a sample depends on a few latents around it alone (`config.halo`). A sound is decoded
window by window, each with so many latents more on both sides, and comes out as if it had been decoded whole.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutti.errors import StageFailed
from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions, Chunk
from tutti.models.drawing.denoiser import Bridge, Latents
from tutti.models.drawing.note import note_of
from tutti.models.drawing.vae import load_half
from tutti.models.protocols import Sound
from tutti.models.stable_audio.config import WINDOW, halo
from tutti.request import Request


@dataclass(frozen=True, slots=True, eq=False)
class Piece:
    """A window of `latents` [channels, latents], and which of its samples are kept: from `first` on, `count` of them.

    `note` says how the sound was made.
    """

    latents: Tensor
    first: int
    count: int
    note: str


@dataclass(frozen=True, slots=True, eq=False)
class Undecoded:
    """What the stage takes: latents [channels, latents], of whose samples those from `first` to `last` are wanted."""

    latents: Tensor
    first: int
    last: int
    note: str


class StableAudioVae:
    """See `models.protocols.OnceModel`, and `Splits`."""

    def __init__(self, vae: Any, halo: int, window: int = WINDOW) -> None:
        """`window` latents are decoded at a time, and `halo` on each side of them."""
        self.vae = vae
        self.halo = halo
        self.window = window

    def take(self, part: Any) -> Any:
        """See `OnceModel.take`: sounds come from the denoiser only."""
        raise AssertionError("a VAE takes latents from an edge")

    def split(self, item: Undecoded) -> Sequence[Piece]:
        """See `Splits.split`: windows of one length, those that hold what is wanted."""
        hop = self.vae.hop_length
        total = item.latents.shape[1]
        begin, end = item.first // hop, -(-item.last // hop)
        count = -(-(end - begin) // self.window)
        each = -(-(end - begin) // count)
        width = min(total, each + 2 * self.halo)
        pieces = []
        for at in range(begin, end, each):
            start = max(0, min(at - self.halo, total - width))
            first = max(item.first, at * hop)
            last = min(item.last, (at + each) * hop)
            window = item.latents[:, start : start + width]
            pieces.append(Piece(window, first - start * hop, last - first, item.note))
        return pieces

    def join(self, payloads: list[Sound]) -> Sound:
        """See `Splits.join`."""
        first = payloads[0]
        return Sound(torch.cat([one.samples for one in payloads]), first.rate, first.note)

    def cost(self, item: Piece) -> int:
        """See `OnceModel.cost`: latents."""
        return item.latents.shape[1]

    def bucket(self, item: Piece) -> tuple[int, ...]:
        """See `OnceModel.bucket`."""
        return tuple(item.latents.shape)

    def run(self, items: list[Piece]) -> list[Sound]:
        """See `OnceModel.run`. Raises StageFailed where what comes out are no numbers."""
        latents = torch.stack([item.latents for item in items]).to(self.vae.dtype)
        samples = self.vae.decode(latents, return_dict=False)[0].float()
        if not torch.isfinite(samples).all():
            raise StageFailed("the VAE gave values that are no numbers; try --dtype float32", stage="vae")
        rate = self.vae.config.sampling_rate
        return [
            Sound(one[:, item.first : item.first + item.count].T, rate, item.note)
            for one, item in zip(samples, items, strict=True)
        ]


def finished(checkpoint: Checkpoint, model: StableAudioVae) -> Bridge:
    """The bridge from the denoiser: what the request wants of the latents."""
    rate = model.vae.config.sampling_rate

    def bridge(chunk: Chunk, state: dict[str, Any]) -> Chunk:
        request: Request = state["request"]
        drawing, made = request.drawing, chunk.payload
        assert drawing is not None and isinstance(made, Latents)
        start = drawing.seconds_start or 0.0
        last = min(
            int((start + (drawing.seconds or 0.0)) * rate), made.latents.shape[1] * model.vae.hop_length
        )
        item = Undecoded(made.latents, int(start * rate), last, note_of(request))
        return Chunk(chunk.request, chunk.stage, item, final=chunk.final)

    return bridge


def build(checkpoint: Checkpoint, options: BuildOptions) -> StableAudioVae:
    """The stage's model."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)  # of the way in which diffusers normalizes weights
        vae = load_half(checkpoint, options, "decoder")
    return StableAudioVae(vae, halo(checkpoint.config))
