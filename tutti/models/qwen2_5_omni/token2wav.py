"""Codes of speech to sound: flow matching to a spectrogram, and a vocoder.

An answer that is listened to while it comes is sounded in windows: some codes before and behind those that are new go
through the flow with them and are left out again. Windows begin at the flow's blocks and take their part of one noise
for the whole answer, so that they differ from the whole only by what lies beyond the window.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from tutti.errors import StageFailed
from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions, Chunk
from tutti.models.protocols import Sound
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen2_5_omni.dit import STACKS, FlowNetwork
from tutti.models.qwen2_5_omni.flow import Flow, follow
from tutti.models.qwen2_5_omni.speakers import Speaker, choose, load_speakers
from tutti.models.qwen2_5_omni.talker import end_codes
from tutti.models.qwen2_5_omni.vocoder import Vocoder
from tutti.models.towers import fill_tower

FLOW, VOCODER = "token2wav.code2wav_dit_model.", "token2wav.code2wav_bigvgan_model."
RATE = 24_000
SEED = 0  # of the noise: the same codes give the same sound
SIZES = ((0, 24), (24, 48), (72, 96))  # from which code on how many are sounded at a time, 50 a second
BEFORE, BEHIND = 48, 12  # codes that go with them


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Codes of an answer from its code `first` on, of which `new` (first and last, in the answer) are wanted."""

    codes: tuple[int, ...]
    first: int
    new: tuple[int, int]
    speaker: Speaker


class Token2Wav:
    """Implements `models.protocols.OnceModel`."""

    def __init__(self, flow: FlowNetwork, vocoder: Vocoder, device: torch.device, dtype: torch.dtype) -> None:
        """Weights are float32; `dtype` is that of the flow's matrix products."""
        self.flow = flow
        self.vocoder = vocoder
        self.device = device
        self.dtype = dtype

    def take(self, part: Any) -> Any:
        """Codes come by an edge only."""
        raise StageFailed("token2wav takes no part of a request")

    def cost(self, item: Window) -> int:
        """See `OnceModel.cost`: frames of the spectrogram, with and without guidance."""
        return 4 * len(item.codes)

    def bucket(self, item: Window) -> Hashable:
        """See `OnceModel.bucket`: one window at a time."""
        return item

    def run(self, items: list[Window]) -> list[Sound]:
        """One `Sound` per item; no codes are no sound."""
        return [self._sound(item) for item in items]

    def _sound(self, item: Window) -> Sound:
        if item.new[0] == item.new[1]:
            return Sound(torch.zeros(0), RATE)
        repeats = self.flow.repeats
        end = item.first + len(item.codes)
        generator = torch.Generator().manual_seed(SEED)
        noise = torch.randn(1, end * repeats, self.flow.bands, generator=generator)[:, item.first * repeats :]
        mel = self._mel(torch.tensor([item.codes], device=self.device), noise.to(self.device), item.speaker)
        samples: Tensor = self.vocoder(mel).cpu()
        per_code = len(samples) // len(item.codes)
        return Sound(
            samples[(item.new[0] - item.first) * per_code : (item.new[1] - item.first) * per_code], RATE
        )

    def _mel(self, codes: Tensor, noise: Tensor, speaker: Speaker) -> Tensor:
        """The spectrogram [1, bands, frames] of `codes` [1, codes], from `noise` [1, frames, bands]."""
        voice = speaker.condition.to(self.device), speaker.mel.to(self.device)
        with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
            mel = follow(Flow(self.flow, codes, *voice).slope, noise)
        return mel.float().permute(0, 2, 1)


def collect(source: Checkpoint, token2wav: Token2Wav) -> Callable[[Chunk, dict[str, Any]], Chunk | None]:
    """The bridge: windows of codes for who listens, all codes at the end for who wants a file."""
    speakers = load_speakers(source.path)
    ends = end_codes(part(source.config, "talker_config"))

    def bridge(chunk: Chunk, state: dict[str, Any]) -> Chunk | None:
        request = state["request"]
        codes: list[int] = state.setdefault("codes", [])
        codes += [code for code in chunk.payload.tokens if code not in ends]
        done: int = state.get("done", 0)
        until = len(codes)
        if not chunk.final:
            until = done + next(size for start, size in reversed(SIZES) if done >= start)
            if not request.live or len(codes) < until + BEHIND:
                return None
        state["done"] = until
        first = max(0, done - BEFORE)
        known = tuple(codes[first : until + BEHIND])
        window = Window(known, first, (done, until), choose(speakers, request.voice))
        return Chunk(chunk.request, chunk.stage, window, chunk.final)

    return bridge


def build(checkpoint: Checkpoint, options: BuildOptions) -> Token2Wav:
    """The networks with their weights in float32, as their authors run them.

    The matrix products of the flow, which are nearly all of the work, are in the stage's own type: what they lose is
    far below what the flow's noise decides.
    """
    exact = BuildOptions(options.device, "float32")
    config = part(checkpoint.config, "token2wav_config")
    network = FlowNetwork(part(config, "dit_config"))
    flow = fill_tower(network, checkpoint, exact, (FLOW,), STACKS)
    vocoder = fill_tower(Vocoder(part(config, "bigvgan_config")), checkpoint, exact, (VOCODER,))
    return Token2Wav(flow, vocoder, torch.device(options.device), getattr(torch, options.dtype))
