"""Timed segments as the formats of subtitles, and as OpenAI's verbose JSON."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from typing import Any

from tutti.models.processor.speech import Segment, Task, Transcription


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
    """OpenAI's `verbose_json`. Whether a segment is no speech at all is not estimated."""
    segments = [
        {
            "id": number,
            "seek": round(one.window * 100),  # in frames of 10 ms
            "start": round(one.start, 3),
            "end": round(one.end, 3),
            "text": one.text,
            "tokens": one.tokens,
            "temperature": task.temperature,
            "avg_logprob": one.logprob,
            "compression_ratio": _compression(one.text),
            "no_speech_prob": None,
        }
        for number, one in enumerate(answer.segments)
    ]
    return {
        "task": task.name,
        "language": answer.language or "en",
        "duration": answer.seconds,
        "text": answer.text,
        "segments": segments,
    }


def _compression(text: str) -> float:
    """How much shorter the text gets by compression; what repeats itself does much."""
    data = text.encode()
    return len(data) / len(zlib.compress(data))


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
