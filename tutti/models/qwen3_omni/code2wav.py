"""Frames of codes to sound, as they come: windows of an answer, each going on where the one before ended.

Windows grow: a listener's first ones are short, so that sound comes soon. However an answer is cut, it sounds the same.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

import torch

from tutti.errors import StageFailed
from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions, Chunk
from tutti.models.protocols import Sound
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen3_omni.waveform import Memory, Waveform
from tutti.models.towers import load_tower

TARGET = "transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe:Qwen3OmniMoeCode2Wav"
SETTINGS = "Qwen3OmniMoeCode2WavConfig"
RATE = 24_000
# From which frame on how many are sounded at a time, 12.5 a second. A window is made while the one before plays: these
# grow just as fast as 0.65 s of work for a second and 60 ms for a window allow.
SIZES = ((0, 4), (4, 5), (9, 6), (15, 8), (23, 10), (33, 12), (45, 16), (61, 24))
FILE_SIZE = 48  # where nobody listens meanwhile

Frame = tuple[int, ...]


@dataclass(slots=True, eq=False)
class Answer:
    """What is remembered of an answer between its windows."""

    memory: Memory | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """The next frames of an answer, from its frame `first` on."""

    frames: tuple[Frame, ...]
    first: int
    answer: Answer


class Code2Wav:
    """Implements `models.protocols.OnceModel`."""

    def __init__(self, waveform: Waveform, device: torch.device) -> None:
        self.waveform = waveform
        self.device = device

    def take(self, part: Any) -> Any:
        """Codes come by an edge only."""
        raise StageFailed("code2wav takes no part of a request")

    def cost(self, item: Window) -> int:
        """See `OnceModel.cost`: frames."""
        return len(item.frames)

    def bucket(self, item: Window) -> Hashable:
        """See `OnceModel.bucket`: windows of one length, of answers that all begin or all go on; each in its turn."""
        memory = item.answer.memory
        if item.first != (0 if memory is None else memory.frames):
            return item
        return len(item.frames), memory is None

    def run(self, items: list[Window]) -> list[Sound]:
        """One `Sound` per item; no frames are no sound. Answers remember only when all went well."""
        if not items[0].frames:
            return [Sound(torch.zeros(0), RATE) for _ in items]
        codes = torch.tensor([item.frames for item in items], device=self.device).transpose(1, 2)
        samples, memories = self.waveform.samples(codes, [item.answer.memory for item in items])
        for item, memory in zip(items, memories, strict=True):
            item.answer.memory = memory
        return [Sound(row, RATE) for row in samples]


def collect(source: Checkpoint, code2wav: Code2Wav) -> Callable[[Chunk, dict[str, Any]], Chunk | None]:
    """The bridge: frames become windows as soon as there are enough."""
    end = part(source.config, "talker_config")["codec_eos_token_id"]

    def bridge(chunk: Chunk, state: dict[str, Any]) -> Chunk | None:
        answer: Answer = state.setdefault("answer", Answer())
        frames: list[Frame] = state.setdefault("frames", [])
        for token, codes in zip(chunk.payload.tokens, chunk.payload.codes, strict=True):
            if token != end:
                frames.append((token, *codes))
        done: int = state.get("done", 0)
        live = state["request"].live
        size = next(size for start, size in reversed(SIZES) if done >= start) if live else FILE_SIZE
        if not chunk.final and len(frames) < size:
            return None
        state["done"], state["frames"] = done + len(frames), []
        return Chunk(chunk.request, chunk.stage, Window(tuple(frames), done, answer), chunk.final)

    return bridge


def build(checkpoint: Checkpoint, options: BuildOptions) -> Code2Wav:
    """The network with its weights."""
    config = part(checkpoint.config, "code2wav_config")
    module = load_tower(checkpoint, options, TARGET, config, ("code2wav.",), settings=SETTINGS)
    return Code2Wav(Waveform(module), torch.device(options.device))
