"""Logits of the same GGUF file here and in llama.cpp."""
