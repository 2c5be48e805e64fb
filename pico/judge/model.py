"""The judge's network: a spectrogram, convolutions, two recurrent layers in both directions, and letters (CTC, Graves 2006)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

RATE, WINDOW, HOP, BANDS = 16_000, 400, 160, 40
STRIDE, PER_STEP = 4, 2
"""Frames of the spectrogram to one step of the recurrent layers, and letters told by each of these steps."""
FOLDER = Path(__file__).parent
WEIGHTS, LETTERS = "judge.safetensors", "letters.json"
BLANK = 0


class Judge(nn.Module):
    """Hears `letters`: small ones of words, capitals for letters that are named, spaces, and Chinese characters."""

    def __init__(self, letters: str, width: int = 160) -> None:
        super().__init__()
        self.letters = letters
        self.convolve = nn.Sequential(
            nn.Conv1d(BANDS, width, 5, 2, 2), nn.GELU(),
            nn.Conv1d(width, width, 5, 2, 2), nn.GELU(),
            nn.Conv1d(width, width, 5, 1, 2), nn.GELU(),
        )  # fmt: skip
        self.recur = nn.GRU(width, width, 2, batch_first=True, bidirectional=True)
        self.tell = nn.Linear(2 * width, PER_STEP * (len(letters) + 1))

    def forward(self, sounds: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Log-probabilities [sounds, steps, letters + 1] of blank and letters, and the steps of each sound.

        `sounds`: float32 [samples] at 16 kHz each.
        """
        spectra = [spectrum(sound).T for sound in sounds]
        heard = self.convolve(pad_sequence(spectra, batch_first=True).transpose(1, 2)).transpose(1, 2)
        told = self.tell(self.recur(heard)[0]).unflatten(2, (PER_STEP, -1)).flatten(1, 2)
        steps = torch.tensor([-(-len(one) // STRIDE) * PER_STEP for one in spectra])
        return told.log_softmax(-1), steps

    @torch.inference_mode()
    def hear(self, sound: NDArray[np.float32]) -> str:
        """What was said, in the manner of `pico.aloud`, without commas and full stops; `sound` at 16 kHz."""
        if len(sound) < WINDOW:
            return ""
        best = self([torch.from_numpy(sound)])[0][0].argmax(-1).unique_consecutive()
        return "".join(self.letters[index - 1] for index in best.tolist() if index != BLANK).strip()

    def save(self, folder: Path) -> None:
        """Writes the weights, rounded to bfloat16, and the letters."""
        save_file({key: value.bfloat16().contiguous() for key, value in self.state_dict().items()}, folder / WEIGHTS)
        (folder / LETTERS).write_text(json.dumps(self.letters, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path = FOLDER) -> Judge:
        judge = cls(json.loads((folder / LETTERS).read_text(encoding="utf-8")))
        judge.load_state_dict({key: value.float() for key, value in load_file(folder / WEIGHTS).items()})
        return judge.eval()


def spectrum(sound: Tensor) -> Tensor:
    """The logarithm of mel bands [bands, frames], 100 frames a second, about -1 to 1."""
    window = torch.hann_window(WINDOW)
    power = torch.stft(sound, WINDOW, HOP, window=window, return_complex=True, pad_mode="constant").abs() ** 2
    return ((mel_bands() @ power).clamp(min=1e-6).log() + 6) / 4


@cache
def mel_bands() -> Tensor:
    """Triangles that are evenly spaced on the mel scale, [bands, frequencies]."""
    edges = 700 * (10 ** (np.linspace(0, 2595 * np.log10(1 + RATE / 2 / 700), BANDS + 2) / 2595) - 1)
    at = np.linspace(0, RATE / 2, WINDOW // 2 + 1)[None]
    low, middle, high = (edges[i : i + BANDS, None] for i in range(3))
    return torch.tensor(np.maximum(0, np.minimum((at - low) / (middle - low), (high - at) / (high - middle))), dtype=torch.float32)
