"""Ollama's API, for the programs written for it: the same models and answers as behind OpenAI's."""
