"""Whisper (OpenAI, Radford et al. 2022): an encoder over windows of 30 seconds, and a decoder that writes what is said.

A recording comes beside the prompt, not in it: every token of the decoder looks at all rows of the encoder. Who wants
to know when each token was said gets it from the aligner ("times").
"""

from tutti.graph import Edge, Graph, Kind
from tutti.models.standard import language_stage, stage

_HOME = "tutti.models.whisper"

GRAPH = Graph(
    "whisper",
    ("WhisperForConditionalGeneration",),
    (
        stage("whisper", "encoder", Kind.ONCE, "hearing", inputs=("audio",), weights=("model.encoder.",)),
        language_stage("decoder", "whisper"),
        stage("whisper", "aligner", Kind.ONCE, "align", output="times"),
    ),
    (Edge("encoder", "decoder"), Edge("decoder", "aligner", f"{_HOME}.align:watch")),
    media=f"{_HOME}.media:reader",
)
