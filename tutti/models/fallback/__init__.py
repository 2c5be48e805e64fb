"""Every causal language model that has no family of its own, by transformers' modules over our paged cache."""

from tutti.models.standard import text_graph

GRAPH = text_graph("fallback")  # no architectures: what nobody else names (see `models.registry`)
