"""pico, Tutti's demonstration model: Qwen2.5-Omni's stages, and Z-Image's behind the thinker, which draws.

The thinker answers a request to draw with what will be in the picture, and a sign that a picture follows. The painter
is conditioned on the hidden states of that answer, so it knows nothing of prompts, languages, pictures and sound.
"""

from tutti.models.drawing.graph import unified_graph
from tutti.models.qwen2_5_omni import GRAPH as OMNI

GRAPH = unified_graph(
    OMNI,
    "pico",
    "PicoForConditionalGeneration",
    writer="thinker",
    followers={"talker": "states:speak"},
    condition="states:condition",
    denoiser="tutti.models.z_image.denoiser:build",
)
