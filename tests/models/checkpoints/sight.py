"""Tiny models that see."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import transformers
from transformers import PreTrainedModel

from tests.models.checkpoints.base import BASE, END, IDS, IMAGE, PICTURES, START, VIDEO, Build, recipe
from tests.models.checkpoints.text import gemma3_text

_GRIDS = {"image_processor_type": "Qwen2VLImageProcessor", "patch_size": 4, **PICTURES}


def sighted(name: str, preprocessor: dict[str, Any] = _GRIDS, **more: Any) -> Callable[[Build], Build]:
    """`recipe` of a model that sees, and how it takes pictures; `more` are fields of its `Recipe`."""
    auto = transformers.AutoModelForImageTextToText
    return recipe(name, kind="sight", auto=auto, preprocessor=preprocessor, **more)


def _small_videos(folder: Path) -> None:
    """How many pixels all of a video's frames may have together."""
    size = {"shortest_edge": 1000, "longest_edge": 4000}
    (folder / "video_preprocessor_config.json").write_text(json.dumps({"size": size}))


def _vision_language(kind: str, vision: dict[str, Any], sections: list[int], **text: Any) -> PreTrainedModel:
    """transformers' `{kind}ForConditionalGeneration` with the base's language model, and `text` of its own."""
    rope = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": sections}
    config = getattr(transformers, f"{kind}Config")(
        text_config={**BASE, "rope_parameters": rope, **text},
        vision_config=vision,
        image_token_id=IMAGE,
        video_token_id=VIDEO,
        vision_start_token_id=START,
        vision_end_token_id=END,
        **IDS,
    )
    model: PreTrainedModel = getattr(transformers, f"{kind}ForConditionalGeneration")(config)
    return model


@sighted("qwen2_vl")
def _qwen2_vl() -> PreTrainedModel:
    vision = {"depth": 2, "embed_dim": 32, "hidden_size": 64, "num_heads": 2, "mlp_ratio": 2, "patch_size": 4}
    return _vision_language("Qwen2VL", vision, [2, 3, 3])


WINDOWED_VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 64,
    "patch_size": 4,
    "window_size": 16,
    "fullatt_block_indexes": [1],
}


@sighted("qwen2_5_vl")
def _qwen2_5_vl() -> PreTrainedModel:
    """Windows in the tower's first layer, full attention in its second; frames apart by their time."""
    return _vision_language("Qwen2_5_VL", WINDOWED_VISION | {"tokens_per_second": 2}, [2, 3, 3])


# A tower of four layers, of which two speak to the decoder; positions learned on a grid of 6 x 6.
DEEP_VISION = {
    "depth": 4,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_heads": 2,
    "out_hidden_size": 64,
    "patch_size": 4,
    "num_position_embeddings": 36,
    "deepstack_visual_indexes": [1, 2],
}


@sighted("qwen3_vl", finish=_small_videos)
def _qwen3_vl() -> PreTrainedModel:
    return _vision_language("Qwen3VL", DEEP_VISION, [5, 4, 3], head_dim=24)


@sighted("qwen3_vl_moe", finish=_small_videos)
def _qwen3_vl_moe() -> PreTrainedModel:
    """Experts in the first and the last layer."""
    experts = {
        "num_experts": 6,
        "num_experts_per_tok": 3,
        "moe_intermediate_size": 40,
        "mlp_only_layers": [1],
    }
    return _vision_language("Qwen3VLMoe", DEEP_VISION, [5, 4, 3], head_dim=24, **experts)


_TILE = 16  # pixels
_CLIP = {
    "model_type": "clip_vision_model",
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": _TILE,
    "patch_size": 4,
}
_CUT = {"size": {"shortest_edge": _TILE}, "crop_size": {"height": _TILE, "width": _TILE}}


@sighted("llava", {"image_processor_type": "LlavaImageProcessor", **_CUT})
def _llava() -> PreTrainedModel:
    config = transformers.LlavaConfig(
        text_config={**BASE, "model_type": "llama"}, vision_config=_CLIP, image_token_index=IMAGE
    )
    return transformers.LlavaForConditionalGeneration(config)


@sighted(
    "llava-siglip",
    {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": _TILE + 2, "width": _TILE + 2},
        "image_mean": [0.5] * 3,
        "image_std": [0.4] * 3,
    },
)
def _llava_siglip() -> PreTrainedModel:
    """Another tower and another language; two of the tower's layers are heard; the head is tied."""
    config = transformers.LlavaConfig(
        text_config={**BASE, "model_type": "qwen2", "tie_word_embeddings": True},
        vision_config={**_CLIP, "model_type": "siglip_vision_model", "image_size": _TILE + 2},
        image_token_index=IMAGE,
        vision_feature_layer=[-2, 1],
        vision_feature_select_strategy="full",
        multimodal_projector_bias=False,
    )
    return transformers.LlavaForConditionalGeneration(config)


_CANVASES = [[height * _TILE, width * _TILE] for height, width in ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))]


@sighted(
    "llava_next",
    {"image_processor_type": "LlavaNextImageProcessor", "image_grid_pinpoints": _CANVASES, **_CUT},
)
def _llava_next() -> PreTrainedModel:
    config = transformers.LlavaNextConfig(
        text_config={**BASE, "model_type": "mistral", "sliding_window": 90},
        vision_config=_CLIP,
        image_token_index=IMAGE,
        image_grid_pinpoints=_CANVASES,
    )
    return transformers.LlavaNextForConditionalGeneration(config)


@sighted(
    "gemma3-vision",
    {"image_processor_type": "Gemma3ImageProcessor", "size": {"height": _TILE, "width": _TILE}},
)
def _gemma3_vision() -> PreTrainedModel:
    """Pictures of four tokens, on both sides of a window's edge; the placeholder is where a picture begins."""
    config = transformers.Gemma3Config(
        text_config=gemma3_text().to_dict(),
        vision_config={**_CLIP, "model_type": "siglip_vision_model"},
        mm_tokens_per_image=4,
        boi_token_index=IMAGE,
        image_token_index=VIDEO,
        eoi_token_index=END,
    )
    return transformers.Gemma3ForConditionalGeneration(config)
