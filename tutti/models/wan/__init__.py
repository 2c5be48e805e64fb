"""Wan 2.1 and 2.2: a transformer of one stream that films, its text read by UMT5."""

from tutti.models.drawing.graph import drawing_graph

GRAPH = drawing_graph("wan", "WanPipeline", output="video")
