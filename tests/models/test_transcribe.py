"""How long recordings are cut into windows and segments, and what Whisper's rules allow: facts that need no model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from transformers import GenerationConfig, WhisperTimeStampLogitsProcessor
from transformers.models.whisper.generation_whisper import WhisperGenerationMixin, _dynamic_time_warping

from tests.models import checkpoints
from tests.models.checkpoints import EOS, WHISPER, WHISPER_TIMES
from tutti.errors import InvalidRequest, StageFailed
from tutti.events import Done, ErrorValue, Event, Failed, TextDelta, TokenLogprob
from tutti.models.processor import load_processor
from tutti.models.processor.media import unpack
from tutti.models.processor.speech import Task, Transcriber, Transcription, transcribe
from tutti.models.whisper.align import path
from tutti.models.whisper.rules import shape_logits
from tutti.models.whisper.tokens import SpeechTokens, read_tokens
from tutti.models.whisper.transcribe import cut
from tutti.models.whisper.words import words_of
from tutti.request import MediaInput, Request, Tokens

SPECIAL = SpeechTokens(
    start=WHISPER["<|startoftranscript|>"],
    end=EOS,
    languages={"en": WHISPER["<|en|>"], "fr": WHISPER["<|fr|>"]},
    tasks={name: WHISPER[f"<|{name}|>"] for name in ("translate", "transcribe")},
    no_timestamps=WHISPER["<|notimestamps|>"],
    previous=WHISPER["<|startofprev|>"],
    latest_first=50,
)
LENGTH = 1500
WORDS = st.integers(0, 255)


@st.composite
def answers(draw: st.DrawFn) -> list[int]:
    """What a window may be answered under the rules: `time words time`, times rising, the end anywhere."""
    tokens: list[int] = []
    clock = draw(st.integers(0, 50))
    for _ in range(draw(st.integers(0, 4))):
        tokens += [WHISPER_TIMES + clock, *draw(st.lists(WORDS, min_size=1, max_size=4))]
        clock = min(clock + draw(st.integers(1, 400)), LENGTH)
        tokens.append(WHISPER_TIMES + clock)
        clock = min(clock + draw(st.integers(0, 50)), LENGTH)
    tail = [WHISPER_TIMES + clock, *draw(st.lists(WORDS, max_size=4))]
    return tokens + tail[: draw(st.integers(0, len(tail)))]


@given(answers(), st.integers(1, LENGTH))
def test_windows_go_on_and_their_pieces_follow_each_other_inside_of_them(
    tokens: list[int], length: int
) -> None:
    pieces, advance = cut(tokens, SPECIAL, length)
    assert 1 <= advance <= length
    clock = 0
    for piece in pieces:
        assert clock <= piece.start <= piece.end <= length
        clock = piece.end
    said = [token for token in tokens if token < EOS]
    found = [tokens[place] for piece in pieces for place in piece.places]
    assert found == said[: len(found)]
    if advance == length and (not tokens or tokens[-1] < WHISPER_TIMES):
        assert len(found) == len(said) or clock == length


@given(answers())
def test_windows_are_cut_where_transformers_cuts_them(tokens: list[int]) -> None:
    segments, offset = WhisperGenerationMixin._retrieve_segment(
        seek_sequence=torch.tensor(tokens, dtype=torch.long),
        seek_outputs=[None],
        time_offset=torch.zeros(1, dtype=torch.float64),
        timestamp_begin=WHISPER_TIMES,
        seek_num_frames=torch.tensor([2 * LENGTH]),
        time_precision=0.02,
        time_precision_features=0.01,
        input_stride=2,
        prev_idx=0,
        idx=0,
        return_token_timestamps=False,
        decoder_input_ids=torch.zeros(1, 0),
    )
    pieces, advance = cut(tokens, SPECIAL, LENGTH)
    assert 2 * advance == int(offset)
    assert [[tokens[place] for place in piece.places] for piece in pieces] == [
        [token for token in segment["tokens"].tolist() if token < EOS] for segment in segments
    ]
    theirs = [(float(segment["start"]), float(segment["end"])) for segment in segments]
    assert [(piece.start * 0.02, piece.end * 0.02) for piece in pieces] == [
        (pytest.approx(start), pytest.approx(end)) for start, end in theirs
    ]


@given(answers(), st.integers(0, 2**32 - 1))
def test_what_may_come_next_is_what_transformers_allows(output: list[int], seed: int) -> None:
    prompt = SPECIAL.prompt("en", "transcribe", True)
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(1, WHISPER_TIMES + LENGTH + 1, generator=generator) * 3
    logits[:, :WHISPER_TIMES] += torch.rand(1, generator=generator) * 16 - 4  # words likelier, or times
    config = GenerationConfig(eos_token_id=EOS)
    config.no_timestamps_token_id = SPECIAL.no_timestamps
    config.max_initial_timestamp_index = SPECIAL.latest_first
    rule = WhisperTimeStampLogitsProcessor(config, begin_index=len(prompt))
    wanted = rule(torch.tensor([prompt + output]), logits)
    got = shape_logits(SPECIAL, logits.clone(), [prompt + output], [len(prompt)])
    torch.testing.assert_close(got, wanted)


@given(st.integers(1, 12), st.integers(1, 30), st.integers(0, 2**32 - 1))
def test_the_cheapest_path_is_that_of_transformers(rows: int, columns: int, seed: int) -> None:
    costs = np.random.default_rng(seed).standard_normal((rows, columns))
    texts, places = _dynamic_time_warping(costs)
    assert (
        path(costs).tolist()
        == places[np.pad(np.diff(texts), (1, 0), constant_values=1).astype(bool)].tolist()
    )


def test_tokens_become_words_with_their_punctuation_and_times() -> None:
    pieces = [" He", "llo", ",", ' "', "wor", "ld", '"', "!", " I", "'m", " -", "x"]
    found = words_of(
        range(12), [0.5 * n for n in range(13)], lambda ids: "".join(pieces[i] for i in ids), "en"
    )
    assert [(word.text, word.start, word.end) for word in found] == [
        ("Hello,", 0, 1.5), ('"world"!', 1.5, 4), ("I'm", 4, 5), ("-x", 5, 6),
    ]  # fmt: skip


def test_characters_that_are_split_are_one_and_where_no_spaces_are_written_each_is_a_word() -> None:
    data = "你好。".encode()
    found = words_of(
        range(9),
        [float(n) for n in range(10)],
        lambda ids: bytes(data[i] for i in ids).decode("utf-8", "replace"),
        "zh",
    )
    assert [(word.text, word.start, word.end) for word in found] == [("你", 0, 3), ("好。", 3, 9)]
    assert words_of((), (0.0,), lambda ids: "", "en") == ()


def test_suppressed_tokens_never_come_and_times_only_where_they_are_asked_for() -> None:
    special = replace(SPECIAL, suppressed=(5,), suppressed_first=(6, EOS))
    prompt = special.prompt("fr", "translate", False)
    rows = torch.zeros(2, WHISPER_TIMES + 10)
    got = shape_logits(special, rows, [prompt, [*prompt, 40]], [len(prompt)] * 2)
    assert torch.isneginf(got).nonzero().tolist() == [[0, 5], [0, 6], [0, EOS], [1, 5]]


def test_a_prompt_names_language_and_task_and_what_came_before() -> None:
    names = ["<|startofprev|>", "<|startoftranscript|>", "<|fr|>", "<|translate|>", "<|notimestamps|>"]
    before, *rest = [WHISPER[name] for name in names]
    assert SPECIAL.prompt("FR", "translate", False, [1, 2]) == [before, 1, 2, *rest]
    with pytest.raises(InvalidRequest, match="knows en, fr"):
        SPECIAL.prompt("tlh", "transcribe", False)
    english = replace(SPECIAL, languages={}, tasks={})
    assert english.prompt(None, "transcribe", True) == [english.start]
    assert english.wants_times([english.start]) and not SPECIAL.wants_times([SPECIAL.start])
    with pytest.raises(InvalidRequest, match="cannot translate"):
        english.prompt(None, "translate", True)


def test_the_checkpoints_own_tokens_are_read() -> None:
    path = checkpoints.cached("whisper")
    found = read_tokens(path, checkpoints.reference("whisper").config.to_dict())
    assert replace(found, suppressed=(), suppressed_first=()) == SPECIAL
    assert found.suppressed_first == (32, EOS)


class Answering:
    """Answers each window by its number, and remembers what it was asked."""

    def __init__(self, *answers: Sequence[int], sure: float = -0.1) -> None:
        """`sure` is the log-probability of each token, but that of answers to be told by their first words."""
        self.answers = list(answers)
        self.sure = sure
        self.sampled: list[float] = []
        self.prompts: list[list[int]] = []
        self.windows: list[np.ndarray] = []

    async def generate(self, request: Request) -> AsyncGenerator[Event, None]:
        prompt, recording = request.parts
        assert isinstance(prompt, Tokens) and isinstance(recording, MediaInput)
        self.prompts.append(list(prompt.ids))
        self.windows.append(unpack(recording.arrays["samples"]))
        if not self.answers:
            yield Failed(request.id, ErrorValue.of(StageFailed("nothing more to say")))
            return
        self.sampled.append(request.sampling.temperature)
        said = tuple(self.answers.pop(0))
        sure = 0.0 if said == NOBODY or b"surely" in bytes(token % 256 for token in said) else self.sure
        logprobs = tuple(TokenLogprob(token, sure, 1) for token in said)
        yield TextDelta(request.id, said, logprobs=logprobs)
        yield TextDelta(request.id, (EOS,))
        yield Done(request.id, "stop")


NOBODY = (WHISPER["<|nospeech|>"],)


def times(*values: int) -> list[int]:
    return [WHISPER_TIMES + value for value in values]


def hear(model: Answering, seconds: float, task: Task) -> Transcription:
    processor = load_processor(checkpoints.cached("whisper"))
    assert isinstance(processor.media, Transcriber)
    samples = np.arange(int(seconds * 16_000), dtype=np.float32)
    return asyncio.run(transcribe(processor.media, processor, model.generate, samples, task))


def test_a_long_recording_is_heard_from_the_last_finished_segment_on() -> None:
    first = [*times(0), *b" one", *times(400, 400), *b" two", *times(1000, 1000), *b" thr"]
    second = [*times(0), *b" three", *times(500)]
    model = Answering(first, second)
    heard = hear(model, 40.0, Task("en", prompt="Numbers"))
    assert heard.text == "one two three" and heard.seconds == 40.0
    assert [(one.start, one.end, one.window) for one in heard.segments] == [
        (0, 8, 0),
        (8, 20, 0),
        (20, 30, 20),
    ]
    assert [(int(one[0]), len(one)) for one in model.windows] == [(0, 480_000), (320_000, 320_000)]
    prompt = [WHISPER["<|startofprev|>"], *b" Numbers", *SPECIAL.prompt("en", "transcribe", True)]
    assert model.prompts == [prompt, prompt]


def test_a_short_recording_is_one_window_without_times_unless_they_are_asked_for() -> None:
    model = Answering([*b" hello"])
    heard = hear(model, 2.0, Task("fr", "translate"))
    assert heard.text == "hello"
    assert model.prompts == [SPECIAL.prompt("fr", "translate", False)]
    assert [(one.start, one.end) for one in heard.segments] == [(0, 2)]


def test_silence_has_no_segments_and_a_window_that_fails_fails_the_recording() -> None:
    assert hear(Answering([]), 2.0, Task("en")).segments == ()
    with pytest.raises(StageFailed, match="nothing more"):
        hear(Answering(), 2.0, Task("en"))


def test_what_is_doubtful_is_heard_again_at_higher_temperatures() -> None:
    model = Answering([*b" mumble"], [*b"x"], [*b" and on" * 12], [*b" surely"], sure=-2.0)
    with_silence = [list(SPECIAL.prompt("en", "transcribe", False)), [SPECIAL.start]]
    model.answers[1] = [5]  # nobody speaks? exp(-2) says no
    heard = hear(model, 2.0, Task("en"))
    assert heard.text == "surely" and model.prompts == [*with_silence, with_silence[0], with_silence[0]]
    assert model.sampled == [0.0, 0.0, 0.2, 0.4]
    (segment,) = heard.segments
    assert segment.temperature == 0.4 and segment.silence == pytest.approx(np.exp(-2.0))
    once = Answering([*b" mumble"], [5], sure=-2.0)
    assert hear(once, 2.0, Task("en", temperature=0.7)).text == "mumble"  # the caller chose
    assert once.sampled == [0.7, 0.0]


def test_where_nobody_speaks_nothing_is_heard_and_the_next_window_follows() -> None:
    made_up = [*times(0), *b" thanks", *times(100, 100), *b" for"]
    model = Answering(made_up, NOBODY, [*times(0), *b" surely", *times(50)], sure=-2.0)
    heard = hear(model, 31.0, Task("en"))
    assert [(one.text, one.start, one.end) for one in heard.segments] == [(" surely", 30, 31)]
