"""Codes of speech to sound: flow matching to a spectrogram, and a vocoder. transformers' modules."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any

import torch
from torch import Tensor

from tutti.errors import StageFailed
from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions, Chunk
from tutti.models.protocols import Sound
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen2_5_omni.speakers import Speaker, default_speaker, load_speakers
from tutti.models.qwen2_5_omni.talker import Talker
from tutti.models.towers import load_tower

TARGET = "transformers.models.qwen2_5_omni.modeling_qwen2_5_omni:Qwen2_5OmniToken2WavModel"
RATE = 24_000
STEPS = 10  # of the flow
SEED = 0  # of its noise: the same codes give the same sound


class Token2Wav:
    """Implements `models.protocols.OnceModel`; an item is the codes of one answer."""

    def __init__(self, module: Any, speakers: dict[str, Speaker], device: torch.device) -> None:
        self.module = module
        self.speakers = speakers
        self.device = device

    def take(self, part: Any) -> Any:
        """Codes come by an edge only."""
        raise StageFailed("token2wav takes no part of a request")

    def cost(self, item: list[int]) -> int:
        """See `OnceModel.cost`: frames of the spectrogram, with and without guidance."""
        return 4 * len(item)

    def bucket(self, item: list[int]) -> Hashable:
        """See `OnceModel.bucket`: answers of equal length are computed together."""
        return len(item)

    def run(self, items: list[list[int]]) -> list[Sound]:
        """One `Sound` per item; no codes are no sound."""
        return [self._sound(codes) for codes in items]

    def _sound(self, codes: list[int]) -> Sound:
        if not codes:
            return Sound(torch.zeros(0), RATE)
        speaker = self.speakers[default_speaker(self.speakers)]
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(SEED)
            samples: Tensor = self.module(
                torch.tensor([codes], device=self.device),
                speaker.condition.to(self.device),
                speaker.mel.to(self.device),
                num_steps=STEPS,
            )
        return Sound(samples.flatten(), RATE)


def collect(talker: Talker, token2wav: Token2Wav) -> Callable[[Chunk, dict[str, Any]], Chunk | None]:
    """The bridge: all codes of an answer, when the last has come."""

    def bridge(chunk: Chunk, state: dict[str, Any]) -> Chunk | None:
        codes: list[int] = state.setdefault("codes", [])
        codes += [code for code in chunk.payload.tokens if code not in talker.eos_ids]
        return Chunk(chunk.request, chunk.stage, codes, final=True) if chunk.final else None

    return bridge


def build(checkpoint: Checkpoint, options: BuildOptions) -> Token2Wav:
    """The vocoder with its weights, in float32, as its authors run it."""
    exact = BuildOptions(options.device, "float32")
    section = part(checkpoint.config, "token2wav_config")
    module = load_tower(checkpoint, exact, TARGET, section, ("token2wav.",))
    return Token2Wav(module, load_speakers(checkpoint.path), torch.device(options.device))
