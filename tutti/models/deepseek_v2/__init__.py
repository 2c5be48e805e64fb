"""DeepSeek-V2, V2-Lite and DeepSeek-Coder-V2 (DeepSeek-AI)."""

from tutti.models.standard import text_graph

GRAPH = text_graph("deepseek_v2", "DeepseekV2ForCausalLM")
