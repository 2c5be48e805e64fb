"""The examination of pico's ears and eyes: held-out combinations asked aloud and shown, exact answers, and controls.

`python -m pico.evaluate_senses [--engine tutti|transformers]`. A spoken question is one of the text world, by a voice, a rate
and a pitch drawn anew; a picture shows a scene of which training saw no question, told or shown. The controls give each
question another one's recording or picture, and an empty picture: what can be guessed from the rest.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
from numpy.typing import NDArray

from . import evaluate
from .engine import Engine, Prompt
from .gallery import draw_scene
from .judge.errors import distance
from .phrasing import expand
from .pictures import draw, random_look
from .recordings import asked_aloud
from .scenes import scene_of
from .sensing import AUDIO, IMAGE, WRITE_DOWN, about_picture
from .speech import Sound
from .spoken import Generator, draw_about_picture, draw_spoken, kinds_of, spoken_words
from .tokenizer import render_prompt
from .values import LANGS, Exchange, Lang, Message

SPOKEN_GATE, PICTURE_GATE, WORD_GATE = 0.90, 0.95, 0.05
ASKED, SHOWN, POINTED, WRITTEN = "spoken questions", "pictures", "pictures, asked aloud", "writing down"
_SIZE = (128, 128)


@dataclass(frozen=True, slots=True)
class Question:
    """`kind` is one of the four above; `topic` the category of the text world."""

    kind: str
    topic: str
    lang: Lang
    prompt: Prompt
    answer: str


@dataclass(frozen=True, slots=True)
class Mark:
    question: Question
    given: str

    @property
    def right(self) -> bool:
        return self.given.strip() == self.question.answer


def make_examination(seed: int, per_kind: int) -> list[Question]:
    """`per_kind` spoken questions of every kind in each language, as many to write down, and ten times as many pictures."""
    exam: list[Question] = []
    for lang in LANGS:
        rng = Random(f"pico|senses|{seed}|{lang}")
        for generator in kinds_of(lang):
            for _ in range(per_kind):
                exam += _asked(rng, lang, generator)
        exam += [_shown(rng, lang) for _ in range(10 * per_kind)]
        exam += [_pointed(rng, lang) for _ in range(3 * per_kind)]
    return exam


def _asked(rng: Random, lang: Lang, generator: Generator) -> Iterator[Question]:
    exchange, sound = _recorded(rng, lambda: draw_spoken(rng, lang, "heldout", generator))
    yield Question(ASKED, exchange.category, exchange.lang, Prompt(_rendered(AUDIO), sound), exchange.answer)
    words = spoken_words(exchange.question, exchange.lang)
    assert words is not None
    asked = expand(rng, rng.choice(WRITE_DOWN[exchange.lang]))
    yield Question(WRITTEN, exchange.category, exchange.lang, Prompt(_rendered(AUDIO + asked), sound), words)


def _shown(rng: Random, lang: Lang) -> Question:
    scene = draw_scene(rng, "heldout")
    exchange = about_picture(rng, scene, lang)
    picture = np.asarray(draw(rng, scene, random_look(rng, scene, _SIZE)))
    return Question(
        SHOWN, "pictures", lang, Prompt(_rendered(IMAGE + exchange.question), None, picture), exchange.answer
    )


def _pointed(rng: Random, lang: Lang) -> Question:
    exchange, sound = _recorded(rng, lambda: draw_about_picture(rng, lang, "heldout"))
    scene = scene_of(exchange.key)
    picture = np.asarray(draw(rng, scene, random_look(rng, scene, _SIZE)))
    prompt = Prompt(_rendered(IMAGE + AUDIO), sound, picture)
    return Question(POINTED, "pictures", lang, prompt, exchange.answer)


def _recorded(rng: Random, draw_one: Callable[[], Exchange]) -> tuple[Exchange, Sound]:
    """A question that is asked in the time that the ears hear at once."""
    while True:
        exchange = draw_one()
        if (sound := asked_aloud(rng, exchange)) is not None:
            return exchange, sound


def _rendered(content: str) -> str:
    return render_prompt([Message("user", content)])


def examine(engine: Engine, exam: Sequence[Question]) -> list[Mark]:
    given = engine.answer([q.prompt for q in exam], evaluate.LONGEST_ANSWER)
    return [Mark(question, text) for question, text in zip(exam, given, strict=True)]


def exact(marks: Sequence[Mark]) -> float:
    return sum(m.right for m in marks) / len(marks) if marks else float("nan")


def of_kind(marks: Sequence[Mark], kind: str) -> list[Mark]:
    return [m for m in marks if m.question.kind == kind]


def word_error(marks: Sequence[Mark]) -> float:
    """Substitutions, deletions and insertions per word that was said; of Chinese, per character."""
    wrong = said = 0
    for mark in marks:
        right, given = (
            list(text) if mark.question.lang == "zh" else text.split()
            for text in (mark.question.answer, mark.given.strip())
        )
        wrong += distance(right, given)
        said += len(right)
    return wrong / said if said else float("nan")


def shuffled(rng: Random, questions: Sequence[Question]) -> list[Question]:
    """Every question with the media of another one of its language."""
    mixed: list[Question] = []
    for lang in LANGS:
        same = [q for q in questions if q.lang == lang]
        others = same[1:] + same[:1] if len(same) > 1 else same
        rng.shuffle(others)
        mixed += [
            replace(q, prompt=replace(q.prompt, sound=o.prompt.sound, picture=o.prompt.picture))
            for q, o in zip(same, others, strict=True)
        ]
    return mixed


def emptied(questions: Sequence[Question]) -> list[Question]:
    """Every question about a picture on which there is nothing."""
    nothing: NDArray[np.uint8] = np.full((*_SIZE[::-1], 3), 225, np.uint8)
    return [replace(q, prompt=replace(q.prompt, picture=nothing)) for q in questions]


def same_answers(questions: Sequence[Question]) -> float:
    """How often two questions of one language have the same answer: what a shuffled recording gets right by chance."""
    counts = Counter((q.lang, q.answer) for q in questions)
    sizes = Counter(q.lang for q in questions)
    return sum(n * n / sizes[lang] for (lang, _), n in counts.items()) / len(questions)


def print_table(marks: Sequence[Mark]) -> None:
    """Kind and topic, questions, per cent exact in English and in Chinese."""
    print(f"{'':24}{'prompts':>8}{'English':>9}{'Chinese':>9}{'exact':>9}")
    asked = of_kind(marks, ASKED)
    for topic in sorted({m.question.topic for m in asked}):
        _print_row(f"  {topic}", [m for m in asked if m.question.topic == topic])
    for kind in (ASKED, SHOWN, POINTED, WRITTEN):
        _print_row(kind, of_kind(marks, kind))
    written = of_kind(marks, WRITTEN)
    english, chinese = (word_error([m for m in written if m.question.lang == lang]) for lang in LANGS)
    print(f"{'heard word error':24}{len(written):8}{english:9.1%}{chinese:9.1%}{word_error(written):9.1%}")


def _print_row(name: str, marks: Sequence[Mark]) -> None:
    english, chinese = (exact([m for m in marks if m.question.lang == lang]) for lang in LANGS)
    print(f"{name:24}{len(marks):8}{english:9.1%}{chinese:9.1%}{exact(marks):9.1%}", flush=True)


def print_controls(engine: Engine, exam: Sequence[Question]) -> None:
    rng = Random(0)
    asked, seen = ([q for q in exam if q.kind == kind] for kind in (ASKED, SHOWN))
    print(
        f"control: questions with another one's recording: {exact(examine(engine, shuffled(rng, asked))):.1%} right (chance {same_answers(asked):.1%})"
    )
    print(
        f"control: questions with another one's picture: {exact(examine(engine, shuffled(rng, seen))):.1%} right (with an empty picture {exact(examine(engine, emptied(seen))):.1%})"
    )


def gates(marks: Sequence[Mark]) -> list[tuple[str, float, bool]]:
    """What each gate measures, and whether it is met."""
    spoken, pictures, words = (
        exact(of_kind(marks, ASKED)),
        exact(of_kind(marks, SHOWN)),
        word_error(of_kind(marks, WRITTEN)),
    )
    return [
        (f"spoken questions >= {SPOKEN_GATE:.0%}", spoken, spoken >= SPOKEN_GATE),
        (f"pictures >= {PICTURE_GATE:.0%}", pictures, pictures >= PICTURE_GATE),
        (f"heard word error <= {WORD_GATE:.0%}", words, words <= WORD_GATE),
    ]


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pico.evaluate_senses", description="Examine pico's ears and eyes."
    )
    parser.add_argument("--engine", choices=("tutti", "transformers"), default="tutti")
    parser.add_argument("--model", type=Path, default=evaluate.SHIPPED)
    parser.add_argument(
        "--per-kind", type=int, default=15, help="spoken questions of every kind in each language"
    )
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--mistakes", type=int, default=0, help="how many wrong answers to print")
    options = parser.parse_args()
    engine = evaluate.load_engine(options.engine, options.model)
    exam = make_examination(options.seed, options.per_kind)
    marks = examine(engine, exam)
    print_table(marks)
    print_controls(engine, exam)
    wrong = [m for m in marks if not m.right]
    for mark in Random(1).sample(wrong, min(len(wrong), options.mistakes)):
        print(
            f"[{mark.question.kind}, {mark.question.topic}] {mark.question.prompt.text!r}\n    right: {mark.question.answer}\n    given: {mark.given}"
        )
    found = gates(marks)
    for name, value, met in found:
        print(f"gate {name}: {'met' if met else 'NOT met'} ({value:.2%}, {options.engine})")
    return 0 if all(met for _, _, met in found) else 1


if __name__ == "__main__":
    sys.exit(main())
