"""Answers of the toy world read aloud by pico's one speaker: what codec, token2wav and talker are trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from pico import speech
from pico.aloud import language, spoken
from pico.values import Chat, Split
from pico.world import stream

from .mel import HOP

FRAMES_A_CODE = 2
SAMPLES_A_CODE = FRAMES_A_CODE * HOP  # 50 codes a second
BEFORE, BEHIND = 0.02, 0.14  # seconds of silence
LONGEST_CODES = 450


@dataclass(frozen=True, slots=True)
class Answer:
    """A chat, its last message read aloud, and the sound with silence around it, float32 [samples], whole codes."""

    chat: Chat
    reading: speech.Reading
    sound: Tensor


def read(chat: Chat) -> Answer:
    """The answer of a chat, read aloud."""
    lang = language(chat.answer, chat.lang)
    said = spoken(chat.answer, lang)
    reading = speech.read(said, speech.OUTPUT[lang], speech.SPOKEN_RATE)
    length = len(reading.sound) + round((BEFORE + BEHIND) * speech.SPOKEN_RATE)
    whole = -(-length // SAMPLES_A_CODE) * SAMPLES_A_CODE
    sound = np.zeros(whole, np.float32)
    begin = round(BEFORE * speech.SPOKEN_RATE)
    sound[begin : begin + len(reading.sound)] = reading.sound
    return Answer(chat, reading, torch.from_numpy(sound))


def answers(seed: str, split: Split, count: int, each_once: bool = True) -> list[Answer]:
    """`count` answers of a stream of chats, none too long; every sentence once, unless other chats may end in it too."""
    found: list[Answer] = []
    known: set[str] = set()
    for chat in stream(seed, split):
        if each_once and chat.answer in known:
            continue
        known.add(chat.answer)
        answer = read(chat)
        if len(answer.sound) <= LONGEST_CODES * SAMPLES_A_CODE:
            found.append(answer)
        if len(found) == count:
            return found
    raise AssertionError("the stream has no end")
