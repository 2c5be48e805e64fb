"""What the thinker learns from: batches of conversations with what is heard and seen in them, of all kinds in turn.

`python -m pico.lessons` records and paints all of it, which ears and eyes learn from as well, before there is a text model.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from tokenizers import Tokenizer
from torch import Tensor

from . import gallery, hearing, prompts
from .batches import batches
from .hearing import Spectrograms, smudge
from .prompts import Rows, Sequences, examples
from .recordings import Recording, medleys, picture_questions, spoken_requests, training_pool
from .scenes import scene_of
from .sensing import AUDIO, about_picture, asking, dictating, pointing, showing, written_down
from .sight import Grid
from .spoken import draw_medley, draw_spoken, spoken_words
from .training import options
from .values import Lang, Message
from .world import asked_to_draw

FIRST_ROUND = {"text": 150, "mock": 400, "shown": 120}
ROUND = {
    "text": 150, "mock": 40, "asked": 150, "written": 90, "shown": 90, "pointed": 20, "requests": 80, "spoken requests": 60,
}  # fmt: skip
"""Batches of the first round and of each later one."""
PICTURES, MOCKS, REQUESTS = 28, 64, 64
"""Pictures, mock recordings and requests to draw of a batch."""
LONGEST_CHAT, WRITTEN_DOWN = 6, 0.2
"""Messages of a chat among requests to draw, and the share of spoken ones that are to be written down."""
MADE = "recordings/all"
"""What `main` leaves in the work folder when all is recorded and painted."""
QUIET, MOST_QUIET = -1, 5
"""A moment in which nothing is heard, and how many there may be between two tokens."""
SOUND_POOLS, MEDLEY_POOLS, PICTURE_POOLS, POINTED_POOLS, REQUEST_POOLS = 6, 3, 4, 2, 3


@dataclass(frozen=True, slots=True)
class Lesson:
    """One batch: conversations and what is heard and seen in them, in their order; `words` are the tokens of what is said.

    `mock` stands for recordings: the token that would be heard in each moment, or `QUIET`.
    """

    kind: str
    sequences: Sequences
    heard: Spectrograms | None = None
    mock: list[list[int]] | None = None
    words: list[list[int]] | None = None
    pictures: Tensor | None = None
    grid: Grid = (0, 0)

    @property
    def moments(self) -> Tensor | None:
        """How many rows each recording has, int64 [conversations]."""
        if self.mock is not None:
            return torch.tensor([len(tokens) for tokens in self.mock])
        return None if self.heard is None else self.heard.rows


class Lessons:
    """The batches of a round, of all kinds in random order; the same for the same seed and round."""

    def __init__(self, tokenizer: Tokenizer, work: Path, seed: int) -> None:
        self.tokenizer, self.work, self.seed = tokenizer, work, seed

    def round(self, number: int) -> Iterator[Lesson]:
        counts = FIRST_ROUND if number == 0 else ROUND
        rng = Random(f"pico|{self.seed}|thinker|{number}")
        makers: dict[str, Callable[[Random, int], Iterator[Lesson]]] = {
            "text": self.text, "mock": self.mocks, "asked": self.asked, "written": self.written,
            "shown": self.shown, "pointed": self.pointed, "requests": self.requests, "spoken requests": self.spoken_requests,
        }  # fmt: skip
        kinds = {kind: (makers[kind], count) for kind, count in counts.items()}
        order = [kind for kind, (_, count) in kinds.items() for _ in range(count)]
        rng.shuffle(order)
        sources = {kind: make(Random(f"{rng.random()}|{kind}"), number) for kind, (make, _) in kinds.items()}
        for kind in order:
            yield next(sources[kind])

    def text(self, _rng: Random, number: int) -> Iterator[Lesson]:
        """Conversations of the text world that the text stage did not see."""
        pools_a_round = 4
        for _, batch in batches(self.tokenizer, self.seed + 1000, pools_a_round * number):
            positions = torch.arange(batch.ids.shape[1]).expand(3, *batch.ids.shape)
            yield Lesson("text", Sequences(batch.ids, batch.targets, positions))

    def mocks(self, rng: Random, number: int) -> Iterator[Lesson]:
        """Questions and medleys as ideal ears would hear them, with ever more quiet between the tokens: how to read what
        is heard is learned here, from many more words than there is time to hear."""
        made = 0
        while True:
            longest = MOST_QUIET if number else 1 + int(MOST_QUIET * made / FIRST_ROUND["mock"])
            messages, mock = [], []
            for _ in range(MOCKS):
                message, words = self._mock(rng)
                messages.append(message)
                tokens = self.tokenizer.encode(words).ids
                mock.append([moment for token in tokens for moment in _drawl(rng, token, longest)])
            found = examples(self.tokenizer, messages, (Rows(len(tokens)) for tokens in mock))
            yield Lesson("mock", prompts.stack(found), mock=mock)
            made += 1

    def _mock(self, rng: Random) -> tuple[tuple[Message, ...], str]:
        lang: Lang = "zh" if rng.random() < 0.45 else "en"
        if rng.random() < 0.4:
            words, exchange = draw_medley(rng, lang), None
        else:
            exchange = draw_spoken(rng, lang, "train")
            words = spoken_words(exchange.question, lang) or ""
        if exchange is not None and rng.random() < 0.5:
            return (Message("user", AUDIO), Message("assistant", exchange.answer)), words
        return written_down(rng, lang, words), words

    def asked(self, rng: Random, number: int) -> Iterator[Lesson]:
        """Spoken questions."""
        while True:
            pool = [
                r for r in training_pool(self.work, self.seed, number % SOUND_POOLS) if r.exchange.category
            ]
            for recordings in hearing.groups(rng, pool):
                yield self._heard("asked", rng, recordings, [asking(r) for r in recordings])
            number += 1

    def written(self, rng: Random, number: int) -> Iterator[Lesson]:
        """Speech to write down, half of it without sense, so that nothing can be guessed."""
        while True:
            said = training_pool(self.work, self.seed, (number + SOUND_POOLS // 2) % SOUND_POOLS)
            pool = rng.sample(said, len(said) // 2) + medleys(self.work, self.seed, number % MEDLEY_POOLS)
            for recordings in hearing.groups(rng, pool):
                yield self._heard("written", rng, recordings, [dictating(rng, r) for r in recordings])
            number += 1

    def requests(self, rng: Random, _number: int) -> Iterator[Lesson]:
        """Requests to draw, in writing, a fifth of them after or before something else."""
        while True:
            chats = [asked_to_draw(rng, "train") for _ in range(REQUESTS)]
            short = [chat.messages for chat in chats if len(chat.messages) < LONGEST_CHAT]
            found = examples(self.tokenizer, short, [Rows()] * len(short))
            yield Lesson("requests", prompts.stack(found))

    def spoken_requests(self, rng: Random, number: int) -> Iterator[Lesson]:
        """Requests to draw, asked aloud; some of them to be written down instead."""
        while True:
            pool = spoken_requests(self.work, self.seed, number % REQUEST_POOLS)
            for recordings in hearing.groups(rng, pool):
                messages = [
                    dictating(rng, r) if rng.random() < WRITTEN_DOWN else asking(r) for r in recordings
                ]
                yield self._heard("spoken requests", rng, recordings, messages)
            number += 1

    def _heard(
        self, kind: str, rng: Random, recordings: list[Recording], messages: list[tuple[Message, ...]]
    ) -> Lesson:
        heard = hearing.stack([smudge(rng, r.mel) for r in recordings])
        found = examples(self.tokenizer, messages, (Rows(int(n)) for n in heard.rows))
        return Lesson(kind, prompts.stack(found), heard, words=self._words(recordings))

    def _words(self, recordings: list[Recording]) -> list[list[int]]:
        return [self.tokenizer.encode(r.words).ids for r in recordings]

    def shown(self, rng: Random, number: int) -> Iterator[Lesson]:
        """Pictures, and a few written questions about each."""
        while True:
            pool = gallery.training_pictures(self.work, self.seed, number % PICTURE_POOLS)
            for pictures in gallery.groups(rng, pool, PICTURES):
                grid = pictures[0].grid
                messages = []
                for picture in pictures:
                    lang: Lang = "zh" if rng.random() < 0.45 else "en"
                    messages.append(showing(rng, [about_picture(rng, picture.scene, lang) for _ in range(3)]))
                found = examples(self.tokenizer, messages, [Rows(cells=grid)] * len(pictures))
                patches = torch.stack([p.patches for p in pictures])
                yield Lesson("shown", prompts.stack(found), pictures=patches, grid=grid)
            number += 1

    def pointed(self, rng: Random, number: int) -> Iterator[Lesson]:
        """Pictures, and a spoken question about each."""
        while True:
            pool = picture_questions(self.work, self.seed, number % POINTED_POOLS)
            for recordings in hearing.groups(rng, pool):
                pictures = [gallery.make_picture(rng, scene_of(r.exchange.key), (96, 96)) for r in recordings]
                grid = pictures[0].grid
                heard = hearing.stack([smudge(rng, r.mel) for r in recordings])
                messages = [pointing(rng, r) for r in recordings]
                found = examples(self.tokenizer, messages, (Rows(int(n), grid) for n in heard.rows))
                patches = torch.stack([p.patches for p in pictures])
                words = self._words(recordings)
                yield Lesson("pointed", prompts.stack(found), heard, words=words, pictures=patches, grid=grid)
            number += 1


def _drawl(rng: Random, token: int, longest: int) -> list[int]:
    """The token as it is heard: after some quiet, for a moment or two."""
    return [QUIET] * rng.randint(0, longest) + [token] * rng.choice((1, 1, 2))


def main() -> None:
    chosen = options("lessons", "Record and paint what pico's ears, eyes and thinker are to learn from.", 0)
    pools: list[tuple[Callable[[Path, int, int], object], int]] = [
        (training_pool, SOUND_POOLS), (gallery.training_pictures, PICTURE_POOLS), (medleys, MEDLEY_POOLS),
        (picture_questions, POINTED_POOLS), (spoken_requests, REQUEST_POOLS),
    ]  # fmt: skip
    for make, count in pools:
        for number in range(count):
            make(chosen.work, chosen.seed, number)
            print(f"{make.__name__} {number}", flush=True)
    (chosen.work / MADE).touch()


if __name__ == "__main__":
    main()
