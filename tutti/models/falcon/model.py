"""Falcon: the decoder with the weights under Falcon's names, its fused projections sorted into ours."""

from __future__ import annotations

import torch

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.layers.config import AttentionConfig
from tutti.models import decoder
from tutti.models.config import DecoderConfig
from tutti.models.falcon.config import decoder_config
from tutti.models.weights import Rows, Table


def build(checkpoint: Checkpoint, options: BuildOptions) -> decoder.Decoder:
    """The model with its weights."""
    config = decoder_config(checkpoint.config)
    return decoder.build(checkpoint, options, config, table(config))


def table(config: DecoderConfig) -> Table:
    """The weight table; which norms there are depends on the generation."""
    layer = "transformer.h.{}"
    attention = config.layers[0].attention
    assert isinstance(attention, AttentionConfig)
    two = config.parallel and config.parallel_norms == 2
    return {
        "embed": "transformer.word_embeddings",
        "head": "lm_head",
        "norm": "transformer.ln_f",
        "layers.{}.attention_norm": f"{layer}.ln_attn" if two else f"{layer}.input_layernorm",
        "layers.{}.feed_forward_norm": f"{layer}.ln_mlp" if two else f"{layer}.post_attention_layernorm",
        "layers.{}.attention.qkv": Rows(
            f"{layer}.self_attention.query_key_value",
            lambda: fused_rows(attention.heads, attention.kv_heads, attention.head_dim),
        ),
        "layers.{}.attention.out": f"{layer}.self_attention.dense",
        "layers.{}.feed_forward.up": f"{layer}.mlp.dense_h_to_4h",
        "layers.{}.feed_forward.down": f"{layer}.mlp.dense_4h_to_h",
    }


def fused_rows(heads: int, kv_heads: int, head_dim: int) -> torch.Tensor:
    """For every row of [q, k, v] its row in the fused projection, where each group of queries is followed by its KV:

    | q q q k v | q q q k v | ...  (one letter: head_dim rows; one group: one KV head)
    """
    group = heads // kv_heads
    rows = torch.arange((heads + 2 * kv_heads) * head_dim).view(kv_heads, group + 2, head_dim)
    return torch.cat([rows[:, :group].flatten(), rows[:, group].flatten(), rows[:, group + 1].flatten()])
