"""Gemma 3 (Google): the text models, and the text of the ones that see."""

from tutti.models.standard import text_graph

GRAPH = text_graph("gemma3", "Gemma3ForCausalLM", "Gemma3ForConditionalGeneration")
