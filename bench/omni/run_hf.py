"""transformers' part of `bench.omni`: it answers one request after the other, and the sound comes at the end."""

from __future__ import annotations

import time
from typing import Any

from bench.omni.checkpoint import VOICE
from bench.omni.work import Job, Result, job_of


def main() -> None:
    """Warm up, then one request; several take as many times as long."""
    job = job_of(__doc__)
    import torch
    import transformers

    torch.set_num_threads(job.threads)
    kind: Any = transformers.Qwen2_5OmniForConditionalGeneration
    if job.frames:
        kind = transformers.Qwen3OmniMoeForConditionalGeneration
    model: Any = kind.from_pretrained(job.model, dtype=getattr(torch, job.dtype)).eval()
    answer(model, job, 0, codes=20)
    start = time.perf_counter()
    sound = answer(model, job, 1, codes=job.codes)
    total = time.perf_counter() - start
    seconds = sound.numel() / 24_000
    print(Result("transformers", "file", 1, total, total, total, seconds, total / seconds).line(), flush=True)


def answer(model: Any, job: Job, number: int, *, codes: int) -> Any:
    """The sound of one answer."""
    import torch

    prompt = torch.tensor([job.prompt(number)])
    if job.frames:  # the codes that go with the last one are not made; its head never lets speech end
        end = {"talker_max_new_tokens": codes + 1, "thinker_eos_token_id": None}
    else:
        end = {"talker_max_new_tokens": codes, "talker_eos_token_id": [8292, 8294]}
        end |= {"thinker_min_new_tokens": job.text_tokens}
    with torch.inference_mode():
        _, sound = model.generate(
            input_ids=prompt,
            attention_mask=torch.ones_like(prompt),
            speaker=VOICE,
            thinker_max_new_tokens=job.text_tokens,
            thinker_do_sample=False,
            talker_do_sample=False,
            **end,
        )
    return sound


if __name__ == "__main__":
    main()
