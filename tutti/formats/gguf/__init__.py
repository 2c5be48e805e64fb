"""GGUF: the file format of llama.cpp and Ollama, and the block types its tensors are quantized in."""
