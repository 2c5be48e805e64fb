"""What can be asked about a scene, and the one right answer in each language."""

from __future__ import annotations

from collections.abc import Callable
from random import Random

from .phrasing import ask, capital
from .scenes import AFTER, BEFORE, PLACES, Scene, Thing, describe, random_scene, random_thing, tell
from .values import Exchange, Lang, text_key
from .words import COLOURS, SHAPES, Word, plural

QA = tuple[str, str]
UNSEEN = "unseen"
"""The beginning of the keys of questions about a scene that nobody told."""


def neighbour(rng: Random, scene: Scene, lang: Lang) -> QA:
    """What is directly left of, right of, above or below a thing of a row or a column; seldom nothing."""
    index = rng.randrange(len(scene.things))
    step = rng.choice((-1, 1))
    if not 0 <= index + step < len(scene.things) and rng.random() < 0.6:
        step = -step
    relation = (BEFORE if step < 0 else AFTER)[scene.layout]
    thing, target = scene.things[index], index + step
    question = ask(rng, lang, (
        ("{t}的{r}(是什么|有什么)?", "什么在{t}的{r}?") if lang == "zh"
        else ("what is {r} the {t}?", "(what|which shape) (is|do you see) {r} the {t}?", "what's {r} the {t}?")
    ), t=thing[lang], r=relation[lang])  # fmt: skip
    if 0 <= target < len(scene.things):
        return question, _one(scene.things[target], lang)
    return (
        question,
        f"{thing['zh']}的{relation.zh}什么也没有。"
        if lang == "zh"
        else f"Nothing is {relation.en} the {thing['en']}.",
    )


def at_place(rng: Random, scene: Scene, lang: Lang) -> QA:
    place = rng.choice(PLACES[scene.layout])
    if rng.random() < 0.7:
        place = scene.place(rng.randrange(len(scene.things)))
    question = ask(rng, lang, (
        ("{p}(是什么|有什么)?", "什么在{p}?") if lang == "zh" else ("(what is|what's|which shape is|what do you see) {p}?",)
    ), p=place[lang])  # fmt: skip
    thing = scene.at(place)
    if thing is not None:
        return question, _one(thing, lang)
    return question, f"{place.zh}什么也没有。" if lang == "zh" else f"Nothing is {place.en}."


def where(rng: Random, scene: Scene, lang: Lang) -> QA:
    index = rng.randrange(len(scene.things))
    thing = scene.things[index]
    if rng.random() < 0.12 and (absent := random_thing(rng)) not in scene.things:
        return _ask_where(rng, absent, lang), none_of(absent[lang], lang)
    place = scene.place(index)
    answer = f"{thing['zh']}在{place.zh}。" if lang == "zh" else f"The {thing['en']} is {place.en}."
    return _ask_where(rng, thing, lang), answer


def _ask_where(rng: Random, thing: Thing, lang: Lang) -> str:
    patterns = (
        ("{t}在(哪里|哪儿|什么地方)?",)
        if lang == "zh"
        else ("(where is|where's|where do you see|find) the {t}?",)
    )
    return ask(rng, lang, patterns, t=thing[lang])


def colour_of(rng: Random, scene: Scene, lang: Lang) -> QA:
    shape = rng.choice(SHAPES) if rng.random() < 0.12 else rng.choice(scene.things).shape
    matches = [t for t in scene.things if t.shape == shape]
    if len(matches) > 1:
        return see(rng, scene, lang)
    question = ask(rng, lang, (
        ("{s}是什么颜色(的|)?", "{s}的颜色是什么?", "那个{s}是什么颜色?") if lang == "zh"
        else ("what (colour|color) is the {s}?", "which (colour|color) (is|has) the {s}?", "what is the (colour|color) of the {s}?")
    ), s=shape[lang])  # fmt: skip
    if not matches:
        return question, none_of(shape[lang], lang)
    colour = matches[0].colour
    return question, f"{shape.zh}是{colour.zh}。" if lang == "zh" else f"The {shape.en} is {colour.en}."


def shape_of(rng: Random, scene: Scene, lang: Lang) -> QA:
    colour = rng.choice(scene.things).colour
    matches = [t for t in scene.things if t.colour == colour]
    if len(matches) > 1:
        return see(rng, scene, lang)
    question = ask(rng, lang, (
        ("{c}的是什么(形状|)?", "什么(形状|)是{c}的?", "哪个形状是{c}的?") if lang == "zh"
        else ("(what|which) shape is {c}?", "what is {c}?", "what (is the|shape is the) {c} (one|shape)?")
    ), c=colour[lang])  # fmt: skip
    shape = matches[0].shape
    return question, f"{colour.zh}的是{shape.zh}。" if lang == "zh" else f"The {shape.en} is {colour.en}."


