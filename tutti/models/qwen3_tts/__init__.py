"""Qwen3-TTS (Alibaba, arXiv 2601.15621), the models with a codec of 12.5 frames a second: texts to speech.

The text's rows and codes of speech go into a talker together; it makes frames of several codes, which the codec's
decoder makes sound of without looking ahead.
"""

from tutti.graph import Edge, Graph, Kind
from tutti.models.standard import stage

_FAMILY = "qwen3_tts"
_HOME = f"tutti.models.{_FAMILY}"


GRAPH = Graph(
    _FAMILY,
    ("Qwen3TTSForConditionalGeneration",),
    (
        stage(_FAMILY, "text", Kind.ONCE, "text", inputs=("text",)),
        stage(_FAMILY, "talker", Kind.AUTOREGRESS, "talker"),
        stage(_FAMILY, "codec", Kind.ONCE, "codec", output="audio"),
    ),
    (
        Edge("text", "talker", f"{_HOME}.text:follow"),
        Edge("talker", "codec", "tutti.models.qwen3_omni.code2wav:collect"),
    ),
    narrator=f"{_HOME}.narrator:narrator",
    folders=("speech_tokenizer",),
)
