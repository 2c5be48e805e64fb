"""Codes of speech: an encoder and a small book of vectors (VQ-VAE, van den Oord et al. 2017), `python -m pico.voice.codec`.

A code stands for two frames of the spectrogram. Codes begin at 1: in token2wav, 0 means that nothing is known. Only the
encoder is used afterwards, to make the talker's and token2wav's training data; the codec whose codes the pico that ships
speaks in lies beside this file.
"""

from __future__ import annotations

from pathlib import Path
from random import Random

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional as F

from pico.training import Losses, Options, learn, options

from .answers import FRAMES_A_CODE, answers
from .mel import BANDS, mel

CODES, WIDTH, DEPTH = 256, 128, 32
STEPS, BATCH, CROP, SENTENCES = 2000, 24, 64, 2500
RATE, KEPT, COMMITMENT = 2e-3, 0.98, 0.25
MEAN, SPREAD = -3.6, 1.5  # of the spectrogram, about
FILE = "codec.safetensors"
SHIPPED = Path(__file__).with_name(FILE)


class Block(nn.Module):
    """Depth-wise convolution and a two-layer network, added to what came in (ConvNeXt, Liu et al. 2022)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.convolve = nn.Conv1d(width, width, 7, 1, 3, groups=width)
        self.norm = nn.LayerNorm(width)
        self.widen = nn.Linear(width, 2 * width)
        self.narrow = nn.Linear(2 * width, width)

    def forward(self, x: Tensor) -> Tensor:
        """[batch, width, frames] -> the same."""
        hidden = self.norm(self.convolve(x).transpose(1, 2))
        return x + self.narrow(F.gelu(self.widen(hidden))).transpose(1, 2)


class Codec(nn.Module):
    book: Tensor
    sizes: Tensor
    sums: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encode = nn.Sequential(
            nn.Conv1d(BANDS, WIDTH, 5, 1, 2), nn.GELU(), nn.Conv1d(WIDTH, WIDTH, 4, 2, 1), nn.GELU(),
            Block(WIDTH), Block(WIDTH), nn.Conv1d(WIDTH, DEPTH, 1),
        )  # fmt: skip
        self.decode = nn.Sequential(
            nn.Conv1d(DEPTH, WIDTH, 3, 1, 1), Block(WIDTH), Block(WIDTH),
            nn.ConvTranspose1d(WIDTH, WIDTH, 4, 2, 1), nn.GELU(), Block(WIDTH), Block(WIDTH), nn.Conv1d(WIDTH, BANDS, 1),
        )  # fmt: skip
        self.register_buffer("book", torch.randn(CODES, DEPTH))
        self.register_buffer("sizes", torch.ones(CODES))
        self.register_buffer("sums", self.book.clone())

    def forward(self, spectra: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """[batch, bands, frames] -> the same again, how far from the book it was, and the codes [batch, codes]."""
        wanted = self.encode((spectra - MEAN) / SPREAD)
        codes = self._nearest(wanted)
        if self.training:
            self._learn(wanted.detach().transpose(1, 2).reshape(-1, DEPTH), codes.flatten() - 1)
        chosen = self.book[codes - 1].transpose(1, 2)
        passed = wanted + (chosen - wanted).detach()  # the gradient goes straight through
        return self.decode(passed) * SPREAD + MEAN, F.mse_loss(wanted, chosen), codes

    @torch.inference_mode()
    def codes(self, sound: Tensor) -> Tensor:
        """The codes int64 [codes] of a sound float32 [samples] of whole codes."""
        return self._nearest(self.encode((mel(sound)[None] - MEAN) / SPREAD))[0]

    def _nearest(self, wanted: Tensor) -> Tensor:
        return torch.cdist(wanted.transpose(1, 2), self.book[None]).argmin(-1) + 1

    @torch.no_grad()
    def _learn(self, wanted: Tensor, chosen: Tensor) -> None:
        """Each vector of the book follows the mean of what chose it; one that nothing chooses begins anew."""
        hits = F.one_hot(chosen, CODES).float()
        self.sizes.mul_(KEPT).add_(hits.sum(0), alpha=1 - KEPT)
        self.sums.mul_(KEPT).add_(hits.T @ wanted, alpha=1 - KEPT)
        unused = (self.sizes < 0.05).nonzero().flatten()
        self.sums[unused] = wanted[torch.randint(len(wanted), (len(unused),))]
        self.sizes[unused] = 1.0
        self.book.copy_(self.sums / self.sizes[:, None])


def load_codec(chosen: Options) -> Codec:
    codec = Codec()
    codec.load_state_dict(load_file(chosen.work / FILE))
    return codec.eval()


def losses(codec: Codec, spectra: list[Tensor], rng: Random) -> Losses:
    batch = torch.stack([crop(rng, rng.choice(spectra)) for _ in range(BATCH)])
    again, distance, codes = codec(batch)
    difference = F.l1_loss(again, batch) / SPREAD
    used = torch.tensor(float(codes.unique().numel()))
    return {"loss": difference + COMMITMENT * distance, "difference": difference, "used": used}


def crop(rng: Random, spectrum: Tensor) -> Tensor:
    begin = rng.randrange(0, spectrum.shape[1] - CROP + 1, FRAMES_A_CODE)
    return spectrum[:, begin : begin + CROP]


def main() -> None:
    chosen = options("voice.codec", "Train the codes of pico's speech.", STEPS)
    spectra = [mel(answer.sound) for answer in answers("codec", "train", SENTENCES)]
    spectra = [one for one in spectra if one.shape[1] >= CROP]
    every = torch.cat(spectra, 1)
    print(
        f"{every.shape[1] / 6000:.0f} minutes, mean {every.mean():.2f}, spread {every.std():.2f}, {every.max():.2f}",
        flush=True,
    )
    torch.manual_seed(0)
    codec = Codec()
    optimizer = torch.optim.AdamW(codec.parameters(), lr=RATE)
    learn("codec", codec, [optimizer], chosen, lambda rng: losses(codec, spectra, rng))
    for file in (chosen.work / FILE, SHIPPED):
        save_file({key: value.contiguous() for key, value in codec.state_dict().items()}, file)


if __name__ == "__main__":
    main()
