"""Gemma 2 (Google)."""

from tutti.models.standard import text_graph

GRAPH = text_graph("gemma2", "Gemma2ForCausalLM")
