"""DeepSeek-V2: the decoder with latent attention and experts under DeepSeek's names."""

from __future__ import annotations

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models import decoder
from tutti.models.config import DecoderConfig
from tutti.models.deepseek_v2.config import attention_config, decoder_config
from tutti.models.standard import EXPERTS, TABLE
from tutti.models.weights import Table


def build(checkpoint: Checkpoint, options: BuildOptions) -> decoder.Decoder:
    """The model with its weights."""
    config: DecoderConfig = decoder_config(checkpoint.config)
    compressed = attention_config(checkpoint.config).query_rank is not None
    return decoder.build(checkpoint, options, config, table(compressed))


def table(compressed: bool) -> Table:
    """The weight table; `compressed`: queries come from a latent of their own."""
    attention = "model.layers.{}.self_attn"
    return (
        TABLE
        | EXPERTS
        | {
            "layers.{}.attention.down": (
                f"{attention}.q_a_proj" if compressed else f"{attention}.q_proj",
                f"{attention}.kv_a_proj_with_mqa",
            ),
            "layers.{}.attention.query_norm": f"{attention}.q_a_layernorm",
            "layers.{}.attention.query_up": f"{attention}.q_b_proj",
            "layers.{}.attention.latent_norm": f"{attention}.kv_a_layernorm",
            "layers.{}.attention.matrices": f"{attention}.kv_b_proj",
        }
    )
