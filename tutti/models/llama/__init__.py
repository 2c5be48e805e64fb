"""Llama 2 and 3 (Meta), and the many models of the same architecture."""

from tutti.models.standard import text_graph

GRAPH = text_graph("llama", "LlamaForCausalLM", "LLaMAForCausalLM")
