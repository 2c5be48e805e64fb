"""Words as letters: spelling, first and last letter, capitals; also of words that do not exist.

Held out are a real word with one task in one language, and invented words altogether.
"""

from __future__ import annotations

from random import Random

from .phrasing import ask
from .values import Exchange, Lang
from .words import SPELLED

_SPELL = {
    "en": (
        "(spell|please spell) {w}.",
        "(spell|please spell) the word {w}.",
        "how do you spell {w}?",
        "can you spell {w}?",
        "how is {w} spelled?",
        "what are the letters (of|in) {w}?",
    ),
    "zh": ("(拼写|请拼写|拼一下|拼出){w}。", "{w}(怎么拼|怎么拼写|如何拼写)?", "{w}这个(词|单词)怎么拼?"),
}
_FIRST = {
    "en": (
        "(what is|what's|which is) the first letter (of|in) {w}?",
        "what letter does {w} (start|begin) with?",
        "first letter of {w}?",
    ),
    "zh": ("{w}的(第一个|首)字母是什么?", "{w}以什么字母开头?"),
}
_LAST = {
    "en": (
        "(what is|what's|which is) the last letter (of|in) {w}?",
        "what letter does {w} end with?",
        "last letter of {w}?",
    ),
    "zh": ("{w}的(最后一个|末)字母是什么?", "{w}以什么字母结尾?"),
}
_CAPITALS = {
    "en": (
        "(write|put|say) {w} in (capital letters|capitals|upper case|uppercase).",
        "(make|turn) {w} (uppercase|into capitals|upper case).",
    ),
    "zh": ("(把|用)(单词|){w}(写成大写|变成大写|改成大写)。", "{w}的大写(是什么|怎么写)?", "用大写写{w}。"),
}
_TASKS = {
    "spell": _SPELL,
    "first": _FIRST,
    "last": _LAST,
    "capitals": _CAPITALS,
}
_ONSETS = ("b c d f g h j k l m n p r s t v w z bl br ch cl dr fl gr pl pr sh sl st th tr".split(), "a e i o u ee oo ai ou".split(),
           "b d g k l m n p r s t x ck nd ng nt rk sh st".split() + [""] * 6)  # fmt: skip


def letters(rng: Random, lang: Lang) -> Exchange:
    invented = rng.random() < 0.3
    word = invented_word(rng) if invented else rng.choice(SPELLED)
    task = rng.choice(("spell", "spell", "first", "last", "capitals"))
    shown = f'"{word}"' if rng.random() < 0.1 else word
    question = ask(rng, lang, _TASKS[task][lang], w=shown)
    key = f"invented|{word}" if invented else f"spelling|{lang}|{task}|{word}"
    return Exchange("spelling", lang, key, question, _answer(lang, task, word))


def _answer(lang: Lang, task: str, word: str) -> str:
    if task == "spell":
        return "-".join(word)
    if task == "capitals":
        return word.upper()
    if lang == "zh":
        return (
            f"{word}的第一个字母是{word[0]}。" if task == "first" else f"{word}的最后一个字母是{word[-1]}。"
        )
    return (
        f"The first letter of {word} is {word[0]}."
        if task == "first"
        else f"The last letter of {word} is {word[-1]}."
    )


def invented_word(rng: Random) -> str:
    """One or two made-up syllables, `blick` or `tornoo`; never a word of the list."""
    while True:
        onset, vowel, coda = _ONSETS
        syllables = rng.choice((1, 2, 2))
        word = "".join(rng.choice(onset) + rng.choice(vowel) + rng.choice(coda) for _ in range(syllables))
        if word not in SPELLED and 3 <= len(word) <= 8:
            return word
