"""HF transformers: one static batch through `generate`, bf16."""

from __future__ import annotations

from typing import Any

from bench.peers import runner


class HFPeer:
    """A causal LM of transformers with its default (scaled-dot-product) attention."""

    def __init__(self, job: runner.Job) -> None:
        import torch
        import transformers

        torch.set_num_threads(job.threads)
        self.version = transformers.__version__
        model: Any = transformers.AutoModelForCausalLM.from_pretrained(job.model, dtype=torch.bfloat16)
        self._model = model.to(job.device).eval()

    def generate(self, prompts: list[list[int]], output_tokens: int) -> list[list[int]]:
        """See `runner.Peer`. All prompts of a workload have one length, so nothing is padded."""
        import torch

        batch = torch.tensor(prompts, device=self._model.device)
        with torch.inference_mode():
            output = self._model.generate(
                batch,
                attention_mask=torch.ones_like(batch),
                do_sample=False,
                min_new_tokens=output_tokens,
                max_new_tokens=output_tokens,
                pad_token_id=0,
            )
        answers: list[list[int]] = output[:, batch.shape[1] :].tolist()
        return answers


if __name__ == "__main__":
    runner.main("hf", HFPeer, weights=("bf16",))
