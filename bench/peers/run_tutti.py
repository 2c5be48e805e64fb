"""Tutti itself, through its Python door."""

from __future__ import annotations

from bench.peers import runner


class TuttiPeer:
    """`tutti.LLM` with a KV cache of the size asked for."""

    def __init__(self, job: runner.Job) -> None:
        import tutti
        from tutti import LLM, SamplingParams

        self.version = tutti.__version__
        self._params = SamplingParams
        self._llm = LLM(
            model=str(job.model),
            dtype="bfloat16",
            quantization="int8" if job.weights == "int8" else None,
            device=job.device,
            max_model_len=runner.MAX_MODEL_LEN,
            kv_cache_memory_bytes=job.kv_gb * 2**30,
            threads=job.threads,
        )

    def generate(self, prompts: list[list[int]], output_tokens: int) -> list[list[int]]:
        """See `runner.Peer`."""
        params = self._params(temperature=0.0, max_tokens=output_tokens, ignore_eos=True)
        outputs = self._llm.generate(
            [{"prompt_token_ids": prompt} for prompt in prompts], params, use_tqdm=False
        )
        return [list(output.outputs[0].token_ids) for output in outputs]


if __name__ == "__main__":
    runner.main("tutti", TuttiPeer, weights=("bf16", "int8"))
