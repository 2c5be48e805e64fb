"""What the talker learns from: for every chat the thinker's rows, the codes of its answer read aloud, and which token of
the answer is being said at each code."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from random import Random
from string import ascii_lowercase

import numpy as np
import torch
from torch import Tensor

from pico import (
    arithmetic,
    colours,
    days,
    instructions,
    requests,
    scene_questions,
    smalltalk,
    speech,
    spelling,
    unknown,
)
from pico.aloud import joined, language, pieces
from pico.spoken import draw_medley
from pico.values import LANGS, Chat, Lang, Message, Split
from pico.words import NAMES_EN, SPELLED
from pico.world import Generator, draw, draw_kind
from tutti.models.processor.narrator import ChatNarrator
from tutti.models.qwen2_5_omni.narrator import SYSTEM
from tutti.request import Chat as Asked
from tutti.request import Request, Script

from .answers import BEFORE, LONGEST_CODES, SAMPLES_A_CODE, Answer, read
from .codec import Codec
from .rows import Thinker, Told

KINDS: tuple[tuple[Generator, float], ...] = (
    (scene_questions.reading, 14), (scene_questions.unseen, 1), (scene_questions.heap, 4), (scene_questions.as_json, 3),
    (arithmetic.addition, 5), (arithmetic.subtraction, 5), (arithmetic.multiplication, 5), (arithmetic.story, 10),
    (arithmetic.comparison, 4), (arithmetic.succession, 4), (arithmetic.sequence, 5), (arithmetic.beyond, 2),
    (days.next_day, 4), (days.later_day, 4), (days.calendar_fact, 2), (colours.mixture, 3), (colours.familiar, 4),
    (spelling.letters, 10), (instructions.repeat, 14), (instructions.then, 6), (instructions.many_times, 4), (instructions.pick_word, 6),
    (smalltalk.small_talk, 8), (unknown.unknown, 3), (requests.request, 8),
)  # fmt: skip
LONGER_CHATS, READ_ALOUD, DRILLS = 0.15, 0.12, 0.5
OFTEN = 80  # times that the same answer may be learned from, to other prompts
LONGEST_PROMPT = 160  # tokens
WHOLE_PROMPTS = 0.2  # of the batches
LONGEST_SLIP, MOST_APART = 16, 60  # codes
STUMBLES, BABBLES = 0.2, 0.2  # of the lessons with slips
SHAPES = 64  # places: a batch's length is a multiple of it


@dataclass(frozen=True, slots=True)
class Lesson:
    """Rows of the prompt [tokens, width] and of the reply [tokens, width], the reply's ids int64 [tokens], codes int64
    [codes], and for every code the token of the reply that is being said, int64 [codes]."""

    prompt: Tensor
    reply: Tensor
    ids: Tensor
    codes: Tensor
    saying: Tensor


def lessons(
    seed: str, split: Split, count: int, thinker: Thinker, codec: Codec, drills: float = DRILLS
) -> list[Lesson]:
    """`drills`: the share of what no chat would end in."""
    chats = _chats(seed, split, drills)
    made: list[Lesson] = []
    while len(made) < count:
        chosen = [next(chats) for _ in range(256)]
        for told, chat in zip(thinker.tell(chosen), chosen, strict=True):
            answer = read(chat)
            if told.prompt <= LONGEST_PROMPT and len(answer.sound) <= LONGEST_CODES * SAMPLES_A_CODE:
                made.append(lesson(answer, told, codec))
    return made[:count]


def keep(made: Sequence[Lesson], file: Path) -> None:
    """Writes lessons to a file, for a run that goes on."""
    parts = {field.name: torch.cat([getattr(one, field.name) for one in made]) for field in fields(Lesson)}
    lengths = [[len(one.prompt), len(one.reply), len(one.codes)] for one in made]
    torch.save(parts | {"lengths": torch.tensor(lengths)}, file.with_suffix(".partial"))
    file.with_suffix(".partial").replace(file)


def kept(file: Path) -> list[Lesson]:
    """What `keep` wrote."""
    parts = torch.load(file, weights_only=True)
    prompts, replies, codes = parts.pop("lengths").unbind(1)
    lengths = {"prompt": prompts, "reply": replies, "ids": replies, "codes": codes, "saying": codes}
    cut = (parts[field.name].split(lengths[field.name].tolist()) for field in fields(Lesson))
    return [Lesson(*one) for one in zip(*cut, strict=True)]


def lesson(answer: Answer, told: Told, codec: Codec) -> Lesson:
    codes = codec.codes(answer.sound)
    saying = alignment(answer, told.begins, len(codes))
    rows = told.rows.clone()  # of a batch whose memory would be kept
    return Lesson(
        rows[: told.prompt], rows[told.prompt :], torch.tensor(told.ids), codes, torch.from_numpy(saying)
    )


def alignment(answer: Answer, begins: tuple[int, ...], codes: int) -> np.ndarray:
    """For each of the codes, the token of the text whose word is being said."""
    text = answer.chat.answer
    said = list(pieces(text, language(text, answer.chat.lang)))
    places = _places([part for _, part in said])
    at = [place for place, (_, part) in zip(places, said, strict=True) if part not in ",."]
    tokens = np.array([
        max(np.searchsorted(begins, origin, "right") - 1, 0) for origin, part in said if part not in ",."
    ])  # fmt: skip
    when = (answer.reading.when(at) + BEFORE) * speech.SPOKEN_RATE / SAMPLES_A_CODE
    word = np.searchsorted(when, np.arange(codes) + 0.5, "right") - 1
    return tokens[np.maximum(word, 0)]


def _places(parts: list[str]) -> Iterator[int]:
    """Where each piece begins in what `joined` makes of them."""
    for index in range(len(parts)):
        yield len(joined(iter(parts[: index + 1]))) - len(parts[index])


def _chats(seed: str, split: Split, drills: float) -> Iterator[Chat]:
    """Of all kinds, but more of those whose answers have words that are seldom said."""
    rng = Random(f"pico|voice|{seed}")
    kinds, weights = zip(*KINDS, strict=True)
    seen: Counter[str] = Counter()
    while True:
        lang = rng.choice(LANGS)
        if rng.random() < drills:
            yield read_aloud(Chat("drill", lang, (), (Message("assistant", drill(rng, lang)),)))
            continue
        chat = draw_kind(rng, rng.choices(kinds, weights)[0], lang, split)
        if rng.random() < LONGER_CHATS:
            chat = draw(rng, split)
        seen[chat.answer] += 1
        if seen[chat.answer] <= OFTEN:
            yield read_aloud(chat) if rng.random() < READ_ALOUD else chat


def drill(rng: Random, lang: Lang) -> str:
    """Words, numbers and letters in any order, and sums that are wrong: how each is said, whatever stands beside it."""
    numbers = [rng.randint(0, 40) for _ in range(rng.randint(2, 6))]
    match rng.choice(("words", "words", "numbers", "sum", "sum", "letters", "medley")):
        case "numbers":
            return ", ".join(map(str, numbers)) if lang == "en" else "、".join(map(str, numbers))
        case "sum":
            sign = rng.choice((" plus ", " minus ", " times ") if lang == "en" else ("加", "减", "乘"))
            said = sign.join(map(str, numbers[:2]))
            other = rng.choice(
                [
                    n
                    for n in range(100)
                    if n not in (sum(numbers[:2]), numbers[0] - numbers[1], numbers[0] * numbers[1])
                ]
            )
            return f"{said} is {other}." if lang == "en" else f"{said}等于{other}。"
        case "letters":
            return "-".join(rng.choices(ascii_lowercase, k=rng.randint(3, 6)))
        case "words" if lang == "en":
            said = rng.choice((" ", ", ")).join(rng.choices((*SPELLED, *NAMES_EN), k=rng.randint(1, 6)))
            return f"{said}." if rng.random() < 0.3 else said
        case _:
            return draw_medley(rng, lang)


def read_aloud(chat: Chat) -> Chat:
    """Who asks to have the chat's answer read aloud, as every door of Tutti asks for it. No picture follows then."""
    answer = chat.answer.removesuffix(requests.SIGN)
    script = Script(answer)
    (asked,), _ = ChatNarrator(SYSTEM).stage(script, Request(id="", parts=(script,)))
    assert isinstance(asked, Asked)
    messages = tuple(Message(one["role"], one["content"]) for one in asked.messages)
    return replace(chat, messages=(*messages, Message("assistant", answer)))


