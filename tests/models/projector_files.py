"""A tiny LLaVA as two GGUF files, a language model and what sees for it, as llama.cpp's converters write them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from gguf import GGUFWriter

from tests.models import checkpoints, gguf_files
from tutti.formats.checkpoint import open_checkpoint

CLIP_MEAN, CLIP_DEVIATION = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def write_language(path: Path, name: str = "llava") -> Path:
    """The language model of the tests' checkpoint `name`."""
    checkpoint = open_checkpoint(checkpoints.cached(name))
    config = checkpoint.config["text_config"] | {"tie_word_embeddings": False}
    tensors = {}
    for tensor in checkpoint.tensors:
        if "language_model" in tensor or tensor == "lm_head.weight":
            plain = tensor.replace("model.language_model.", "model.").replace("language_model.", "")
            tensors[plain] = checkpoint.tensor(tensor).float().numpy()
    writer = GGUFWriter(path, "llama")
    gguf_files.write_config(writer, config, "llama")
    gguf_files.write_bytes_tokenizer(writer)
    for tensor, values in gguf_files.converted("llama", config, tensors).items():
        writer.add_tensor(tensor, np.ascontiguousarray(values, dtype=np.float32))
    gguf_files.finish(writer)
    return path


def write_projector(path: Path, *, older: bool = False) -> Path:
    """What sees for the tests' LLaVA; `older` files call the layers of a feed-forward by each other's names."""
    checkpoint = open_checkpoint(checkpoints.cached("llava"))
    vision = checkpoint.config["vision_config"]
    layers = vision["num_hidden_layers"] - 1  # the last one is not heard
    writer = GGUFWriter(path, "clip")
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.has_llava_projector", True)
    if not older:
        writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", False)
    for key, value in {
        "image_size": vision["image_size"],
        "patch_size": vision["patch_size"],
        "embedding_length": vision["hidden_size"],
        "feed_forward_length": vision["intermediate_size"],
        "block_count": layers,
        "attention.head_count": vision["num_attention_heads"],
    }.items():
        writer.add_uint32(f"clip.vision.{key}", value)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", vision.get("layer_norm_eps", 1e-5))
    writer.add_array("clip.vision.image_mean", list(CLIP_MEAN))
    writer.add_array("clip.vision.image_std", list(CLIP_DEVIATION))
    for tensor in checkpoint.tensors:
        name = _renamed(tensor, layers, older)
        if name is not None:
            writer.add_tensor(name, checkpoint.tensor(tensor).float().numpy())
    gguf_files.finish(writer)
    return path


def _renamed(tensor: str, layers: int, older: bool) -> str | None:
    """llama.cpp's name of a tensor of the tower or the projector; None for one that is left out."""
    name = tensor.removeprefix("model.")
    if name.startswith("multi_modal_projector."):
        return name.replace("multi_modal_projector.linear_1", "mm.0").replace(
            "multi_modal_projector.linear_2", "mm.2"
        )
    if not name.startswith("vision_tower.") or "post_layernorm" in name or "position_ids" in name:
        return None
    name = name.removeprefix("vision_tower.").removeprefix("vision_model.")
    if name == "embeddings.class_embedding":
        return "v.class_embd"
    if name.startswith("encoder.layers.") and int(name.split(".")[2]) >= layers:
        return None
    wide, narrow = ("ffn_down", "ffn_up") if older else ("ffn_up", "ffn_down")
    for theirs, ours in (
        ("embeddings.patch_embedding", "patch_embd"),
        ("embeddings.position_embedding", "position_embd"),
        ("pre_layrnorm", "pre_ln"),
        ("encoder.layers", "blk"),
        ("self_attn.out_proj", "attn_out"),
        ("self_attn.q_proj", "attn_q"),
        ("self_attn.k_proj", "attn_k"),
        ("self_attn.v_proj", "attn_v"),
        ("layer_norm1", "ln1"),
        ("layer_norm2", "ln2"),
        ("mlp.fc1", wide),
        ("mlp.fc2", narrow),
    ):
        name = name.replace(theirs, ours)
    return f"v.{name}"
