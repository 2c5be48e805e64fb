"""Qwen2.5-Omni (Alibaba, arXiv 2503.20215): sees and hears, writes and speaks.

The thinker reads text, pictures, videos and sound and writes text; the talker follows its hidden states token by token
and makes codes of speech; token2wav (flow matching and a vocoder) makes sound of the codes.
"""

from tutti.graph import Edge, Graph, Kind, Stage

_HOME = "tutti.models.qwen2_5_omni"
GRAPH = Graph(
    "qwen2_5_omni",
    ("Qwen2_5OmniForConditionalGeneration", "Qwen2_5OmniModel"),
    (
        Stage("audio", Kind.ONCE, f"{_HOME}.hearing:build", f"{_HOME}.config:describe_audio", inputs=("audio",)),
        Stage("vision", Kind.ONCE, f"{_HOME}.sight:build", f"{_HOME}.config:describe_vision", inputs=("image", "video")),
        Stage(
            "thinker", Kind.AUTOREGRESS, f"{_HOME}.thinker:build", f"{_HOME}.config:describe_thinker",
            output="text", inputs=("text",),
        ),
        Stage("talker", Kind.AUTOREGRESS, f"{_HOME}.talker:build", f"{_HOME}.config:describe_talker"),
        Stage("token2wav", Kind.ONCE, f"{_HOME}.token2wav:build", f"{_HOME}.config:describe_token2wav", output="audio"),
    ),
    (
        Edge("audio", "thinker"),
        Edge("vision", "thinker"),
        Edge("thinker", "talker", f"{_HOME}.talker:follow"),
        Edge("talker", "token2wav", f"{_HOME}.token2wav:collect"),
    ),
    media=f"{_HOME}.media:reader",
)  # fmt: skip
