"""How pico's voice is taught: spectrograms, codes, which word is said when, and what the talker hears of it."""

from __future__ import annotations

import math
from itertools import islice
from pathlib import Path
from random import Random

import pytest
import torch
from tokenizers import Tokenizer

from pico.aloud import words
from pico.evaluate import SHIPPED
from pico.judge.model import Judge
from pico.judge.train import original_error
from pico.judge.train import sentences as heard
from pico.omni import build_thinker
from pico.requests import SIGN
from pico.values import Chat, Lang, Message
from pico.voice.answers import SAMPLES_A_CODE, read
from pico.voice.batches import Lesson, Marks, batch, slipped
from pico.voice.codec import CODES, Codec
from pico.voice.lessons import alignment, chats, keep, kept, read_aloud, sentences
from pico.voice.mel import BANDS, FLOOR, HOP, RATE, mel
from pico.voice.rows import Thinker
from pico.voice.talker import PENALTY, build, echo, penalized, said_before

SPECIAL = (257, 258, 259)


def chat(answer: str, lang: Lang = "en") -> Chat:
    return Chat("demo", lang, ("",), (Message("user", "?"), Message("assistant", answer)))


def test_a_full_sine_is_about_as_loud_as_the_vocoder_takes_and_silence_is_the_floor() -> None:
    sine = torch.sin(2 * math.pi * 1000 * torch.arange(RATE) / RATE)
    spectrum = mel(sine)
    assert spectrum.shape == (BANDS, RATE // HOP)
    assert 8 < spectrum[:, 50].max().exp() < 16
    assert mel(torch.zeros(RATE)).max() == pytest.approx(math.log(FLOOR))


def test_a_code_stands_for_a_fiftieth_of_a_second_and_is_never_zero() -> None:
    answer = read(chat("There are 5 shapes."))
    assert len(answer.sound) % SAMPLES_A_CODE == 0
    codes = Codec().eval().codes(answer.sound)
    assert len(codes) == len(answer.sound) / RATE * 50
    assert codes.min() >= 1 and codes.max() <= CODES


@pytest.mark.parametrize(
    ("text", "lang", "begins", "order"),
    [
        ("There are 5 shapes.", "en", (0, 5, 9, 10, 11, 18), [0, 1, 3, 4]),
        ("b-a-g", "en", (0, 1, 2, 3, 4), [0, 2, 4]),
        ("7加24等于31。", "zh", tuple(range(9)), [0, 1, 2, 3, 4, 5, 6, 7]),
    ],
)
def test_words_are_said_in_the_order_of_their_tokens(
    text: str, lang: Lang, begins: tuple[int, ...], order: list[int]
) -> None:
    answer = read(chat(text, lang))
    saying = alignment(answer, begins, len(answer.sound) // SAMPLES_A_CODE)
    assert list(dict.fromkeys(saying.tolist())) == order


def test_sentences_are_kept_as_they_are_made_and_told_by_the_thinker(tmp_path: Path) -> None:
    tokenizer = Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))
    made = sentences("test", "train", 3, tokenizer, Codec().eval())
    keep(made, tmp_path / "sentences.pt")
    again = kept(tmp_path / "sentences.pt")
    for one, other in zip(made, again, strict=True):
        for name in ("prompt", "ids", "codes", "saying"):
            assert getattr(one, name).tolist() == getattr(other, name).tolist()
        assert len(one.codes) == len(one.saying) and one.saying.max() < len(one.ids)
    model = build_thinker(tokenizer, {}).model
    told = Thinker(model, tokenizer).tell(made)
    for one, lesson in zip(made, told, strict=True):
        assert (len(lesson.prompt), len(lesson.reply)) == (len(one.prompt), len(one.ids))
        ids = torch.cat([one.prompt, one.ids])[None]
        with torch.no_grad():
            rows = (model(ids).last_hidden_state + model.embed_tokens(ids))[0]
        torch.testing.assert_close(
            torch.cat([lesson.prompt, lesson.reply]).float(), rows, atol=0.05, rtol=0.05
        )


def test_captions_of_pictures_are_among_the_sentences_and_read_aloud_without_their_sign() -> None:
    captions = [
        chat for chat in islice(chats("test", "train", 0.0), 400) if chat.answer.startswith("Here is ")
    ]
    assert len(captions) > 5
    for one in captions:
        assert read_aloud(one).answer == one.answer.removesuffix(SIGN)
    assert "here" in {word for said, _ in heard("test", "train", 400, 9) for word in words(said)}


