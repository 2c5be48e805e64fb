"""Models that hear write what transformers' do: alone and in batches, in chunks, seen before, preempted."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import pytest
import torch
from transformers import WhisperFeatureExtractor

from tests.models import checkpoints
from tests.models.checkpoints import AUDIO, END, EOS, PAD, START, WHISPER, WHISPER_TIMES
from tests.models.test_sight import tokens, words
from tutti import LLM, SamplingParams
from tutti.errors import InvalidMedia, InvalidRequest
from tutti.events import Done, Event, Failed, TextDelta, TokenTimes
from tutti.request import Media, Request, Tokens

NEW = 10
RATE = 16_000
GREEDY = SamplingParams(temperature=0.0, max_tokens=NEW, ignore_eos=True)
BANDS = 16
WAYS: dict[str, dict[str, Any]] = {
    "as it comes": {},
    "chunks of 7": {"max_num_batched_tokens": 7},
    "one at a time": {"max_num_seqs": 1},
    "no prefix cache": {"enable_prefix_caching": False},
}


def sound(seed: int, seconds: float) -> np.ndarray:
    """A tone that wanders, in noise."""
    generator = np.random.default_rng(seed)
    count = int(seconds * RATE)
    pitch = 0.05 + 0.2 * np.interp(np.arange(count), np.linspace(0, count, 6), generator.random(6))
    values = 0.3 * np.sin(np.cumsum(pitch)) + 0.05 * generator.standard_normal(count)
    return values.astype(np.float32)


def make(name: str, **options: Any) -> LLM:
    defaults = {"dtype": "float32", "device": "cpu", "memory": "2GB", "block_size": 8, "threads": 1}
    return LLM(str(checkpoints.cached(name)), **(defaults | options))


# --- a recording in the prompt ----------------------------------------------------------------------------------------

SHORT, MIDDLE, LONG = sound(1, 0.31), sound(2, 1.7), sound(3, 4.0)
PROMPTS: list[tuple[list[int], list[np.ndarray]]] = [
    (words(1, 12), []),
    ([*words(2, 3), START, AUDIO, END, *words(3, 5)], [SHORT]),
    ([AUDIO, *words(4, 9)], [LONG]),
    ([*words(5, 20), AUDIO, *words(6, 4), AUDIO, *words(7, 6)], [MIDDLE, SHORT]),
]


@functools.cache
def theirs() -> list[list[int]]:
    return [_generate(ids, sounds) for ids, sounds in PROMPTS]


def _generate(ids: list[int], sounds: list[np.ndarray]) -> list[int]:
    model = checkpoints.reference("qwen2_audio")
    inputs: dict[str, Any] = {}
    if sounds:
        extractor = WhisperFeatureExtractor(feature_size=BANDS, chunk_length=4)
        mel = extractor(sounds, sampling_rate=RATE, return_attention_mask=True, return_tensors="pt")
        inputs = {"input_features": mel["input_features"], "feature_attention_mask": mel["attention_mask"]}
        counts = iter((((mel["attention_mask"].sum(-1) - 1) // 2 + 1 - 2) // 2 + 1).tolist())
        ids = [token for t in ids for token in ([t] * next(counts) if t == AUDIO else [t])]
    prompt = torch.tensor([ids])
    out = model.generate(
        prompt,
        attention_mask=torch.ones_like(prompt),
        max_new_tokens=NEW,
        do_sample=False,
        eos_token_id=None,
        **inputs,
    )
    return out[0, len(ids) :].tolist()


def prompts() -> list[dict[str, Any]]:
    return [
        {"prompt_token_ids": ids, "multi_modal_data": {"audio": [(one, RATE) for one in sounds]}}
        for ids, sounds in PROMPTS
    ]


@pytest.mark.parametrize("way", WAYS)
def test_answers_about_recordings_are_those_of_transformers(way: str) -> None:
    llm = make("qwen2_audio", **WAYS[way])
    assert tokens(llm.generate(prompts(), GREEDY)) == theirs()
    llm.engine.runner.cache.check()
    assert llm.engine.runner.cache.usage == 0


def test_a_recording_heard_before_costs_nothing_and_changes_no_answer() -> None:
    llm = make("qwen2_audio")
    llm.generate(prompts(), GREEDY)
    computed = llm.engine.encoders[0].items
    again = llm.generate(prompts(), GREEDY)
    assert tokens(again) == theirs()
    assert llm.engine.encoders[0].items == computed == 3
    assert sum(output.num_cached_tokens for output in again) > 0


@pytest.mark.parametrize("name", ["qwen2_audio", "whisper"])
def test_a_recording_longer_than_a_window_is_refused(name: str) -> None:
    audio = (sound(4, 4.1 if name == "qwen2_audio" else 30.1), RATE)
    with pytest.raises(InvalidMedia, match="second"):
        make(name).generate([{"prompt_token_ids": [AUDIO], "multi_modal_data": {"audio": audio}}], GREEDY)


# --- a recording beside the prompt ------------------------------------------------------------------------------------

RECORDINGS = [sound(5, 1.0), sound(6, 30.0), sound(7, 7.3), sound(8, 0.02)]


def prompt(language: str, task: str, timestamps: bool) -> list[int]:
    names = ["<|startoftranscript|>", f"<|{language}|>", f"<|{task}|>"]
    return [WHISPER[name] for name in (names if timestamps else [*names, "<|notimestamps|>"])]


ASKED = [("en", "transcribe"), ("fr", "transcribe"), ("fr", "translate"), ("en", "transcribe")]
FREE = SamplingParams(temperature=0.0, max_tokens=40)


@functools.cache
def features(index: int) -> torch.Tensor:
    extractor = WhisperFeatureExtractor(feature_size=BANDS)
    values: torch.Tensor = extractor(RECORDINGS[index], sampling_rate=RATE, return_tensors="pt")[
        "input_features"
    ]
    return values


@functools.cache
def transcripts(timestamps: bool) -> list[list[int]]:
    """transformers' greedy tokens."""
    found = []
    for index, (language, task) in enumerate(ASKED):
        model: Any = checkpoints.reference("whisper")
        out = model.generate(
            features(index),
            language=language,
            task=task,
            return_timestamps=timestamps,
            force_unique_generate_call=True,
            max_new_tokens=40,
            do_sample=False,
        )[0].tolist()
        length = len(prompt(language, task, timestamps))
        assert out[:length] == prompt(language, task, timestamps)
        found.append([token for token in out[length:] if token not in (PAD, EOS)])
    return found


