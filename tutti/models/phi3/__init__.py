"""Phi-3, Phi-3.5, Phi-4 and Phi-4-mini (Microsoft), the text models."""

from tutti.models.standard import text_graph

GRAPH = text_graph("phi3", "Phi3ForCausalLM")
