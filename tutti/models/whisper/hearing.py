"""Whisper's encoder: windows of log-mel spectrogram to rows. transformers' module."""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.mel import window_log_mel
from tutti.models.processor.media import unpack
from tutti.models.processor.speech import HOP
from tutti.models.towers import load_tower
from tutti.models.whisper.config import window_frames
from tutti.request import MediaInput

TARGET = "transformers.models.whisper.modeling_whisper:WhisperEncoder"


class WindowTower:
    """An encoder that hears every recording as a window of full length, silence at its end.

    Implements `models.protocols.OnceModel`; an item is a recording's samples.
    """

    def __init__(self, tower: Any, frames: int, device: torch.device, dtype: torch.dtype) -> None:
        """`frames` of the spectrogram are a window."""
        self.tower = tower
        self.frames = frames
        self.device = device
        self.dtype = dtype

    def take(self, part: MediaInput) -> Tensor:
        """See `OnceModel.take`; `part` holds samples float32 at 16 kHz."""
        return torch.from_numpy(unpack(part.arrays["samples"]).copy())

    def cost(self, item: Tensor) -> int:
        """See `OnceModel.cost`: frames, those of the silence among them."""
        return self.frames

    def bucket(self, item: Tensor) -> Hashable:
        """See `OnceModel.bucket`: recordings of all lengths are computed together."""
        return None

    def run(self, items: list[Tensor]) -> list[Tensor]:
        """Rows [rows, hidden] per item, as many for each."""
        rows: Tensor = self.tower(self.spectrograms(items)).last_hidden_state
        return [each.clone() for each in rows]  # one that is kept must not keep the others

    def spectrograms(self, items: list[Tensor]) -> Tensor:
        """The encoder's input [recordings, bands, frames]."""
        bands = self.tower.config.num_mel_bins
        windows = [window_log_mel(item, bands, self.frames * HOP) for item in items]
        return torch.stack(windows).to(self.device, self.dtype)


def build(checkpoint: Checkpoint, options: BuildOptions) -> WindowTower:
    """The encoder with its weights."""
    tower = load_tower(checkpoint, options, TARGET, checkpoint.config, ("model.encoder.",))
    frames = window_frames(checkpoint.config)
    return WindowTower(tower, frames, torch.device(options.device), getattr(torch, options.dtype))
