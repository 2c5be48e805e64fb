"""Gemma 3 (Google): the text models; those that see are in `gemma3_vl`."""

from tutti.models.standard import text_graph

GRAPH = text_graph("gemma3", "Gemma3ForCausalLM")
