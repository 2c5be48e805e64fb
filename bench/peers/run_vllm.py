"""vLLM's CPU build, in this process: eager, or compiled by torch.compile (the variant "compiled").

int8 is a W8A8 checkpoint (compressed-tensors), which `bench.peers.prepare` derives beside the bf16 one: vLLM does not
quantize to int8 while loading.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path

from bench.peers import runner


class VLLMPeer:
    """vLLM's `LLM` without a process of its own."""

    def __init__(self, job: runner.Job) -> None:
        cores = f"0-{job.threads - 1}"
        os.environ.update(
            VLLM_ENABLE_V1_MULTIPROCESSING="0",
            VLLM_CPU_KVCACHE_SPACE=str(job.kv_gb),
            VLLM_CPU_OMP_THREADS_BIND=cores,
            VLLM_CACHE_ROOT=str(Path(".bench/vllm-cache").resolve()),
            VLLM_NO_USAGE_STATS="1",
        )
        import vllm

        self.version = vllm.__version__
        self._params = vllm.SamplingParams
        self._llm = vllm.LLM(
            model=str(job.model if job.weights == "bf16" else job.model.with_name(f"{job.model.name}-w8a8")),
            dtype="bfloat16",
            max_model_len=runner.MAX_MODEL_LEN,
            enforce_eager=job.variant == "eager",
            distributed_executor_backend="uni",
            disable_log_stats=True,
        )

    def generate(self, prompts: list[list[int]], output_tokens: int) -> list[list[int]]:
        """See `runner.Peer`."""
        params = self._params(temperature=0.0, max_tokens=output_tokens, ignore_eos=True, detokenize=False)
        outputs = self._llm.generate(
            [{"prompt_token_ids": prompt} for prompt in prompts], params, use_tqdm=False
        )
        return [list(output.outputs[0].token_ids) for output in outputs]


def _preload() -> None:
    """Starts this program again with the libraries preloaded that vLLM would preload for an engine process.

    They are torch's own OpenMP runtime and tcmalloc (see vllm/platforms/cpu.py and vLLM's page on CPUs); a process
    that runs already cannot preload anything.
    """
    if "LD_PRELOAD" in os.environ:
        return
    torch = importlib.util.find_spec("torch")
    places = [Path(folder, "lib") for folder in (torch.submodule_search_locations if torch else None) or []]
    found = [library for place in places for library in place.glob("libgomp*.so*")]
    found += Path(sys.prefix, "tcmalloc").glob("**/libtcmalloc_minimal.so.4")
    environment = os.environ | {"LD_PRELOAD": ":".join(map(str, found))}
    os.execve(sys.executable, sys.orig_argv, environment)


if __name__ == "__main__":
    _preload()
    runner.main("vllm", VLLMPeer, weights=("bf16", "int8"), variants=("eager", "compiled"))
