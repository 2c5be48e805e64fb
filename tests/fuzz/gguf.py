"""`python -m tests.fuzz.gguf --minutes 10`: damaged GGUF files, until one does something else than be read or refused.

Small real files (language models, encoders, an adapter, a part of several) are changed by libFuzzer, which keeps the
changes that reach new lines of `tutti.formats.gguf` (atheris); mostly it is numbers in their headers that change.
What is read of each is all that Tutti reads of one: metadata, configuration, tokenizer, every tensor. An error that is
no `TuttiError`, a crash, more than ten seconds or 2 GB are findings: the file is kept, with the traceback beside it.

The exit code is 1 if there are any. `--again FILE` tries one file once more.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import subprocess
import sys
import tempfile
import time
import traceback
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["tutti.formats.gguf", "tutti.formats.lora"]):
    from tutti.errors import TuttiError
    from tutti.formats.gguf.checkpoint import open_gguf, open_tensors
    from tutti.formats.gguf.folder import FILES, read_inside
    from tutti.formats.gguf.header import describe
    from tutti.formats.gguf.source import read_contents
    from tutti.formats.lora import open_adapter
    from tutti.graph import resolve
    from tutti.models.processor.tokenizer import load_tokenizer
    from tutti.models.registry import find_graph

_HEADER = 16_384  # bytes that are taken for the header
_SECONDS, _MEGABYTES = 10, 2048  # of the processor and of memory, that one file may take
_STUCK = 600  # seconds by the clock, on a machine that does other things
_LARGEST = 2_000_000  # bytes of a file
_TELLING = (
    0,
    1,
    2,
    3,
    7,
    8,
    9,
    31,
    32,
    127,
    128,
    255,
    256,
    1 << 15,
    1 << 16,
    1 << 31,
    1 << 32,
    1 << 63,
    -1,
    -2,
)


def examine(path: Path) -> None:
    """Read all of the file at `path`, or be refused. Raises what neither is."""
    with suppress(TuttiError):
        describe(path)
    with suppress(TuttiError):
        read_contents(path)
    for name in FILES:
        with suppress(TuttiError):
            read_inside(path, name)
    with suppress(TuttiError):
        load_tokenizer(path).encode("a text, 12 Ü")
    with suppress(TuttiError):
        open_tensors(path)
    with suppress(TuttiError):
        checkpoint = open_gguf(path)
        for tensor in checkpoint.tensors:
            with suppress(TuttiError):
                checkpoint.kept_bytes(tensor)
                checkpoint.weight(tensor)
                checkpoint.tensor(tensor)
        for stage in find_graph(checkpoint.config, path).stages:
            resolve(stage.describe)(checkpoint.config)
        open_adapter(path, checkpoint.config)


class Fuzzer:
    """Tries files; keeps in `findings` one for each place where something else was raised."""

    def __init__(self, folder: Path, findings: Path) -> None:
        self.path = folder / "model-00001-of-00002.gguf"  # a name that a part of several may have
        self.findings = findings

    def try_one(self, data: bytes) -> None:
        """See `atheris.Setup`."""
        self.path.write_bytes(data)
        begin = time.process_time()
        try:
            examine(self.path)
            if time.process_time() - begin > _SECONDS:
                raise TimeoutError(f"it took {time.process_time() - begin:.0f} seconds")
        except Exception as error:  # noqa: BLE001 - that is what is looked for
            self._keep(data, error)

    def _keep(self, data: bytes, error: Exception) -> None:
        frames = traceback.extract_tb(error.__traceback__)
        place = next((frame for frame in reversed(frames) if "tutti" in frame.filename), frames[-1])
        name = f"{type(error).__name__}-{Path(place.filename).stem}-{place.lineno}"
        if not (self.findings / f"{name}.gguf").exists():
            (self.findings / f"{name}.gguf").write_bytes(data)
            (self.findings / f"{name}.txt").write_text("".join(traceback.format_exception(error)))
            print(f"finding: {name}", file=sys.stderr, flush=True)


def mutate(data: bytes, largest: int, seed: int) -> bytes:
    """A few numbers of the header written over, so that what follows stays where it is; or whatever libFuzzer does."""
    draw = random.Random(seed)
    if draw.random() < 0.25 or len(data) < 64:
        return bytes(atheris.Mutate(data, largest))
    changed = bytearray(data)
    for _ in range(draw.choice((1, 1, 2, 4))):
        width = draw.choice((1, 1, 2, 4, 8))
        at = draw.randrange(4, min(len(data), _HEADER) - 8)
        before = int.from_bytes(changed[at : at + width], "little")
        value = draw.choice((*_TELLING, before + 1, before - 1, before * 2, draw.getrandbits(8 * width)))
        changed[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, "little")
    return bytes(changed)


def seeds(folder: Path) -> None:
    """Write the files to begin with."""
    from gguf import GGMLQuantizationType

    from tests.gguf_files import write_gguf, write_shards
    from tests.models import gguf_files, text_encoders

    models = ("llama", "gemma3", "phi3", "gpt-oss", "deepseek2-apart", "falcon", "qwen3moe", "mistral")
    files = [gguf_files.cached(name, GGMLQuantizationType.Q8_0) for name in models]
    for name in ("bert", "nomic", "cross-xlm-roberta", "cross-roberta"):
        rank = 4 if "cross" in name else 1
        files.append(
            text_encoders.write_gguf(text_encoders.cached(name), folder / f"{name}.gguf", pooling=rank)
        )
    files += [write_gguf(folder / "plain.gguf"), write_gguf(folder / "adapter.gguf", kind="adapter")]
    files += write_shards(folder)
    for file in files:
        data = file.read_bytes()
        (folder / hashlib.sha256(data).hexdigest()[:16]).write_bytes(data)
    for file in folder.glob("*.gguf"):
        file.unlink()


def _fuzz(corpus: Path, findings: Path, minutes: float) -> None:
    """Never returns."""
    with tempfile.TemporaryDirectory(prefix="tutti-fuzz-") as folder:
        fuzzer = Fuzzer(Path(folder), findings)
        flags = [
            f"-max_total_time={int(minutes * 60)}",
            f"-timeout={_STUCK}",
            f"-report_slow_units={_STUCK}",
            f"-rss_limit_mb={_MEGABYTES}",
            f"-max_len={_LARGEST}",
            f"-artifact_prefix={findings}/",
            "-print_final_stats=1",
        ]
        atheris.Setup(["gguf", *flags, str(corpus)], fuzzer.try_one, custom_mutator=mutate)
        atheris.Fuzz()


def main() -> int:
    """Fuzz, or try one file again."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--minutes", type=float, default=10)
    parser.add_argument("--findings", type=Path, help="the folder for what is found (default: a new one)")
    parser.add_argument("--again", type=Path, metavar="FILE")
    parser.add_argument("--corpus", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.again is not None:
        examine(asked.again)
        return 0
    if asked.corpus is not None:
        _fuzz(asked.corpus, asked.findings, asked.minutes)
    findings: Path = asked.findings or Path(tempfile.mkdtemp(prefix="tutti-findings-"))
    findings.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="tutti-corpus-") as corpus:
        seeds(Path(corpus))
        command = [sys.executable, "-m", "tests.fuzz.gguf", "--minutes", str(asked.minutes)]
        child = subprocess.run([*command, "--findings", str(findings), "--corpus", corpus], check=False)
    found = sorted(findings.iterdir())
    print(f"{len(found)} files in {findings}" if found else "nothing was found")
    return 1 if found or child.returncode else 0


if __name__ == "__main__":
    sys.exit(main())
