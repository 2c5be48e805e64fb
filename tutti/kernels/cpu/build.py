"""Builds the native kernels: `python -m tutti.kernels.cpu.build` (what `make native` runs).

One source, one extension module per instruction set, beside this file; `native` loads the best one the processor can
run. Needs a C++20 compiler (GCC 12 or Clang 16) and nanobind's sources; nothing is ever built at run time. Where it
cannot build it says why and exits with 1: the torch kernels serve instead.

`--sanitize` builds modules that stop at the first access beyond their memory and at undefined behaviour
(`make sanitize`). They carry another digest, so that nothing but tests loads them, and the next build replaces them.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tutti.kernels.cpu.native import SETS, SOURCES, digest, module_name

SANITIZED = (
    "-O1",
    "-g",
    "-fno-omit-frame-pointer",
    "-fsanitize=address,undefined",
    "-fno-sanitize-recover=all",
)
COMMON = ("-std=c++20", "-fPIC", "-fvisibility=hidden", "-DNDEBUG")
_AVX512 = ("-march=x86-64-v4", "-mavx512bf16", "-mavx512vnni")
FLAGS = {
    "amx": (*_AVX512, "-mamx-tile", "-mamx-bf16", "-mamx-int8"),
    "avx512": _AVX512,
    "avxvnni": ("-march=x86-64-v3", "-mavxvnni"),
    "avx2": ("-march=x86-64-v3",),
}


class CannotBuild(Exception):
    """What is missing, or what the compiler said."""


def main() -> int:
    """Builds what is not up to date; prints what was done."""
    parser = argparse.ArgumentParser(
        prog="python -m tutti.kernels.cpu.build", description="Build the native kernels."
    )
    parser.add_argument("--compiler", help="the C++ compiler (default: c++, g++ or clang++)")
    parser.add_argument("--jobs", type=int, default=2, help="compilers at a time (default 2)")
    parser.add_argument("--force", action="store_true", help="build even what is up to date")
    parser.add_argument("--sanitize", action="store_true", help="modules for the tests, with sanitizers")
    options = parser.parse_args()
    try:
        built = build(options.compiler, options.jobs, options.force, options.sanitize)
    except CannotBuild as reason:
        print(f"native kernels: not built: {reason}", file=sys.stderr)
        return 1
    print(f"native kernels: {', '.join(built) + ' built' if built else 'up to date'}")
    return 0


def build(wanted: str | None = None, jobs: int = 2, force: bool = False, sanitize: bool = False) -> list[str]:
    """Builds the module of every instruction set that was not built from the sources as they are; gives their names.

    `wanted` is the compiler. Raises CannotBuild.
    """
    sources = digest()[::-1] if sanitize else digest()
    stale = [name for name in SETS if force or not is_built_from(target(name), sources)]
    if not stale:
        return []
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        compiler = Compiler(find_compiler(wanted), nanobind_includes(), Path(folder))
        support = pool.submit(compiler.compile, nanobind_source(), "all", ("-O2", "-fno-strict-aliasing"))
        parts = {}
        for name in stale:
            defined = (f"-DTUTTI_MODULE={module_name(name)}", f'-DTUTTI_SOURCES="{sources}"')
            flags = (*(SANITIZED if sanitize else ("-O3",)), "-fopenmp", *FLAGS[name], *defined)
            parts[name] = [
                pool.submit(compiler.compile, source, name, flags) for source in sorted(SOURCES.glob("*.cpp"))
            ]
        for name in stale:
            extra = SANITIZED if sanitize else ("-s",)
            compiler.link([part.result() for part in (*parts[name], support)], target(name), extra)
    return stale


@dataclass(frozen=True, slots=True)
class Compiler:
    """A C++ compiler, its -I flags and a folder for what it makes."""

    command: str
    includes: tuple[str, ...]
    folder: Path

    def compile(self, source: Path, name: str, flags: tuple[str, ...]) -> Path:
        """The object file of `source`. Raises CannotBuild."""
        out = self.folder / f"{name}-{source.stem}.o"
        self._run(*COMMON, *flags, *self.includes, "-c", str(source), "-o", str(out))
        return out

    def link(self, parts: list[Path], to: Path, extra: tuple[str, ...]) -> None:
        """Puts the module at `to`, at once: others may be importing it. Raises CannotBuild."""
        made = to.with_suffix(".new")
        self._run("-shared", "-fopenmp", *extra, *map(str, parts), "-o", str(made))
        made.replace(to)

    def _run(self, *arguments: str) -> None:
        done = subprocess.run((self.command, *arguments), capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise CannotBuild(f"{self.command} failed on {arguments[-3]}:\n{done.stderr[-4000:]}")


def target(name: str) -> Path:
    """The file of the module for the instruction set `name`."""
    return Path(__file__).parent / (module_name(name) + sysconfig.get_config_var("EXT_SUFFIX"))


def is_built_from(path: Path, sources: str) -> bool:
    """Whether the module at `path` carries the digest `sources`."""
    return path.exists() and sources.encode() in path.read_bytes()


def find_compiler(wanted: str | None) -> str:
    """The compiler to use. Raises CannotBuild."""
    for name in (wanted,) if wanted else ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return found
    raise CannotBuild(f"no C++ compiler ({wanted or 'c++, g++, clang++'}); install one, for instance g++")


def nanobind_includes() -> tuple[str, ...]:
    """-I flags for nanobind and Python. Raises CannotBuild."""
    python = Path(sysconfig.get_path("include"))
    if not (python / "Python.h").exists():
        raise CannotBuild(f"no Python.h in {python}; install Python's development files (python3-dev)")
    root = nanobind_source().parent.parent
    return tuple(
        f"-I{folder}" for folder in (root / "include", root / "ext" / "robin_map" / "include", python)
    )


def nanobind_source() -> Path:
    """nanobind's one source file. Raises CannotBuild."""
    try:
        import nanobind  # type: ignore[import-untyped]
    except ImportError:
        raise CannotBuild("nanobind is not installed; pip install nanobind") from None
    return Path(nanobind.source_dir()) / "nb_combined.cpp"


if __name__ == "__main__":
    sys.exit(main())
