"""Tutti's part of `bench.gguf.speed`: `python -m bench.gguf.run_tutti FILE THREADS`, a line of JSON."""

from __future__ import annotations

import json
import os
import sys
import time

PROMPT, ANSWER, LONG = 32, 64, 512


def main() -> None:
    """Warm up, then each work."""
    file, threads = sys.argv[1], int(sys.argv[2])
    os.environ["OMP_NUM_THREADS"] = str(threads)
    from tutti.engine.core import Engine
    from tutti.events import Done, Event
    from tutti.request import Request, SamplingParams, Tokens
    from tutti.settings import EngineOptions

    seen: list[tuple[float, Event]] = []
    engine = Engine(
        EngineOptions(model=file, threads=threads, max_model_len=2048, enable_prefix_caching=False),
        lambda events: seen.extend((time.perf_counter(), event) for event in events),
    )

    def ask(requests: int, prompt: int, answer: int) -> tuple[float, float]:
        """Seconds to the last first token, and from there to the end."""
        seen.clear()
        start = time.perf_counter()
        for number in range(requests):
            ids = tuple(1000 + (number * 7919 + place * 31) % 200 for place in range(prompt))
            sampling = SamplingParams(temperature=0.0, max_tokens=answer, ignore_eos=True)
            engine.loop.submit(Request(id=f"{number}", parts=(Tokens(ids),), sampling=sampling))
        engine.loop.run_until(lambda: sum(isinstance(event, Done) for _, event in seen) == requests)
        firsts: dict[str, float] = {}
        for moment, event in seen:
            firsts.setdefault(event.request, moment)
        begun = max(firsts.values())
        return begun - start, seen[-1][0] - begun

    ask(1, PROMPT, 4)
    result = {"one": (ANSWER - 1) / ask(1, PROMPT, ANSWER)[1]}
    result["prompt"] = LONG / min(ask(1, LONG, 1)[0] for _ in range(2))
    result["eight"] = 8 * (ANSWER - 1) / ask(8, PROMPT, ANSWER)[1]
    print(json.dumps(result))


if __name__ == "__main__":
    main()
