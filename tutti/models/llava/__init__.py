"""LLaVA 1.5 and 1.6 (NeXT): a CLIP or SigLIP tower, a projector, and the language model that the checkpoint names."""

from tutti.models.standard import encoder_graph

GRAPH = encoder_graph(
    "llava",
    "LlavaForConditionalGeneration",
    "LlavaNextForConditionalGeneration",
    encoder="vision",
    module="vision",
    inputs=("image",),
    weights=("vision_tower.", "multi_modal_projector.", "image_newline"),
)
