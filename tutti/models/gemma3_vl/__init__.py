"""Gemma 3 with eyes (Google): SigLIP's tower, and Gemma 3's decoder, whose pictures look at themselves both ways."""

from tutti.graph import Edge, Graph, Kind, Stage

_HOME = "tutti.models.gemma3_vl"
_LANGUAGE = "tutti.models.gemma3"
_LLM = Stage(
    "llm",
    Kind.AUTOREGRESS,
    f"{_LANGUAGE}.model:build",
    f"{_LANGUAGE}.config:describe",
    output="text",
    inputs=("text",),
)
_VISION = Stage(
    "vision",
    Kind.ONCE,
    f"{_HOME}.vision:build",
    f"{_HOME}.config:describe_vision",
    inputs=("image",),
)
GRAPH = Graph(
    "gemma3_vl",
    ("Gemma3ForConditionalGeneration",),
    (_VISION, _LLM),
    (Edge("vision", "llm"),),
    media=f"{_HOME}.media:reader",
)
