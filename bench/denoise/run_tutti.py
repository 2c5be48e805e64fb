"""Tutti's part of `bench.denoise`: an engine in this thread, requests that come at their times, one line of JSON."""

from __future__ import annotations

import resource
import time

from bench.denoise.work import Asked, Job, Result, job_of, small_of


def main() -> None:
    """Warm up, then the work."""
    job = job_of(__doc__)
    studio = Studio(job)
    studio.draw((Asked(0.0, job.work[0].side, 2, 0),))
    studio.forget()
    files = studio.draw(job.work)
    late = [studio.ends[str(one.seed)] - one.at for one in job.work]
    names = []
    for asked in job.work:
        file = job.pictures / f"tutti-{job.name}-{job.cache.replace(':', '-')}-{asked.seed}.png"
        file.write_bytes(files[str(asked.seed)])
        names.append(str(file))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    steps = sum(one.steps for one in job.work)
    total = max(studio.ends.values())
    print(
        Result(
            "tutti",
            job.name,
            job.cache,
            total,
            late,
            small_of(job, late),
            peak,
            steps,
            studio.skipped,
            names,
        ).line(),
        flush=True,
    )


class Studio:
    """An engine, and when each picture was finished: seconds since the work began."""

    def __init__(self, job: Job) -> None:
        from tutti.engine.core import Engine
        from tutti.events import Event
        from tutti.gateway.opening import processor_of
        from tutti.settings import EngineOptions

        options = EngineOptions(
            model=str(job.model), dtype=job.dtype, threads=job.threads, memory=8 * 10**9, device="cpu"
        )
        self.job = job
        self.events: list[Event] = []
        self.engine = Engine(options, self.events.extend)
        self.processor = processor_of(options)
        self.ends: dict[str, float] = {}
        self._skipped = 0

    @property
    def skipped(self) -> int:
        """Steps that a feature cache spared, since `forget`."""
        return self._count() - self._skipped

    def forget(self) -> None:
        """What the warm-up was is not counted."""
        self.ends.clear()
        self._skipped = self._count()

    def draw(self, work: tuple[Asked, ...]) -> dict[str, bytes]:
        """Every picture of `work`, each submitted at its time; PNG files by the seed."""
        from tutti.events import Failed, ImageDone

        waiting = sorted(work, key=lambda one: one.at)
        found: dict[str, bytes] = {}
        start = time.perf_counter()
        while len(found) < len(work):
            now = time.perf_counter() - start
            while waiting and waiting[0].at <= now:
                self._submit(waiting.pop(0))
            if not self.engine.loop.turn() and waiting:
                time.sleep(max(0.0, waiting[0].at - (time.perf_counter() - start)))
            for event in self.events:
                if isinstance(event, Failed):
                    raise event.error.error()
                if isinstance(event, ImageDone):
                    found[event.request] = event.png
                    self.ends[event.request] = time.perf_counter() - start
            self.events.clear()
        return found

    def _submit(self, asked: Asked) -> None:
        from tutti.models.processor.drawer import drawing_request
        from tutti.request import Drawing

        cache, _, threshold = self.job.cache.partition(":")
        scale = 4.0 if self.job.guided else 0.0
        drawing = Drawing(
            width=asked.side,
            height=asked.side,
            steps=asked.steps,
            guidance=scale,
            true_guidance=scale,
            cache=cache,
            cache_threshold=float(threshold) if threshold else None,
        )
        request = drawing_request(asked.prompt, None, drawing, id=str(asked.seed), seed=asked.seed)
        self.engine.loop.submit(self.processor.prepare(request))

    def _count(self) -> int:
        return sum(stage.skipped for stage in self.engine.stats().stages)


if __name__ == "__main__":
    main()
