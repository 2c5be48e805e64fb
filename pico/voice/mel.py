"""The spectrogram between codes and sound: 80 mel bands, 100 frames a second at 24 kHz, natural logarithm of amplitudes.

Qwen2.5-Omni's vocoder takes amplitudes up to 10 (20 dB) and tells them apart down to -95 dB. Here a full sine is 8 in its
bin, and somewhat more in its band; speech stays below.
"""

from __future__ import annotations

import torch
from torch import Tensor

from pico.bands import mel_bands

RATE, WINDOW, HOP, BANDS = 24_000, 960, 240, 80
FULL, FLOOR = 8.0, 8e-3  # the amplitude of a full sine, and the smallest that is told: 60 dB below


def mel(sound: Tensor) -> Tensor:
    """[..., samples] -> [..., bands, frames], a frame for every whole `HOP` of samples."""
    frames = sound.shape[-1] // HOP
    window = torch.hann_window(WINDOW)
    waves = torch.stft(sound, WINDOW, HOP, window=window, return_complex=True, pad_mode="constant")
    amplitudes = waves.abs()[..., :frames] * (2 * FULL / WINDOW * 2)
    return (mel_bands(RATE, WINDOW, BANDS) @ amplitudes).clamp(min=FLOOR).log()
