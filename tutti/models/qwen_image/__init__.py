"""Qwen-Image: a transformer of two streams that draws, its text read by Qwen2.5-VL."""

from tutti.models.drawing.graph import drawing_graph

GRAPH = drawing_graph("qwen_image", "QwenImagePipeline", vae="tutti.models.qwen_image.vae")
