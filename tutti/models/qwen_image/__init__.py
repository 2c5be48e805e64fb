"""Qwen-Image, and Qwen-Image-Edit: a transformer of two streams that draws, its text read by Qwen2.5-VL.

The ones that edit have both look at pictures: the text encoder by its eyes, the transformer by the VAE's latents.
"""

from tutti.models.drawing.graph import drawing_graph

GRAPH = drawing_graph(
    "qwen_image",
    "QwenImagePipeline",
    "QwenImageEditPipeline",
    "QwenImageEditPlusPipeline",
    vae="tutti.models.qwen_image.vae",
)
