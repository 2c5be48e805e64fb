"""Short instructions: repeat, say one thing and then another, say it three times, the first word."""

from __future__ import annotations

from random import Random

from .phrasing import ask, capital, expand
from .scenes import random_scene, random_thing, tell
from .values import Exchange, Lang
from .words import NUMBERS_ZH, SPELLED, THINGS

_ZH_WORDS = tuple(t.zh for t in THINGS) + tuple(
    "猫 狗 鸟 鱼 太阳 月亮 星星 天空 大海 你好 再见 红色 蓝色 绿色 圆形 星形 下雨 下雪 快乐 朋友".split()
)
_TIMES = {2: ("twice", "2 times", "two times"), 3: ("3 times", "three times")}


def _some_words(rng: Random, lang: Lang, low: int, high: int) -> list[str]:
    return rng.sample(_ZH_WORDS if lang == "zh" else SPELLED, rng.randint(low, high))


def repeat(rng: Random, lang: Lang) -> Exchange:
    kind = rng.randrange(4)
    if kind == 0:
        payload = tell(rng, random_scene(rng), lang)
    elif kind == 1:
        payload = str(rng.randint(0, 9999))
    else:
        payload = ("" if lang == "zh" else " ").join(_some_words(rng, lang, 1, 5))
    if lang == "zh":
        opening = expand(rng, "(请|)(重复|跟我说|重复一遍|照着说|复述)(:|:|: )")
    else:
        opening = capital(
            expand(rng, "(please |)(repeat|repeat after me|say|echo|repeat this|say this|copy this)(:|) ")
        )
        opening = opening if rng.random() < 0.6 else opening.lower()
    return Exchange("instructions", lang, f"repeat|{payload.lower()}", opening + payload, payload)


def then(rng: Random, lang: Lang) -> Exchange:
    """Say X then Y."""
    if lang == "en" and rng.random() < 0.4:
        x, y = random_thing(rng)["en"], random_thing(rng)["en"]
    else:
        x, y = _some_words(rng, lang, 2, 2)
    patterns = (
        ("先说{x},(再|然后|然后再|接着)说{y}。", "(请|)说{x},然后(说|){y}。")
        if lang == "zh"
        else (
            "say {x}(, then| and then| then|, and then) (say |){y}.",
            "first say {x}(, then| and then) (say |){y}.",
        )
    )
    question = ask(rng, lang, patterns, x=x, y=y)
    return Exchange(
        "instructions", lang, f"then|{x}|{y}", question, f"{x},{y}" if lang == "zh" else f"{x}, {y}"
    )


def many_times(rng: Random, lang: Lang) -> Exchange:
    word, times = _some_words(rng, lang, 1, 1)[0], rng.randint(2, 3)
    if lang == "zh":
        shown = rng.choice((str(times), "两" if times == 2 else NUMBERS_ZH[times]))
        question = ask(
            rng,
            lang,
            ("(请|)(说|重复)(|){n}(遍|次){w}。", "(请|)把{w}(说|重复){n}(遍|次)。"),
            n=shown,
            w=word,
        )
    else:
        question = ask(
            rng, lang, ("(say|repeat|write) (the word |){w} {n}.",), w=word, n=rng.choice(_TIMES[times])
        )
    return Exchange("instructions", lang, f"times|{word}|{times}", question, " ".join([word] * times))


def pick_word(rng: Random, lang: Lang) -> Exchange:
    """The first or the last word of some."""
    words, task = _some_words(rng, lang, 2, 4), rng.choice(("first", "last"))
    joined = ("、" if lang == "zh" else " ").join(words)
    if lang == "zh":
        patterns = {
            "first": "(说出|)第一个词(是什么|):{w}",
            "last": "(说出|)最后一个词(是什么|):{w}",
        }[task]
    else:
        patterns = {"first": "(say |what is |)the first word of: {w}", "last": "(say |what is |)the last word of: {w}"}[task]  # fmt: skip
    question = ask(rng, lang, (patterns,), w=joined)
    answer = words[0] if task == "first" else words[-1]
    return Exchange("instructions", lang, f"pick|{joined}", question, answer)
