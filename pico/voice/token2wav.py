"""Codes to sound: Qwen2.5-Omni's flow and vocoder, trained on pico's codec, `python -m pico.voice.token2wav`.

The flow (Lipman et al. 2023) learns the slope from noise to a spectrogram whose codes it knows, and now and then without
them, for guidance; the vocoder learns sound from spectrograms by comparing spectra of several resolutions.
"""

from __future__ import annotations

from dataclasses import replace
from random import Random
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.nn import functional as F
from transformers.models.qwen2_5_omni.configuration_qwen2_5_omni import Qwen2_5OmniToken2WavConfig
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import (
    Qwen2_5OmniToken2WavBigVGANModel,
    Qwen2_5OmniToken2WavDiTModel,
    Qwen2_5OmniToken2WavModel,
)

from pico.training import Losses, Options, compiled, learn, options

from . import vocoder as vocoding
from .answers import FRAMES_A_CODE, SAMPLES_A_CODE, answers
from .codec import CODES, load_codec
from .flow import Through, slopes, through_block
from .mel import BANDS, HOP, mel

FLOW_STEPS, VOCODER_STEPS = 3500, 3000
SENTENCES = 2500
FLOW_BATCH, FLOW_CROP = 16, 144  # frames
VOCODER_BATCH, VOCODER_CROP = 4, 48
FLOW_RATE, VOCODER_RATE = 1.5e-3, 2e-3
DROPPED = 0.15
VOICE_WIDTH, VOICE_FRAMES = 32, 64
FILE, VOICE = "token2wav.safetensors", "token2wav.voice.pt"

CONFIG: dict[str, Any] = {
    "dit_config": {
        "hidden_size": 160,
        "num_hidden_layers": 4,
        "num_attention_heads": 5,
        "head_dim": 32,
        "ff_mult": 2,
        "emb_dim": 128,
        "num_embeds": CODES + 1,
        "mel_dim": BANDS,
        "repeats": FRAMES_A_CODE,
        "dropout": 0.0,
        # No farther than a window of Tutti's reaches (two blocks back and one ahead): its sound is that of the whole.
        "look_backward_layers": [0, 2],
        "look_ahead_layers": [1],
        "enc_emb_dim": VOICE_WIDTH,
        "enc_dim": 32,
        "enc_channels": [32, 32, 32, 32, 96],
        "enc_attention_channels": 16,
        "enc_se_channels": 16,
    },
    "bigvgan_config": {
        "mel_dim": BANDS,
        "upsample_initial_channel": 128,
        "upsample_rates": [10, 6, 4],
        "upsample_kernel_sizes": [20, 12, 8],
        "resblock_kernel_sizes": [3],
        "resblock_dilation_sizes": [[1, 3, 5]],
    },
}


class Voice:
    """pico's one speaker as token2wav takes it: `condition` [1, width] and `mel` [1, frames, bands]."""

    def __init__(self, sound: Tensor) -> None:
        self.condition = torch.zeros(1, VOICE_WIDTH)
        self.mel = mel(sound)[:, :VOICE_FRAMES].T[None].contiguous()


def flow_losses(
    flow: Qwen2_5OmniToken2WavDiTModel,
    voice: Voice,
    data: list[tuple[Tensor, Tensor]],
    rng: Random,
    through: Through = through_block,
) -> Losses:
    """How far the slope is from the straight way between noise and spectrogram, at random times; `through` as `slopes` takes
    it."""
    crops = [_flow_crop(rng, *rng.choice(data)) for _ in range(FLOW_BATCH)]
    spectra, codes = torch.stack([one[0] for one in crops]), torch.stack([one[1] for one in crops])
    noise, time = torch.randn_like(spectra), torch.rand(FLOW_BATCH)
    at = time[:, None, None]
    blind = rng.random() < DROPPED
    with torch.autocast("cpu", torch.bfloat16):
        mixed = (1 - at) * noise + at * spectra
        slope = slopes(flow, mixed, time, codes, (voice.condition, voice.mel), blind, through)
    loss = F.mse_loss(slope.float(), spectra - noise)
    return {"loss": loss}


