"""Falcon (TII): 7B, 40B, 180B and Falcon 2; the models with ALiBi (RW) are refused."""

from tutti.models.standard import text_graph

GRAPH = text_graph("falcon", "FalconForCausalLM")
