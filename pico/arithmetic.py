"""Numbers: sums, differences, small products, stories, comparison, order, and what is too big.

Sums and differences of 0 to 20 and products of 0 to 10. A sum is held out as an unordered pair and a difference as a
pair, in both languages and every phrasing. A product is held out as a prompt: a times table cannot be inferred.
"""

from __future__ import annotations

from random import Random

from .phrasing import ask
from .values import Exchange, Lang, text_key
from .words import NAMES_EN, NAMES_ZH, THINGS, number, plural

LARGEST = 20
LARGEST_FACTOR = 10

PLUS = {
    "en": ("(what is|what's|how much is|) {a} (plus|+|and) {b}?", "{a}(+| + ){b}", "{a}(+| + ){b}(=| =|?|=?| = ?)",
           "what does {a} (plus|+) {b} (make|equal)?", "{a} plus {b} (is|equals|makes)( what|)?", "(add|please add) {a} and {b}.", "what is the sum of {a} and {b}?", "(calculate|compute|solve) {a}( + |+| plus ){b}."),
    "zh": ("{a}(加|加上|+){b}(等于几|等于多少|是多少|是几|得几|得多少)?", "(算一下|计算|请计算|算){a}(加|+){b}。", "{a}加{b}",
           "{a}和{b}的和是多少?"),
}  # fmt: skip
MINUS = {
    "en": ("(what is|what's|how much is|) {a} (minus|-|take away) {b}?", "{a}(-| - ){b}", "{a}(-| - ){b}(=| =|?|=?| = ?)",
           "what does {a} (minus|-) {b} (make|equal)?", "{a} minus {b} (is|equals)( what|)?", "(subtract|take) {b} from {a}.", "(calculate|compute|solve) {a}( - |-| minus ){b}."),
    "zh": ("{a}(减|减去|-){b}(等于几|等于多少|是多少|是几|得几|得多少)?", "(算一下|计算|请计算|算){a}(减|-){b}。", "{a}减{b}"),
}  # fmt: skip
TIMES = {
    "en": ("(what is|what's|how much is|) {a} (times|x|×|*) {b}?", "{a}(*| * |x| x |×| × ){b}", "multiply {a} (by|and|with) {b}.",
           "what does {a} times {b} (make|equal)?", "{a} times {b} (is|equals|makes)( what|)?",
           "what is the product of {a} and {b}?", "(calculate|compute|solve) {a}( * |*| times ){b}."),
    "zh": ("{a}(乘|乘以|×|*){b}(等于几|等于多少|是多少|是几|得几|得多少)?", "(算一下|计算|请计算|算){a}(乘|乘以|×){b}。", "{a}乘{b}"),
}  # fmt: skip
DIVIDED = {
    "en": (
        "(what is|what's|how much is|) {a} (divided by|/|over) {b}?",
        "{a}(/| / ){b}",
        "divide {a} by {b}.",
    ),
    "zh": ("{a}(除以|÷|/){b}(等于几|等于多少|是多少)?", "(算一下|计算|算){a}除以{b}。"),
}
TOO_BIG = {"en": "That number is too big for me.", "zh": "这个数字对我来说太大了。"}
CANNOT_DIVIDE = {
    "en": "I cannot divide. I can add, subtract and multiply.",
    "zh": "我不会除法。我会加法、减法和乘法。",
}


def add_key(x: int, y: int) -> str:
    return f"add|{min(x, y)}|{max(x, y)}"


def sum_answer(lang: Lang, x: int, y: int) -> str:
    return f"{x}加{y}等于{x + y}。" if lang == "zh" else f"{x} plus {y} is {x + y}."


def difference_answer(lang: Lang, x: int, y: int) -> str:
    if x < y:
        return f"{x}减{y}小于0。" if lang == "zh" else f"{x} minus {y} is less than 0."
    return f"{x}减{y}等于{x - y}。" if lang == "zh" else f"{x} minus {y} is {x - y}."


def addition(rng: Random, lang: Lang) -> Exchange:
    return sum_of(rng, lang, rng.randint(0, LARGEST), rng.randint(0, LARGEST))


