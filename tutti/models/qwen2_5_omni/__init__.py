"""Qwen2.5-Omni (Alibaba, arXiv 2503.20215): sees and hears, writes and speaks.

The thinker reads text, pictures, videos and sound and writes text; the talker follows its hidden states token by token
and makes codes of speech; token2wav (flow matching and a vocoder) makes sound of the codes.
"""

from tutti.graph import Edge, Graph, Kind, Stage

_HOME = "tutti.models.qwen2_5_omni"
_EARS = ("audio",)
_EYES = ("image", "video")


def _stage(
    name: str,
    kind: Kind,
    module: str,
    weights: tuple[str, ...],
    inputs: tuple[str, ...] = (),
    output: str | None = None,
) -> Stage:
    build, describe = f"{_HOME}.{module}:build", f"{_HOME}.config:describe_{name}"
    return Stage(name, kind, build, describe, output, inputs, weights)


GRAPH = Graph(
    "qwen2_5_omni",
    ("Qwen2_5OmniForConditionalGeneration", "Qwen2_5OmniModel"),
    (
        _stage("audio", Kind.ONCE, "hearing", ("thinker.audio_tower.",), _EARS),
        _stage("vision", Kind.ONCE, "sight", ("thinker.visual.",), _EYES),
        _stage(
            "thinker", Kind.AUTOREGRESS, "thinker", ("thinker.model.", "thinker.lm_head."), ("text",), "text"
        ),
        _stage("talker", Kind.AUTOREGRESS, "talker", ("talker.",)),
        _stage("token2wav", Kind.ONCE, "token2wav", ("token2wav.",), output="audio"),
    ),
    (
        Edge("audio", "thinker"),
        Edge("vision", "thinker"),
        Edge("thinker", "talker", f"{_HOME}.talker:follow"),
        Edge("talker", "token2wav", f"{_HOME}.token2wav:collect"),
    ),
    media=f"{_HOME}.media:reader",
    narrator=f"{_HOME}.narrator:narrator",
    switch="enable_audio_output",
)
