"""What the talker learns from: `python -m pico.voice.lessons`. For every chat the codes of its answer read aloud, and which
token of the answer is being said at each code.

The thinker has no part in it, so that it can be made before there is one.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields, replace
from multiprocessing import get_context
from pathlib import Path
from random import Random
from string import ascii_lowercase

import numpy as np
import torch
from tokenizers import Tokenizer
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
from pico.tokenizer import render_prompt
from pico.training import Options, options
from pico.values import LANGS, Chat, Lang, Message, Split
from pico.words import NAMES_EN, SPELLED
from pico.world import Generator, draw, draw_kind
from tutti.models.processor.narrator import ChatNarrator
from tutti.models.qwen2_5_omni.narrator import SYSTEM
from tutti.request import Chat as Asked
from tutti.request import Request, Script

from .answers import BEFORE, LONGEST_CODES, SAMPLES_A_CODE, Answer, read
from .codec import FILE as CODEC
from .codec import Codec, load_codec

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
FILE, PARTS = "talker.lessons.pt", 4
LESSONS, UNSEEN = 56_000, 192
"""To learn from, and held-out ones."""


@dataclass(frozen=True, slots=True)
class Sentence:
    """The ids of the `prompt` int64 [tokens] and of the reply, `ids` int64 [tokens], codes int64 [codes], and for every code
    the token of the reply that is being said, int64 [codes]."""

    prompt: Tensor
    ids: Tensor
    codes: Tensor
    saying: Tensor


def sentences(
    seed: str, split: Split, count: int, tokenizer: Tokenizer, codec: Codec, drills: float = DRILLS
) -> list[Sentence]:
    """`drills`: the share of what no chat would end in."""
    made: list[Sentence] = []
    for chat in chats(seed, split, drills):
        prompt = tokenizer.encode(render_prompt(chat.prompt)).ids
        answer = read(chat)
        if len(prompt) <= LONGEST_PROMPT and len(answer.sound) <= LONGEST_CODES * SAMPLES_A_CODE:
            made.append(sentence(answer, prompt, tokenizer, codec))
        if len(made) == count:
            return made
    raise AssertionError("the stream has no end")


def sentence(answer: Answer, prompt: list[int], tokenizer: Tokenizer, codec: Codec) -> Sentence:
    told, codes = tokenizer.encode(answer.chat.answer), codec.codes(answer.sound)
    saying = alignment(answer, tuple(begin for begin, _ in told.offsets), len(codes))
    return Sentence(torch.tensor(prompt), torch.tensor(told.ids), codes, torch.from_numpy(saying))


def keep(made: Sequence[Sentence], file: Path) -> None:
    """Writes sentences to a file; no id and no code needs more than 16 bits."""
    names = [field.name for field in fields(Sentence)]
    parts = {name: torch.cat([getattr(one, name) for one in made]).short() for name in names}
    lengths = [[len(getattr(one, name)) for name in names] for one in made]
    torch.save(parts | {"lengths": torch.tensor(lengths)}, file.with_suffix(".partial"))
    file.with_suffix(".partial").replace(file)


def kept(file: Path) -> list[Sentence]:
    """What `keep` wrote."""
    parts = torch.load(file, weights_only=True)
    lengths = parts.pop("lengths").T.tolist()
    cut = (
        parts[field.name].long().split(each) for field, each in zip(fields(Sentence), lengths, strict=True)
    )
    return [Sentence(*one) for one in zip(*cut, strict=True)]


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


def chats(seed: str, split: Split, drills: float) -> Iterator[Chat]:
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


def taught(work: Path) -> tuple[list[Sentence], list[Sentence]]:
    """Sentences to learn from and held-out ones, as they lie in `work`."""
    return kept(work / FILE), kept(_part(work, "heldout"))


def _part(work: Path, name: str) -> Path:
    return work / f"talker.lessons.{name}.pt"


def _teach(chosen: Options, name: str, split: Split, count: int, drills: float) -> None:
    """Makes a part, unless it is there and no older than the codec that it comes from."""
    torch.set_num_threads(1)
    file = _part(chosen.work, name)
    if not file.exists() or file.stat().st_mtime < (chosen.work / CODEC).stat().st_mtime:
        tokenizer = Tokenizer.from_file(str(chosen.text / "tokenizer.json"))
        keep(sentences(f"talker {name}", split, count, tokenizer, load_codec(chosen), drills), file)


def main() -> None:
    """Leaves the parts, made by as many processes as there are threads, and then all that is to be learned from in one."""
    chosen = options("voice.lessons", "Read aloud what pico's talker is to learn.", 0)
    known: list[tuple[str, Split, int, float]] = [
        (str(part), "train", LESSONS // PARTS, DRILLS) for part in range(PARTS)
    ]
    with get_context("spawn").Pool(chosen.threads) as pool:
        pool.starmap(_teach, [(chosen, *one) for one in [("heldout", "heldout", UNSEEN, 0.0), *known]], 1)
    keep([one for name, *_ in known for one in kept(_part(chosen.work, name))], chosen.work / FILE)


if __name__ == "__main__":
    main()
