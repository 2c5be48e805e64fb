"""Another child of `bench.omni`: how soon the first token of a second turn comes, about a picture and about none.

A turn about a picture is followed by a question about the same; beside it the same conversation in text alone, with as
many tokens. Both second turns find their beginning in the prefix cache; the first also has the picture to read and its
digest to compare, but nothing to encode.
"""

from __future__ import annotations

import argparse
import io
import json
import os
import random
import time
from pathlib import Path
from typing import Any

import msgspec
from PIL import Image

from bench.omni.media import picture

BEGIN, PLACE, END = 8, 4, 9


def main() -> None:
    """Load, ask, and print one line of JSON for each round."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--dtype", default="bfloat16")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(options.threads)
    asking = Asking(options)
    asking.conversation(0, pictured=True)  # warms up
    for number in range(1, options.rounds + 1):
        pictured, plain = (
            asking.conversation(number, pictured=True),
            asking.conversation(number, pictured=False),
        )
        line = {"first_s": pictured[0], "second_s": pictured[1], "second_read_s": pictured[2]}
        line |= {"text_first_s": plain[0], "text_second_s": plain[1], "prompt_tokens": pictured[3]}
        print(json.dumps({"what": "turns", "peer": "tutti"} | line), flush=True)


class Asking:
    """An engine in this thread, and its processor."""

    def __init__(self, options: argparse.Namespace) -> None:
        from tutti.engine.core import Engine
        from tutti.models.processor import load_processor
        from tutti.settings import EngineOptions

        self.events: list[Any] = []
        served = EngineOptions(
            model=str(options.model), dtype=options.dtype, threads=options.threads, memory=8 * 10**9
        )
        self.engine = Engine(served, self.events.extend)
        self.processor = load_processor(str(options.model))

    def conversation(self, number: int, *, pictured: bool) -> tuple[float, float, float, int]:
        """Seconds to the first token of both turns, those of them that the second took to read, and its tokens."""
        draw = random.Random(number)
        question = draw.choices(range(100, 30_000), k=32)
        ids = [*question, BEGIN, PLACE, END]
        file = io.BytesIO()
        Image.fromarray(picture(number)).save(file, "JPEG")
        media = [file.getvalue()]
        if not pictured:
            filled = len(self.read("count", ids, media)[0].parts[0].ids)
            ids, media = random.Random(-number - 1).choices(range(100, 30_000), k=filled), []
        first, answer, _, _ = self.ask(f"{number}-{pictured}-1", ids, media)
        ids = [*ids, *answer, *draw.choices(range(100, 30_000), k=32)]
        second, _, reading, tokens = self.ask(f"{number}-{pictured}-2", ids, media)
        return first, second, reading, tokens

    def ask(self, name: str, ids: list[int], media: list[bytes]) -> tuple[float, list[int], float, int]:
        """Seconds to the first token, the answer, the seconds of reading, and the prompt's tokens."""
        from tutti.events import Done, Failed, TextDelta

        start = time.perf_counter()
        request, reading = self.read(name, ids, media)
        self.events.clear()
        self.engine.loop.submit(request)
        self.engine.loop.run_until(lambda: any(isinstance(e, TextDelta | Failed) for e in self.events))
        first = time.perf_counter() - start
        self.engine.loop.run_until(lambda: any(isinstance(e, Done | Failed) for e in self.events))
        failed = next((event for event in self.events if isinstance(event, Failed)), None)
        if failed is not None:
            raise failed.error.error()
        answer = [token for e in self.events if isinstance(e, TextDelta) for token in e.tokens]
        return first, answer, reading, len(request.parts[0].ids)

    def read(self, name: str, ids: list[int], media: list[bytes]) -> tuple[Any, float]:
        """The request as the engine takes it, and the seconds that took."""
        from tutti.request import Media, Request, SamplingParams, Tokens

        start = time.perf_counter()
        files = [Media("image", data) for data in media]
        greedy = SamplingParams(temperature=0.0, max_tokens=8, ignore_eos=True)
        request = Request(id=name, parts=(Tokens(tuple(ids)), *files), sampling=greedy)
        prepared = self.processor.prepare(request)
        return msgspec.structs.replace(prepared, arrival=time.time()), time.perf_counter() - start


if __name__ == "__main__":
    main()
