"""diffusers' part of `bench.denoise`: its pipeline draws one request after the other, in the order they came in."""

from __future__ import annotations

import resource
import time
from typing import Any

from bench.denoise.work import Asked, Job, Result, job_of, small_of


def main() -> None:
    """Warm up, then the work."""
    job = job_of(__doc__)
    import diffusers
    import torch

    torch.set_num_threads(job.threads)
    pipe: Any = diffusers.DiffusionPipeline.from_pretrained(job.model, torch_dtype=getattr(torch, job.dtype))
    pipe.set_progress_bar_config(disable=True)
    draw(pipe, job, Asked(0.0, job.work[0].side, 2, 0))
    start = time.perf_counter()
    late, names = [], []
    for asked in job.work:
        time.sleep(max(0.0, asked.at - (time.perf_counter() - start)))
        picture = draw(pipe, job, asked)
        late.append(time.perf_counter() - start - asked.at)
        file = job.pictures / f"diffusers-{job.name}-{asked.seed}.png"
        picture.save(file)
        names.append(str(file))
    total = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    steps = sum(one.steps for one in job.work)
    small = small_of(job, late)
    print(Result("diffusers", job.name, "none", total, late, small, peak, steps, 0, names).line(), flush=True)


def draw(pipe: Any, job: Job, asked: Asked) -> Any:
    """Pillow's picture."""
    import torch

    scale = 4.0 if job.guided else 0.0
    qwen = type(pipe).__name__ == "QwenImagePipeline"
    manner = {"true_cfg_scale": scale, "negative_prompt": " "} if qwen else {"guidance_scale": scale}
    return pipe(
        asked.prompt,
        width=asked.side,
        height=asked.side,
        num_inference_steps=asked.steps,
        generator=torch.Generator("cpu").manual_seed(asked.seed),
        **manner,
    ).images[0]


if __name__ == "__main__":
    main()
