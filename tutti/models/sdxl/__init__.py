"""Stable Diffusion XL: a UNet that tells the noise in latents, its text read by two CLIPs."""

from tutti.models.drawing.graph import drawing_graph

GRAPH = drawing_graph("sdxl", "StableDiffusionXLPipeline")
