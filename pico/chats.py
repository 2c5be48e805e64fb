"""Conversations: several exchanges in a row, and answers that need an earlier turn (names, colours, scenes, sums)."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from .arithmetic import LARGEST, add_key, difference_answer, sum_answer, sum_of
from .phrasing import ask
from .scene_questions import question_about
from .scenes import random_scene, tell
from .values import Chat, Exchange, Lang, Message, plain
from .words import COLOURS, NAMES_EN, NAMES_ZH, number

Draw = Callable[[Random, Lang], Exchange]

SYSTEM_PROMPTS: dict[Lang, tuple[str, ...]] = {
    "en": ("You are a helpful assistant.", "You are pico.", "You are pico, a small demonstration model.", "Answer briefly.",
           "You are a friendly assistant. Answer the user's questions.", "Be concise.", "You are a helpful, honest AI assistant."),
    "zh": ("你是一个有用的助手。", "你是pico。", "请简短回答。", "你是一个友好的助手。", "You are a helpful assistant."),
}  # fmt: skip
_MY_NAME = {"en": ("my name is {x}.", "i am {x}.", "(hi|hello), (i am|i'm|my name is) {x}.", "call me {x}."),
            "zh": ("我叫{x}。", "我的名字是{x}。", "你好,我(叫|是){x}。")}  # fmt: skip
_WHAT_NAME = {"en": ("what is my name?", "what's my name?", "who am i?", "do you (know|remember) my name?"),
              "zh": ("我叫什么(名字|)?", "我的名字是什么?", "你(记得|知道)我的名字吗?", "我是谁?")}  # fmt: skip
_MY_COLOUR = {"en": ("my (favourite|favorite) (colour|color) is {x}.", "i like {x} best.", "(i love|the colour i like is) {x}."),
              "zh": ("我最喜欢的颜色是{x}。", "我最喜欢{x}。", "我喜欢{x}。")}  # fmt: skip
_WHAT_COLOUR = {"en": ("(what is|what's) my favourite (colour|color)?", "which (colour|color) do i like?", "what (colour|color) do i like (best|)?"),
                "zh": ("我最喜欢(的颜色是什么|什么颜色)?", "我喜欢什么颜色?")}  # fmt: skip


def conversation(rng: Random, exchanges: list[Exchange], category: str) -> Chat:
    """Exchanges in a row; each was complete in itself."""
    messages: list[Message] = []
    last = exchanges[-1]
    if rng.random() < 0.15:
        messages.append(Message("system", rng.choice(SYSTEM_PROMPTS[last.lang])))
    for exchange in exchanges:
        messages += [Message("user", exchange.question), Message("assistant", exchange.answer)]
    return Chat(category, last.lang, tuple(e.key for e in exchanges), tuple(messages))


def memory(rng: Random, lang: Lang, draw: Draw) -> Chat:
    """Something is told, other things may be asked between, then it is asked for."""
    kind = rng.choice((_name, _colour, _nothing, _running_sum, _running_sum))
    return conversation(rng, kind(rng, lang, draw), "chats")


def about_a_scene(rng: Random, lang: Lang) -> Chat:
    """A scene is told once and asked about several times."""
    scene = random_scene(rng)
    told = tell(rng, scene, lang)
    if rng.random() < 0.4:
        openings = (
            ("记住:", "请记住:", "")
            if lang == "zh"
            else ("Remember: ", "Remember this: ", "Please remember: ", "")
        )
        noted = "好的,我记住了。" if lang == "zh" else "All right, I will remember that."
        exchanges = [Exchange("chats", lang, scene.key, rng.choice(openings) + told, noted)]
    else:
        question, answer = question_about(rng, scene, lang)
        exchanges = [
            Exchange("chats", lang, scene.key, told + ("" if lang == "zh" else " ") + question, answer)
        ]
    for _ in range(rng.randint(1, 6)):
        question, answer = question_about(rng, scene, lang)
        exchanges.append(Exchange("chats", lang, scene.key, question, answer))
    return conversation(rng, exchanges, "chats")


def _between(rng: Random, lang: Lang, draw: Draw) -> list[Exchange]:
    return [draw(rng, lang) for _ in range(rng.choice((0, 1, 1, 2)))]


def _words(exchanges: list[Exchange]) -> str:
    return "|".join(plain(exchange.question) for exchange in exchanges)


def _name(rng: Random, lang: Lang, draw: Draw) -> list[Exchange]:
    name = rng.choice(NAMES_ZH if lang == "zh" else NAMES_EN)
    told = ask(rng, lang, _MY_NAME[lang], x=name)
    between = _between(rng, lang, draw)
    key = f"name|{name}|" + _words(between)
    greeting = f"你好,{name}!我是pico。" if lang == "zh" else f"Hello {name}! I am pico."
    answer = f"你叫{name}。" if lang == "zh" else f"Your name is {name}."
    return [
        Exchange("chats", lang, key, told, greeting),
        *between,
        Exchange("chats", lang, key, ask(rng, lang, _WHAT_NAME[lang]), answer),
    ]


def _colour(rng: Random, lang: Lang, draw: Draw) -> list[Exchange]:
    colour = rng.choice(COLOURS)[lang]
    told = ask(rng, lang, _MY_COLOUR[lang], x=colour)
    between = _between(rng, lang, draw)
    key = f"favourite|{colour}|" + (_words(between) or plain(told))
    noted = f"好的,你喜欢{colour}。" if lang == "zh" else f"All right, you like {colour}."
    answer = f"你喜欢{colour}。" if lang == "zh" else f"You like {colour}."
    return [
        Exchange("chats", lang, key, told, noted),
        *between,
        Exchange("chats", lang, key, ask(rng, lang, _WHAT_COLOUR[lang]), answer),
    ]


def _nothing(rng: Random, lang: Lang, draw: Draw) -> list[Exchange]:
    """It was never told."""
    between = _between(rng, lang, draw)
    asks_name = rng.random() < 0.5
    question = ask(rng, lang, (_WHAT_NAME if asks_name else _WHAT_COLOUR)[lang])
    key = "nothing|" + plain(question) + _words(between)
    answer = "你没有告诉我。" if lang == "zh" else "You have not told me."
    return [*between, Exchange("chats", lang, key, question, answer)]


def _running_sum(rng: Random, lang: Lang, draw: Draw) -> list[Exchange]:
    """A sum, and then something added to its result or taken from it."""
    x, y = rng.randint(0, LARGEST // 2), rng.randint(0, LARGEST // 2)
    total = x + y
    z, adds, digits = rng.randint(0, LARGEST // 2), rng.random() < 0.6, rng.random() < 0.7
    first = sum_of(rng, lang, x, y)
    patterns: tuple[str, ...]
    if adds:
        patterns = (
            ("再加{z}(呢|是多少|等于几|)?", "加{z}呢?")
            if lang == "zh"
            else ("(and |)(plus|add) {z}(?|)", "add {z} to (that|it).", "and {z} more?", "now add {z}.")
        )
        key, answer = add_key(total, z), sum_answer(lang, total, z)
    else:
        patterns = (
            ("再减{z}(呢|是多少|等于几|)?", "减{z}呢?")
            if lang == "zh"
            else (
                "(and |)minus {z}(?|)",
                "(take|subtract) {z} from (that|it).",
                "now (subtract|take away) {z}.",
            )
        )
        key, answer = f"sub|{total}|{z}", difference_answer(lang, total, z)
    return [first, Exchange("chats", lang, key, ask(rng, lang, patterns, z=number(lang, z, digits)), answer)]
