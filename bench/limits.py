"""What the machine can do at most, measured; and what that makes of a model's workloads.

Owns the measured rates (memory read with huge and with 4 KiB pages, matrix products in bf16, int8 and float32) and the
arithmetic that turns them into limits: no implementation with these weights can be faster on this machine, since each
decode step reads every weight once and each token multiplies with all of them. A limit beside a measured number says
how much room is left.

    python -m bench.limits --threads 2            measures, prints JSON (about ten seconds)
"""

from __future__ import annotations

import argparse
import json
import mmap
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from bench.peers.checkpoints import Shape
from bench.peers.workloads import Workload

_REGION = 2**30  # bytes read once per trial: far beyond any cache
_CUDA_REGION = 2**33
_GEMM = (1024, 4096, 4096)  # rows, in, out


@dataclass(frozen=True, slots=True)
class Rates:
    """The machine's rates with `threads` threads: bytes/s of memory reads, operations/s of matrix products."""

    threads: int
    read_huge_pages: float
    read_4k_pages: float
    gemm_bf16: float
    gemm_int8: float
    gemm_f32: float

    @property
    def read(self) -> float:
        """The faster of the two ways to read memory, bytes/s."""
        return max(self.read_huge_pages, self.read_4k_pages)

    def gemm(self, weights: str) -> float:
        """Operations/s with `weights` "bf16" or "int8"."""
        return self.gemm_int8 if weights == "int8" else self.gemm_bf16


# --- measuring ---------------------------------------------------------------------------------------------------


def _best_of(action: Callable[[], object], trials: int, wait: Callable[[], None] = lambda: None) -> float:
    """Seconds of the fastest of `trials` calls, after one that does not count: a limit is a best case.

    `wait` returns when the device has done what `action` started.
    """
    action()
    wait()
    times = []
    for _ in range(trials):
        started = time.perf_counter()
        action()
        wait()
        times.append(time.perf_counter() - started)
    return min(times)


def _read_rate(advice: int) -> float:
    """Bytes/s of summing a region whose pages were advised with `advice` before their first touch."""
    import torch

    with mmap.mmap(-1, _REGION) as region:
        region.madvise(advice)
        words = torch.frombuffer(region, dtype=torch.int64)
        words.fill_(1)
        seconds = _best_of(words.sum, 7)
        del words  # the region cannot be closed while a tensor looks into it
    return _REGION / seconds


def _gemm_rates() -> tuple[float, float, float]:
    """Operations/s of bf16, int8 and float32 products of the shape `_GEMM`."""
    import torch

    rows, width, out = _GEMM
    operations = 2 * rows * width * out
    x, w = torch.randn(rows, width), torch.randn(out, width)
    x16, w16 = x.bfloat16(), torch.ops.mkldnn._reorder_linear_weight(w.bfloat16(), rows)
    x8 = torch.randint(0, 255, (rows, width), dtype=torch.uint8)
    w8 = torch.ops.onednn.qlinear_prepack(
        torch.randint(-127, 127, (out, width), dtype=torch.int8), [rows, width]
    )
    scales, zeros = torch.ones(out), torch.zeros(out, dtype=torch.int64)

    def bf16() -> object:
        return torch.ops.mkldnn._linear_pointwise(x16, w16, None, "none", [], "")

    def int8() -> object:
        return torch.ops.onednn.qlinear_pointwise(
            x8, 1.0, 128, w8, scales, zeros, None, 1.0, 0, torch.bfloat16, "none", [], ""
        )

    with torch.inference_mode():
        bf16_s, int8_s, f32_s = _best_of(bf16, 7), _best_of(int8, 7), _best_of(lambda: x @ w.T, 2)
    return operations / bf16_s, operations / int8_s, operations / f32_s


