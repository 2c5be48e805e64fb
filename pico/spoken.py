"""What of the world can be asked aloud, and the words that are heard then.

Words are heard without case and punctuation, numbers as words (`what is seven plus five`, `三加四等于几`): that is also how
pico writes down what somebody said. What has no one way to be read aloud (`3*4`, JSON, invented words) is not spoken.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from random import Random

from . import arithmetic, colours, days, instructions, scene_questions, scenes, smalltalk, spelling, unknown
from .values import Exchange, Lang, Split, split_of
from .words import NUMBERS_EN, NUMBERS_ZH, SPELLED

Generator = Callable[[Random, Lang], Exchange]

SPOKEN_KINDS: tuple[tuple[Generator, float], ...] = (
    (scene_questions.reading, 10), (scene_questions.unseen, 1), (scene_questions.heap, 3),
    (arithmetic.addition, 8), (arithmetic.subtraction, 9), (arithmetic.multiplication, 5), (arithmetic.story, 3),
    (arithmetic.comparison, 4), (arithmetic.succession, 4), (arithmetic.sequence, 3),
    (days.next_day, 4), (days.later_day, 4), (days.calendar_fact, 1), (colours.mixture, 2), (colours.familiar, 3),
    (spelling.letters, 5), (instructions.repeat, 4), (instructions.then, 3), (instructions.many_times, 2), (instructions.pick_word, 2),
    (smalltalk.small_talk, 6), (unknown.unknown, 5),
)  # fmt: skip
_GENERATORS, _WEIGHTS = zip(*SPOKEN_KINDS, strict=True)


def kinds_of(lang: Lang) -> list[Generator]:
    """The kinds whose questions can be asked aloud in a language: Chinese ones about spelling name an English word."""
    return [kind for kind, _ in SPOKEN_KINDS if lang == "en" or kind is not spelling.letters]


_SILENT: dict[Lang, str] = {"en": r"[,.?!:;\"]", "zh": r"[,。?!:;、,.?!:;\"\s]"}
_HEARD_ALIKE = {"color": "colour", "colors": "colours", "favorite": "favourite", "center": "centre"}
_SPEAKABLE: dict[Lang, re.Pattern[str]] = {
    "en": re.compile(r"[a-z]+('[a-z]+)?( [a-z]+('[a-z]+)?)*"),
    "zh": re.compile(r"[\u4e00-\u9fff]+"),
}
_LONGEST: dict[Lang, int] = {"en": 26, "zh": 34}
"""Words, or characters: what is surely read aloud in eight seconds."""


def spoken_words(text: str, lang: Lang) -> str | None:
    """The text as it is heard; None if it has no one way to be read aloud or is too long."""
    names = NUMBERS_ZH if lang == "zh" else NUMBERS_EN
    numbered = re.sub(r"\d+", lambda m: names[int(m[0])] if int(m[0]) < len(names) else "#", text.lower())
    words = " ".join(re.sub(_SILENT[lang], "" if lang == "zh" else " ", numbered).split())
    words = " ".join(_HEARD_ALIKE.get(word, word) for word in words.split(" "))
    length = len(words) if lang == "zh" else words.count(" ") + 1
    if length > _LONGEST[lang] or not _SPEAKABLE[lang].fullmatch(words) or re.search(r"\bx\b", words):
        return None
    return words


def draw_spoken(rng: Random, lang: Lang, split: Split, kind: Generator | None = None) -> Exchange:
    """An exchange of the split whose question can be asked aloud; of any kind, or of the one given
    (see `kinds_of`)."""
    while True:
        generator = kind or rng.choices(_GENERATORS, _WEIGHTS)[0]
        exchange = generator(rng, lang)
        if exchange.key.startswith("invented|") or split_of(exchange.key) != split:
            continue
        if spoken_words(exchange.question, lang) is not None:
            return exchange


def draw_about_picture(rng: Random, lang: Lang, split: Split) -> Exchange:
    """A question about a scene of the split, which is not told, that can be asked aloud."""
    while True:
        scene = scenes.random_scene(rng)
        question, answer = scene_questions.question_about(rng, scene, lang)
        if split_of(scene.key) == split and spoken_words(question, lang) is not None:
            return Exchange("pictures", lang, scene.key, question, answer)


def draw_medley(rng: Random, lang: Lang) -> str:
    """Pieces of several questions of the training split in a row, which nothing but hearing can tell."""
    pieces: list[str] = []
    for _ in range(rng.randint(2, 4)):
        words = spoken_words(draw_spoken(rng, lang, "train").question, lang)
        assert words is not None
        units = list(words) if lang == "zh" else words.split(" ")
        length = rng.randint(1, 3) if lang == "en" else rng.randint(2, 5)
        start = rng.randint(0, max(0, len(units) - length))
        pieces += units[start : start + length]
    return ("" if lang == "zh" else " ").join(pieces)


def draw_words(rng: Random) -> str:
    """Some English words in a row, which nothing but hearing can tell."""
    return " ".join(rng.choices(SPELLED, k=rng.randint(2, 7)))
