"""gpt-oss: the decoder with its experts taken apart, in MXFP4 or as transformers saves them."""

from __future__ import annotations

import torch

from tutti.formats.checkpoint import Checkpoint
from tutti.graph import BuildOptions
from tutti.models import decoder
from tutti.models.gpt_oss.config import decoder_config, mixture_config
from tutti.models.gpt_oss.source import ExpertSource
from tutti.models.standard import TABLE
from tutti.models.weights import Rows, Table


def build(checkpoint: Checkpoint, options: BuildOptions) -> decoder.Decoder:
    """The model with its weights."""
    config = decoder_config(checkpoint.config)
    width = mixture_config(checkpoint.config).expert.intermediate
    return decoder.build(checkpoint, options, config, table(width), source=ExpertSource(checkpoint))


def table(width: int) -> Table:
    """The weight table, for experts of `width`; rows of gate and up alternate in checkpoints."""
    experts = "model.layers.{}.mlp.experts.{}"
    return {
        **TABLE,
        "layers.{}.feed_forward.router": "model.layers.{}.mlp.router",
        "layers.{}.feed_forward.experts.{}.up": Rows(
            f"{experts}.gate_up_proj", lambda: torch.arange(2 * width).view(width, 2).T.flatten()
        ),
        "layers.{}.feed_forward.experts.{}.down": f"{experts}.down_proj",
    }
