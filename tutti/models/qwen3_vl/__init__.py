"""Qwen3-VL, dense and with experts (Alibaba): a vision tower whose inner layers speak to the first of Qwen3's."""

from tutti.graph import Edge, Graph, Kind, Stage

_HOME = "tutti.models.qwen3_vl"
_VISION = Stage(
    "vision",
    Kind.ONCE,
    f"{_HOME}.vision:build",
    f"{_HOME}.config:describe_vision",
    inputs=("image",),
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
    "qwen3_vl",
    ("Qwen3VLForConditionalGeneration", "Qwen3VLMoeForConditionalGeneration"),
    (_VISION, _LLM),
    (Edge("vision", "llm"),),
    media=f"{_HOME}.media:reader",
)