def is_colour(rng: Random, scene: Scene, lang: Lang) -> QA:
    thing = rng.choice(scene.things)
    if sum(t.shape == thing.shape for t in scene.things) > 1:
        return exists(rng, scene, lang)
    colour = thing.colour if rng.random() < 0.5 else rng.choice(COLOURS)
    question = ask(rng, lang, (
        ("{s}是{c}(的|)吗?", "{s}是不是{c}的?") if lang == "zh" else ("is the {s} {c}?", "is the (colour|color) of the {s} {c}?")
    ), s=thing.shape[lang], c=colour[lang])  # fmt: skip
    right = colour == thing.colour
    if lang == "zh":
        return question, f"{'是' if right else '不是'},{thing.shape.zh}是{thing.colour.zh}。"
    return question, f"{'Yes' if right else 'No'}, the {thing.shape.en} is {thing.colour.en}."


def exists(rng: Random, scene: Scene, lang: Lang) -> QA:
    thing = rng.choice(scene.things) if rng.random() < 0.5 else random_thing(rng)
    question = ask(rng, lang, (
        ("有(没有|){t}?", "有{t}吗?", "你看到{t}了吗?") if lang == "zh" else ("is there {o}?", "(do you see|can you see) {o}?")
    ), t=thing[lang], o=thing.one(lang))  # fmt: skip
    if thing in scene.things:
        return question, f"有{thing['zh']}。" if lang == "zh" else f"Yes, there is {thing.one('en')}."
    return question, none_of(thing[lang], lang) if lang == "zh" else f"No, there is no {thing['en']}."


def count(rng: Random, scene: Scene, lang: Lang) -> QA:
    if rng.random() < 0.5:
        noun, total = Word("shape", "形状"), len(scene.things)
    else:
        noun = rng.choice(SHAPES) if rng.random() < 0.2 else rng.choice(scene.things).shape
        total = sum(t.shape == noun for t in scene.things)
    return ask_count(rng, lang, noun), answer_count(lang, noun, total)


def ask_count(rng: Random, lang: Lang, noun: Word) -> str:
    patterns = (
        ("(一共|总共|)有(几个|多少个|多少){n}?", "{n}有几个?")
        if lang == "zh"
        else (
            "how many {n} (are there|do you see|can you count|are there in all)?",
            "count the {n}.",
            "how many {n}?",
        )
    )
    return ask(rng, lang, patterns, n=noun.zh if lang == "zh" else plural(noun.en, 2))


def answer_count(lang: Lang, noun: Word, total: int) -> str:
    if lang == "zh":
        return f"{noun.zh}有{total}个。"
    return f"There {'is' if total == 1 else 'are'} {total} {plural(noun.en, total)}."


def see(rng: Random, scene: Scene, lang: Lang) -> QA:
    patterns = (
        ("(你看到了什么|有什么|有哪些形状|描述一下|这里有什么|图里有什么)?",)
        if lang == "zh"
        else (
            "(what do you see|describe the (picture|scene)|describe it|what is there|what is in the (picture|scene))?",
        )
    )
    return ask(rng, lang, patterns), describe(scene, lang)


def none_of(name: str, lang: Lang) -> str:
    return f"没有{name}。" if lang == "zh" else f"There is no {name}."


def _one(thing: Thing, lang: Lang) -> str:
    return f"{thing['zh']}。" if lang == "zh" else capital(thing.one("en")) + "."


QUESTIONS: tuple[Callable[[Random, Scene, Lang], QA], ...] = (
    colour_of,
    colour_of,
    shape_of,
    is_colour,
    exists,
    count,
    see,
)
PLACED: tuple[Callable[[Random, Scene, Lang], QA], ...] = (at_place, where)
"""Shapes at named spots are asked about by their spots, those of a row or a column by their neighbours."""


def question_about(rng: Random, scene: Scene, lang: Lang) -> QA:
    """Any question that suits the scene, with its answer."""
    if rng.random() < 0.4:
        return rng.choice(PLACED if scene.layout == "spots" else (neighbour,))(rng, scene, lang)
    return rng.choice(QUESTIONS)(rng, scene, lang)


