"""Qwen3-VL, dense and with experts (Alibaba): a vision tower whose inner layers speak to the first of Qwen3's."""

from tutti.models.standard import encoder_graph

GRAPH = encoder_graph(
    "qwen3_vl",
    "Qwen3VLForConditionalGeneration",
    "Qwen3VLMoeForConditionalGeneration",
    encoder="vision",
    module="vision",
    inputs=("image", "video"),
    weights=("visual.",),
)
