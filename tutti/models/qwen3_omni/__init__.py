"""Qwen3-Omni (Alibaba, arXiv 2509.17765): sees and hears, writes and speaks; mixtures of experts.

The thinker reads text, pictures, videos and sound and writes text; the talker follows the words that it writes and
makes frames of speech, several codes each; code2wav makes sound of the frames, without looking ahead.
"""

from tutti.models.standard import omni_graph

GRAPH = omni_graph(
    "qwen3_omni",
    "Qwen3OmniMoeForConditionalGeneration",
    follow="following:follow",
    vocoder="code2wav",
)
