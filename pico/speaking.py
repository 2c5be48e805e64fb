"""The examination of pico's speech: what it answers aloud to held-out prompts, as the judge hears it.

`python -m pico.speaking [--per-kind N]`. The words that it wrote are compared with those that were heard; beside it stand
the same sentences read by eSpeak (what the judge itself mishears) and the answers to other prompts.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import numpy as np
import soxr

from tutti import Omni

from . import speech
from .aloud import language, spoken
from .evaluate import SHIPPED, make_examination
from .judge.errors import word_error
from .judge.model import RATE, Judge
from .values import LANGS, Chat, Lang

GATE = 0.05


@dataclass(frozen=True, slots=True)
class Utterance:
    """What pico said, in writing and as it was heard, and how long it spoke, in seconds."""

    category: str
    lang: Lang
    said: str
    heard: str
    seconds: float


def examine(omni: Omni, judge: Judge, exam: Sequence[Chat]) -> list[Utterance]:
    utterances = []
    for chat in exam:
        *earlier, question = ({"role": m.role, "content": m.content} for m in chat.prompt)
        answer = omni.generate(text=question["content"], messages=earlier, modalities=("text", "audio"))
        lang = language(answer.text, chat.lang)
        assert answer.audio is not None
        heard = hear(judge, answer.audio, answer.rate)
        utterances.append(
            Utterance(chat.category, lang, spoken(answer.text, lang), heard, len(answer.audio) / answer.rate)
        )
    return utterances


def hear(judge: Judge, sound: speech.Sound, rate: int) -> str:
    """What the judge hears in a sound of any rate."""
    return judge.hear(np.asarray(soxr.resample(sound, rate, RATE), dtype=np.float32))


def error(utterances: Sequence[Utterance]) -> float:
    """The word error of what was heard."""
    return word_error((one.said, one.heard) for one in utterances)


def control(utterances: Sequence[Utterance]) -> float:
    """The word error when every answer is compared with what was heard of another one."""
    heard = [one.heard for one in utterances]
    Random(0).shuffle(heard)
    return word_error((one.said, other) for one, other in zip(utterances, heard, strict=True))


def original_error(judge: Judge, utterances: Sequence[Utterance]) -> float:
    """The word error of the same sentences, read by eSpeak."""
    return word_error(
        (one.said, judge.hear(speech.say(one.said, speech.OUTPUT[one.lang])))
        for one in utterances
        if one.said
    )


def print_table(judge: Judge, utterances: Sequence[Utterance]) -> None:
    print(f"{'language':12}{'answers':>8}{'minutes':>9}{'word error':>12}{'of eSpeak':>11}{'control':>9}")
    for name, chosen in (
        *((lang, [one for one in utterances if one.lang == lang]) for lang in LANGS),
        ("both", list(utterances)),
    ):
        minutes = sum(one.seconds for one in chosen) / 60
        figures = f"{error(chosen):12.1%}{original_error(judge, chosen):11.1%}{control(chosen):9.1%}"
        print(f"{name:12}{len(chosen):8}{minutes:9.1f}{figures}", flush=True)


def print_mistakes(utterances: Sequence[Utterance], count: int) -> None:
    wrong = [one for one in utterances if word_error([(one.said, one.heard)]) > 0]
    for one in wrong[:count]:
        print(f"[{one.category}] {one.seconds:.1f} s\n    said:  {one.said}\n    heard: {one.heard}")


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pico.speaking", description="Listen to pico's answers to held-out prompts."
    )
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--per-kind", type=int, default=3, help="prompts of every kind in each language")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--mistakes", type=int, default=0, help="how many misheard answers to print")
    options = parser.parse_args()
    judge = Judge.load()
    utterances = examine(Omni(str(options.model)), judge, make_examination(options.seed, options.per_kind))
    print_table(judge, utterances)
    print_mistakes(utterances, options.mistakes)
    met = error(utterances) <= GATE
    print(f"gate {GATE:.0%}: {'met' if met else 'NOT met'} ({error(utterances):.2%})")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
