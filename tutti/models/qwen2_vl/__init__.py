"""Qwen2-VL and Qwen2.5-VL (Alibaba): a vision tower for pictures and videos of any size, and Qwen2 with M-RoPE."""

from tutti.graph import Edge, Graph, Kind, Stage

_HOME = "tutti.models.qwen2_vl"
GRAPH = Graph(
    "qwen2_vl",
    ("Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"),
    (
        Stage("vision", Kind.ONCE, f"{_HOME}.vision:build", f"{_HOME}.config:describe_vision", inputs=("image", "video")),
        Stage("llm", Kind.AUTOREGRESS, f"{_HOME}.model:build", f"{_HOME}.config:describe", output="text", inputs=("text",)),
    ),
    (Edge("vision", "llm"),),
    media=f"{_HOME}.media:reader",
)