def test_the_talker_hears_one_row_of_the_reply_with_every_code() -> None:
    prompt, reply = torch.full((5, 4), 1.0), torch.arange(2.0, 5.0)[:, None].expand(3, 4)
    marks = Marks(*(torch.full((4,), value) for value in (10.0, 20.0, 30.0)))
    codes = torch.tensor([7, 8, 9, 7, 7])
    lesson = Lesson(prompt, reply, torch.tensor([41, 42, 43]), codes, torch.tensor([0, 0, 1, 2, 2]))
    given = batch(Random(0), [lesson], marks, SPECIAL)
    rows = given.rows[0, :, 0].tolist()
    first = rows.index(10.0)
    assert rows[first : first + 7] == [10, 2, 3, 4, 20, 30, 30]
    assert given.codes[0, first : first + 7].tolist() == [257, 258, 7, 8, 9, 7, 7]
    assert given.targets[0, first : first + 7].tolist() == [-100, 7, 8, 9, 7, 7, 259]
    assert given.heed[0, first : first + 7].tolist() == [-1, *(first + 1 + i for i in (0, 0, 1, 2, 2)), -1]
    assert given.saying[0, first : first + 7].tolist() == [-100, 41, 41, 42, 43, 43, -100]


def test_who_slips_stumbles_or_says_too_much_is_still_to_say_all_that_is_left_and_then_to_end() -> None:
    codes, others, end = torch.arange(1, 121), torch.arange(130, 240), SPECIAL[2]
    lesson = Lesson(torch.zeros(2, 4), torch.zeros(3, 4), torch.arange(3), codes, torch.arange(120) // 40)
    rng = Random(0)
    told = [slipped(rng, lesson, others, end) for _ in range(60)]
    for one in told:
        assert len(one.heard) == len(one.said)
        assert one.said[: len(one.saying)].unique_consecutive().tolist() == codes.tolist()
        assert set(one.said[len(one.saying) :].tolist()) <= {end}
        assert one.saying.tolist() == sorted(one.saying.tolist())
    wrong = torch.cat([one.heard != one.said for one in told])
    assert 0.1 < wrong.float().mean() < 0.4
    assert any(len(one.saying) > 120 for one in told) and any(len(one.saying) == 120 for one in told)
    assert any(end in one.said for one in told) and any(end not in one.said for one in told)


def test_a_batch_of_slips_teaches_what_is_left_to_say() -> None:
    codes = torch.arange(1, 121)
    lesson = Lesson(torch.zeros(2, 4), torch.zeros(3, 4), torch.arange(3), codes, torch.zeros_like(codes))
    for seed in range(10):
        given = batch(Random(seed), [lesson], Marks(*torch.zeros(3, 4)), SPECIAL, slips=1.0)
        learned = given.targets[0][given.targets[0] > 0]
        assert learned.unique_consecutive().tolist() == [*codes.tolist(), SPECIAL[2]]


def test_the_talker_hears_some_codes_as_it_would_have_said_them() -> None:
    talker = build(Tokenizer.from_file(str(SHIPPED / "tokenizer.json")))
    width = talker.config.embedding_size
    codes = torch.randint(1, CODES + 1, (60,))
    lesson = Lesson(
        torch.zeros(2, width), torch.zeros(3, width), torch.arange(3), codes, torch.zeros_like(codes)
    )
    given = batch(Random(0), [lesson], Marks(*torch.zeros(3, width)), SPECIAL)
    heard = echo(talker, given)
    spoken = (given.codes > 0) & (given.codes <= CODES)
    assert torch.equal(heard[~spoken], given.codes[~spoken])
    assert 0 < (heard != given.codes).sum() <= spoken.sum()
    assert heard[spoken].min() >= 1 and heard[spoken].max() <= CODES


def test_codes_that_were_said_are_less_likely_from_then_on() -> None:
    said = said_before(torch.tensor([[-1, 258, 5, 6]]))
    assert said.sum(-1).tolist() == [[0, 1, 2, 3]]
    logits = torch.ones(4, 264)
    assert penalized(logits, said[0])[3, 5] == pytest.approx(1 / PENALTY)
    assert penalized(logits, said[0])[1, 5] == 1


def test_the_judge_hears_original_speech() -> None:
    assert original_error(Judge.load(), 60) <= 0.02
