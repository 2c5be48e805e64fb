"""Mistral 7B and its successors of the same architecture (Mistral AI)."""

from tutti.models.standard import text_graph

GRAPH = text_graph("mistral", "MistralForCausalLM")
