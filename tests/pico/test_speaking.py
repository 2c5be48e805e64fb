"""pico's voice: it speaks as transformers says that it should, and somebody else understands it."""

from __future__ import annotations

import time
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer
from transformers import Qwen2_5OmniForConditionalGeneration

from pico.aloud import language, spoken, words
from pico.evaluate import SHIPPED, make_examination
from pico.judge.errors import word_error
from pico.judge.model import Judge
from pico.speaking import GATE, Utterance, control, error, examine, hear
from pico.tokenizer import render_prompt
from pico.values import Chat
from pico.voice.talker import END, PAD
from tests.pico.sample import slack
from tutti import Omni, SamplingParams
from tutti.events import AudioDelta

GREEDY = SamplingParams(temperature=0.0, max_tokens=96)
GREEDY_CODES = SamplingParams(temperature=0.0, repetition_penalty=1.05, max_tokens=600)


@pytest.fixture(scope="module")
def exam() -> list[Chat]:
    """Short held-out prompts of all kinds, the same number in each language."""
    return [chat for chat in make_examination(7, 1) if len(chat.answer) < 60][:40]


@pytest.fixture(scope="module")
def omni() -> Omni:
    return Omni(str(SHIPPED))


@pytest.fixture(scope="module")
def utterances(omni: Omni, exam: list[Chat]) -> list[Utterance]:
    return examine(omni, Judge.load(), exam)


def test_its_speech_is_heard_by_the_judge(utterances: list[Utterance]) -> None:
    assert error(utterances) <= GATE


def test_answers_to_other_prompts_are_not_heard(utterances: list[Utterance]) -> None:
    assert control(utterances) > 0.5


def test_a_text_is_read_aloud(omni: Omni, exam: list[Chat]) -> None:
    """Held-out answers, given as texts to be read."""
    judge, pairs = Judge.load(), []
    for chat in exam[:16]:
        lang = language(chat.answer, chat.lang)
        read = omni.speak(chat.answer)
        pairs.append((spoken(chat.answer, lang), hear(judge, read.audio, read.rate)))
    assert word_error(pairs) <= GATE + slack(GATE, sum(len(words(text)) for text, _ in pairs))


def test_it_stops_when_it_has_spoken(utterances: list[Utterance]) -> None:
    """No word takes a second, and none is said in no time."""
    for one in utterances:
        count = len(one.said.split()) if one.lang == "en" else len(one.said)
        assert 0.08 * count < one.seconds < 1.0 * count + 1.0, one


def test_it_speaks_as_transformers_does(exam: list[Chat]) -> None:
    theirs: Any = Qwen2_5OmniForConditionalGeneration.from_pretrained(SHIPPED, dtype=torch.float32).eval()
    mine = Omni(str(SHIPPED), dtype="float32")
    tokenizer = Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))
    for chat in [chat for chat in exam if len(chat.messages) == 2][:6]:
        ids = torch.tensor([tokenizer.encode(render_prompt(chat.prompt)).ids])
        torch.manual_seed(0)
        text, speech = theirs.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            speaker="Pico",
            thinker_max_new_tokens=96,
            thinker_do_sample=False,
            thinker_eos_token_id=[tokenizer.token_to_id("<|im_end|>")],
            talker_max_new_tokens=600,
            talker_do_sample=False,
            talker_eos_token_id=[PAD, END],
        )
        answer = mine.generate(
            text=chat.prompt[0].content,
            modalities=("text", "audio"),
            sampling=GREEDY,
            stage_sampling={"talker": GREEDY_CODES},
        )
        assert answer.text == tokenizer.decode(text[0, ids.shape[1] :].tolist())
        assert answer.audio is not None
        assert answer.audio.shape == speech.shape
        np.testing.assert_allclose(answer.audio, speech.numpy().clip(-1, 1), atol=5e-3)


def test_a_listener_is_not_kept_waiting_for_long(omni: Omni) -> None:
    """Speech that is listened to is made faster than it is heard, by a machine that does nothing else."""
    started, seconds = time.process_time(), 0.0
    for event in omni.stream(text="What can you do?", modalities=("text", "audio")):
        if isinstance(event, AudioDelta):
            seconds += len(event.pcm) / 2 / event.rate
    assert seconds > 2
    assert time.process_time() - started < 2 * seconds  # of two cores
