"""Days of the week and months: before, after, and how many."""

from __future__ import annotations

from random import Random

from .phrasing import ask
from .values import Exchange, Lang, text_key
from .words import DAYS, MONTHS, Word

_AFTER = {
    "en": ("(what|which) {unit} (comes|is) (right |)after {x}?", "what (comes|is) after {x}?", "{x} is followed by (what|which {unit})?",
           "(what is|what's) the {unit} after {x}?", "(what is|what's) the next {unit} after {x}?"),
    "zh": ("{x}(之后|后面|以后|的后面)是(什么|{ask})?", "{x}的(后一{one}|下一{one})是(什么|{ask})?", "{x}过后是{ask}?"),
}  # fmt: skip
_BEFORE = {
    "en": ("(what|which) {unit} (comes|is) (right |)before {x}?", "what (comes|is) before {x}?",
           "(what is|what's) the {unit} before {x}?", "(what is|what's) the {unit} just before {x}?"),
    "zh": ("{x}(之前|前面|以前|的前面)是(什么|{ask})?", "{x}的(前一{one}|上一{one})是(什么|{ask})?"),
}  # fmt: skip
_FACTS: tuple[tuple[Word, Word], ...] = (
    (Word("how many days (are there in|are in|has|does) a week( have|)?", "(一个星期|一周|一星期)有(几|多少)天?"),
     Word("A week has 7 days.", "一个星期有7天。")),
    (Word("how many months (are there in|are in|has|does) a year( have|)?", "一年有(几|多少)个月?"),
     Word("A year has 12 months.", "一年有12个月。")),
    (Word("(what is|what's|which is) the first day of the week?", "(一个星期|一周)的第一天是(什么|星期几)?"),
     Word("Monday is the first day of the week.", "星期一是一个星期的第一天。")),
    (Word("(what is|what's|which is) the last day of the week?", "(一个星期|一周)的最后一天是(什么|星期几)?"),
     Word("Sunday is the last day of the week.", "星期日是一个星期的最后一天。")),
    (Word("(what is|what's|which is) the first month of the year?", "一年的第一个月是(什么|几月)?"),
     Word("January is the first month of the year.", "一月是一年的第一个月。")),
    (Word("(what is|what's|which is) the last month of the year?", "一年的最后一个月是(什么|几月)?"),
     Word("December is the last month of the year.", "十二月是一年的最后一个月。")),
    (Word("(name|list|tell me|say) (all |)the days of the week.", "(说出|列出|告诉我)(一个星期|一周)的(每一天|所有日子)。"),
     Word(", ".join(d.en for d in DAYS) + ".", "、".join(d.zh for d in DAYS) + "。")),
)  # fmt: skip


def next_day(rng: Random, lang: Lang) -> Exchange:
    """What comes before or after a day or a month."""
    cycle, months = (MONTHS, True) if rng.random() < 0.4 else (DAYS, False)
    index, after = rng.randrange(len(cycle)), rng.random() < 0.5
    other = cycle[(index + (1 if after else -1)) % len(cycle)]
    given = _typed(rng, cycle[index][lang])
    question = ask(rng, lang, (_AFTER if after else _BEFORE)[lang], x=given, unit="month" if months else "day",
                   ask="几月" if months else "星期几", one="个月" if months else "天")  # fmt: skip
    if lang == "zh":
        answer = f"{cycle[index].zh}{'之后' if after else '之前'}是{other.zh}。"
    else:
        answer = f"{other.en} comes {'after' if after else 'before'} {cycle[index].en}."
    return Exchange("days", lang, text_key("days", question), question, answer)


def later_day(rng: Random, lang: Lang) -> Exchange:
    """Today is one day: what is tomorrow, yesterday, in some days."""
    index, shift = rng.randrange(7), rng.choice((1, -1, 2, -2, 3))
    today, other = DAYS[index], DAYS[(index + shift) % 7]
    en = {
        1: "tomorrow",
        -1: "yesterday",
        2: "the day after tomorrow",
        -2: "the day before yesterday",
        3: "in 3 days",
    }[shift]
    zh = {1: "明天", -1: "昨天", 2: "后天", -2: "前天", 3: "3天后"}[shift]
    if lang == "zh":
        question = ask(
            rng,
            lang,
            ("(如果|假如|)今天是{x},{w}(是|)(星期几|什么日子)?", "今天{x},{w}(是|)星期几?"),
            x=today.zh,
            w=zh,
        )
        answer = f"{zh}是{other.zh}。"
    else:
        patterns = ("(if |)today is {x}(, what day|. what day|. which day) is (it |){w}?", "today is {x}. {w} is what day?") if shift < 3 else (
            "(if |)today is {x}(, what day|. what day|. which day) is it {w}?",)  # fmt: skip
        question = ask(rng, lang, patterns, x=_typed(rng, today.en), w=en)
        answer = (
            f"It is {other.en} in 3 days."
            if shift == 3
            else f"{en[0].upper() + en[1:]} {'was' if shift < 0 else 'is'} {other.en}."
        )
    return Exchange("days", lang, text_key("later", question), question, answer)


def calendar_fact(rng: Random, lang: Lang) -> Exchange:
    pattern, answer = rng.choice(_FACTS)
    question = ask(rng, lang, (pattern[lang],))
    return Exchange("days", lang, text_key("days", question), question, answer[lang])


def _typed(rng: Random, day: str) -> str:
    if day.startswith("星期") and rng.random() < 0.35:
        return day.replace("星期", "周") if rng.random() < 0.7 else day.replace("星期日", "星期天")
    return day.lower() if rng.random() < 0.25 else day
