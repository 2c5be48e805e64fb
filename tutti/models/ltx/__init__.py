"""LTX-Video: a small transformer that films, in latents of few places and many channels; its text is read by T5.

A film may begin with a picture, whose latent frame is shown without noise.
"""

from tutti.models.drawing.graph import filming_graph

GRAPH = filming_graph("ltx", "LTXPipeline", "LTXImageToVideoPipeline", "LTXConditionPipeline")
