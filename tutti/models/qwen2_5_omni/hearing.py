"""The thinker's ears: an audio encoder over log-mel spectrograms (`ears`)."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import torch
from torch import Tensor

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models.mel import log_mel
from tutti.models.processor.media import unpack
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen2_5_omni.ears import Ears
from tutti.models.qwen2_5_omni.media import hop_of
from tutti.models.towers import fill_tower
from tutti.request import MediaInput


class AudioTower:
    """Implements `models.protocols.OnceModel` and `Splits`; an item is a spectrogram [bands, frames].

    `hop` is how far its frames are apart, in samples.
    """

    def __init__(self, tower: Ears, bands: int, hop: int, device: torch.device, dtype: torch.dtype) -> None:
        self.tower = tower
        self.bands = bands
        self.hop = hop
        self.device = device
        self.dtype = dtype

    def take(self, part: MediaInput) -> Tensor:
        """See `OnceModel.take`; `part` holds samples float32 at 16 kHz."""
        return log_mel(torch.from_numpy(unpack(part.arrays["samples"]).copy()), self.bands, self.hop)

    def cost(self, item: Tensor) -> int:
        """See `OnceModel.cost`: frames."""
        return item.shape[1]

    def bucket(self, item: Tensor) -> Hashable:
        """See `OnceModel.bucket`: recordings of all lengths are computed together."""
        return None

    def split(self, item: Tensor) -> Sequence[Tensor]:
        """See `Splits.split`: nothing in one of the encoder's windows hears another."""
        return item.split(self.tower.window, dim=1)

    def join(self, payloads: list[Tensor]) -> Tensor:
        """See `Splits.join`."""
        return torch.cat(payloads)

    def run(self, items: list[Tensor]) -> list[Tensor]:
        """Rows [tokens, hidden] per item, one for every four frames."""
        rows: list[Tensor] = self.tower([item.to(self.device, self.dtype) for item in items])
        return rows


def build(checkpoint: Checkpoint, options: BuildOptions) -> AudioTower:
    """The encoder with its weights."""
    config = part(checkpoint.config, "thinker_config", "audio_config")
    tower = fill_tower(Ears(config), checkpoint, options, ("thinker.audio_tower.",))
    bands = config.get("num_mel_bins", 128)
    hop = hop_of(checkpoint.path)
    return AudioTower(tower, bands, hop, torch.device(options.device), getattr(torch, options.dtype))
