"""Qwen3-TTS (Alibaba, arXiv 2601.15621), the models with a codec of 12.5 frames a second: texts to speech.

The text's rows and codes of speech go into a talker together; it makes frames of several codes, which the codec's
decoder makes sound of without looking ahead.
"""

from tutti.graph import Edge, Graph, Kind, Stage

_HOME = "tutti.models.qwen3_tts"


def _stage(
    name: str, kind: Kind, module: str, inputs: tuple[str, ...] = (), output: str | None = None
) -> Stage:
    return Stage(name, kind, f"{_HOME}.{module}:build", f"{_HOME}.config:describe_{name}", output, inputs)


GRAPH = Graph(
    "qwen3_tts",
    ("Qwen3TTSForConditionalGeneration",),
    (
        _stage("text", Kind.ONCE, "text", ("text",)),
        _stage("talker", Kind.AUTOREGRESS, "talker"),
        _stage("codec", Kind.ONCE, "codec", output="audio"),
    ),
    (
        Edge("text", "talker", f"{_HOME}.text:follow"),
        Edge("talker", "codec", "tutti.models.qwen3_omni.code2wav:collect"),
    ),
    narrator=f"{_HOME}.narrator:narrator",
    folders=("speech_tokenizer",),
)
