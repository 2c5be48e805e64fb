"""Whisper (OpenAI, Radford et al. 2022): an encoder over windows of 30 seconds, and a decoder that writes what is said.

A recording comes beside the prompt, not in it: every token of the decoder looks at all rows of the encoder.
"""

from tutti.graph import Edge, Graph, Kind, Stage

_HOME = "tutti.models.whisper"
_ENCODER = Stage(
    "encoder", Kind.ONCE, f"{_HOME}.hearing:build", f"{_HOME}.config:describe_encoder", inputs=("audio",)
)
_DECODER = Stage(
    "decoder",
    Kind.AUTOREGRESS,
    f"{_HOME}.model:build",
    f"{_HOME}.config:describe",
    output="text",
    inputs=("text",),
)
GRAPH = Graph(
    "whisper",
    ("WhisperForConditionalGeneration",),
    (_ENCODER, _DECODER),
    (Edge("encoder", "decoder"),),
    media=f"{_HOME}.media:reader",
)
