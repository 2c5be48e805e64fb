"""LLaVA 1.5 and 1.6 (NeXT): a CLIP or SigLIP tower, a projector, and the language model that the checkpoint names."""

from tutti.graph import Edge, Graph, Kind, Stage

_HOME = "tutti.models.llava"
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
    "llava",
    ("LlavaForConditionalGeneration", "LlavaNextForConditionalGeneration"),
    (_VISION, _LLM),
    (Edge("vision", "llm"),),
    media=f"{_HOME}.media:reader",
)
