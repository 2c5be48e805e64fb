"""Qwen2.5-Omni (Alibaba, arXiv 2503.20215): sees and hears, writes and speaks.

The thinker reads text, pictures, videos and sound and writes text; the talker follows its hidden states token by token
and makes codes of speech; token2wav (flow matching and a vocoder) makes sound of the codes.
"""

from tutti.models.standard import omni_graph

GRAPH = omni_graph(
    "qwen2_5_omni",
    "Qwen2_5OmniForConditionalGeneration",
    "Qwen2_5OmniModel",
    follow="talker:follow",
    vocoder="token2wav",
)
