"""Qwen2-Audio (Alibaba, arXiv 2407.10759): hears recordings of up to 30 seconds, and writes."""

from tutti.models.standard import encoder_graph

GRAPH = encoder_graph(
    "qwen2_audio",
    "Qwen2AudioForConditionalGeneration",
    encoder="audio",
    module="hearing",
    inputs=("audio",),
    weights=("audio_tower.", "multi_modal_projector."),
)
