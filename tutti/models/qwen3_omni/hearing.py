"""The thinker's ears: an audio encoder over log-mel spectrograms, a second at a time. transformers' module."""

from __future__ import annotations

from collections.abc import Hashable

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.mel import cut_log_mel
from tutti.models.processor.media import unpack
from tutti.models.processor.speech import HOP
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen2_5_omni.hearing import AudioTower
from tutti.models.qwen3_omni.media import WINDOW, audio_tokens
from tutti.models.towers import load_tower
from tutti.request import MediaInput

TARGET = "transformers.models.qwen3_omni_moe.modeling_qwen3_omni_moe:Qwen3OmniMoeAudioEncoder"


class SecondsTower(AudioTower):
    """An encoder that takes recordings apart into windows."""

    def take(self, part: MediaInput) -> Tensor:
        """See `OnceModel.take`; `part` holds samples float32 at 16 kHz."""
        return cut_log_mel(torch.from_numpy(unpack(part.arrays["samples"]).copy()), self.bands)

    def bucket(self, item: Tensor) -> Hashable:
        """See `OnceModel.bucket`: shorter windows would be padded, and padding changes what is heard at their end."""
        return min(item.shape[1], WINDOW)

    def run(self, items: list[Tensor]) -> list[Tensor]:
        """Rows [tokens, hidden] per item, 13 a second."""
        lengths = torch.tensor([item.shape[1] for item in items], device=self.device)
        features = torch.cat(items, dim=1).to(self.device, self.dtype)
        rows: Tensor = self.tower(features, feature_lens=lengths).last_hidden_state
        return list(rows.split([audio_tokens(item.shape[1] * HOP) for item in items]))


def build(checkpoint: Checkpoint, options: BuildOptions) -> SecondsTower:
    """The encoder with its weights."""
    config = part(checkpoint.config, "thinker_config", "audio_config")
    tower = load_tower(checkpoint, options, TARGET, config, ("thinker.audio_tower.",))
    bands = config.get("num_mel_bins", 128)
    return SecondsTower(tower, bands, torch.device(options.device), getattr(torch, options.dtype))
