"""Qwen3, mixtures of experts (Alibaba)."""

from tutti.models.standard import text_graph

GRAPH = text_graph("qwen3_moe", "Qwen3MoeForCausalLM")
