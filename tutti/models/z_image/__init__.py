"""Z-Image: a transformer of one stream that draws, its text read by a Qwen3 language model."""

from tutti.models.drawing.graph import drawing_graph

GRAPH = drawing_graph("z_image", "ZImagePipeline")
