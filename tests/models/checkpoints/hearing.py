"""Tiny models that hear."""

from __future__ import annotations

from pathlib import Path

import transformers
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from tests.models.checkpoints.base import AUDIO, BASE, BOS, EOS, IDS, PAD, recipe

WHISPER = {
    name: EOS + place
    for place, name in enumerate(
        (
            "</s>", "<|startoftranscript|>", "<|en|>", "<|fr|>", "<|translate|>", "<|transcribe|>",
            "<|startofprev|>", "<|nospeech|>", "<|notimestamps|>",
        )
    )
}  # fmt: skip
_UNSAID = ("<|startoftranscript|>", "<|translate|>", "<|transcribe|>", "<|startofprev|>", "<|nospeech|>")
WHISPER_TIMES = max(WHISPER.values()) + 1


def _as_published(folder: Path) -> None:
    """The names of the published checkpoint; transformers 5.17 saves the language model's with a "model." too many."""
    file = folder / "model.safetensors"
    tensors = {name.replace(".model.model.", ".model."): tensor for name, tensor in load_file(file).items()}
    save_file(tensors, file, {"format": "pt"})


@recipe(
    "qwen2_audio",
    kind="hearing",
    auto=transformers.Qwen2AudioForConditionalGeneration,
    finish=_as_published,
)
def _qwen2_audio() -> PreTrainedModel:
    audio = {
        "num_mel_bins": 16,
        "encoder_layers": 2,
        "encoder_attention_heads": 4,
        "encoder_ffn_dim": 48,
        "d_model": 32,
        "max_source_positions": 200,  # windows of 4 seconds
    }
    config = transformers.Qwen2AudioConfig(
        text_config={**BASE, "model_type": "qwen2"}, audio_config=audio, audio_token_index=AUDIO
    )
    return transformers.Qwen2AudioForConditionalGeneration(config)


def _whisper_generation() -> transformers.GenerationConfig:
    config = transformers.GenerationConfig(
        **IDS,
        decoder_start_token_id=WHISPER["<|startoftranscript|>"],
        is_multilingual=True,
        lang_to_id={name: WHISPER[name] for name in ("<|en|>", "<|fr|>")},
        task_to_id={name: WHISPER[f"<|{name}|>"] for name in ("translate", "transcribe")},
        no_timestamps_token_id=WHISPER["<|notimestamps|>"],
        prev_sot_token_id=WHISPER["<|startofprev|>"],
        suppress_tokens=[7, 11, PAD, BOS, *(WHISPER[name] for name in _UNSAID)],
        begin_suppress_tokens=[32, EOS],
        max_initial_timestamp_index=50,
        alignment_heads=[[1, 0], [2, 3], [2, 1]],
    )
    config._from_model_config = False  # or what is Whisper's own would not be saved
    return config


def _times() -> tuple[str, ...]:
    return tuple(f"<|{place * 0.02:.2f}|>" for place in range(1501))


@recipe(
    "whisper",
    kind="hearing",
    auto=transformers.WhisperForConditionalGeneration,
    generation=_whisper_generation,
    specials=("<pad>", "<s>", *WHISPER, *_times()),
)
def _whisper() -> PreTrainedModel:
    """Windows of 30 seconds; a vocabulary of its own, in which special tokens and times follow the end."""
    config = transformers.WhisperConfig(
        vocab_size=WHISPER_TIMES + 1501,
        num_mel_bins=16,
        encoder_layers=2,
        encoder_attention_heads=4,
        decoder_layers=3,
        decoder_attention_heads=4,
        decoder_ffn_dim=96,
        encoder_ffn_dim=48,
        d_model=64,
        max_target_positions=64,
        decoder_start_token_id=WHISPER["<|startoftranscript|>"],
        begin_suppress_tokens=None,
        **IDS,
    )
    return transformers.WhisperForConditionalGeneration(config)
