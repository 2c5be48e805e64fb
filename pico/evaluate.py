"""The examination of pico: held-out prompts, exact answers, a table by category and language, and a negative control.

`python -m pico.evaluate [--engine tutti|transformers]`. Nothing in the examination depends on how answers are made.
"""

from __future__ import annotations

import argparse
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from random import Random

from .chats import about_a_scene, memory
from .engine import Engine, Prompt
from .tokenizer import render_prompt
from .values import LANGS, Chat, Lang
from .world import EXAMINED_ONLY, KINDS, any_exchange, draw_kind, in_split, stream

GATE = 0.95
LONGEST_ANSWER = 96
SHIPPED = Path(__file__).parents[1] / "tutti" / "assets" / "pico"
UNGATED = frozenset({"unknown, new phrasing"})


@dataclass(frozen=True, slots=True)
class Mark:
    """One examined chat, the answer given, and whether it was the right one."""

    chat: Chat
    given: str

    @property
    def right(self) -> bool:
        return self.given.strip() == self.chat.answer


@dataclass(frozen=True, slots=True)
class Results:
    marks: tuple[Mark, ...]

    @property
    def gated(self) -> tuple[Mark, ...]:
        return tuple(m for m in self.marks if m.chat.category not in UNGATED)

    @property
    def gated_accuracy(self) -> float:
        return accuracy(self.gated)

    def control(self, seed: int = 0) -> tuple[float, float]:
        """Every question paired with the answer to another one: the share that is still right, and what chance gives."""
        marks = list(self.gated)
        given = [m.given.strip() for m in marks]
        Random(seed).shuffle(given)
        kept = sum(g == m.chat.answer for g, m in zip(given, marks, strict=True)) / len(marks)
        counts = Counter(m.chat.answer for m in marks)
        return kept, sum((n / len(marks)) ** 2 for n in counts.values())


def accuracy(marks: Sequence[Mark]) -> float:
    return sum(m.right for m in marks) / len(marks) if marks else float("nan")


def make_examination(seed: int, per_kind: int) -> list[Chat]:
    """Distinct held-out chats: `per_kind` of every kind in each language, and as many longer conversations."""
    rng = Random(f"pico|examination|{seed}")
    exam: list[Chat] = []
    for lang in LANGS:
        for kind in (*(kind for kind, _ in KINDS), *EXAMINED_ONLY):
            exam += _distinct((draw_kind(rng, kind, lang, "heldout") for _ in range(3 * per_kind)), per_kind)
        exam += _distinct(_conversations(rng, lang), 3 * per_kind)
    exam += _distinct(
        (c for c in stream(f"examination|{seed}", "heldout", drawn=0.0) if len(c.messages) > 3), 3 * per_kind
    )
    return exam


def _conversations(rng: Random, lang: Lang) -> Iterable[Chat]:
    while True:
        chat = about_a_scene(rng, lang) if rng.random() < 0.5 else memory(rng, lang, any_exchange)
        if in_split(chat, "heldout"):
            yield chat


def _distinct(chats: Iterable[Chat], count: int) -> list[Chat]:
    unique = {render_prompt(chat.prompt): chat for chat in islice(chats, 4 * count)}
    return list(unique.values())[:count]


def examine(engine: Engine, exam: Sequence[Chat]) -> Results:
    given = engine.answer([Prompt(render_prompt(chat.prompt)) for chat in exam], LONGEST_ANSWER)
    return Results(tuple(Mark(chat, text) for chat, text in zip(exam, given, strict=True)))


def print_table(results: Results) -> None:
    """Category, prompts, per cent exact in English and in Chinese."""
    print(f"{'category':24}{'prompts':>8}{'English':>9}{'Chinese':>9}{'exact':>9}")
    categories = sorted({m.chat.category for m in results.marks}, key=lambda c: (c in UNGATED, c))
    for category in categories:
        _print_row(
            category + (" *" if category in UNGATED else ""),
            [m for m in results.marks if m.chat.category == category],
        )
    _print_row("all", results.gated)


def _print_row(name: str, marks: Sequence[Mark]) -> None:
    english, chinese = (accuracy([m for m in marks if m.chat.lang == lang]) for lang in LANGS)
    print(f"{name:24}{len(marks):8}{english:9.1%}{chinese:9.1%}{accuracy(marks):9.1%}", flush=True)


def print_mistakes(results: Results, count: int) -> None:
    for mark in [m for m in results.marks if not m.right][:count]:
        question = " / ".join(m.content for m in mark.chat.prompt)
        print(f"[{mark.chat.category}] {question}\n    right: {mark.chat.answer}\n    given: {mark.given}")


def load_engine(name: str, model: Path) -> Engine:
    if name == "transformers":
        from .transformers_engine import TransformersEngine

        return TransformersEngine.load(model)
    from .tutti_engine import TuttiEngine

    return TuttiEngine.load(model)


def main() -> int:
    parser = argparse.ArgumentParser(
        prog="python -m pico.evaluate", description="Examine pico on held-out prompts."
    )
    parser.add_argument("--engine", choices=("tutti", "transformers"), default="tutti")
    parser.add_argument("--model", type=Path, default=SHIPPED)
    parser.add_argument("--per-kind", type=int, default=60, help="prompts of every kind in each language")
    parser.add_argument("--seed", type=int, default=2026)
    parser.add_argument("--mistakes", type=int, default=0, help="how many wrong answers to print")
    options = parser.parse_args()
    results = examine(
        load_engine(options.engine, options.model), make_examination(options.seed, options.per_kind)
    )
    print_table(results)
    kept, chance = results.control()
    print("* patterns of questions that training never used; not part of the gate")
    print(f"control: answers to other prompts are right in {kept:.1%} (chance {chance:.1%})")
    print_mistakes(results, options.mistakes)
    met = results.gated_accuracy >= GATE
    print(
        f"gate {GATE:.0%}: {'met' if met else 'NOT met'} ({results.gated_accuracy:.2%} of {len(results.gated)}, {options.engine})"
    )
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
