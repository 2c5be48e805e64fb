"""gpt-oss 20B and 120B (OpenAI)."""

from tutti.models.standard import text_graph

GRAPH = text_graph("gpt_oss", "GptOssForCausalLM")
