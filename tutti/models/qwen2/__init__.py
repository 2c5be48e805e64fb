"""Qwen2 and Qwen2.5 (Alibaba)."""

from tutti.models.standard import text_graph

GRAPH = text_graph("qwen2", "Qwen2ForCausalLM")
