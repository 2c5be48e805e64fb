"""Nomic's BERT (Nussbaum et al. 2024): rotary positions, gated feed-forward, no biases; nomic-embed-text."""

from tutti.models.standard import embedding_graph

GRAPH = embedding_graph("nomic_bert", "NomicBertModel", "NomicBertForMaskedLM")
