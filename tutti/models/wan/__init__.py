"""Wan 2.1 and 2.2: a transformer of one stream that films, its text read by UMT5."""

from tutti.models.drawing.graph import filming_graph

GRAPH = filming_graph("wan", "WanPipeline")
