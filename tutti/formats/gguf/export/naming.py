"""The names that llama.cpp gives a decoder's tensors. No torch."""

from __future__ import annotations

import re

_TOP = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
}
_LAYER = {
    "input_layernorm": "attn_norm",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "post_attention_layernorm": "ffn_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
}
_IN_LAYER = re.compile(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)")
_COMPUTED = re.compile(
    r".*\.rotary_emb\.inv_freq"
)  # old checkpoints carry it; it follows from the configuration


def ggml_name(name: str) -> str | None:
    """llama.cpp's name of the tensor `name` of a checkpoint; None where it has none."""
    match = _IN_LAYER.fullmatch(name)
    if match is not None:
        part = _LAYER.get(match[2])
        return None if part is None else f"blk.{match[1]}.{part}.{match[3]}"
    stem, _, kind = name.rpartition(".")
    return f"{_TOP[stem]}.{kind}" if stem in _TOP and kind in ("weight", "bias") else None


def is_computed(name: str) -> bool:
    """Whether a checkpoint's tensor follows from its configuration, so that it is left out."""
    return _COMPUTED.fullmatch(name) is not None
