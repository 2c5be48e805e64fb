"""Qwen2-VL and Qwen2.5-VL (Alibaba): a vision tower for pictures and videos of any size, and Qwen2 with M-RoPE."""

from tutti.models.standard import encoder_graph

GRAPH = encoder_graph(
    "qwen2_vl",
    "Qwen2VLForConditionalGeneration",
    "Qwen2_5_VLForConditionalGeneration",
    encoder="vision",
    module="vision",
    inputs=("image", "video"),
    weights=("visual.",),
)
