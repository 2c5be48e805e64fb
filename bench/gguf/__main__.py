"""`python -m bench.gguf`: logits of a GGUF file of every type, here and in llama.cpp, beside those of its floats.

    bench/peers/setup.sh llamacpp        # once
    python -m bench.gguf                 # prints a table, writes it to bench/results/

Of every type the model is one of random blocks (`models`). "Floats" are its dequantized values in float32 arithmetic,
here. Differences are norms of the difference divided by the norm of the floats' logits.
"""

from __future__ import annotations

import argparse
import datetime
import subprocess
import tempfile
from pathlib import Path

import numpy as np
import torch

from bench.gguf.models import VOCAB, write_model
from tests.models.driver import Driver, load_model
from tutti.formats.gguf.blocks import kinds

ROOT = Path(__file__).parents[2]
TOKENS = [int(token) for token in np.random.default_rng(1).integers(0, 256, 48)]
COLUMNS = ("ours f32", "ours bf16", "llama.cpp", "between", "llama f32", "same top")
HEAD = f"{'type':<8}{'bits':>6}" + "".join(f"{column:>11}" for column in COLUMNS)


def main() -> int:
    """Compares every type that stays quantized here."""
    parser = argparse.ArgumentParser(prog="python -m bench.gguf", description=__doc__)
    parser.add_argument("--peer", type=Path, default=ROOT / ".bench/llamacpp/bin/python")
    parser.add_argument(
        "--out", type=Path, help="where the table goes (default: bench/results/<date>-gguf.md)"
    )
    options = parser.parse_args()
    lines = [HEAD]
    print(HEAD, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        for kind in kinds.KEPT:
            lines.append(_row(kind, Path(folder), options.peer))
            print(lines[-1], flush=True)
    out = options.out or ROOT / f"bench/results/{datetime.date.today()}-gguf.md"
    version = _peer(options.peer, "-c", "import xllamacpp; print(xllamacpp.__version__)").strip()
    table = "\n".join(lines)
    out.write_text(f"{_TEXT.format(version=version, tokens=len(TOKENS))}\n```\n{table}\n```\n")
    return 0


_TEXT = """# Logits of quantized GGUF files, here and in llama.cpp

`python -m bench.gguf`; llama.cpp by xllamacpp {version}, with its default parameters. A Llama of two layers whose
matrices are random blocks of one type, {tokens} tokens. Each number is the norm of a difference of logits over the
norm of the logits of the dequantized model in float32 ("floats"):

- `ours f32`, `ours bf16`: between this program, computing in that type, and the floats
- `llama.cpp`: between llama.cpp and the floats
- `between`: between llama.cpp and this program in float32
- `llama f32`: between llama.cpp on a file of the floats and the floats (its cache is in float16)
- `same top`: for how many of the tokens llama.cpp and this program have the same likeliest next one
"""


def _row(kind: kinds.BlockType, folder: Path, peer: Path) -> str:
    file = write_model(folder / f"{kind.name}.gguf", kind.name)
    floats = write_model(folder / "floats.gguf", kind.name, floats=True)
    wanted, exact = ours(floats, "float32"), llama_cpp(floats, peer, folder / "logits.npy")
    mine = ours(file, "float32")
    bf16 = ours(file, "bfloat16")
    theirs = llama_cpp(file, peer, folder / "logits.npy")
    same = int((theirs.argmax(1) == mine.argmax(1)).sum())
    numbers = [difference(mine, wanted), difference(bf16, wanted)]
    numbers += [difference(theirs, wanted), difference(theirs, mine), difference(exact, wanted)]
    return (
        f"{kind.name:<8}{kind.bits:>6.2f}"
        + "".join(f"{x:>11.1e}" for x in numbers)
        + f"{same:>8}/{len(TOKENS)}"
    )


def ours(file: Path, dtype: str) -> np.ndarray:
    """Our logits [tokens, vocabulary] of the file, computed in `dtype`."""
    model = load_model(file, dtype=dtype)
    with torch.inference_mode():
        (found,) = Driver(model, [TOKENS], dtype=getattr(torch, dtype)).step(len(TOKENS))
    assert found is not None
    return found.float().numpy()[:, :VOCAB]


def llama_cpp(file: Path, peer: Path, out: Path) -> np.ndarray:
    """llama.cpp's logits [tokens, vocabulary] of the file."""
    _peer(peer, str(Path(__file__).with_name("peer.py")), str(file), ",".join(map(str, TOKENS)), str(out))
    return np.load(out)


def _peer(python: Path, *arguments: str) -> str:
    done = subprocess.run((str(python), *arguments), capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise SystemExit(f"{python} failed:\n{done.stderr[-2000:]}")
    return done.stdout


def difference(found: np.ndarray, wanted: np.ndarray) -> float:
    """Relative to the size of what is wanted."""
    return float(np.linalg.norm(found - wanted) / np.linalg.norm(wanted))


if __name__ == "__main__":
    raise SystemExit(main())
