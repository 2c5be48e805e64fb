"""FLUX.1 (dev and schnell): a transformer of two streams and then one, its text read by T5 and CLIP."""

from tutti.models.drawing.graph import drawing_graph

GRAPH = drawing_graph("flux", "FluxPipeline")
