"""Gemma 3 with eyes (Google): SigLIP's tower, and Gemma 3's decoder, whose pictures look at themselves both ways."""

from tutti.models.standard import encoder_graph

GRAPH = encoder_graph(
    "gemma3_vl",
    "Gemma3ForConditionalGeneration",
    encoder="vision",
    module="vision",
    inputs=("image",),
    weights=("vision_tower.", "multi_modal_projector."),
    language="gemma3",
)
