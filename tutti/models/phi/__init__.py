"""Phi-1, Phi-1.5 and Phi-2 (Microsoft)."""

from tutti.models.standard import text_graph

GRAPH = text_graph("phi", "PhiForCausalLM")
