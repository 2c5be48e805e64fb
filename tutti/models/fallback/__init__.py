"""Every causal language model that has no family of its own, by transformers' modules over our paged cache."""

from dataclasses import replace

from tutti.models.standard import text_graph

GRAPH = replace(
    text_graph("fallback"),  # no architectures: what nobody else names (see `models.registry`)
    claims="tutti.models.fallback.config:claims",
    remark="by transformers' modules, with paged attention",
)
