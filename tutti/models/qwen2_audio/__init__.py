"""Qwen2-Audio (Alibaba, arXiv 2407.10759): hears recordings of up to 30 seconds, and writes."""

from tutti.graph import Edge, Graph, Kind, Stage

_HOME = "tutti.models.qwen2_audio"
_AUDIO = Stage(
    "audio", Kind.ONCE, f"{_HOME}.hearing:build", f"{_HOME}.config:describe_audio", inputs=("audio",)
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
    "qwen2_audio",
    ("Qwen2AudioForConditionalGeneration",),
    (_AUDIO, _LLM),
    (Edge("audio", "llm"),),
    media=f"{_HOME}.media:reader",
)
