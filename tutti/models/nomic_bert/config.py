"""Nomic's configuration, under the names of its authors' code or of transformers. No torch.

The longest text is what the model was trained on: beyond that its code scales rope, differently for each length.
"""

from __future__ import annotations

from typing import Any

from tutti.errors import CheckpointError
from tutti.graph import StageShape
from tutti.layers.config import FeedForwardConfig, NormConfig, RopeConfig
from tutti.models import reading
from tutti.models.encoders.shape import EncoderConfig
from tutti.models.reading import Config

_OLD = {  # transformers' names -> those of the authors' code
    "hidden_size": "n_embd",
    "num_hidden_layers": "n_layer",
    "num_attention_heads": "n_head",
    "intermediate_size": "n_inner",
    "layer_norm_eps": "layer_norm_epsilon",
}
_FIXED: dict[str, Any] = {  # what other models of the authors' code have otherwise
    "causal": False,
    "prenorm": False,
    "qkv_proj_bias": False,
    "mlp_fc1_bias": False,
    "mlp_fc2_bias": False,
    "rotary_emb_fraction": 1.0,
    "rotary_emb_interleaved": False,
    "rotary_emb_scale_base": None,
    "activation_function": "swiglu",
    "moe_every_n_layers": 0,
}


def encoder_config(config: Config) -> EncoderConfig:
    """The encoder that config.json describes. Raises CheckpointError."""
    for key, value in _FIXED.items():
        if config.get(key, value) not in (value, None, False):
            raise CheckpointError(f"config.json: {key} {config[key]!r} is not supported")
    known = {
        **config,
        **{new: config[old] for new, old in _OLD.items() if new not in config and old in config},
    }
    hidden, heads = reading.require(known, "hidden_size"), reading.require(known, "num_attention_heads")
    width = reading.head_dim(known)
    trained = config.get("max_trained_positions") or min(2048, config.get("n_positions") or 2048)
    base = config.get("rotary_emb_base")
    rope = RopeConfig(width, float(base)) if base else reading.rope(known, width, theta=1000.0)
    return EncoderConfig(
        hidden=hidden,
        vocab=reading.require(known, "vocab_size"),
        context=int(config.get("max_position_embeddings") or trained),
        layers=reading.require(known, "num_hidden_layers"),
        heads=heads,
        head_dim=width,
        feed_forward=FeedForwardConfig(reading.require(known, "intermediate_size"), "silu"),
        norm=NormConfig(eps=float(known.get("layer_norm_eps") or 1e-12), kind="layer", bias=True),
        types=int(config.get("type_vocab_size") or 1),
        rope=rope,
        bias=False,
    )


def describe_encoder(config: Config) -> StageShape:
    """See `Stage.describe`."""
    return encoder_config(config).shape
