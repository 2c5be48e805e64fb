"""Wan 2.1 and 2.2: a transformer of one stream that films, its text read by UMT5.

Some begin with a picture, and may end with one: beside the noisy latents they are shown the VAE's of a film that is
grey but for these (and, of 2.1, what CLIP sees of them). The 5B model is shown the first latent frame without noise.
"""

from tutti.models.drawing.graph import filming_graph

GRAPH = filming_graph("wan", "WanPipeline", "WanImageToVideoPipeline")
