"""Colours: what two of them make, and the colour of familiar things."""

from __future__ import annotations

from random import Random

from .phrasing import ask, capital
from .values import Exchange, Lang, text_key
from .words import Word

_MIXTURES = (
    (Word("red", "红色"), Word("blue", "蓝色"), Word("purple", "紫色")),
    (Word("red", "红色"), Word("yellow", "黄色"), Word("orange", "橙色")),
    (Word("blue", "蓝色"), Word("yellow", "黄色"), Word("green", "绿色")),
    (Word("black", "黑色"), Word("white", "白色"), Word("grey", "灰色")),
    (Word("red", "红色"), Word("white", "白色"), Word("pink", "粉色")),
)
_COLOURED = tuple(
    (Word(en, zh), Word(colour, colour_zh))
    for en, zh, colour, colour_zh in (
        ("the sky", "天空", "blue", "蓝色"), ("the sea", "大海", "blue", "蓝色"), ("grass", "草", "green", "绿色"),
        ("a leaf", "树叶", "green", "绿色"), ("a banana", "香蕉", "yellow", "黄色"), ("a lemon", "柠檬", "yellow", "黄色"),
        ("the sun", "太阳", "yellow", "黄色"), ("snow", "雪", "white", "白色"), ("milk", "牛奶", "white", "白色"),
        ("the night", "黑夜", "black", "黑色"), ("coal", "煤", "black", "黑色"), ("blood", "血", "red", "红色"),
        ("a tomato", "番茄", "red", "红色"), ("a strawberry", "草莓", "red", "红色"), ("a carrot", "胡萝卜", "orange", "橙色"),
        ("a pumpkin", "南瓜", "orange", "橙色"), ("a grape", "葡萄", "purple", "紫色"), ("a violet", "紫罗兰", "purple", "紫色"),
        ("a frog", "青蛙", "green", "绿色"), ("a cloud", "云", "white", "白色"),
    )
)  # fmt: skip


def mixture(rng: Random, lang: Lang) -> Exchange:
    x, y, made = rng.choice(_MIXTURES)
    if rng.random() < 0.5:
        x, y = y, x
    patterns = (
        ("{x}(和|加|与){y}(混合|混在一起|)(是|变成|会变成|得到)(什么颜色|什么)?", "{x}加{y}(等于|是)什么颜色?") if lang == "zh"
        else ("(what|what colour|what color) do {x} and {y} make?", "what (colour|color) (is|comes from) {x} (and|mixed with|plus) {y}?",
              "mix {x} and {y}.", "what do you get (if|when) you mix {x} (and|with) {y}?", "if i mix {x} and {y}, what (colour|color) do i get?")
    )  # fmt: skip
    question = ask(rng, lang, patterns, x=x[lang], y=y[lang])
    answer = (
        f"{x.zh}和{y.zh}混合是{made.zh}。" if lang == "zh" else f"{capital(x.en)} and {y.en} make {made.en}."
    )
    return Exchange("colours", lang, text_key("colours", question), question, answer)


def familiar(rng: Random, lang: Lang) -> Exchange:
    thing, colour = rng.choice(_COLOURED)
    patterns = (
        ("{t}是什么颜色(的|)?", "{t}的颜色是什么?", "{t}(通常|一般)是什么颜色(的|)?", "{t}什么颜色?") if lang == "zh"
        else ("(what|which) (colour|color) is {t}?", "what is the (colour|color) of {t}?", "what (colour|color) does {t} have?",
              "{t} is what (colour|color)?", "what's the (colour|color) of {t}?")
    )  # fmt: skip
    question = ask(rng, lang, patterns, t=thing[lang])
    answer = f"{thing.zh}是{colour.zh}。" if lang == "zh" else f"{capital(thing.en)} is {colour.en}."
    return Exchange("colours", lang, text_key("colours", question), question, answer)
