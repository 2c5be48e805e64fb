"""OpenAI's API, with the extensions of vLLM's server that programs rely on."""
