"""How fast the kernels are beside what the machine can do: `python -m bench.kernels [--threads N] [--seconds S]`.

Prints the best time of many runs of each operation, for the shapes of a 0.6-billion-parameter decoder, with the rate it
means: bytes of weights or cache per second where memory is the limit, operations per second where arithmetic is. The
first lines measure the machine: the rate of reading memory, and of a bfloat16 product through oneDNN.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable

import torch

from tutti import kernels
from tutti.kernels.choose import report

HEADS, KV_HEADS, DIM, BLOCK = 16, 8, 128, 32
LINEAR = ((1024, 4096), (2048, 1024), (1024, 6144), (3072, 1024), (1024, 151936))  # inputs, outputs
FLUSH = 2**26  # bytes written between runs that must find memory cold


def main() -> None:
    """Runs every measurement and prints it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--seconds", type=float, default=0.3, help="spent on each measurement")
    parser.add_argument("--only", default="", help="machine, linear, attention or pointwise")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"{report()['cpu']}, {options.threads} threads")
    for measure in (machine, linear, attention, pointwise):
        if options.only in measure.__name__:
            measure(options.seconds)


def best(run: Callable[[], object], seconds: float, cold: bool = False) -> float:
    """Seconds of the fastest run; `cold` empties the caches before each."""
    flush = torch.empty(FLUSH, dtype=torch.uint8)
    run()
    fastest, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        if cold:
            flush.fill_(1)
        start = time.perf_counter()
        run()
        fastest = min(fastest, time.perf_counter() - start)
    return fastest


def show(name: str, seconds: float, size: float = 0, operations: float = 0) -> None:
    """One line."""
    rates = (f"{size / seconds / 1e9:8.1f} GB/s" if size else "") + (
        f"{operations / seconds / 1e12:8.3f} T/s" if operations else ""
    )
    print(f"  {name:48s}{seconds * 1e3:10.3f} ms {rates}", flush=True)


def machine(seconds: float) -> None:
    """Reading memory, and the arithmetic of a large product."""
    print("the machine")
    memory = torch.zeros(2**28, dtype=torch.int8)
    show("read 268 MB", best(lambda: memory.view(torch.int64).sum(), seconds), memory.nbytes)
    x, w = torch.randn(512, 1024).bfloat16(), torch.randn(4096, 1024).bfloat16()
    packed = torch.ops.mkldnn._reorder_linear_weight(w)
    run = best(lambda: torch.ops.mkldnn._linear_pointwise(x, packed, None, "none", [], ""), seconds)
    show("bfloat16 product 512x1024x4096, oneDNN", run, operations=2 * 512 * 1024 * 4096)


def linear(seconds: float) -> None:
    """Linear layers; the weights are cold at few rows, as they are in a model."""
    for inputs, outputs in LINEAR:
        print(f"linear {inputs} -> {outputs}")
        dense = kernels.Dense(torch.randn(outputs, inputs).bfloat16() * 0.03)
        start = time.perf_counter()
        quantized = kernels.quantize_int8(dense)
        middle = time.perf_counter()
        forms = {
            "int8": kernels.pack_linear(quantized, None, device="cpu", dtype=torch.bfloat16),
            "bf16": kernels.pack_linear(dense, None, device="cpu", dtype=torch.bfloat16),
        }
        print(f"  quantize {middle - start:.3f} s, pack both {time.perf_counter() - middle:.3f} s")
        for rows in (1, 8, 32, 512):
            if outputs > 2**16 and rows > 32:
                continue
            x = torch.randn(rows, inputs).bfloat16()
            for name, form in forms.items():
                run = best(lambda form=form, x=x: form(x), seconds, cold=rows < 32)
                show(f"{name} {rows} rows", run, form.bytes, 2 * rows * inputs * outputs)


def step(requests: int, before: int, queries: int, dtype: torch.dtype) -> tuple[Callable[[], object], int]:
    """(attention of such a step, bytes of cache it reads)."""
    length = before + queries
    needed = -(-length // BLOCK)
    blocks = requests * needed + 1
    cache = kernels.LayerCache(*(torch.randn(blocks, KV_HEADS, BLOCK, DIM).to(dtype) for _ in range(2)))
    table = (torch.randperm(blocks - 1) + 1).int().view(requests, needed)
    at = torch.arange(before, length)
    slots = (table[:, at // BLOCK].long() * BLOCK + at % BLOCK).flatten()
    starts = torch.arange(0, requests * queries + 1, queries, dtype=torch.int32)
    lengths = torch.full((requests,), length, dtype=torch.int32)
    batch = kernels.PagedBatch(starts, lengths, table.contiguous(), slots, queries, length)
    q, k, v = (
        torch.randn(requests * queries, HEADS + 2 * KV_HEADS, DIM)
        .to(dtype)
        .split((HEADS, KV_HEADS, KV_HEADS), 1)
    )
    size = 2 * requests * length * KV_HEADS * DIM * cache.key.itemsize
    return lambda: kernels.paged_attention(q, k, v, cache, batch, scale=DIM**-0.5), size


def attention(seconds: float) -> None:
    """Paged attention: decoding is bound by memory, prefill by arithmetic."""
    print(f"paged attention, {HEADS} heads on {KV_HEADS} of {DIM}, blocks of {BLOCK}")
    for dtype in (torch.bfloat16, torch.float32):
        for requests, before, queries in (
            (1, 127, 1),
            (1, 8191, 1),
            (32, 199, 1),
            (1, 0, 512),
            (1, 3584, 512),
        ):
            run, size = step(requests, before, queries, dtype)
            seen = requests * (before * queries + queries * (queries + 1) // 2)
            name = f"{str(dtype)[6:]} {requests} x {queries} after {before}"
            show(name, best(run, seconds, cold=queries == 1), size, 4 * seen * HEADS * DIM)


def pointwise(seconds: float) -> None:
    """What is between the products, one row and 512."""
    for rows in (1, 32, 512):
        print(f"pointwise, bfloat16, {rows} rows")
        x, residual = torch.randn(rows, 1024).bfloat16(), torch.randn(rows, 1024).bfloat16()
        weight, head_weight = torch.ones(1024).bfloat16(), torch.ones(DIM).bfloat16()
        q, k = torch.randn(rows, HEADS + KV_HEADS, DIM).bfloat16().split((HEADS, KV_HEADS), 1)
        angle, up = torch.zeros(rows, DIM // 2), torch.randn(rows, 6144).bfloat16()
        cos, sin = angle.cos(), angle.sin()
        show("add_rms_norm 1024", best(lambda: kernels.add_rms_norm(x, residual, weight, 1e-6), seconds))  # noqa: B023
        show("rms_norm of 16 heads of 128", best(lambda: kernels.rms_norm(q, head_weight, 1e-6), seconds))  # noqa: B023
        show("apply_rope of 24 heads of 128", best(lambda: kernels.apply_rope(q, k, cos, sin), seconds))  # noqa: B023
        show("gated silu 2 x 3072", best(lambda: kernels.gated(up, "silu"), seconds))  # noqa: B023


if __name__ == "__main__":
    main()
