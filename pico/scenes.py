"""Scenes: a few coloured shapes in a row, in a column or at named spots, and how each language describes them.

A scene is a value without language: what is asked about it is in `scene_questions`; a later rendering as a picture
starts from the same value.
"""

from __future__ import annotations

from dataclasses import dataclass
from random import Random
from typing import Literal

from .phrasing import capital, expand, listing
from .values import Lang
from .words import COLOURS, SHAPES, Word, a

Layout = Literal["row", "column", "spots"]

SPOTS = (
    Word("at the top left", "左上角"), Word("at the top right", "右上角"), Word("in the middle", "中间"),
    Word("at the bottom left", "左下角"), Word("at the bottom right", "右下角"),
)  # fmt: skip
ROW = (Word("on the left", "左边"), Word("in the middle", "中间"), Word("on the right", "右边"))
COLUMN = (Word("at the top", "上面"), Word("in the middle", "中间"), Word("at the bottom", "下面"))
PLACES: dict[Layout, tuple[Word, ...]] = {"row": ROW, "column": COLUMN, "spots": SPOTS}

BEFORE: dict[Layout, Word] = {"row": Word("left of", "左边"), "column": Word("above", "上面")}
AFTER: dict[Layout, Word] = {"row": Word("right of", "右边"), "column": Word("below", "下面")}


@dataclass(frozen=True, slots=True)
class Thing:
    colour: Word
    shape: Word

    def __getitem__(self, lang: Lang) -> str:
        return f"{self.colour.zh}{self.shape.zh}" if lang == "zh" else f"{self.colour.en} {self.shape.en}"

    def one(self, lang: Lang) -> str:
        """`a red circle`, `红色圆形`."""
        return self[lang] if lang == "zh" else a(self[lang])


@dataclass(frozen=True, slots=True)
class Scene:
    """Things in reading order; `places[i]` is an index into `PLACES[layout]`."""

    layout: Layout
    things: tuple[Thing, ...]
    places: tuple[int, ...]

    @property
    def key(self) -> str:
        things = ",".join(f"{t['en']}@{p}" for t, p in zip(self.things, self.places, strict=True))
        return f"scene|{self.layout}|{things}"

    def place(self, index: int) -> Word:
        return PLACES[self.layout][self.places[index]]

    def at(self, place: Word) -> Thing | None:
        for index, thing in enumerate(self.things):
            if self.place(index) == place:
                return thing
        return None


def random_thing(rng: Random) -> Thing:
    return Thing(rng.choice(COLOURS), rng.choice(SHAPES))


def random_scene(rng: Random) -> Scene:
    layout: Layout = rng.choice(("row", "column", "spots"))
    count = rng.choice((2, 2, 3) if layout != "spots" else (1, 2, 2))
    things: list[Thing] = []
    while len(things) < count:
        thing = random_thing(rng)
        if thing not in things:
            things.append(thing)
    if layout == "spots":
        places = tuple(sorted(rng.sample(range(len(SPOTS)), count)))
    else:
        places = (0, 2) if count == 2 else (0, 1, 2)
    return Scene(layout, tuple(things), places)


def describe(scene: Scene, lang: Lang) -> str:
    """The one description that counts as the right answer to `what do you see`."""
    if scene.layout == "spots":
        if lang == "zh":
            return ",".join(f"{scene.place(i).zh}有{t['zh']}" for i, t in enumerate(scene.things)) + "。"
        return (
            capital(listing([f"{t.one('en')} {scene.place(i).en}" for i, t in enumerate(scene.things)])) + "."
        )
    names = [thing.one(lang) for thing in scene.things]
    if lang == "zh":
        return f"从{'左到右' if scene.layout == 'row' else '上到下'}:{'、'.join(names)}。"
    return f"From {'left to right' if scene.layout == 'row' else 'top to bottom'}: {listing(names)}."


def tell(rng: Random, scene: Scene, lang: Lang) -> str:
    """The scene as a prompt tells it, in one of many ways."""
    if scene.layout == "spots":
        return _tell_spots(rng, scene, lang)
    if len(scene.things) == 2 and rng.random() < 0.75:
        return _tell_pair(rng, scene, lang)
    names = [thing.one(lang) for thing in scene.things]
    if lang == "zh":
        opening = expand(
            rng,
            "从(左到右|左往右)(是|有|依次是|):" if scene.layout == "row" else "从(上到下|上往下)(是|有|):",
        )
        return opening + "、".join(names) + "。"
    across = "from left to right" if scene.layout == "row" else "from top to bottom"
    text = rng.choice((f"{across}: {listing(names)}.", f"{across} there are {listing(names)}.",
                       f"there is {listing(names)}, {across}."))  # fmt: skip
    return capital(text)


def _tell_pair(rng: Random, scene: Scene, lang: Lang) -> str:
    first, second = scene.things
    relation = BEFORE[scene.layout]
    if rng.random() < 0.5:
        first, second, relation = second, first, AFTER[scene.layout]
    slots = {
        "a": first.one(lang),
        "b": second.one(lang),
        "x": first[lang],
        "y": second[lang],
        "r": relation[lang],
    }
    if lang == "zh":
        return ask_plain(rng, ("(一个|){a}在(一个|){b}的{r}。", "{b}的{r}(是|有)(一个|){a}。"), slots)
    return ask_plain(
        rng,
        ("{a} is {r} {b}.", "(there is|i see|i have|we see) {a} {r} {b}.", "the {x} is {r} the {y}."),
        slots,
    )


def _tell_spots(rng: Random, scene: Scene, lang: Lang) -> str:
    order = list(range(len(scene.things)))
    rng.shuffle(order)
    items = [(scene.things[i], scene.place(i)) for i in order]
    if lang == "zh":
        form = rng.choice(("{p}有{t}", "{p}是{t}", "{p}有一个{t}", "{t}在{p}"))
        return ",".join(form.format(t=t["zh"], p=p.zh) for t, p in items) + "。"
    if rng.random() < 0.5:
        return f"There is {listing([t.one('en') + ' ' + p.en for t, p in items])}."
    return " ".join(f"{capital(t.one('en'))} is {p.en}." for t, p in items)


def ask_plain(rng: Random, patterns: tuple[str, ...], slots: dict[str, str]) -> str:
    """A told sentence keeps its capital and its full stop: it is followed by a question."""
    return capital(expand(rng, rng.choice(patterns)).format(**slots))


def scene_of(key: str) -> Scene:
    """The scene whose key this is."""
    _, layout, listed = key.split("|")
    colours, shapes = ({word.en: word for word in words} for words in (COLOURS, SHAPES))
    things, places = [], []
    for item in listed.split(","):
        name, place = item.split("@")
        colour, shape = name.split(" ")
        things.append(Thing(colours[colour], shapes[shape]))
        places.append(int(place))
    assert layout in PLACES
    return Scene(layout, tuple(things), tuple(places))
