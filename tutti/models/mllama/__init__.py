"""Llama 3.2 Vision (Meta): a tower that sees pictures in tiles, and Llama with layers that look at what it saw.

A picture fills one token of the prompt; every layer of cross-attention looks at all of its rows beside it.
"""

from tutti.models.standard import encoder_graph

GRAPH = encoder_graph(
    "mllama",
    "MllamaForConditionalGeneration",
    encoder="vision",
    module="vision",
    inputs=("image",),
    weights=("vision_model.", "multi_modal_projector."),
)
