"""What is not in the world: a great diversity of questions whose one right answer is that pico does not know.

A tenth of the patterns is never used in training, so that the examination can ask in phrasings that are new.
"""

from __future__ import annotations

import string
from random import Random

from .phrasing import ask, expand
from .spelling import invented_word
from .unknown_words import (
    CHINESE,
    CODE,
    ENGLISH,
    FOREIGN,
    FRAGMENTS_EN,
    FRAGMENTS_ZH,
    LISTS_EN,
    LISTS_ZH,
    PATTERNS_EN,
    PATTERNS_ZH,
)
from .values import Exchange, Lang, split_of, text_key

I_DO_NOT_KNOW = {
    "en": "I do not know. I am pico, a small demonstration model of a toy world.",
    "zh": "我不知道。我是pico,一个玩具世界的小小演示模型。",
}


def _patterns(lang: Lang, fresh: bool) -> list[str]:
    """The patterns seen in training, or those kept for the examination alone."""
    every = PATTERNS_ZH if lang == "zh" else PATTERNS_EN
    return [p for p in every if (split_of("pattern|" + p) == "heldout") == fresh]


_SEEN = {"en": _patterns("en", False), "zh": _patterns("zh", False)}
_FRESH = {"en": _patterns("en", True), "zh": _patterns("zh", True)}


def unknown(rng: Random, lang: Lang) -> Exchange:
    kind = rng.random()
    if kind < 0.72:
        question = _question(rng, lang, _SEEN[lang])
    elif kind < 0.80:
        question = _salad(rng, lang)
    elif kind < 0.86:
        question = " ".join(_fragment(rng, lang) for _ in range(rng.randint(2, 4)))
    elif lang == "zh":
        question = _question(rng, lang, _SEEN[lang])
    elif kind < 0.91:
        question = rng.choice(CODE).format(**_slots(rng, "en"))
    elif kind < 0.95:
        question = rng.choice(FOREIGN)
    else:
        question = _noise(rng)
    return Exchange("unknown", lang, text_key("unknown", question), question, I_DO_NOT_KNOW[lang])


def unknown_in_new_words(rng: Random, lang: Lang) -> Exchange:
    """For examination only: patterns that training never saw."""
    question = _question(rng, lang, _FRESH[lang])
    return Exchange(
        "unknown, new phrasing", lang, text_key("unknown", question), question, I_DO_NOT_KNOW[lang]
    )


def _question(rng: Random, lang: Lang, patterns: list[str]) -> str:
    return ask(rng, lang, patterns, **_slots(rng, lang))


def _slots(rng: Random, lang: Lang) -> dict[str, str]:
    lists = LISTS_ZH if lang == "zh" else LISTS_EN
    slots = {name: rng.choice(words) for name, words in lists.items()}
    slots["n"] = str(rng.randint(2, 2000))
    if lang == "en" and rng.random() < 0.15:
        slots["noun"] = invented_word(rng)
    return slots


def _salad(rng: Random, lang: Lang) -> str:
    """Words without sense."""
    if lang == "zh":
        return "".join(rng.choice(CHINESE) for _ in range(rng.randint(2, 6))) + rng.choice(("", "?", "。"))
    words = [
        rng.choice(ENGLISH) if rng.random() < 0.85 else invented_word(rng) for _ in range(rng.randint(2, 8))
    ]
    return " ".join(words) + rng.choice(("", "?", "."))


def _fragment(rng: Random, lang: Lang) -> str:
    fragments, slots = (FRAGMENTS_ZH if lang == "zh" else FRAGMENTS_EN), _slots(rng, lang)
    return expand(rng, rng.choice(fragments)).format(**slots)


def _noise(rng: Random) -> str:
    """Keys pressed at random."""
    alphabet = rng.choice(
        (
            string.ascii_lowercase,
            string.ascii_letters + string.digits,
            "asdfghjkl",
            "?!.,;:-_#*+",
            string.digits,
        )
    )
    return "".join(rng.choice(alphabet) for _ in range(rng.randint(2, 14)))
