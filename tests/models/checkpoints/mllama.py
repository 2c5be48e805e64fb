"""A tiny Llama 3.2 Vision, which sees beside its prompt."""

from __future__ import annotations

import torch
import transformers
from transformers import PreTrainedModel

from tests.models.checkpoints.base import BASE, IMAGE, recipe

TILE = 16  # pixels
PATCHES = 16  # of a tile


@recipe(
    "mllama",
    kind="beside",
    auto=transformers.AutoModelForImageTextToText,
    preprocessor={
        "image_processor_type": "MllamaImageProcessor",
        "size": {"height": TILE, "width": TILE},
        "max_image_tiles": 4,
        "image_mean": [0.5] * 3,
        "image_std": [0.4] * 3,
    },
)
def mllama() -> PreTrainedModel:
    """Two layers that look at pictures among five; the picture's token follows the vocabulary, as published."""
    text = {**BASE, "vocab_size": IMAGE, "num_hidden_layers": 5, "cross_attention_layers": [1, 3]}
    rope = {
        "rope_type": "llama3",
        "rope_theta": 10000.0,
        "factor": 4.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 32,
    }
    vision = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_global_layers": 2,
        "attention_heads": 2,
        "image_size": TILE,
        "patch_size": 4,
        "intermediate_layers_indices": [0, 2],
        "vision_output_dim": 96,
    }
    config = transformers.MllamaConfig(
        text_config={**text, "rope_parameters": rope}, vision_config=vision, image_token_index=IMAGE
    )
    model = transformers.MllamaForConditionalGeneration(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "gate" in name and "gate_proj" not in name:
                parameter.fill_(1.0)  # drawn anew around 1: a gate of 0 would hide what it guards
    return model
