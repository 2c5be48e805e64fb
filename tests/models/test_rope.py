"""Rotary frequencies equal transformers' to the last bit, from configurations of either generation."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from tutti.errors import CheckpointError
from tutti.layers.config import RopeConfig
from tutti.layers.rope import Rope, frequencies
from tutti.models import reading

LONG = {"short_factor": [1.0 + i / 7 for i in range(16)], "long_factor": [3.0 + i / 3 for i in range(16)]}
SCALINGS: dict[str, dict[str, Any]] = {
    "default": {},
    "linear": {"factor": 3.0},
    "dynamic": {"factor": 3.0},
    "llama3": {
        "factor": 8.0,
        "low_freq_factor": 1.0,
        "high_freq_factor": 4.0,
        "original_max_position_embeddings": 8192,
    },
    "yarn": {"factor": 4.0, "original_max_position_embeddings": 2048},
    "yarn-mscale": {
        "rope_type": "yarn",
        "factor": 40.0,
        "original_max_position_embeddings": 4096,
        "beta_fast": 32,
        "beta_slow": 1,
        "mscale": 1.0,
        "mscale_all_dim": 0.707,
    },
    "yarn-flat": {
        "rope_type": "yarn",
        "factor": 32.0,
        "original_max_position_embeddings": 4096,
        "truncate": False,
        "attention_factor": 1.2,
    },
    "longrope": {"original_max_position_embeddings": 1024, **LONG},
    "longrope-factor": {
        "rope_type": "longrope",
        "original_max_position_embeddings": 1024,
        "factor": 2.0,
        **LONG,
    },
}
BASE = {"hidden_size": 128, "num_attention_heads": 4, "max_position_embeddings": 8192 * 16}


def theirs(kind: str, seq_len: int | None = None) -> tuple[torch.Tensor, float]:
    values = {"rope_type": kind, "rope_theta": 12345.0, **SCALINGS[kind]}
    config = transformers.LlamaConfig(**BASE, rope_parameters=values)
    if kind == "default":
        from transformers.models.llama.modeling_llama import LlamaRotaryEmbedding

        return LlamaRotaryEmbedding.compute_default_rope_parameters(config)
    found: tuple[torch.Tensor, float] = ROPE_INIT_FUNCTIONS[values["rope_type"]](
        config, "cpu", seq_len=seq_len
    )
    return found


@pytest.mark.parametrize("generation", ["rope_parameters", "rope_scaling"])
@pytest.mark.parametrize("kind", SCALINGS)
def test_frequencies_equal_transformers(kind: str, generation: str) -> None:
    values = {"rope_type": kind, **SCALINGS[kind]}
    if generation == "rope_parameters":
        config = {**BASE, "rope_parameters": {**values, "rope_theta": 12345.0}}
    else:
        config = {**BASE, "rope_scaling": values if kind != "default" else None, "rope_theta": 12345.0}
    rope = reading.rope(config, 32)
    for context in (1024, 1025):
        expected, magnitude = theirs(kind, context)
        assert torch.equal(frequencies(rope, context), expected)
        assert Rope(rope, context, torch.device("cpu")).magnitude == magnitude


def test_angles_equal_transformers_far_into_the_context() -> None:
    rotary = transformers.models.llama.modeling_llama.LlamaRotaryEmbedding(transformers.LlamaConfig(**BASE))
    positions = torch.tensor([0, 1, 77, 4095, 131071])
    cos, sin = rotary(torch.zeros(1, dtype=torch.float32), positions[None])
    ours = Rope(RopeConfig(32), 131072, torch.device("cpu"))(positions)
    assert torch.equal(ours.cos, cos[0, :, :16]) and torch.equal(ours.sin, sin[0, :, :16])


def test_the_old_name_of_the_rope_type_is_read() -> None:
    config = {**BASE, "rope_scaling": {"type": "linear", "factor": 2.0}}
    assert torch.equal(frequencies(reading.rope(config, 32), 9), frequencies(RopeConfig(32), 9) / 2)


def test_an_unknown_rope_type_is_refused() -> None:
    with pytest.raises(CheckpointError, match="spiral"):
        reading.rope({**BASE, "rope_scaling": {"rope_type": "spiral"}}, 32)


def test_yarn_stretches_the_context() -> None:
    values = {"type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32768}
    assert reading.context({"max_position_embeddings": 32768, "rope_scaling": values}) == 131072
    assert reading.context({"max_position_embeddings": 131072, "rope_scaling": values}) == 131072
