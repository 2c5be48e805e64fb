"""The parts of a session by themselves: turns, settings, what was heard of an answer, items as a chat."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.api.conversing import RATE, quiet, speech
from tutti.api.realtime.buffer import Began, InputBuffer, Turn
from tutti.api.realtime.config import ServerVad, SessionConfig, merged
from tutti.api.realtime.conversation import Conversation
from tutti.api.realtime.errors import Refusal
from tutti.api.realtime.heard import RATE as LETTERS
from tutti.api.realtime.heard import heard, weight
from tutti.api.realtime.items import (
    FunctionCall,
    FunctionOutput,
    HeardPart,
    Message,
    SpokenPart,
    TextPart,
    as_chat,
)
from tutti.api.realtime.limits import RealtimeLimits
from tutti.api.realtime.sound import Format, Sound
from tutti.api.realtime.turns import Started, Stopped, TurnDetector
from tutti.errors import InvalidRequest
from tutti.media.pcm import to_pcm16


def turns(*pieces: np.ndarray, padding: float = 0.3, silence: float = 0.5, step: int = 2_400) -> list[Any]:
    sound = np.concatenate(pieces)
    detector = TurnDetector(RATE, 0.5, padding, silence)
    return [
        found for start in range(0, len(sound), step) for found in detector.push(sound[start : start + step])
    ]


def test_a_turn_has_its_padding_before_and_its_silence_behind() -> None:
    started, stopped = turns(quiet(1.0), speech(1.0), quiet(1.5))
    assert isinstance(started, Started) and isinstance(stopped, Stopped)
    assert started.start / RATE == pytest.approx(0.7, abs=0.05)
    assert stopped.end / RATE == pytest.approx(2.6, abs=0.15)  # the detector itself lingers for 100 ms
    assert stopped.start == started.start


def test_a_click_is_no_speech() -> None:
    assert turns(quiet(0.5), 0.5 * np.ones(240, np.float32), quiet(1.0)) == []


def test_a_short_pause_does_not_end_a_turn() -> None:
    assert len(turns(quiet(0.5), speech(0.5), quiet(0.3), speech(0.5, 1), quiet(1.0))) == 2


def test_padding_does_not_reach_into_the_turn_before() -> None:
    first, last, second, _ = turns(
        quiet(0.5), speech(0.5), quiet(0.8), speech(0.5, 1), quiet(1.0), padding=5.0
    )
    assert first.start == 0 and second.start == last.end


@pytest.mark.parametrize("step", [160, 480, 7_777, 10**6])
def test_turns_do_not_depend_on_how_sound_is_sent(step: int) -> None:
    sound = (quiet(0.5), speech(0.5), quiet(0.8), speech(0.5, 1), quiet(1.0))
    assert turns(*sound, step=step) == turns(*sound)


async def collect(buffer: InputBuffer, sound: np.ndarray, step: int = 2_400) -> list[Began | Turn]:
    found: list[Began | Turn] = []
    for start in range(0, len(sound), step):
        found += [one async for one in buffer.append(to_pcm16(sound[start : start + step]))]
    return found


async def test_while_nobody_speaks_little_is_kept() -> None:
    buffer = InputBuffer(Format(), 60.0)
    buffer.configure(Format(), ServerVad())
    assert await collect(buffer, quiet(20.0)) == []
    assert buffer.seconds < 0.7 and buffer.position == 20 * RATE


async def test_a_turn_holds_exactly_its_sound() -> None:
    buffer = InputBuffer(Format(), 60.0)
    buffer.configure(Format(), ServerVad())
    sound = np.concatenate([quiet(2.0), speech(1.0), quiet(1.0)])
    began, turn = await collect(buffer, sound)
    assert isinstance(began, Began) and isinstance(turn, Turn) and began.start == turn.start
    first, last = (round(ms * RATE / 1000) for ms in (turn.start, turn.end))
    assert turn.sound.pcm == to_pcm16(sound)[2 * first : 2 * last]


async def test_the_clock_of_the_sound_goes_on_in_another_format() -> None:
    buffer = InputBuffer(Format(), 60.0)
    buffer.configure(Format(), None)
    await collect(buffer, quiet(2.0))
    buffer.configure(Format(type="audio/pcmu"), ServerVad())
    sound = np.concatenate([quiet(1.0, 8000), speech(0.5, rate=8000)])
    found = [one async for one in buffer.append(buffer.format.encode(to_pcm16(sound)))]
    assert isinstance(found[0], Began) and found[0].start == pytest.approx(2700, abs=50)


@given(st.text(max_size=80), st.floats(0, 20), st.floats(0, 20))
def test_who_listened_longer_heard_more_and_nothing_else(text: str, some: float, more: float) -> None:
    first, second = (heard(text, seconds, 20.0) for seconds in sorted((some, more)))
    assert text.startswith(second) and second.startswith(first)
    assert heard(text, 20.0, 20.0) == text


def test_a_text_is_cut_behind_a_whole_word_in_proportion_to_its_time() -> None:
    assert heard("one two three four", 5.0, 10.0) == "one two"
    assert heard("one two three four", 0.0, 10.0) == ""
    assert heard("你好世界你好世界", 5.0, 10.0) == "你好世界"
    assert weight("你好") == 6.0


def test_without_its_whole_length_the_rate_of_speech_tells() -> None:
    text = "word " * 100
    assert len(heard(text, 2.0, None)) == pytest.approx(2 * LETTERS, abs=5)
    assert len(heard(text, 2.0, None, rate=50.0)) == pytest.approx(100, abs=5)


def test_settings_are_merged_field_by_field() -> None:
    config = SessionConfig(model="m").updated({"audio": {"input": {"turn_detection": {"threshold": 0.7}}}})
    config = config.updated({"audio": {"input": {"turn_detection": {"silence_duration_ms": 200}}}})
    detection = config.audio.input.turn_detection
    assert isinstance(detection, ServerVad) and (detection.threshold, detection.silence) == (0.7, 0.2)
    other = config.updated({"audio": {"input": {"turn_detection": {"type": "semantic_vad"}}}})
    assert other.audio.input.turn_detection is not None and other.audio.input.turn_detection.silence == 0.8
    off = config.updated({"audio": {"input": {"turn_detection": None}}, "instructions": "Hi"})
    assert off.audio.input.turn_detection is None and off.instructions == "Hi"
    assert off.audio.output == config.audio.output


def test_what_is_shown_can_be_sent_back() -> None:
    config = SessionConfig(model="m", sampling={"logit_bias": {"7": 1.0}}, instructions="x")
    assert config.updated(config.shown("sess_1")) == config
    with pytest.raises(InvalidRequest, match=r"session\.audio\.input\.loudness"):
        config.updated({"audio": {"input": {"loudness": 3}}})
    assert merged({"a": {"type": "x", "b": 1}}, {"a": {"type": "y"}}) == {"a": {"type": "y"}}


def said(role: str, text: str) -> Message:
    return Message(role, [TextPart("input_text" if role == "user" else "output_text", text)])


def test_calls_join_the_message_before_them_and_unfinished_things_are_left_out() -> None:
    call = FunctionCall("look", '{"at": "sky"}', "call_1")
    items = [
        said("user", "Look"),
        Message("assistant", [SpokenPart("Well.", 1.0, True)]),
        call,
        FunctionCall("look", '{"at', "call_2", status="incomplete"),
        FunctionOutput("call_1", "blue"),
        Message("assistant", [SpokenPart("", 0.0)], status="incomplete"),
        Message("user", [HeardPart(Sound(bytes(4), 8000))]),
        Message("assistant", [SpokenPart("It")], status="in_progress"),
    ]
    messages, media = as_chat(items)
    assert [message["role"] for message in messages] == ["user", "assistant", "tool", "user"]
    assert messages[1]["content"] == "Well." and messages[1]["tool_calls"][0]["id"] == "call_1"
    assert len(messages[1]["tool_calls"]) == 1
    assert messages[3]["content"] == [{"type": "audio"}]
    assert media[0].modality == "audio" and media[0].data[:4] == b"RIFF" and media[0].data.endswith(bytes(4))


def test_what_is_forgotten_leaves_no_answer_without_its_call() -> None:
    conversation = Conversation(RealtimeLimits())
    call, output = FunctionCall("f", "{}", "call_1"), FunctionOutput("call_1", "x")
    system, last = said("system", "s"), said("user", "b")
    for item in (system, said("user", "a"), call, output, last):
        conversation.add(item)
    assert conversation.forget(0.5)
    assert conversation.remembered == [system, last]
    assert not conversation.forget(0.5) and len(conversation.items) == 5


def test_a_conversation_holds_so_much_sound() -> None:
    conversation = Conversation(RealtimeLimits(media=100))
    conversation.add(Message("user", [HeardPart(Sound(bytes(80), 8000))]))
    with pytest.raises(Refusal, match="more than 100 B"):
        conversation.add(Message("user", [HeardPart(Sound(bytes(30), 8000))]))
    conversation.add(said("user", "words are free"))
