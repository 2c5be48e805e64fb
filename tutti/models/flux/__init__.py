"""FLUX.1 (dev, schnell and Kontext): a transformer of two streams and then one, its text read by T5 and CLIP.

Kontext edits: the latents of the picture stand beside those that are drawn, in the same row of tokens.
"""

from tutti.models.drawing.graph import drawing_graph

GRAPH = drawing_graph("flux", "FluxPipeline", "FluxKontextPipeline")
