"""Requests to draw: a scene in the user's words, and the one caption that answers it, with the sign that a picture follows.

There is one caption for each arrangement and language, whatever the request was like: what paints the picture reads the
thinker's states of the caption alone. A request without an arrangement has one, too: a thing alone stands in the middle, two
or three stand in a row. Its key is the scene's, so what is held out of the questions is held out of the pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from random import Random

from .phrasing import ask, expand, listing
from .scenes import Scene, random_scene, random_thing
from .spoken import spoken_words
from .values import Exchange, Lang, Split, split_of
from .words import Word, a

CATEGORY = "drawing"
SIGN = "<|vision_bos|>"
"""The special token behind a caption which says that a picture follows; no other answer has it."""

_ALONE = 0.2
_MIDDLE = 2
"""The place of `scenes.SPOTS` where a thing stands of which nobody says where."""
_ALIKE: dict[str, str] = {
    "circle": "圆形|圆形|圆形|圆|圆圈", "square": "正方形|正方形|正方形|方块|方形", "triangle": "三角形|三角形|三角",
    "star": "星形|星形|星星|五角星", "heart": "心形|心形|爱心|心", "diamond": "菱形",
}  # fmt: skip
_PICTURE = "(a picture|a picture|a drawing|a painting|an image)"
_FRAMES: dict[Lang, tuple[str, ...]] = {
    "en": (
        "(draw|draw|draw|paint) {x}.", "(please |)(draw|paint|sketch) (me |){x}.", "(draw|paint|sketch) {x}(, please| for me).",
        "(can|could|would) you (please |)(draw|paint|sketch) (me |){x}?", f"(draw|draw me|paint|make|create|show me|give me) {_PICTURE} (of|with) {{x}}.",
        f"(i want|i'd like|i would like) (you to draw|to see|{_PICTURE} of) {{x}}.", f"{_PICTURE} of {{x}}, please.", "(make|create|generate) an image (of|with) {x}.",
    ),
    "zh": (
        "(画|画|画|请画|画出|绘制){x}。", "(请|)(你|)(帮我|给我|替我)画{x}。", "(你|)(能|可以)(帮我|给我|)画{x}吗?", "(请|)画(一张|一幅|个)(图|画),{x}。",
        "(我想要|给我|生成|请画|来)一张{x}的(图|图片|画)。", "(我想看|我要|我想让你画){x}。",
    ),
}  # fmt: skip
_SPOTS: tuple[Word, ...] = (
    Word("(at|in) the top left( corner|)", "(左上角|左上角|左上方)"), Word("(at|in) the top right( corner|)", "(右上角|右上角|右上方)"),
    Word("in the (middle|middle|centre)", "(中间|中间|正中间|中央)"),
    Word("(at|in) the bottom left( corner|)", "(左下角|左下角|左下方)"), Word("(at|in) the bottom right( corner|)", "(右下角|右下角|右下方)"),
)  # fmt: skip
_PAIRS: dict[tuple[str, Lang], tuple[str, ...]] = {
    ("row", "en"): ("{a} (left of|left of|to the left of|on the left of) {b}", "{b} (right of|right of|to the right of|on the right of) {a}",
                    "{a} on the left and {b} on the right", "{b} on the right and {a} on the left", "{a} and {b}", "{a} (beside|next to) {b}"),
    ("column", "en"): ("{a} (above|above|over|on top of) {b}", "{b} (below|below|under|beneath) {a}", "{a} at the top and {b} at the bottom"),
    ("row", "zh"): ("{b}(的|)左(边|面)的{a}", "{a}在{b}(的|)左(边|面)", "{a}的右(边|面)的{b}", "{b}在{a}(的|)右(边|面)", "左边(是|有|){a},右边(是|有|){b}", "{a}和{b}"),
    ("column", "zh"): ("{b}(的|)上(面|方|边)的{a}", "{a}在{b}(的|)上(面|方|边)", "{b}在{a}(的|)下(面|方|边)", "{a}(的|)下(面|方|边)的{b}", "上面(是|有|){a},下面(是|有|){b}"),
}  # fmt: skip
_LINES: dict[tuple[str, Lang], tuple[str, ...]] = {
    ("row", "en"): ("{l}(,|) from left to right", "from left to right {l}", "{l} in a row", "{l}"),
    ("column", "en"): ("{l}(,|) from top to bottom", "from top to bottom {l}", "{l} in a column"),
    ("row", "zh"): ("从左到右(的|是|有|){l}", "从左往右(的|是|有|){l}", "{l},从左到右", "{l}"),
    ("column", "zh"): ("从上到下(的|是|有|){l}", "从上往下(的|是|有|){l}", "{l},从上到下"),
}  # fmt: skip


def caption(scene: Scene, lang: Lang) -> str:
    """What is said of the picture that is drawn."""
    names = [thing.one(lang) for thing in scene.things]
    if lang == "zh":
        if scene.layout == "spots":
            return f"这是{'、'.join(f'{scene.place(i).zh}的{name}' for i, name in enumerate(names))}。"
        return f"这是从{'左到右' if scene.layout == 'row' else '上到下'}的{'、'.join(names)}。"
    if scene.layout == "spots":
        return f"Here is {listing([f'{name} {scene.place(i).en}' for i, name in enumerate(names)])}."
    if len(names) == 2:
        return f"Here is {names[0]} {'left of' if scene.layout == 'row' else 'above'} {names[1]}."
    return f"Here is {listing(names)} from {'left to right' if scene.layout == 'row' else 'top to bottom'}."


def request(rng: Random, lang: Lang) -> Exchange:
    """Somebody asks for a picture of a scene, in one of many ways."""
    return _asked(rng, lang, _wanted(rng))


def draw_request(rng: Random, lang: Lang, split: Split, aloud: bool = False) -> Exchange:
    """A request of the split; one that can be asked `aloud`, if need be."""
    while True:
        found = request(rng, lang)
        if split_of(found.key) == split and (not aloud or spoken_words(found.question, lang) is not None):
            return found


def _wanted(rng: Random) -> Scene:
    if rng.random() < _ALONE:
        return Scene("spots", (random_thing(rng),), (rng.choice((_MIDDLE, _MIDDLE, *range(5))),))
    return random_scene(rng)


def _asked(rng: Random, lang: Lang, scene: Scene) -> Exchange:
    wish = _wish(rng, scene, lang)
    return Exchange(
        CATEGORY, lang, scene.key, ask(rng, lang, _FRAMES[lang], x=wish), caption(scene, lang) + SIGN
    )


def _wish(rng: Random, scene: Scene, lang: Lang) -> str:
    """The scene as the object of a request."""
    names = _names(rng, scene, lang)
    if scene.layout == "spots":
        return _at_spots(rng, scene, lang, names)
    if len(names) == 2 and rng.random() < 0.75:
        pattern = rng.choice(_PAIRS[scene.layout, lang])
        return expand(rng, pattern).format(a=names[0], b=names[1])
    if lang == "zh":
        listed = "、".join(names) if rng.random() < 0.7 else "、".join(names[:-1]) + "和" + names[-1]
    else:
        listed = (
            listing(names, rng.choice((" and ", " and ", ", and "))) if len(names) > 2 else listing(names)
        )
    return expand(rng, rng.choice(_LINES[scene.layout, lang])).format(l=listed)


def _at_spots(rng: Random, scene: Scene, lang: Lang, names: Sequence[str]) -> str:
    if len(names) == 1 and scene.places == (_MIDDLE,) and rng.random() < 0.7:
        return names[0]
    order = list(range(len(names)))
    rng.shuffle(order)
    items = [(names[i], expand(rng, _SPOTS[scene.places[i]][lang])) for i in order]
    if lang == "zh":
        form = rng.choice(("{p}的{t}", "{p}的{t}", "{p}有{t}", "{t}在{p}"))
        return rng.choice((",", "和", "、")).join(form.format(t=t, p=p) for t, p in items)
    return listing([f"{t} {p}" for t, p in items])


def _names(rng: Random, scene: Scene, lang: Lang) -> list[str]:
    """Each thing with what may stand before it, all in the same way."""
    if lang == "zh":
        one, of = rng.choice(("", "", "一个")), rng.choice(("", "", "的"))
        names = []
        for thing in scene.things:
            shape = rng.choice(_ALIKE[thing.shape.en].split("|"))
            names.append(f"{one}{thing.colour.zh}{of}{shape}")
        return names
    before = rng.choice(("a", "a", "a", "a", "a", "one", "the", ""))
    return [a(t["en"]) if before == "a" else f"{before} {t['en']}".strip() for t in scene.things]