@dataclass(frozen=True, slots=True)
class Marks:
    """Rows [width] around the reply: the text begins, has ended, and nothing more comes."""

    begin: Tensor
    end: Tensor
    silence: Tensor

    @classmethod
    def of(cls, thinker: Thinker) -> Marks:
        return cls(*(thinker.row(f"<|tts_{name}|>") for name in ("bos", "eos", "pad")))


@dataclass(frozen=True, slots=True)
class Batch:
    """`rows` float32 [lessons, length, width]; `codes` int64 [lessons, length], the code that goes in with each row, -1:
    none; `targets` [lessons, length], the code that comes out, -100: not learned; `heed`, the place to look at, or -1;
    `saying`, the id of the token that stands there, or -100."""

    rows: Tensor
    codes: Tensor
    targets: Tensor
    heed: Tensor
    saying: Tensor


def batch(
    rng: Random,
    chosen: list[Lesson],
    marks: Marks,
    special: tuple[int, int, int],
    slips: float = 0.0,
    places: int | None = None,
) -> Batch:
    """`special`: the codes that pad, begin and end speech; `slips`: the share of the lessons in which the talker hears
    itself say something else now and then; `places`: about how many the batch has, lessons that are too many left out
    and empty ones added, so that few shapes occur (oneDNN makes and keeps code for each one)."""
    pad, begin, end = special
    # Speech needs few rows of the prompt; so that it bears many, it is told all of them now and then.
    kept = LONGEST_PROMPT if rng.random() < WHOLE_PROMPTS else rng.randint(2, 20)
    built = []
    for one in chosen:
        prompt = one.prompt[-kept:].float()
        told = Telling(one.codes, one.codes, one.saying)
        if rng.random() < slips:
            told = slipped(rng, one, rng.choice(chosen).codes, end)
        count = len(told.heard) + 1
        extra = max(count - len(one.reply) - 1, 0)
        following = torch.cat([one.reply.float(), marks.end[None], marks.silence[None].expand(extra, -1)])[
            :count
        ]
        rows = torch.cat([prompt, marks.begin[None], following])
        codes = torch.full((len(rows),), -1)
        codes[len(prompt) :] = torch.cat([torch.tensor([pad, begin]), told.heard])
        targets = torch.full((len(rows),), -100)
        targets[len(prompt) + 1 :] = torch.cat([told.said, torch.tensor([end])])
        heed = torch.full((len(rows),), -1)
        first = len(prompt) + 1
        looked = torch.minimum(told.saying, torch.arange(len(told.saying)))
        heed[first : first + len(looked)] = looked + first
        saying = torch.full((len(rows),), -100)
        saying[first : first + len(looked)] = one.ids[looked]
        built.append((rows, codes, targets, heed, saying))
    length = -(-max(len(one[0]) for one in built) // SHAPES) * SHAPES
    fillers = (0, -1, -100, -1, -100)
    parts = [
        torch.stack([_padded(one[index], length, filler) for one in built])
        for index, filler in enumerate(fillers)
    ]
    if places is not None:
        count = max(1, places // length)
        parts = [_padded(part[:count], count, filler) for part, filler in zip(parts, fillers, strict=True)]
    return Batch(*parts)


@dataclass(frozen=True, slots=True)
class Telling:
    """How an answer goes: the codes that the talker hears itself say int64 [codes], those that it should say there
    [codes], and the token of the reply that is being said [at most codes: none behind its end]."""

    heard: Tensor
    said: Tensor
    saying: Tensor


def slipped(rng: Random, lesson: Lesson, others: Tensor, end: int) -> Telling:
    """An answer in which the talker hears itself say something else now and then, so that what comes next stands in the
    text alone: words in the place of words; now and then its last ones once more, after which it goes on where it was;
    or something behind the end, where all that it should say is `end`."""
    told = Telling(_instead(rng, lesson.codes, others), lesson.codes, lesson.saying)
    if rng.random() < STUMBLES:
        told = _stumbled(rng, told)
    if rng.random() < BABBLES:
        more = _span(rng, others)
        told = Telling(
            torch.cat([told.heard, more]), torch.cat([told.said, more.new_full(more.shape, end)]), told.saying
        )
    return told


def _instead(rng: Random, codes: Tensor, others: Tensor) -> Tensor:
    """The codes with spans of others in the place of some of them, up to a word long."""
    heard = codes.clone()
    at = rng.randrange(MOST_APART)
    while at < len(heard):
        span = _span(rng, others)[: len(heard) - at]
        heard[at : at + len(span)] = span
        at += len(span) + rng.randint(1, MOST_APART)
    return heard


def _stumbled(rng: Random, told: Telling) -> Telling:
    """As it was told, but for a place where it says its last codes once more, while the next one waits to be said."""
    at = rng.randint(1, len(told.said) - 1)
    more = told.heard[max(at - rng.randint(1, LONGEST_SLIP), 0) : at]
    code, token = torch.full_like(more, int(told.said[at])), torch.full_like(more, int(told.saying[at]))
    return Telling(
        torch.cat([told.heard[:at], more, told.heard[at:]]),
        torch.cat([told.said[:at], code, told.said[at:]]),
        torch.cat([told.saying[:at], token, told.saying[at:]]),
    )


def _span(rng: Random, codes: Tensor) -> Tensor:
    """Up to a word's length of codes."""
    begin = rng.randrange(len(codes))
    return codes[begin : begin + rng.randint(1, LONGEST_SLIP)]


def _padded(x: Tensor, length: int, filler: int) -> Tensor:
    full = torch.full((length, *x.shape[1:]), filler, dtype=x.dtype)
    full[: len(x)] = x
    return full
