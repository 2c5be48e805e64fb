"""Codes of speech to sound: flow matching to a spectrogram, and a vocoder.

An answer that is listened to while it comes is sounded in windows of whole blocks of the flow, which take their part
of one noise for the whole answer. What a window needs of the one before is kept (`Heard`); some codes behind those that
are new go through the flow with them and are left out again, so a window differs from the whole by what lies beyond.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from tutti.errors import StageFailed
from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions, Chunk
from tutti.models.protocols import Sound
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen2_5_omni.dit import STACKS, FlowNetwork
from tutti.models.qwen2_5_omni.flow import Flow, Past, follow
from tutti.models.qwen2_5_omni.speakers import Speaker, choose, load_speakers
from tutti.models.qwen2_5_omni.talker import end_codes
from tutti.models.qwen2_5_omni.vocoder import Vocoder
from tutti.models.towers import fill_tower

FLOW, VOCODER = "token2wav.code2wav_dit_model.", "token2wav.code2wav_bigvgan_model."
RATE = 24_000
SEED = 0  # of the noise: the same codes give the same sound
# From which code on how many are sounded at a time, 50 a second. A window is made while the one before plays: at 0.5 s
# of work for a second and 0.2 s for a window, one that is half again as long is just in time and one of twice the
# length is not. 192 come when such a listener has some seconds in hand.
SIZES = ((0, 24), (24, 36), (60, 48), (156, 72), (228, 96), (612, 192))
ON_CPU = 16  # times that a frame's cost counts there: 125 codes at once are as fast a code as more, and sooner done
BEHIND = 12  # codes that go with them: a block
CONTEXT = 24  # frames of the spectrogram before new ones that the vocoder hears again


@dataclass(slots=True, eq=False)
class Heard:
    """What an answer's next window needs of the last one. `mel` float32 [1, bands, frames]: `CONTEXT`, or less."""

    codes: int = 0  # sounded so far
    past: Past = field(default_factory=Past)
    mel: Tensor | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """Codes of an answer from its code `first` on, of which the first `new` are wanted; the others come again."""

    codes: tuple[int, ...]
    first: int
    new: int
    speaker: Speaker
    heard: Heard


class Token2Wav:
    """Implements `models.protocols.OnceModel`."""

    def __init__(self, flow: FlowNetwork, vocoder: Vocoder, device: torch.device, dtype: torch.dtype) -> None:
        """Weights are float32; `dtype` is that of the flow's matrix products."""
        self.flow = flow.pack(dtype)
        self.vocoder = vocoder
        self.device = device
        self._voices: dict[Speaker, Tensor] = {}  # what the flow makes of them

    def take(self, part: Any) -> Any:
        """Codes come by an edge only."""
        raise StageFailed("token2wav takes no part of a request")

    def cost(self, item: Window) -> int:
        """See `OnceModel.cost`: frames of the spectrogram, with and without guidance; see `ON_CPU`."""
        frames = 2 * self.flow.repeats * len(item.codes)
        return frames * ON_CPU if self.device.type == "cpu" else frames

    def bucket(self, item: Window) -> Hashable:
        """See `OnceModel.bucket`: windows of one size, of answers that all begin or all go on; each in its turn."""
        if item.first != item.heard.codes:
            return item
        return len(item.codes), item.new, item.heard.mel is None or item.heard.mel.shape

    def run(self, items: list[Window]) -> list[Sound]:
        """One `Sound` per item; no codes are no sound. What was heard of answers changes only when all went well."""
        new = items[0].new * self.flow.repeats
        if not new:
            return [Sound(torch.zeros(0), RATE) for _ in items]
        mel, pasts = self._mel(items)
        known = [item.heard.mel for item in items if item.heard.mel is not None]
        before = known[0].shape[2] if known else 0
        mel = torch.cat([torch.cat(known), mel], dim=2) if known else mel
        together = 1 if self.device.type == "cpu" else len(items)  # a CPU's cache holds the waves of one
        samples = torch.cat([self.vocoder(part) for part in mel.split(together)]).cpu()
        a_frame = samples.shape[1] // mel.shape[2]
        for row, (item, past) in enumerate(zip(items, pasts, strict=True)):
            item.heard.codes, item.heard.past = item.first + item.new, past
            item.heard.mel = mel[row : row + 1, :, : before + new][:, :, -CONTEXT:].clone()
        return [Sound(row, RATE) for row in samples[:, before * a_frame :][:, : new * a_frame]]

    def _mel(self, items: list[Window]) -> tuple[Tensor, list[Past]]:
        """The spectrograms [windows, bands, frames] of the windows' codes, and what those behind them need."""
        network = self.flow
        noise = [
            self._noise(item.first * network.repeats, len(item.codes) * network.repeats) for item in items
        ]
        codes = torch.tensor([item.codes for item in items], device=self.device)
        voices, pasts = [self._voice(item.speaker) for item in items], [item.heard.past for item in items]
        flow = Flow(network, codes, voices, pasts, -(-items[0].new * network.repeats // network.block))
        mel = follow(flow.slope, torch.cat(noise).to(self.device))
        return mel.permute(0, 2, 1), flow.pasts()

    def _noise(self, first: int, frames: int) -> Tensor:
        """The part [1, frames, bands] of the noise for a whole answer."""
        generator = torch.Generator().manual_seed(SEED)
        return torch.randn(1, first + frames, self.flow.bands, generator=generator)[:, first:]

    def _voice(self, speaker: Speaker) -> Tensor:
        known = self._voices.get(speaker)
        if known is None:
            given = speaker.condition.to(self.device), speaker.mel.to(self.device)
            known = self._voices[speaker] = self.flow.voice(*given)
        return known


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
        known, heard = tuple(codes[done : until + BEHIND]), state.setdefault("heard", Heard())
        window = Window(known, done, until - done, choose(speakers, request.voice), heard)
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
