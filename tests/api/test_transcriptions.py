"""Recordings to text through OpenAI's client: every format, streams, languages, and what is refused."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import openai
import pytest
import soundfile

from tests.api.serving import Serving, serving
from tests.models import checkpoints
from tests.models.test_hearing import sound


def file(seconds: float, seed: int = 1, rate: int = 16_000) -> tuple[str, bytes]:
    data = io.BytesIO()
    soundfile.write(data, sound(seed, seconds), rate, format="FLAC")
    return ("speech.flac", data.getvalue())


SHORT, LONG = file(2.0), file(40.0, seed=2)


@pytest.fixture(scope="module")
def hearing() -> Iterator[Serving]:
    with serving(model=str(checkpoints.cached("whisper"))) as served:
        yield served
        served.everything_is_returned()


@pytest.fixture
def client(hearing: Serving) -> Iterator[openai.OpenAI]:
    with hearing.client() as made:
        yield made


def ask(client: openai.OpenAI, recording: tuple[str, bytes] = SHORT, **options: Any) -> Any:
    """Nearly greedy: at temperature 0, a model of random weights doubts all that it says and tries again and again."""
    options = {"temperature": 1e-4} | options
    return client.audio.transcriptions.create(model="tiny", file=recording, **options)


def test_a_recording_becomes_text(client: openai.OpenAI) -> None:
    answer = ask(client, LONG, language="en")
    assert answer.text and answer.usage.seconds == 40
    assert ask(client, LONG, language="en", response_format="text") == f"{answer.text}\n"


def test_at_temperature_zero_what_is_doubtful_is_tried_again(client: openai.OpenAI) -> None:
    (segment, *_) = ask(client, temperature=0.0, language="en", response_format="verbose_json").segments
    assert segment.temperature == 1.0 and 0 < segment.no_speech_prob < 0.6


def test_text_that_came_before_matters(client: openai.OpenAI) -> None:
    assert ask(client, language="en", prompt="Once upon a time").text != ask(client, language="en").text


def test_segments_cover_a_long_recording_in_order(client: openai.OpenAI) -> None:
    answer = ask(client, LONG, response_format="verbose_json", timestamp_granularities=["segment"])
    assert answer.duration == pytest.approx(40.0) and answer.task == "transcribe"
    assert answer.language in ("en", "fr")  # found out
    clock = 0.0
    for number, segment in enumerate(answer.segments):
        assert segment.id == number and clock <= segment.start <= segment.end <= 40.0
        assert segment.avg_logprob < 0 and segment.tokens
        clock = segment.end
    assert answer.segments[-1].seek > 0  # more than one window
    assert "".join(segment.text for segment in answer.segments).strip() == answer.text


def test_words_have_times_inside_of_the_recording(client: openai.OpenAI) -> None:
    options = {"language": "en", "response_format": "verbose_json"}
    answer = ask(client, LONG, **options, timestamp_granularities=["word", "segment"])
    words = "".join(word.word for word in answer.words)
    assert words == "".join(answer.text.split()) and answer.segments
    assert all(0 <= word.start <= word.end <= 40.0 for word in answer.words)
    assert max(word.end for word in answer.words) > 10
    assert ask(client, LONG, **options).words is None


def test_subtitles_have_the_times_of_the_segments(client: openai.OpenAI) -> None:
    segments = ask(client, LONG, language="fr", response_format="verbose_json").segments
    srt = ask(client, LONG, language="fr", response_format="srt")
    vtt = ask(client, LONG, language="fr", response_format="vtt")
    assert vtt.startswith("WEBVTT\n\n")
    for text, mark in ((srt, ","), (vtt, r"\.")):
        found = re.findall(rf"(\d\d):(\d\d):(\d\d){mark}(\d\d\d) --> ", text)
        starts = [int(h) * 3600 + int(m) * 60 + int(s) + int(ms) / 1000 for h, m, s, ms in found]
        assert starts == pytest.approx([segment.start for segment in segments], abs=1e-3)


def test_a_stream_gives_the_same_text_segment_by_segment(client: openai.OpenAI) -> None:
    whole = ask(client, LONG, language="en").text
    events = list(ask(client, LONG, language="en", stream=True))
    assert "".join(event.delta for event in events[:-1]).strip() == whole
    assert events[-1].type == "transcript.text.done" and events[-1].text == whole


def test_a_translation_is_another_task(client: openai.OpenAI) -> None:
    answer = client.audio.translations.create(
        model="tiny", file=LONG, response_format="text", temperature=1e-4
    )
    assert answer.strip() not in ("", ask(client, LONG, language="en").text)


def test_recordings_together_are_written_down_as_alone(client: openai.OpenAI) -> None:
    recordings = [file(seconds, seed) for seed, seconds in enumerate((31.0, 3.0, 40.0, 35.0))]
    with ThreadPoolExecutor(len(recordings)) as threads:
        together = list(threads.map(lambda one: ask(client, one, language="fr").text, recordings))
    assert together == [ask(client, one, language="fr").text for one in recordings]


def test_a_client_who_leaves_ends_the_work(hearing: Serving, client: openai.OpenAI) -> None:
    stream = ask(client, LONG, language="en", stream=True)
    assert next(iter(stream)).type == "transcript.text.delta"
    stream.close()
    hearing.everything_is_returned()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"language": "tlh"}, "does not know the language 'tlh'; it knows en, fr"),
        ({"response_format": "pdf"}, "response_format: 'pdf' is not one of"),
        ({"timestamp_granularities": ["word"]}, "ask for response_format verbose_json"),
        ({"timestamp_granularities": ["line"], "response_format": "verbose_json"}, "neither 'word' nor"),
        ({"temperature": "hot"}, "temperature: expected a number"),
        ({"recording": ("a.wav", b"RIFF....WAVEnothing")}, "recording"),
        ({"recording": ("a.wav", b"")}, "recording"),
    ],
)
def test_what_cannot_be_done_is_a_400_that_says_why(
    client: openai.OpenAI, options: dict[str, Any], message: str
) -> None:
    with pytest.raises(openai.BadRequestError, match=re.escape(message)):
        ask(client, **options)


def test_a_body_that_is_no_form_is_a_400(hearing: Serving) -> None:
    url = f"{hearing.url}/v1/audio/transcriptions"
    boundary = "multipart/form-data; boundary=x"
    cut_off = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\nabc'
    for body, kind, message in (
        (json.dumps({"model": "tiny"}).encode(), "application/json", "multipart/form-data"),
        (cut_off, boundary, "cut off"),
        (b"--x\r\n\r\nabc\r\n--x--\r\n", boundary, "part without a name"),
        (
            b'--x\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--x--\r\n',
            boundary,
            "'file' is missing",
        ),
    ):
        answer = httpx.post(url, content=body, headers={"Content-Type": kind})
        assert answer.status_code == 400 and message in answer.json()["error"]["message"]


def test_a_model_that_does_not_hear_says_so(server: Serving) -> None:
    with server.client() as client, pytest.raises(openai.BadRequestError, match="does not write down"):
        ask(client)
