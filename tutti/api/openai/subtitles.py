"""Timed segments as the formats of subtitles, and as OpenAI's verbose JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tutti.models.processor.speech import Segment, Task, Transcription, compression


def srt(segments: Sequence[Segment]) -> str:
    """SubRip: numbered blocks."""
    return "".join(
        f"{number}\n{_clock(one.start, ',')} --> {_clock(one.end, ',')}\n{_line(one)}\n\n"
        for number, one in enumerate(segments, 1)
    )


def vtt(segments: Sequence[Segment]) -> str:
    """WebVTT (W3C)."""
    blocks = (
        f"{_clock(one.start, '.')} --> {_clock(one.end, '.')}\n{_escaped(_line(one))}\n\n" for one in segments
    )
    return "WEBVTT\n\n" + "".join(blocks)


def verbose(answer: Transcription, task: Task) -> dict[str, Any]:
    """OpenAI's `verbose_json`; `no_speech_prob` is estimated where the model was unsure of what it heard."""
    segments = [
        {
            "id": number,
            "seek": round(one.window * 100),  # in frames of 10 ms
            "start": round(one.start, 3),
            "end": round(one.end, 3),
            "text": one.text,
            "tokens": one.tokens,
            "temperature": one.temperature,
            "avg_logprob": one.logprob,
            "compression_ratio": compression(one.text),
            "no_speech_prob": one.silence,
        }
        for number, one in enumerate(answer.segments)
    ]
    words = [
        {"word": word.text, "start": round(word.start, 3), "end": round(word.end, 3)}
        for one in answer.segments
        for word in one.words
    ]
    return {
        "task": task.name,
        "language": answer.language or "en",
        "duration": answer.seconds,
        "text": answer.text,
        "segments": segments,
        **({"words": words} if task.words else {}),
    }


def _clock(seconds: float, mark: str) -> str:
    """hours:minutes:seconds and, after `mark`, milliseconds."""
    thousandths = round(seconds * 1000)
    whole, rest = divmod(thousandths, 1000)
    return f"{whole // 3600:02d}:{whole // 60 % 60:02d}:{whole % 60:02d}{mark}{rest:03d}"


def _line(segment: Segment) -> str:
    """The text without what would end a block."""
    return " ".join(segment.text.split()).replace("-->", "->")


def _escaped(text: str) -> str:
    return text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
