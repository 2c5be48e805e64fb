"""Stable Diffusion 3 and 3.5: a transformer of two streams, its text read by two CLIPs and, where it is there, T5."""

from tutti.models.drawing.graph import drawing_graph

GRAPH = drawing_graph("sd3", "StableDiffusion3Pipeline")