def reading(rng: Random, lang: Lang) -> Exchange:
    """A told scene and a question about it."""
    scene = random_scene(rng)
    question, answer = question_about(rng, scene, lang)
    told = tell(rng, scene, lang)
    if rng.random() < 0.12:
        told = (
            rng.choice(("看:", "场景:", "图:"))
            if lang == "zh"
            else rng.choice(("Look: ", "Scene: ", "Picture: "))
        ) + told
    gap = ("" if lang == "zh" else " ") if rng.random() < 0.9 else "\n"
    return Exchange("scenes", lang, scene.key, told + gap + question, answer)


def unseen(rng: Random, lang: Lang) -> Exchange:
    """A question about a scene that nobody told: there is no such thing."""
    thing = random_thing(rng)
    relation = rng.choice((*BEFORE.values(), *AFTER.values()))
    patterns: tuple[str, ...]
    if lang == "zh":
        patterns, name = ("{t}的{r}(是什么|有什么)?", "{t}在(哪里|哪儿)?"), thing["zh"]
        if rng.random() < 0.4:
            patterns, name = ("{s}是什么颜色(的|)?",), thing.shape.zh
    else:
        patterns, name = ("what is {r} the {t}?", "(where is|where's) the {t}?"), thing["en"]
        if rng.random() < 0.4:
            patterns, name = (
                ("what (colour|color) is the {s}?", "what is the (colour|color) of the {s}?"),
                thing.shape.en,
            )
    question = ask(rng, lang, patterns, t=thing[lang], r=relation[lang], s=thing.shape[lang])
    return Exchange("scenes", lang, text_key(UNSEEN, question), question, none_of(name, lang))


def heap(rng: Random, lang: Lang) -> Exchange:
    """Counting: a heap of things by number and kind, or a row of shapes to tally."""
    return _tally(rng, lang) if rng.random() < 0.4 else _numbered(rng, lang)


def _numbered(rng: Random, lang: Lang) -> Exchange:
    first, second = random_thing(rng), random_thing(rng)
    while second.shape == first.shape or second.colour == first.colour:
        second = random_thing(rng)
    m, n = rng.randint(1, 9), rng.randint(1, 9)
    if lang == "zh":
        told = f"有{m}个{first['zh']}和{n}个{second['zh']}。"
    else:
        verb = "is" if m == 1 else "are"
        told = f"There {verb} {m} {plural(first['en'], m)} and {n} {plural(second['en'], n)}."
    noun, total = rng.choice(((Word("shape", "形状"), m + n), (first.shape, m), (second.shape, n)))
    key = f"heap|{m}{first['en']}|{n}{second['en']}"
    gap = "" if lang == "zh" else " "
    return Exchange(
        "counting", lang, key, told + gap + ask_count(rng, lang, noun), answer_count(lang, noun, total)
    )


def _tally(rng: Random, lang: Lang) -> Exchange:
    kinds = rng.sample(SHAPES, 2)
    row = kinds + [rng.choice(kinds) for _ in range(rng.randint(1, 3))]
    rng.shuffle(row)
    noun = rng.choice(kinds) if rng.random() < 0.8 else Word("shape", "形状")
    total = len(row) if noun.en == "shape" else row.count(noun)
    told = (
        "、".join(s.zh for s in row) + "。" if lang == "zh" else capital(", ".join(s.en for s in row)) + "."
    )
    key = "tally|" + ",".join(s.en for s in row)
    gap = "" if lang == "zh" else " "
    return Exchange(
        "counting", lang, key, told + gap + ask_count(rng, lang, noun), answer_count(lang, noun, total)
    )


def as_json(rng: Random, lang: Lang) -> Exchange:
    """A thing as a JSON object, so that structured output has something true to say."""
    thing, other = random_thing(rng), random_thing(rng)
    patterns = (
        ("(用JSON写|写成JSON:|以JSON格式写|JSON:){t}。",)
        if lang == "zh"
        else ("(write|give me|show|put) {t} (as|in) json.", "{t} (as|in) json, please.", "json for {t}.")
    )
    both = rng.random() < 0.5
    name = thing.one(lang)
    if both:
        name += ("和" if lang == "zh" else " and ") + other.one(lang)
    objects = [
        f'{{"colour": "{t.colour.en}", "shape": "{t.shape.en}"}}'
        for t in ((thing, other) if both else (thing,))
    ]
    question = ask(rng, lang, patterns, t=name).replace("json", rng.choice(("json", "JSON")))
    return Exchange("json", lang, f"json|{thing['en']}|{other['en'] if both else ''}", question,
                    f"[{', '.join(objects)}]" if both else objects[0])  # fmt: skip
