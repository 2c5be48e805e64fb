"""Tiny random checkpoints that read texts aloud."""

from __future__ import annotations

import functools
import json
import shutil
import tempfile
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from tests.models import checkpoints
from tests.models.qwen_tts_reference import modules

_KEPT: list[tempfile.TemporaryDirectory[str]] = []  # removed when the process ends


@functools.cache
def roomy_omni(talker: int = 1200) -> Path:
    """The tiny Qwen2.5-Omni with a context of 600 tokens: room for its system message and fifty more bytes.

    The context of its talker is `talker`: random weights seldom end their speech before it does.
    """
    folder = tempfile.TemporaryDirectory(prefix="tutti-speech-")
    _KEPT.append(folder)
    path = Path(folder.name) / "omni"
    shutil.copytree(checkpoints.cached("qwen2_5_omni"), path)
    config = json.loads((path / "config.json").read_text())
    config["thinker_config"]["text_config"]["max_position_embeddings"] = 600
    config["talker_config"]["max_position_embeddings"] = talker
    (path / "config.json").write_text(json.dumps(config))
    return path


@functools.cache
def brief_omni3(talker: int = 100) -> Path:
    """The tiny Qwen3-Omni, whose speech ends at the latest when its talker's context of `talker` is full."""
    folder = tempfile.TemporaryDirectory(prefix="tutti-speech-")
    _KEPT.append(folder)
    path = Path(folder.name) / "omni3"
    shutil.copytree(checkpoints.cached("qwen3_omni"), path)
    config = json.loads((path / "config.json").read_text())
    config["talker_config"]["text_config"]["max_position_embeddings"] = talker
    (path / "config.json").write_text(json.dumps(config))
    return path


CODEBOOK, GROUPS = 64, 4
ASSISTANT = checkpoints.VOCAB  # the token behind the special ones
VOICES = {"ada": CODEBOOK + 20, "bea": CODEBOOK + 21, "cheng": CODEBOOK + 22}
_HEADS = {"num_attention_heads": 4, "num_key_value_heads": 2, "pad_token_id": None, "num_hidden_layers": 2}
_TALKER = {
    "vocab_size": CODEBOOK + 1024,
    "text_vocab_size": 300,
    "text_hidden_size": 24,
    "hidden_size": 32,
    "intermediate_size": 48,
    "head_dim": 24,
    "max_position_embeddings": 600,
    "num_code_groups": GROUPS,
    "codec_eos_token_id": CODEBOOK + 10,
    "codec_think_id": CODEBOOK + 11,
    "codec_nothink_id": CODEBOOK + 12,
    "codec_think_bos_id": CODEBOOK + 13,
    "codec_think_eos_id": CODEBOOK + 14,
    "codec_pad_id": CODEBOOK + 15,
    "codec_bos_id": CODEBOOK + 16,
    "codec_language_id": {
        "english": CODEBOOK + 30,
        "chinese": CODEBOOK + 31,
        "sichuan_dialect": CODEBOOK + 32,
    },
    "spk_id": VOICES,
    "spk_is_dialect": {"ada": False, "bea": False, "cheng": "sichuan_dialect"},
    "rope_scaling": {"rope_type": "default", "mrope_section": [5, 4, 3], "interleaved": True},
    "rope_theta": 1_000_000,
    **_HEADS,
}
_PREDICTOR = {
    "vocab_size": CODEBOOK,
    "hidden_size": 16,
    "intermediate_size": 40,
    "head_dim": 8,
    "num_code_groups": GROUPS,
    **_HEADS,
}
_CODEC = {
    "codebook_size": CODEBOOK,
    "codebook_dim": 16,
    "hidden_size": 32,
    "latent_dim": 24,
    "head_dim": 16,
    "num_attention_heads": 2,
    "num_key_value_heads": 2,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "sliding_window": 6,
    "num_quantizers": GROUPS,
    "num_semantic_quantizers": 1,
    "decoder_dim": 32,
}


@functools.cache
def qwen3_tts_networks() -> tuple[Any, Any]:
    """The reference's talker (with all around it) and the decoder of its codec, tiny and random."""
    configs, talkers, codec_configs, codecs = modules()
    config = configs.Qwen3TTSConfig(
        talker_config={**_TALKER, "code_predictor_config": _PREDICTOR},
        tts_model_type="custom_voice",
        tts_model_size="1b7",
        tokenizer_type="qwen3_tts_tokenizer_12hz",
        im_start_token_id=checkpoints.START,
        im_end_token_id=checkpoints.END,
        assistant_token_id=ASSISTANT,
        tts_pad_token_id=290,
        tts_bos_token_id=291,
        tts_eos_token_id=292,
        architectures=["Qwen3TTSForConditionalGeneration"],
    )
    model = checkpoints.randomize(talkers.Qwen3TTSForConditionalGeneration(config)).eval()
    decoder = codec_configs.Qwen3TTSTokenizerV2Config(decoder_config=_CODEC, encoder_config={}).decoder_config
    codec = checkpoints.randomize(codecs.Qwen3TTSTokenizerV2Decoder(decoder), seed=1).eval()
    with torch.no_grad():
        for name, parameter in codec.named_parameters():
            if name.endswith("cluster_usage"):  # how often a code was used: never negative
                parameter.abs_().add_(0.1)
    return model, codec


@functools.cache
def qwen3_tts() -> Path:
    """Its checkpoint as it is published: the codec in a folder of its own."""
    model, codec = qwen3_tts_networks()
    folder = tempfile.TemporaryDirectory(prefix="tutti-speech-")
    _KEPT.append(folder)
    path = Path(folder.name) / "tts"
    (path / "speech_tokenizer").mkdir(parents=True)
    (path / "config.json").write_text(model.config.to_json_string(use_diff=False))
    save_file(dict(model.state_dict()), path / "model.safetensors", {"format": "pt"})
    tensors = {f"decoder.{name}": tensor for name, tensor in codec.state_dict().items()}
    save_file(tensors, path / "speech_tokenizer" / "model.safetensors", {"format": "pt"})
    (path / "speech_tokenizer" / "config.json").write_text(json.dumps({"decoder_config": _CODEC}))
    (path / "generation_config.json").write_text(json.dumps({"max_new_tokens": 24, "do_sample": True}))
    checkpoints.add_tokenizer(path, (*checkpoints.SPECIALS, "assistant"))
    return path
