"""Qwen3, dense (Alibaba)."""

from tutti.models.standard import text_graph

GRAPH = text_graph("qwen3", "Qwen3ForCausalLM")
