"""Stable Audio Open: a transformer that makes sounds and music of a text, which is read by T5."""

from tutti.models.drawing.graph import sounding_graph

GRAPH = sounding_graph("stable_audio", "StableAudioPipeline")
