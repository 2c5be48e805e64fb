"""Qwen2-VL and Qwen2.5-VL (Alibaba): a vision tower for pictures and videos of any size, and Qwen2 with M-RoPE."""

from tutti.graph import Edge, Graph, Kind, Stage

_HOME = "tutti.models.qwen2_vl"
_VISION = Stage(
    "vision",
    Kind.ONCE,
    f"{_HOME}.vision:build",
    f"{_HOME}.config:describe_vision",
    inputs=("image", "video"),
)
_LLM = Stage(
    "llm",
    Kind.AUTOREGRESS,
    f"{_HOME}.model:build",
    f"{_HOME}.config:describe",
    output="text",
    inputs=("text",),
)
GRAPH = Graph(
    "qwen2_vl",
    ("Qwen2VLForConditionalGeneration", "Qwen2_5_VLForConditionalGeneration"),
    (_VISION, _LLM),
    (Edge("vision", "llm"),),
    media=f"{_HOME}.media:reader",
)
