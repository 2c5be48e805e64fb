"""Graphs by file in Python: `Omni`, `AsyncLLM`, and `LLM`, which does not take them."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from tests.models.composed import CODES, GREEDY, OPTIONS, composed
from tutti import LLM, AsyncLLM, Omni
from tutti.errors import InvalidRequest
from tutti.events import AudioDelta, TextDelta
from tutti.request import SamplingParams, StructuredOutputs


def test_omni_answers_and_speaks_by_file(tmp_path: Path) -> None:
    before = set(psutil.Process().children())
    edges = ("request.text -> brain", "brain.text -> answer", "brain.text -> voice", "voice.audio -> answer")
    form = StructuredOutputs(choice=("Good day. Bye.",))
    said = SamplingParams(temperature=0.0, max_tokens=40, structured_outputs=form)
    asked = {"sampling": said, "stage_sampling": CODES, "modalities": ["text", "audio"]}
    with Omni(str(composed(tmp_path, edges)), **OPTIONS) as omni:
        assert omni.voices == ("Ada",)
        answer = omni.generate(text="Hello", **asked)
        assert (answer.text, answer.finish_reason, answer.rate) == ("Good day. Bye.", "stop", 24_000)
        assert answer.audio is not None and len(answer.audio) == 2 * 10 * 480
        assert answer.usage is not None and answer.usage.completion_tokens > len(answer.token_ids)
        for event in omni.stream(text="Hello", **asked):  # and leave
            assert isinstance(event, TextDelta)
            break
        assert omni.generate(text="Hello", sampling=GREEDY).token_ids
        assert len(omni.speak("Good day.", stage_sampling=CODES).audio) == 10 * 480
        assert any(
            isinstance(event, AudioDelta) for event in omni.stream_speech("Bye.", stage_sampling=CODES)
        )
        with pytest.raises(InvalidRequest, match="this model has Ada"):
            omni.generate(text="Hello", voice="Nobody", **asked)
    assert set(psutil.Process().children()) <= before


async def test_a_stream_of_events_by_file(tmp_path: Path) -> None:
    edges = ("request.text -> brain", "brain.text -> answer")
    async with await AsyncLLM.open(str(composed(tmp_path, edges)), in_process=True, **OPTIONS) as llm:
        assert llm.info.model == "assistant"
        pieces = [piece async for piece in llm.text([{"role": "user", "content": "Hello"}], GREEDY)]
        assert "".join(pieces)


def test_llm_says_who_takes_graphs_by_file(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match=r"tutti\.Omni and tutti\.AsyncLLM"):
        LLM(str(composed(tmp_path)))
