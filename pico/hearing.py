"""The audio encoder on a batch of spectrograms at once, as training needs it: the same function as transformers' class."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from random import Random

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import Qwen2_5OmniAudioEncoder

from .recordings import Recording

Through = Callable[[nn.Module, Tensor, Tensor], Tensor]
BATCH_FRAMES = 4800
_STEP = 40


@dataclass(frozen=True, slots=True)
class Spectrograms:
    """`mels` float32 [recordings, bands, frames], silent at the end; `lengths` int64 [recordings]: frames of each."""

    mels: Tensor
    lengths: Tensor

    @property
    def halves(self) -> Tensor:
        """How many moments the layers hear of each: 25 a second, int64 [recordings]."""
        return (self.lengths - 1) // 2 + 1

    @property
    def rows(self) -> Tensor:
        """How many rows the encoder makes of each: 12.5 a second, int64 [recordings]."""
        return (self.halves - 2) // 2 + 1


def stack(mels: Sequence[Tensor]) -> Spectrograms:
    """Spectrograms [bands, frames] together; few lengths, since oneDNN makes and keeps code for each one."""
    longest = -(-max(m.shape[1] for m in mels) // _STEP) * _STEP
    stacked = torch.stack([F.pad(m.float(), (0, longest - m.shape[1])) for m in mels])
    return Spectrograms(stacked, torch.tensor([m.shape[1] for m in mels]))


def through_layer(layer: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """States [recordings, moments, width] after a layer; `mask` is added to scores [recordings, heads, moments, moments]."""
    x = x + _attend(layer.self_attn, layer.self_attn_layer_norm(x), mask)
    return x + layer.fc2(F.gelu(layer.fc1(layer.final_layer_norm(x))))


def hear(ears: Qwen2_5OmniAudioEncoder, heard: Spectrograms, through: Through = through_layer) -> Tensor:
    """Rows [recordings, frames / 4, width]; those beyond a recording's own mean nothing. One piece each: no recording
    may be longer than the encoder's window. `through` is `through_layer`, or the same compiled."""
    return pool_rows(ears, layers(ears, heard, through)[-1])


def layers(
    ears: Qwen2_5OmniAudioEncoder, heard: Spectrograms, through: Through = through_layer
) -> list[Tensor]:
    """What each layer makes of the recordings, 25 a second: [recordings, frames / 2, width of the layer]."""
    frames = torch.arange(heard.mels.shape[2])
    inside = (frames < heard.lengths[:, None])[:, None]
    x = F.gelu(ears.conv1(heard.mels)) * inside
    x = F.gelu(ears.conv2(x)).transpose(1, 2)
    x = x + ears.positional_embedding.positional_embedding[: x.shape[1]]
    outside = torch.arange(x.shape[1]) >= heard.halves[:, None]
    mask = torch.zeros(outside.shape).masked_fill(outside, -1e9)[:, None, None]
    found = []
    for layer in ears.layers:
        x = through(layer, x, mask)
        found.append(x)
    return found


def pool_rows(ears: Qwen2_5OmniAudioEncoder, last: Tensor) -> Tensor:
    """The last layer's output as rows, 12.5 a second."""
    return ears.proj(ears.ln_post((last[:, ::2] + last[:, 1::2]) / 2))


def _attend(attention: nn.Module, x: Tensor, mask: Tensor) -> Tensor:
    """Self-attention without SDPA, whose backward pass is slow on a CPU."""
    q, k, v = (
        project(x).unflatten(-1, (attention.num_heads, -1)).transpose(1, 2)
        for project in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    scores = (q * attention.scaling) @ k.transpose(-1, -2) + mask.to(q.dtype)
    return attention.out_proj((scores.softmax(-1) @ v).transpose(1, 2).flatten(2))


def peaks(best: Tensor, rows: Tensor, silence: int) -> list[list[int]]:
    """The rows in which a token is heard: of the likeliest classes `best` int64 [recordings, rows], where a new one begins."""
    found = []
    for classes, count in zip(best.tolist(), rows.tolist(), strict=True):
        found.append(
            [i for i in range(count) if classes[i] != silence and (i == 0 or classes[i] != classes[i - 1])]
        )
    return found


def groups(rng: Random, pool: Sequence[Recording], short_first: bool = False) -> Iterator[list[Recording]]:
    """The pool in batches of recordings of like length, `BATCH_FRAMES` frames together; in random order, or in that of
    their lengths."""
    batches: list[list[Recording]] = [[]]
    for recording in sorted(pool, key=lambda r: r.mel.shape[1]):
        padded = -(-recording.mel.shape[1] // _STEP) * _STEP
        if (len(batches[-1]) + 1) * padded > BATCH_FRAMES:
            batches.append([])
        batches[-1].append(recording)
    if not short_first:
        rng.shuffle(batches)
    yield from batches


def smudge(rng: Random, mel: Tensor) -> Tensor:
    """The spectrogram with a few stripes missing (SpecAugment, Park et al. 2019)."""
    mel = mel.float().clone()
    bands, frames = mel.shape
    low = rng.randrange(bands)
    mel[low : low + rng.randint(0, 8)] = mel.mean()
    for _ in range(frames // 75):
        start = rng.randrange(frames)
        mel[:, start : start + rng.randint(0, 4)] = mel.mean()
    return mel
