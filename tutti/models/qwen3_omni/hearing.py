"""The thinker's ears: an audio encoder over log-mel spectrograms, a second at a time. transformers' module.

A recording is cut into windows of a second, which go through convolutions by themselves; some of them in a row hear
each other in the layers behind.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.mel import cut_log_mel
from tutti.models.processor.media import unpack
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen3_omni.media import WINDOW
from tutti.models.towers import load_tower
from tutti.request import MediaInput

TARGET = "transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe:Qwen3OmniMoeAudioEncoder"
_STRIDE = 8  # frames that become a token


@dataclass(frozen=True, slots=True, eq=False)
class Heard:
    """A spectrogram `mel` [bands, frames] or a part of one, whose windows are filled up to `window` frames."""

    mel: Tensor
    window: int


class SecondsTower:
    """Implements `models.protocols.OnceModel` and `Splits`."""

    def __init__(self, tower: Any, bands: int, device: torch.device, dtype: torch.dtype) -> None:
        self.tower = tower
        self.bands = bands
        self.device = device
        self.dtype = dtype

    def take(self, part: MediaInput) -> Heard:
        """See `OnceModel.take`; `part` holds samples float32 at 16 kHz."""
        mel = cut_log_mel(torch.from_numpy(unpack(part.arrays["samples"]).copy()), self.bands)
        return Heard(mel, min(mel.shape[1], WINDOW))

    def cost(self, item: Heard) -> int:
        """See `OnceModel.cost`: frames."""
        return item.mel.shape[1]

    def bucket(self, item: Heard) -> Hashable:
        """See `OnceModel.bucket`: what fills a window up changes what is heard at its end."""
        return item.window

    def split(self, item: Heard) -> Sequence[Heard]:
        """See `Splits.split`: so many frames hear each other."""
        return [Heard(mel, item.window) for mel in item.mel.split(self.tower.n_window_infer, dim=1)]

    def join(self, payloads: list[Tensor]) -> Tensor:
        """See `Splits.join`."""
        return torch.cat(payloads)

    def run(self, items: list[Heard]) -> list[Tensor]:
        """Rows [tokens, hidden] per item, 13 a second."""
        window = items[0].window
        pieces = [item.mel.split(window, dim=1) for item in items]
        windows = [one for piece in pieces for one in piece]
        tokens = [-(-one.shape[1] // _STRIDE) for one in windows]
        counts = [sum(-(-one.shape[1] // _STRIDE) for one in piece) for piece in pieces]
        filled = torch.stack([F.pad(one, (0, window - one.shape[1])) for one in windows])
        real = torch.arange(-(-window // _STRIDE)) < torch.tensor(tokens)[:, None]
        rows: Tensor = self.tower(
            None,
            torch.tensor([item.mel.shape[1] for item in items], device=self.device),
            padded_feature=filled.to(self.device, self.dtype),
            chunk_lengths=torch.tensor([one.shape[1] for one in windows], device=self.device),
            valid_indices=real.flatten().nonzero().flatten().to(self.device),
            cu_seqlens=torch.tensor([0, *counts], device=self.device).cumsum(0, dtype=torch.int32),
        ).last_hidden_state
        return list(rows.split(counts))


def build(checkpoint: Checkpoint, options: BuildOptions) -> SecondsTower:
    """The encoder with its weights."""
    config = part(checkpoint.config, "thinker_config", "audio_config")
    tower = load_tower(checkpoint, options, TARGET, config, ("thinker.audio_tower.",))
    bands = config.get("num_mel_bins", 128)
    return SecondsTower(tower, bands, torch.device(options.device), getattr(torch, options.dtype))
