"""Recorded speech to learn from: spoken questions of the world as spectrograms, rendered once and kept in the work folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from tutti.models.mel import log_mel

from .omni import BANDS, HOP, LONGEST_FRAMES
from .requests import draw_request
from .speech import Sound, disturb, random_speaker, say
from .spoken import draw_about_picture, draw_medley, draw_spoken, draw_words, spoken_words
from .values import PINNED, Exchange, Lang

POOL = 4096
"""Recordings of a pool."""
CHINESE_SHARE = 0.4
_WORDS_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class Recording:
    """`mel` float16 [BANDS, frames]; `words` as they are heard. An exchange without a category has no right answer."""

    mel: Tensor
    words: str
    exchange: Exchange

    @property
    def lang(self) -> Lang:
        return self.exchange.lang


def record(rng: Random, exchange: Exchange) -> Recording | None:
    """The exchange's question, asked aloud by somebody; None when it takes too long."""
    sound = asked_aloud(rng, exchange)
    return (
        None if sound is None else _recording(log_mel(torch.from_numpy(sound), BANDS, HOP).half(), exchange)
    )


def asked_aloud(rng: Random, exchange: Exchange) -> Sound | None:
    """The sound of it; None when it is longer than the ears hear at once."""
    sound = disturb(rng, say(exchange.question, random_speaker(rng, exchange.lang)))
    return sound if len(sound) <= LONGEST_FRAMES * HOP else None


def training_pool(work: Path, seed: int, number: int) -> list[Recording]:
    """One pool of spoken questions of the training split, from the work folder if it has been made before."""
    return _kept(work / "recordings" / f"{seed}-{number}.pt", POOL, _questions, f"{seed}|recordings|{number}")


def picture_questions(work: Path, seed: int, number: int) -> list[Recording]:
    """The same of questions about pictures, which `scene_of` their key says."""
    return _kept(
        work / "recordings" / f"{seed}-pictures-{number}.pt",
        POOL // 2,
        _picture_questions,
        f"{seed}|picture questions|{number}",
    )


def spoken_requests(work: Path, seed: int, number: int) -> list[Recording]:
    """The same of requests to draw."""
    return _kept(
        work / "recordings" / f"{seed}-requests-{number}.pt", POOL // 2, _request, f"{seed}|requests|{number}"
    )


def medleys(work: Path, seed: int, number: int) -> list[Recording]:
    """The same of speech without sense, to be written down only."""
    return _kept(
        work / "recordings" / f"{seed}-medleys-{number}.pt", POOL, _medley, f"{seed}|medleys|{number}"
    )


def _kept(path: Path, count: int, draw: Callable[[Random], Exchange], seed: str) -> list[Recording]:
    if path.exists():
        stored = torch.load(path, weights_only=True)
        return [_recording(mel, Exchange(*values)) for mel, values in stored]
    rng = Random(f"pico|{seed}")
    pool: list[Recording] = []
    while len(pool) < count:
        if (recording := record(rng, draw(rng))) is not None:
            pool.append(recording)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_suffix(".partial")
    torch.save([(r.mel, _values(r.exchange)) for r in pool], partial)
    partial.replace(path)
    return pool


def _recording(mel: Tensor, exchange: Exchange) -> Recording:
    words = spoken_words(exchange.question, exchange.lang)
    assert words is not None
    return Recording(mel, words, exchange)


def _questions(rng: Random) -> Exchange:
    lang = _language(rng)
    if lang == "en" and rng.random() < _WORDS_SHARE:
        return Exchange("", "en", PINNED, draw_words(rng), "")
    return draw_spoken(rng, lang, "train")


def _medley(rng: Random) -> Exchange:
    lang: Lang = "zh" if rng.random() < 0.5 else "en"
    return Exchange("", lang, PINNED, draw_medley(rng, lang), "")


def _request(rng: Random) -> Exchange:
    return draw_request(rng, _language(rng), "train", aloud=True)


def _picture_questions(rng: Random) -> Exchange:
    return draw_about_picture(rng, _language(rng), "train")


def _language(rng: Random) -> Lang:
    return "zh" if rng.random() < CHINESE_SHARE else "en"


def _values(exchange: Exchange) -> tuple[str, ...]:
    return (exchange.category, exchange.lang, exchange.key, exchange.question, exchange.answer)
