"""The shapes of pico's senses: a Qwen2.5-Omni thinker of about five million parameters, in Hugging Face's format.

The thinker's decoder is the text model of `model`, whose rotary pairs are shared by time, height and width: on text
alone it computes what the text model computes. The ears are an audio encoder over spectrograms of `BANDS` bands, 50 frames
and 12.5 rows a second; the eyes a vision encoder over patches of 8 x 8 pixels, one row for each 16 x 16.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from transformers import (
    Qwen2_5OmniThinkerConfig,
    Qwen2_5OmniThinkerForConditionalGeneration,
)
from transformers.models.qwen2_5_omni.modeling_qwen2_5_omni import (
    Qwen2_5OmniAudioEncoder,
    Qwen2_5OmniAudioEncoderConfig,
    Qwen2_5OmniVisionEncoder,
    Qwen2_5OmniVisionEncoderConfig,
)

from .model import CONTEXT
from .tokenizer import END, END_OF_TEXT, MEDIA_TOKENS, VOCABULARY

WIDTH = 256
BANDS, HOP = 64, 320
"""Bands of a spectrogram, and the samples from one of its frames to the next: twice the usual, so that less has to be heard
and read. A token of speech lasts a quarter of a second."""
LONGEST_FRAMES = 400
"""Frames that attend to each other, 8 seconds; a longer recording is heard in pieces."""
PATCH, MERGE = 8, 2
LEAST_PIXELS, MOST_PIXELS = 9000, 9600
"""Every picture is brought to about 96 x 96 pixels, so a square one to exactly that."""
LOUDER = 8.0
"""How many times as large the embeddings become when the thinker is done: `make_embeddings_louder`."""
ROTARY_SECTIONS = [1] * 16
"""Time, height and width take the rotary pairs in turn: each has fast ones and slow ones."""


def audio_config() -> Qwen2_5OmniAudioEncoderConfig:
    return Qwen2_5OmniAudioEncoderConfig(
        num_mel_bins=BANDS,
        encoder_layers=4,
        encoder_attention_heads=6,
        encoder_ffn_dim=512,
        d_model=192,
        n_window=LONGEST_FRAMES // 2,
        max_source_positions=LONGEST_FRAMES // 2,
        output_dim=WIDTH,
    )


def vision_config() -> Qwen2_5OmniVisionEncoderConfig:
    return Qwen2_5OmniVisionEncoderConfig(
        depth=3,
        hidden_size=128,
        intermediate_size=256,
        num_heads=4,
        patch_size=PATCH,
        spatial_merge_size=MERGE,
        window_size=8 * PATCH * MERGE,
        out_hidden_size=WIDTH,
        fullatt_block_indexes=[0, 1, 2],
    )


def build_ears(seed: int) -> Qwen2_5OmniAudioEncoder:
    """A freshly initialized audio encoder in float32."""
    torch.manual_seed(seed)
    return Qwen2_5OmniAudioEncoder(audio_config())


def build_eyes(seed: int) -> Qwen2_5OmniVisionEncoder:
    """A freshly initialized vision encoder in float32."""
    torch.manual_seed(seed)
    return Qwen2_5OmniVisionEncoder(vision_config())


def thinker_config(tokenizer: Tokenizer) -> Qwen2_5OmniThinkerConfig:
    """The thinker's decoder has the sizes of `model.build_model`."""
    token = tokenizer.token_to_id
    text = {
        "vocab_size": VOCABULARY,
        "hidden_size": WIDTH,
        "intermediate_size": 256,
        "num_hidden_layers": 6,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "max_position_embeddings": CONTEXT,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            "mrope_section": ROTARY_SECTIONS,
        },
        "tie_word_embeddings": True,
        "eos_token_id": token(END),
        "pad_token_id": token(END_OF_TEXT),
    }
    return Qwen2_5OmniThinkerConfig(
        text_config=text,
        audio_config=audio_config().to_dict(),
        vision_config=vision_config().to_dict(),
        audio_token_index=token(MEDIA_TOKENS["audio_token"]),
        image_token_index=token(MEDIA_TOKENS["image_token"]),
        video_token_index=token(MEDIA_TOKENS["video_token"]),
        audio_start_token_id=token(MEDIA_TOKENS["audio_bos_token"]),
        audio_end_token_id=token(MEDIA_TOKENS["audio_eos_token"]),
        vision_start_token_id=token(MEDIA_TOKENS["vision_bos_token"]),
        vision_end_token_id=token(MEDIA_TOKENS["vision_eos_token"]),
        user_token_id=tokenizer.encode("user").ids[0],
        pad_token_id=token(END_OF_TEXT),
        tie_word_embeddings=True,
    )


def build_thinker(
    tokenizer: Tokenizer, text: dict[str, torch.Tensor]
) -> Qwen2_5OmniThinkerForConditionalGeneration:
    """A thinker in float32 whose decoder has the weights of the text model; its ears and eyes are fresh."""
    thinker = Qwen2_5OmniThinkerForConditionalGeneration(thinker_config(tokenizer))
    if text:
        thinker.model.load_state_dict(
            {k.removeprefix("model."): v.float() for k, v in text.items() if k.startswith("model.")}
        )
    thinker.tie_weights()
    return thinker


@torch.no_grad()
def make_embeddings_louder(
    thinker: Qwen2_5OmniThinkerForConditionalGeneration, factor: float = LOUDER
) -> None:
    """The same function with embeddings `factor` times as large, and last hidden states so many times as small.

    The talker hears the sum of both, and is to say the token that is embedded, not the next one, which the hidden state
    tells. Every norm undoes the factor; a power of two changes no rounding.
    """
    model, ears, eyes = thinker.model, thinker.audio_tower, thinker.visual
    louder = [model.embed_tokens.weight, *ears.proj.parameters(), *eyes.merger.mlp[-1].parameters()]
    for layer in model.layers:
        louder += [layer.self_attn.o_proj.weight, layer.mlp.down_proj.weight]
    for parameter in louder:
        parameter.mul_(factor)
    model.norm.weight.div_(factor)


def load_thinker(work: Path, tokenizer: Tokenizer) -> Qwen2_5OmniThinkerForConditionalGeneration:
    """The thinker in float32 that the stages left in `work`: trained, or, before that, of the text model alone."""
    trained = work / "thinker.pt"
    if not trained.exists():
        return build_thinker(tokenizer, load_file(work / "text" / "model.safetensors"))
    thinker = build_thinker(tokenizer, {})
    thinker.load_state_dict(torch.load(trained, weights_only=True))
    thinker.tie_weights()
    return thinker
