"""Makes every file a comparison needs: checkpoints, the W8A8 copy for vLLM, the exports for OpenVINO.

    python -m bench.peers.prepare M1 M2

Everything lands in .bench/models and is kept; what is there already is left alone.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import time
from pathlib import Path

from bench.peers.checkpoints import MODELS, SHAPES, make_checkpoint, quantize_w8a8

_EXPORTER = Path(".bench/openvino/bin/optimum-cli")
# optimum's names of weight formats. It has none for bf16; fp16 is as large, and turned into bf16 when loaded.
_STORED_AS = {"int8": "int8", "bf16": "fp16"}


def export_openvino(source: Path, weights: str) -> Path:
    """Exports `source` for OpenVINO with `weights` unless it is there. Raises CalledProcessError (its output shows)."""
    folder = source.with_name(f"{source.name}-openvino-{weights}")
    if folder.exists():
        return folder
    if not _EXPORTER.exists():
        raise FileNotFoundError(f"{_EXPORTER} is missing; install it with: bench/peers/setup.sh openvino")
    unfinished = folder.with_name(folder.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    task = ["--task", "text-generation-with-past", "--weight-format", _STORED_AS[weights]]
    command = [_EXPORTER, "export", "openvino", "--model", source, *task, unfinished]
    subprocess.run(["nice", "-n", "5", *map(str, command)], check=True)
    unfinished.rename(folder)
    return folder


def prepare(name: str, peers: set[str]) -> Path:
    """Makes the checkpoint `name` and what `peers` need of it; returns the checkpoint's folder."""
    source = make_checkpoint(name, MODELS / name)
    if "vllm:int8" in peers:
        quantize_w8a8(source, source.with_name(f"{name}-w8a8"))
    for weights in _STORED_AS:
        if f"openvino:{weights}" in peers:
            export_openvino(source, weights)
    return source


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bench.peers.prepare", description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="+", choices=list(SHAPES))
    for name in parser.parse_args().names:
        started = time.monotonic()
        print(
            f"{name}: {prepare(name, {'vllm:int8', 'openvino:int8', 'openvino:bf16'})}, "
            f"{time.monotonic() - started:.0f} s"
        )


if __name__ == "__main__":
    main()