def asked(timestamps: bool) -> list[dict[str, Any]]:
    return [
        {
            "prompt_token_ids": prompt(language, task, timestamps),
            "multi_modal_data": {"audio": (samples, RATE)},
        }
        for (language, task), samples in zip(ASKED, RECORDINGS, strict=True)
    ]


def said(outputs: list[Any]) -> list[list[int]]:
    return [[token for token in one if token != EOS] for one in tokens(outputs)]


@pytest.mark.parametrize("timestamps", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_transcripts_are_those_of_transformers(way: str, timestamps: bool) -> None:
    llm = make("whisper", **WAYS[way])
    outputs = llm.generate(asked(timestamps), FREE)
    assert said(outputs) == transcripts(timestamps)
    assert not timestamps or all(one[0] >= WHISPER_TIMES for one in said(outputs))
    assert said([llm.generate([one], FREE)[0] for one in asked(timestamps)]) == transcripts(timestamps)
    llm.engine.runner.cache.check()
    assert llm.engine.runner.cache.usage == 0


def test_the_decoders_distributions_are_those_of_transformers() -> None:
    ids = [*prompt("en", "transcribe", False), *words(9, 30)]
    with torch.no_grad():
        model: Any = checkpoints.reference("whisper")
        logits = model(input_features=features(0), decoder_input_ids=torch.tensor([ids])).logits[0]
    wanted = logits.log_softmax(-1)[:-1].gather(1, torch.tensor(ids)[1:, None])[:, 0]
    params = SamplingParams(temperature=0.0, max_tokens=1, prompt_logprobs=0)
    one = {"prompt_token_ids": ids, "multi_modal_data": {"audio": (RECORDINGS[0], RATE)}}
    (output,) = make("whisper", max_num_batched_tokens=7).generate([one], params)
    assert output.prompt_logprobs is not None
    mine = [entry[token].logprob for entry, token in zip(output.prompt_logprobs[1:], ids[1:], strict=True)]
    torch.testing.assert_close(torch.tensor(mine), wanted, atol=1e-4, rtol=1e-4)


def test_the_language_is_the_likeliest_of_its_tokens_as_in_transformers() -> None:
    model: Any = checkpoints.reference("whisper")
    wanted = [int(model.detect_language(features(index))[0]) for index in range(len(RECORDINGS))]
    languages = (WHISPER["<|en|>"], WHISPER["<|fr|>"])
    params = SamplingParams(temperature=0.0, max_tokens=1, allowed_token_ids=languages)
    start = [WHISPER["<|startoftranscript|>"]]
    outputs = make("whisper").generate([one | {"prompt_token_ids": start} for one in asked(False)], params)
    assert [one for (one,) in tokens(outputs)] == wanted


def test_equal_prompts_about_other_recordings_share_nothing_and_the_same_recording_everything() -> None:
    llm = make("whisper")
    before = [WHISPER["<|startofprev|>"], *words(3, 20), *prompt("en", "transcribe", False)]

    def ask(index: int) -> Any:
        audio = {"audio": (RECORDINGS[index], RATE)}
        return llm.generate([{"prompt_token_ids": before, "multi_modal_data": audio}], FREE)[0]

    first, other = ask(0), ask(2)
    assert other.num_cached_tokens == 0
    again = ask(0)
    assert again.num_cached_tokens > 0
    assert said([again]) == said([first]) != said([other])
    assert llm.engine.encoders[0].items == 2


def test_tokens_are_said_when_transformers_says_so() -> None:
    llm = make("whisper", max_num_batched_tokens=24)
    events: list[Event] = []
    llm.engine.loop._emit = events.extend
    for index, asked in enumerate(ASKED):
        parts = (Tokens(tuple(prompt(*asked, True))), Media("audio", _file(RECORDINGS[index])))
        request = Request(id=str(index), parts=parts, sampling=FREE, modalities=("text", "times"))
        llm.engine.loop.submit(llm.processor.prepare(request))
    ended = lambda: sum(isinstance(event, Done | Failed) for event in events)  # noqa: E731
    llm.engine.loop.run_until(lambda: ended() == len(ASKED))
    found = {event.request: event.seconds for event in events if isinstance(event, TokenTimes)}
    for index, (language, task) in enumerate(ASKED):
        model: Any = checkpoints.reference("whisper")
        out = model.generate(
            features(index),
            language=language,
            task=task,
            return_timestamps=True,
            return_token_timestamps=True,
            attention_mask=(torch.arange(3000) < -(-len(RECORDINGS[index]) // 160)).long()[None],
            force_unique_generate_call=True,
            max_new_tokens=40,
            do_sample=False,
        )
        length = len(prompt(language, task, True))
        wanted = out["token_timestamps"][0][length:]
        torch.testing.assert_close(torch.tensor(found[str(index)]), wanted.float(), atol=1e-4, rtol=0)
    assert max(found["1"]) > 1.0


def test_a_transcript_without_a_recording_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="one recording"):
        make("whisper").generate([{"prompt_token_ids": prompt("en", "transcribe", False)}], FREE)


def test_a_preempted_transcript_goes_on_as_if_nothing_had_been() -> None:
    llm = make("whisper", max_num_seqs=1)
    events: list[Event] = []
    llm.engine.loop._emit = events.extend
    for index, priority in ((0, 1), (2, 0)):
        parts = (Tokens(tuple(prompt(*ASKED[index], True))), Media("audio", _file(RECORDINGS[index])))
        request = Request(id=str(index), parts=parts, sampling=FREE, priority=priority)
        llm.engine.loop.submit(llm.processor.prepare(request))
        llm.engine.loop.run_until(lambda: any(isinstance(event, TextDelta) for event in events))
        sequence = llm.engine.runner._sequences["0"]
    ended = lambda: sum(isinstance(event, Done | Failed) for event in events)  # noqa: E731
    llm.engine.loop.run_until(lambda: ended() == 2)
    assert sequence.preemptions == 1
    assert sequence.memory is None and not llm.engine.runner._sequences
    for index in (0, 2):
        deltas = [e for e in events if isinstance(e, TextDelta) and e.request == str(index)]
        got = [token for event in deltas for token in event.tokens if token != EOS]
        assert got == transcripts(True)[index]


def test_the_plan_counts_recordings_and_runs_no_more_at_once_than_fit() -> None:
    llm = make("whisper")
    plan = llm.engine.plan
    (row,) = [row for row in plan.rows if row.name == "memories"]
    one = 2 * 3 * 1500 * 64 * 4  # keys and values, layers, rows, width, bytes
    assert plan.memories is not None and row.bytes == plan.memories * one
    tight = make("whisper", kv_cache_memory_bytes=3 * one)
    assert tight.engine.runner.scheduler.max_sequences == 2
    assert said(tight.generate(asked(True), FREE)) == transcripts(True)


def _file(samples: np.ndarray) -> bytes:
    from tutti.llm.prompts import media_of

    return media_of({"audio": (samples, RATE)})[0].data
