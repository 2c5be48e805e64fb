"""Conversations with pictures and sound: how each is asked, and the one right answer.

A picture is asked about in writing or aloud with the questions of the text world; a spoken question is one of the text world,
and any speech can be asked for word by word.
"""

from __future__ import annotations

from random import Random

from .phrasing import ask, expand
from .recordings import Recording
from .scene_questions import question_about
from .scenes import Scene, describe
from .values import Exchange, Lang, Message

AUDIO = "<|audio_bos|><|AUDIO|><|audio_eos|>"
IMAGE = "<|vision_bos|><|IMAGE|><|vision_eos|>"
"""A medium in a message, as the chat template writes it."""

WRITE_DOWN: dict[Lang, tuple[str, ...]] = {
    "en": ("what (did|do) i say?", "what am i saying?", "write down what i (say|said).", "transcribe (this|it|this recording|what i say|the audio).",
           "what do you hear?", "what was said?", "what is said( here|)?"),
    "zh": ("我(刚才|)说了什么?", "我在说什么?", "(写下|记下)我说的话。", "你听到了什么?", "(请|)听写。", "把(这段|)录音转成文字。"),
}  # fmt: skip
SHOWN: dict[Lang, tuple[str, ...]] = {
    "en": ("what is (this|it|in it|there|shown|on it|here)?", "what do you see( here| in this picture| in the picture|)?", "describe (this|the|it|this picture|this image|what you see).",
           "what is in (this picture|this image|the image|the photo|)?", "what is in ?", "what does (this|the) (picture|image) show?"),
    "zh": ("这是什么?", "(这张|)图(片|)里有什么?", "你看到了什么?", "描述(一下|)这张图(片|)。", "图上有什么?", "这里有什么?"),
}  # fmt: skip
_SHOWN_SHARE, _SILENT_SHARE = 0.15, 0.04


def about_picture(rng: Random, scene: Scene, lang: Lang) -> Exchange:
    """A question about a scene that is shown and not told; sometimes the picture is all that is given."""
    if lang == "en" and rng.random() < _SILENT_SHARE:
        question, answer = "", describe(scene, lang)
    elif rng.random() < _SHOWN_SHARE:
        question, answer = ask(rng, lang, SHOWN[lang]), describe(scene, lang)
    else:
        question, answer = question_about(rng, scene, lang)
    return Exchange("pictures", lang, scene.key, question, answer)


def showing(rng: Random, exchanges: list[Exchange]) -> tuple[Message, ...]:
    """Questions about one picture, which stands before the first or after it."""
    first, *others = [e for i, e in enumerate(exchanges) if e.question or i == 0]
    shown = IMAGE + first.question if rng.random() < 0.7 else first.question + IMAGE
    messages = [Message("user", shown), Message("assistant", first.answer)]
    for exchange in others:
        messages += [Message("user", exchange.question), Message("assistant", exchange.answer)]
    return tuple(messages)


def asking(recording: Recording) -> tuple[Message, ...]:
    """The recording as a question, and its answer."""
    return (Message("user", AUDIO), Message("assistant", recording.exchange.answer))


def dictating(rng: Random, recording: Recording) -> tuple[Message, ...]:
    """The recording with a request to write it down, and its words."""
    return written_down(rng, recording.lang, recording.words)


def written_down(rng: Random, lang: Lang, words: str) -> tuple[Message, ...]:
    """Some recording with a request to write it down, and the words that are heard in it."""
    asked = expand(rng, rng.choice(WRITE_DOWN[lang]))
    content = AUDIO + asked if rng.random() < 0.6 else asked + AUDIO
    return (Message("user", content), Message("assistant", words))


def pointing(rng: Random, recording: Recording) -> tuple[Message, ...]:
    """The recording as a question about a picture."""
    content = IMAGE + AUDIO if rng.random() < 0.5 else AUDIO + IMAGE
    return (Message("user", content), Message("assistant", recording.exchange.answer))
