"""The judge's network: a spectrogram, convolutions over a second to both sides, and words (CTC, Graves 2006)."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from pico.aloud import joined
from pico.bands import mel_bands

RATE, WINDOW, HOP, BANDS = 16_000, 400, 160, 40
STRIDE = 4
"""Frames of the spectrogram to one step, which may tell a word."""
WIDTH, BLOCKS, KERNEL = 192, 8, 9
FOLDER = Path(__file__).parent
WEIGHTS, WORDS = "judge.safetensors", "words.json"
SILENCE = 0
FLOOR, LOUDNESS = 3e-4, 0.1  # the least power that is told, of sounds that are made as loud as this
QUIET = -1.5  # of the spectrum: nothing at all


Through = Callable[[Any, Tensor], Tensor]


class Block(nn.Module):
    """Each band by itself over neighbouring steps, then each step by itself, added to what came in (Liu et al. 2022)."""

    def __init__(self) -> None:
        super().__init__()
        self.convolve = nn.Conv1d(WIDTH, WIDTH, KERNEL, 1, KERNEL // 2, groups=WIDTH)
        self.norm = nn.LayerNorm(WIDTH)
        self.widen = nn.Linear(WIDTH, 2 * WIDTH)
        self.narrow = nn.Linear(2 * WIDTH, WIDTH)

    def forward(self, x: Tensor) -> Tensor:
        """[sounds, width, steps] -> the same."""
        hidden = self.norm(self.convolve(x).transpose(1, 2))
        return x + self.narrow(F.gelu(self.widen(hidden))).transpose(1, 2)


class Judge(nn.Module):
    """Hears `words`: Latin ones, letters that are named, and Chinese characters, as `pico.aloud` writes them."""

    def __init__(self, words: Sequence[str], through: Through = Block.forward) -> None:
        """`through` is `Block.forward`, or the same compiled."""
        super().__init__()
        self.words, self.through = tuple(words), through
        self.enter = nn.Sequential(
            nn.Conv1d(BANDS, WIDTH, 5, 2, 2), nn.GELU(), nn.Conv1d(WIDTH, WIDTH, 5, 2, 2)
        )
        self.blocks = nn.Sequential(*(Block() for _ in range(BLOCKS)))
        self.norm = nn.LayerNorm(WIDTH)
        self.tell = nn.Linear(WIDTH, len(self.words) + 1)

    def forward(self, sounds: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
        """Log-probabilities [sounds, steps, words + 1] of silence and words, and the steps of each sound.

        `sounds`: float32 [samples] at 16 kHz each.
        """
        spectra = [spectrum(sound).T for sound in sounds]
        entered = self.enter(pad_sequence(spectra, batch_first=True, padding_value=QUIET).transpose(1, 2))
        for block in self.blocks:
            entered = self.through(block, entered)
        told = self.tell(self.norm(entered.transpose(1, 2)))
        steps = torch.tensor([-(-len(one) // STRIDE) for one in spectra])
        return told.float().log_softmax(-1), steps

    @torch.inference_mode()
    def hear(self, sound: NDArray[np.float32]) -> str:
        """What was said, without commas and full stops; `sound` at 16 kHz."""
        if len(sound) < WINDOW:
            return ""
        best = self([torch.from_numpy(sound)])[0][0].argmax(-1).unique_consecutive()
        return joined(self.words[index - 1] for index in best.tolist() if index != SILENCE)

    def save(self, folder: Path) -> None:
        """Writes the weights, rounded to bfloat16, and the words."""
        folder.mkdir(parents=True, exist_ok=True)
        save_file(
            {key: value.bfloat16().contiguous() for key, value in self.state_dict().items()}, folder / WEIGHTS
        )
        (folder / WORDS).write_text(json.dumps(self.words, ensure_ascii=False) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path = FOLDER) -> Judge:
        judge = cls(json.loads((folder / WORDS).read_text(encoding="utf-8")))
        judge.load_state_dict({key: value.float() for key, value in load_file(folder / WEIGHTS).items()})
        return judge.eval()


def spectrum(sound: Tensor) -> Tensor:
    """The logarithm of mel bands [bands, frames], 100 frames a second, about -1.5 to 2, however loud the sound is."""
    level = sound.square().mean().sqrt().clamp(min=1e-4)
    window = torch.hann_window(WINDOW)
    waves = torch.stft(
        sound * LOUDNESS / level, WINDOW, HOP, window=window, return_complex=True, pad_mode="constant"
    )
    return ((mel_bands(RATE, WINDOW, BANDS) @ waves.abs() ** 2).clamp(min=FLOOR).log() + 4) / 2.75