def sum_of(rng: Random, lang: Lang, x: int, y: int) -> Exchange:
    digits = rng.random() < 0.6
    question = ask(rng, lang, PLUS[lang], a=number(lang, x, digits), b=number(lang, y, digits))
    return Exchange("sums", lang, add_key(x, y), question, sum_answer(lang, x, y))


def subtraction(rng: Random, lang: Lang) -> Exchange:
    x, y = rng.randint(0, LARGEST), rng.randint(0, LARGEST)
    if x < y and rng.random() < 0.8:
        x, y = y, x
    digits = rng.random() < 0.6
    question = ask(rng, lang, MINUS[lang], a=number(lang, x, digits), b=number(lang, y, digits))
    return Exchange("differences", lang, f"sub|{x}|{y}", question, difference_answer(lang, x, y))


def multiplication(rng: Random, lang: Lang) -> Exchange:
    x, y = rng.randint(0, LARGEST_FACTOR), rng.randint(0, LARGEST_FACTOR)
    digits = rng.random() < 0.6
    question = ask(rng, lang, TIMES[lang], a=number(lang, x, digits), b=number(lang, y, digits))
    answer = f"{x}乘{y}等于{x * y}。" if lang == "zh" else f"{x} times {y} is {x * y}."
    return Exchange("products", lang, f"mul|{lang}|{x}|{y}|{digits}", question, answer)


def story(rng: Random, lang: Lang) -> Exchange:
    """Somebody has some things and gets or loses some; the answer states the sum and then the result."""
    gains = rng.random() < 0.5
    x, y = rng.randint(1, LARGEST), rng.randint(1, LARGEST)
    if not gains and x < y:
        x, y = y, x
    digits = rng.random() < 0.7
    a, b = number(lang, x, digits), number(lang, y, digits)
    thing, total = rng.choice(THINGS), x + y if gains else x - y
    key = add_key(x, y) if gains else f"sub|{x}|{y}"
    reckoning = (sum_answer if gains else difference_answer)(lang, x, y)[:-1]
    if lang == "zh":
        name = rng.choice(NAMES_ZH)
        change = rng.choice(("又得到", "又买了", "又拿来") if gains else ("用掉了", "丢了", "送出"))
        pattern = f"{name}有{a}个{thing.zh},{change}{b}个。{name}(现在|)(有|还有)几个{thing.zh}?"
        answer = f"{reckoning},{name}有{total}个{thing.zh}。"
    else:
        name = rng.choice(NAMES_EN)
        change = rng.choice(("gets", "finds", "buys") if gains else ("loses", "gives away", "drops"))
        more = "( more|)" if gains else ""
        pattern = f"{name} has {a} {plural(thing.en, x)} and {change} {b}{more}. How many {plural(thing.en, 2)} does {name} have( now|)?"
        answer = f"{reckoning}, so {name} has {total} {plural(thing.en, total)}."
    return Exchange("stories", lang, key, ask(rng, lang, (pattern,)), answer)


def comparison(rng: Random, lang: Lang) -> Exchange:
    x, y = rng.sample(range(LARGEST + 1), 2)
    digits, bigger = rng.random() < 0.6, rng.random() < 0.5
    a, b = number(lang, x, digits), number(lang, y, digits)
    first, second = (max(x, y), min(x, y)) if bigger else (min(x, y), max(x, y))
    if lang == "zh":
        word = "大" if bigger else "小"
        question = ask(
            rng, lang, (f"{{a}}和{{b}}哪个(更|){word}?", f"哪个(更|){word},{{a}}还是{{b}}?"), a=a, b=b
        )
        answer = f"{first}比{second}{word}。"
    else:
        asked = rng.choice(("bigger", "larger", "greater")) if bigger else rng.choice(("smaller", "less"))
        patterns = (f"(which|what) (number |)is {asked}, {{a}} or {{b}}?", f"which of {{a}} and {{b}} is {asked}?",
                    f"(which|what) (number |)is {asked}: {{a}} or {{b}}?")  # fmt: skip
        question = ask(rng, lang, patterns, a=a, b=b)
        answer = f"{first} is {'bigger' if bigger else 'smaller'} than {second}."
    return Exchange("order", lang, f"compare|{x}|{y}", question, answer)


