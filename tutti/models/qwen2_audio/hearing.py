"""Qwen2-Audio's ears: Whisper's encoder with a pooling behind it, and a projection. transformers' module."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.processor.speech import frames_of
from tutti.models.qwen2_audio.config import audio_config, decoder_config
from tutti.models.towers import fill, load_tower
from tutti.models.whisper.config import window_frames
from tutti.models.whisper.hearing import WindowTower

TARGET = "transformers.models.qwen2_audio.modeling_qwen2_audio:Qwen2AudioEncoder"
PREFIXES = ("model.", "")  # of transformers' names, since version 5 and before it


class AudioTower(WindowTower):
    """The encoder, which does not attend to the silence that fills the window."""

    def __init__(
        self, tower: Any, projector: nn.Module, frames: int, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(tower, frames, device, dtype)
        self.projector = projector

    def run(self, items: list[Tensor]) -> list[Tensor]:
        """Rows [tokens, hidden] per item, 25 a second of the recording."""
        lengths = torch.tensor([frames_of(len(item)) for item in items], device=self.device)
        heard, rows = self.tower._get_feat_extract_output_lengths(lengths)
        places = torch.arange(self.frames // 2, device=self.device)
        mask = (places < heard[:, None])[:, None, None]
        output = self.tower(self.spectrograms(items), attention_mask=mask)
        projected = self.projector(output.last_hidden_state)
        return [each[:count].clone() for each, count in zip(projected, rows.tolist(), strict=True)]


def build(checkpoint: Checkpoint, options: BuildOptions) -> AudioTower:
    """The encoder and the projection with their weights."""
    config = audio_config(checkpoint.config)
    device, dtype = torch.device(options.device), getattr(torch, options.dtype)
    prefix = next((p for p in PREFIXES if f"{p}audio_tower.conv1.weight" in checkpoint.tensors), PREFIXES[0])
    tower: Any = load_tower(checkpoint, options, TARGET, config, (f"{prefix}audio_tower.",))
    projector = nn.Linear(tower.config.d_model, decoder_config(checkpoint.config).hidden)
    fill(projector, checkpoint, options, f"{prefix}multi_modal_projector.linear.")
    return AudioTower(tower, projector, window_frames(config), device, dtype)
