"""Log-mel spectrograms as Whisper's family computes them (Radford et al. 2022): 16 kHz, 25 ms windows, 10 ms apart
(or as far as a checkpoint says: `hop`, in samples)."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from torch.nn import functional as F

from tutti.models.processor.speech import HOP, RATE, frames_of

WINDOW = 400  # samples


def log_mel(samples: Tensor, bands: int, hop: int = HOP) -> Tensor:
    """`samples` float32 [samples] at 16 kHz -> float32 [bands, frames]; silence follows the recording."""
    frames = frames_of(len(samples), hop)
    return _log_mel(F.pad(samples, (0, frames * hop - len(samples) + WINDOW)), bands, frames, hop)


def cut_log_mel(samples: Tensor, bands: int) -> Tensor:
    """`samples` float32 [samples] at 16 kHz -> float32 [bands, whole frames]; nothing follows the recording."""
    return _log_mel(samples, bands, len(samples) // HOP)


def window_log_mel(samples: Tensor, bands: int, length: int) -> Tensor:
    """`samples` float32 [samples], with silence up to `length` samples -> float32 [bands, length // HOP]."""
    return _log_mel(F.pad(samples, (0, length - len(samples))), bands, length // HOP)


def _log_mel(samples: Tensor, bands: int, frames: int, hop: int = HOP) -> Tensor:
    window = torch.hann_window(WINDOW, device=samples.device)
    spectrum = torch.stft(samples, WINDOW, hop, window=window, return_complex=True)[:, :frames].abs() ** 2
    mel = filters(bands).to(samples.device) @ spectrum
    logarithms = mel.clamp(min=1e-10).log10()
    logarithms = torch.maximum(logarithms, logarithms.max() - 8.0)
    return (logarithms + 4.0) / 4.0


@functools.cache
def filters(bands: int) -> Tensor:
    """Slaney's triangular filters, normalized to equal area, float32 [bands, frequencies]."""
    frequencies = torch.linspace(0, RATE / 2, WINDOW // 2 + 1, dtype=torch.float64)
    edges = _hertz(torch.linspace(float(_mel(0.0)), float(_mel(RATE / 2)), bands + 2, dtype=torch.float64))
    widths = edges.diff()
    slopes = edges[:, None] - frequencies[None]
    rising, falling = -slopes[:-2] / widths[:-1, None], slopes[2:] / widths[1:, None]
    weights = torch.minimum(rising, falling).clamp(min=0) * (2.0 / (edges[2:] - edges[:-2]))[:, None]
    return weights.float()


def _mel(hertz: float) -> Tensor:
    """Slaney's scale: linear below 1 kHz, logarithmic above."""
    value = torch.tensor(hertz, dtype=torch.float64)
    return torch.where(
        value >= 1000.0,
        15.0 + (value / 1000.0).clamp(min=1e-9).log() * (27.0 / _LOG_STEP),
        3.0 * value / 200.0,
    )


def _hertz(mels: Tensor) -> Tensor:
    return torch.where(mels >= 15.0, 1000.0 * ((mels - 15.0) * (_LOG_STEP / 27.0)).exp(), 200.0 * mels / 3.0)


_LOG_STEP = 1.8562979903656263  # the natural logarithm of 6.4
