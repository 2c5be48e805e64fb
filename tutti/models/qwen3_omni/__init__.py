"""Qwen3-Omni (Alibaba, arXiv 2509.17765): sees and hears, writes and speaks; mixtures of experts.

The thinker reads text, pictures, videos and sound and writes text; the talker follows the words that it writes and
makes frames of speech, several codes each; code2wav makes sound of the frames, without looking ahead.
"""

from tutti.graph import Edge, Graph, Kind, Stage

_HOME = "tutti.models.qwen3_omni"


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
    "qwen3_omni",
    ("Qwen3OmniMoeForConditionalGeneration",),
    (
        _stage("audio", Kind.ONCE, "hearing", ("thinker.audio_tower.",), ("audio",)),
        _stage("vision", Kind.ONCE, "sight", ("thinker.visual.",), ("image", "video")),
        _stage(
            "thinker", Kind.AUTOREGRESS, "thinker", ("thinker.model.", "thinker.lm_head."), ("text",), "text"
        ),
        _stage("talker", Kind.AUTOREGRESS, "talker", ("talker.",)),
        _stage("code2wav", Kind.ONCE, "code2wav", ("code2wav.",), output="audio"),
    ),
    (
        Edge("audio", "thinker"),
        Edge("vision", "thinker"),
        Edge("thinker", "talker", f"{_HOME}.following:follow"),
        Edge("talker", "code2wav", f"{_HOME}.code2wav:collect"),
    ),
    media=f"{_HOME}.media:reader",
    narrator=f"{_HOME}.narrator:narrator",
    switch="enable_audio_output",
)