def measure(threads: int) -> Rates:
    """This machine's rates now, with `threads` threads. Takes about ten seconds and 1.5 GB."""
    import torch

    torch.set_num_threads(threads)
    huge, small = _read_rate(mmap.MADV_HUGEPAGE), _read_rate(mmap.MADV_NOHUGEPAGE)
    bf16, int8, f32 = _gemm_rates()
    return Rates(threads, huge, small, bf16, int8, f32)


def measure_cuda() -> Rates:
    """The same rates of the current CUDA device; both page sizes are the one rate of its memory."""
    import torch

    region = torch.ones(_CUDA_REGION // 8, dtype=torch.int64, device="cuda")
    read = _CUDA_REGION / _best_of(region.sum, 7, torch.cuda.synchronize)
    side = 8192

    def gemm(dtype: torch.dtype) -> float:
        if dtype == torch.int8:
            x, w = (torch.randint(-127, 127, (side, side), dtype=dtype, device="cuda") for _ in range(2))
            seconds = _best_of(lambda: torch._int_mm(x, w.T), 7, torch.cuda.synchronize)
        else:
            a, b = (torch.randn(side, side, dtype=dtype, device="cuda") for _ in range(2))
            seconds = _best_of(lambda: a @ b.T, 7, torch.cuda.synchronize)
        return 2 * side**3 / seconds

    return Rates(0, read, read, gemm(torch.bfloat16), gemm(torch.int8), gemm(torch.float32))


def median(rates: list[Rates]) -> Rates:
    """Field by field. The rates flip between rounds, as they do for the peers."""
    columns: dict[str, Any] = {
        name: statistics.median(asdict(each)[name] for each in rates) for name in Rates.__slots__
    }
    return Rates(**columns)


# --- the arithmetic ----------------------------------------------------------------------------------------------


def _weight_bytes(shape: Shape, weights: str) -> float:
    """Bytes one decode step reads of the weights (int8: one byte each; scales per channel do not show)."""
    each = 1 if weights == "int8" else 2
    return each * (shape.block_parameters + shape.head_parameters)


def _step_seconds(
    shape: Shape, rates: Rates, weights: str, *, rows: int, logits: int, attended: float, cached: float
) -> float:
    """Least seconds of one forward pass over `rows` tokens of which `logits` need the vocabulary's matrix.

    `attended`: pairs of a query and a key it sees; `cached`: tokens whose keys and values are read (bf16). Matrices at
    the rate of their weights, attention at bf16's; and no faster than every weight can be read once.
    """
    attention = 4 * attended * shape.layers * shape.heads * shape.head_dim
    matrices = 2 * (rows * shape.block_parameters + logits * shape.head_parameters)
    computing = matrices / rates.gemm(weights) + attention / rates.gemm_bf16
    kv_bytes = 4 * cached * shape.layers * shape.kv_heads * shape.head_dim
    return max(computing, (_weight_bytes(shape, weights) + kv_bytes) / rates.read)


def limit(shape: Shape, rates: Rates, weights: str, workload: Workload) -> float:
    """The best value `workload` can have, in its own metric. A shared prefix is known and read once a step."""
    shared, own, requests = workload.shared, workload.own, workload.requests
    prefill = _step_seconds(
        shape,
        rates,
        weights,
        rows=requests * own,
        logits=requests,
        attended=requests * own * (shared + own / 2),
        cached=shared,
    )
    later = own + workload.output / 2  # own tokens of a request halfway through its answer
    step = _step_seconds(
        shape,
        rates,
        weights,
        rows=requests,
        logits=requests,
        attended=requests * (shared + later),
        cached=shared + requests * later,
    )
    if workload.metric == "decode_tok_s":
        return 1 / step
    if workload.metric == "prefill_tok_s":
        return workload.prompt_tokens / prefill
    total = prefill + (workload.output - 1) * step
    if workload.metric == "output_tok_s":
        return requests * workload.output / total
    return total


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench.limits", description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    print(json.dumps(asdict(measure(parser.parse_args().threads))))


if __name__ == "__main__":
    main()
