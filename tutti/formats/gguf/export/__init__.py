"""From a checkpoint in Hugging Face's form to what a GGUF file says: configuration, names, tokenizer. No torch.

Names and keys are llama.cpp's (https://github.com/ggml-org/llama.cpp/tree/master/gguf-py, constants, tensor mapping).
"""