def _flow_crop(rng: Random, spectrum: Tensor, codes: Tensor) -> tuple[Tensor, Tensor]:
    """Frames [frames, bands] and their codes."""
    first = rng.randrange(0, len(codes) - FLOW_CROP // FRAMES_A_CODE + 1)
    frames = slice(first * FRAMES_A_CODE, first * FRAMES_A_CODE + FLOW_CROP)
    return spectrum[:, frames].T, codes[first : first + FLOW_CROP // FRAMES_A_CODE]


def vocoder_losses(
    vocoder: Qwen2_5OmniToken2WavBigVGANModel,
    sounds: list[Tensor],
    rng: Random,
    through: vocoding.Through = vocoding.through_activation,
) -> Losses:
    """How different the spectra of what is made of spectrograms are from those of the sound; `through` as `vocoder.sound`
    takes it."""
    crops, spectra = [], []
    for _ in range(VOCODER_BATCH):
        sound = rng.choice(sounds)
        first = rng.randrange(0, len(sound) // HOP - VOCODER_CROP + 1)
        crops.append(sound[first * HOP : (first + VOCODER_CROP) * HOP])
        spectra.append(mel(sound[: (first + VOCODER_CROP + 4) * HOP])[:, first : first + VOCODER_CROP])
    wanted = torch.stack(crops)
    with torch.autocast("cpu", torch.bfloat16):
        made = vocoding.sound(vocoder, torch.stack(spectra), through)
    return {"loss": spectral_distance(made.float(), wanted)}


def spectral_distance(made: Tensor, wanted: Tensor) -> Tensor:
    """How different two batches of sounds [batch, samples] are in spectra of three resolutions and in mel bands."""
    total = F.l1_loss(mel(made), mel(wanted))
    for window, hop in ((1024, 256), (512, 128), (256, 64)):
        shape = torch.hann_window(window)
        a, b = (
            torch.stft(one, window, hop, window=shape, return_complex=True).abs().clamp(min=1e-4)
            for one in (made, wanted)
        )
        total = total + ((a - b).norm() / b.norm() + F.l1_loss(a.log(), b.log())) / 3
    return total


def build() -> Qwen2_5OmniToken2WavModel:
    torch.manual_seed(0)
    return Qwen2_5OmniToken2WavModel(Qwen2_5OmniToken2WavConfig(**CONFIG))


def load(chosen: Options) -> Qwen2_5OmniToken2WavModel:
    model = build()
    model.load_state_dict(load_file(chosen.work / FILE))
    return model.eval()


def main() -> None:
    chosen = options("voice.token2wav", "Train pico's token2wav.", FLOW_STEPS)
    codec = load_codec(chosen)
    said = answers("token2wav", "train", SENTENCES)
    sounds = [one.sound for one in said if len(one.sound) >= FLOW_CROP * HOP]
    data = [(mel(sound), codec.codes(sound)) for sound in sounds]
    assert all(
        len(codes) * SAMPLES_A_CODE == len(sound) for sound, (_, codes) in zip(sounds, data, strict=True)
    )
    model = build()
    voice = Voice(sounds[0])
    flow, vocoder = model.code2wav_dit_model, model.code2wav_bigvgan_model
    flow_optimizer = torch.optim.AdamW(flow.parameters(), lr=FLOW_RATE, betas=(0.9, 0.98))
    through = compiled(through_block)
    learn("flow", flow, [flow_optimizer], chosen, lambda rng: flow_losses(flow, voice, data, rng, through))
    vocoder_optimizer = torch.optim.AdamW(vocoder.parameters(), lr=VOCODER_RATE, betas=(0.8, 0.99))
    act = compiled(vocoding.through_activation)
    steps = chosen.steps * VOCODER_STEPS // FLOW_STEPS
    learn(
        "vocoder",
        vocoder,
        [vocoder_optimizer],
        replace(chosen, steps=steps),
        lambda rng: vocoder_losses(vocoder, sounds, rng, act),
    )
    save_file({key: value.contiguous() for key, value in model.state_dict().items()}, chosen.work / FILE)
    torch.save({"cond": voice.condition, "ref_mel": voice.mel}, chosen.work / VOICE)


if __name__ == "__main__":
    main()
