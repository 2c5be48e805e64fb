"""Whisper (OpenAI, Radford et al. 2022): an encoder over windows of 30 seconds, and a decoder that writes what is said.

A recording comes beside the prompt, not in it: every token of the decoder looks at all rows of the encoder.
"""

from tutti.models.standard import encoder_graph

GRAPH = encoder_graph(
    "whisper",
    "WhisperForConditionalGeneration",
    encoder="encoder",
    module="hearing",
    inputs=("audio",),
    answers="decoder",
)
