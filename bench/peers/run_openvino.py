"""OpenVINO GenAI's continuous batching, on models that `bench.peers.prepare` exported beside the checkpoint.

Computes in bf16 whatever the weights are stored in; the KV cache is in the plugin's default precision (8 bits on a
CPU) and grows as needed.
"""

from __future__ import annotations

from bench.peers import runner


class OpenVINOPeer:
    """A `ContinuousBatchingPipeline` with prefix caching."""

    def __init__(self, job: runner.Job) -> None:
        import openvino_genai

        folder = job.model.with_name(f"{job.model.name}-openvino-{job.weights}")
        if not folder.exists():
            raise FileNotFoundError(f"{folder} is missing: python -m bench.peers.prepare {job.model.name}")
        scheduling = openvino_genai.SchedulerConfig()
        scheduling.enable_prefix_caching = True
        scheduling.max_num_seqs = 256
        properties = {"INFERENCE_PRECISION_HINT": "bf16", "INFERENCE_NUM_THREADS": job.threads}
        self.version = openvino_genai.__version__
        self._config = openvino_genai.GenerationConfig
        self._pipeline = openvino_genai.ContinuousBatchingPipeline(
            str(folder), scheduling, "CPU", properties=properties
        )

    def generate(self, prompts: list[list[int]], output_tokens: int) -> list[list[int]]:
        """See `runner.Peer`."""
        import numpy
        import openvino

        config = self._config()
        config.max_new_tokens = output_tokens
        config.min_new_tokens = output_tokens
        config.ignore_eos = True
        config.do_sample = False
        inputs = [openvino.Tensor(numpy.array([prompt], dtype=numpy.int64)) for prompt in prompts]
        results = self._pipeline.generate(inputs, [config] * len(inputs))
        return [list(result.m_generation_ids[0]) for result in results]


if __name__ == "__main__":
    runner.main("openvino", OpenVINOPeer, weights=("int8", "bf16"))
