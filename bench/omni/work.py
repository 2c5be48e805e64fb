"""What both runners of `bench.omni` share: the command line, the prompts, the form of a result."""

from __future__ import annotations

import argparse
import json
import os
import random
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Job:
    """What is asked: prompts of `prompt_tokens`, answers of `text_tokens` and `codes`, or frames of codes."""

    model: Path
    dtype: str
    threads: int
    concurrency: tuple[int, ...]
    prompt_tokens: int
    text_tokens: int
    codes: int

    def prompt(self, number: int) -> list[int]:
        """The ids of prompt `number`, in the chat's form where the model asks for that."""
        said = random.Random(number).choices(range(100, 30_000), k=self.prompt_tokens)
        if not self.frames:
            return said
        start, end, user, assistant = (
            self.config[f"{name}_token_id"] for name in ("im_start", "im_end", "user", "assistant")
        )
        return [start, user, 20, *said, end, 20, start, assistant, 20]

    @property
    def config(self) -> dict[str, Any]:
        """The checkpoint's config.json."""
        value: dict[str, Any] = json.loads((self.model / "config.json").read_text())
        return value

    @property
    def frames(self) -> bool:
        """Whether the model speaks in frames of several codes."""
        return "code2wav_config" in self.config


@dataclass(frozen=True, slots=True)
class Result:
    """Requests at once, their mean times to the first text and sound, and the time until the last ended; seconds.

    `rtf` is the time all took over the length of one answer's sound.
    """

    peer: str
    way: str
    requests: int
    text_s: float
    first_s: float
    total_s: float
    sound_s: float
    rtf: float
    underruns: int = 0

    def line(self) -> str:
        """As JSON."""
        return json.dumps(asdict(self))


def job_of(what: str | None) -> Job:
    """The command line's job. Sets the number of threads before torch is imported."""
    parser = argparse.ArgumentParser(description=what)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--concurrency", type=int, nargs="+", default=[1, 16])
    parser.add_argument("--prompt-tokens", type=int, default=64)
    parser.add_argument("--text-tokens", type=int, default=48)
    parser.add_argument("--codes", type=int, default=500)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    options.concurrency = tuple(options.concurrency)
    return Job(**vars(options))