def succession(rng: Random, lang: Lang) -> Exchange:
    """The number after or before another, and odd and even."""
    x, kind = rng.randint(1, LARGEST), rng.randrange(3)
    digits = rng.random() < 0.6
    n = number(lang, x, digits)
    patterns: tuple[str, ...]
    if kind == 2:
        parity = "even" if x % 2 == 0 else "odd"
        patterns = (
            ("{n}是(单数|奇数)还是(双数|偶数)?",) if lang == "zh" else ("is {n} (odd or even|even or odd)?",)
        )
        answer = f"{x}是{'偶数' if parity == 'even' else '奇数'}。" if lang == "zh" else f"{x} is {parity}."
    elif lang == "zh":
        patterns = (
            ("{n}后面是(几|什么数)?", "{n}的下一个数是(几|多少)?")
            if kind
            else ("{n}前面是(几|什么数)?", "{n}的上一个数是(几|多少)?")
        )
        answer = f"{x}后面是{x + 1}。" if kind else f"{x}前面是{x - 1}。"
    else:
        word = "after" if kind else "before"
        patterns = (
            f"(what|which number) (comes|is) {word} {{n}}?",
            f"what number comes (just |right |){word} {{n}}?",
        )
        answer = f"{x + 1 if kind else x - 1} comes {word} {x}."
    question = ask(rng, lang, patterns, n=n)
    return Exchange("order", lang, text_key("succession", question), question, answer)


def sequence(rng: Random, lang: Lang) -> Exchange:
    """Count from one number to another, upwards or down."""
    low = rng.choice((1, rng.randint(0, LARGEST - 3)))
    high = min(LARGEST, low + rng.randint(2, 9))
    up = rng.random() < 0.65
    first, last = (low, high) if up else (high, low)
    numbers = [str(n) for n in (range(low, high + 1) if up else range(high, low - 1, -1))]
    if lang == "zh":
        patterns: tuple[str, ...] = (
            "(请|)从{a}数到{b}。",
            "(请|)从{a}(开始|)(倒|)数到{b}。" if not up else "数数,从{a}到{b}。",
        )
        if up and low == 1:
            patterns = (*patterns, "(请|)数到{b}。")
        answer = "、".join(numbers) + "。"
    else:
        patterns = (
            "(please |)count from {a} to {b}.",
            "count from {a} up to {b}." if up else "count (down|backwards) from {a} to {b}.",
        )
        if up and low == 1:
            patterns = (*patterns, "(please |)count to {b}.", "can you count to {b}?")
        answer = ", ".join(numbers) + "."
    digits = rng.random() < 0.8
    question = ask(rng, lang, patterns, a=number(lang, first, digits), b=number(lang, last, digits))
    return Exchange("counting", lang, f"count|{lang}|{first}|{last}", question, answer)


def beyond(rng: Random, lang: Lang) -> Exchange:
    """Numbers beyond the world, and division: the answer says so."""
    kind = rng.randrange(4)
    if kind == 3:
        x, y = rng.randint(0, 30), rng.randint(1, 10)
        question = ask(
            rng,
            lang,
            DIVIDED[lang],
            a=number(lang, x, rng.random() < 0.7),
            b=number(lang, y, rng.random() < 0.7),
        )
        return Exchange("too big", lang, f"div|{x}|{y}", question, CANNOT_DIVIDE[lang])
    small = LARGEST_FACTOR if kind == 2 else LARGEST
    large = rng.choice(
        (
            rng.randint(small + 1, 99),
            rng.randint(small + 1, 99),
            rng.randint(100, 999),
            rng.randint(1000, 99999),
        )
    )
    other = rng.choice((rng.randint(0, small), rng.randint(small + 1, 999)))
    x, y = (large, other) if rng.random() < 0.5 else (other, large)
    question = ask(rng, lang, (PLUS, MINUS, TIMES)[kind][lang], a=x, b=y)
    return Exchange("too big", lang, f"big|{kind}|{x}|{y}", question, TOO_BIG[lang])
