"""Builds the native kernels: `python -m tutti.kernels.cpu.build` (what `make native` runs).

One source, one extension module per instruction set, beside this file; `native` loads the best one the processor can
run. Needs a C++20 compiler (GCC 12 or Clang 16) and nanobind's sources; nothing is ever built at run time. Where it
cannot build it says why and exits with 1: the torch kernels serve instead.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tutti.kernels.cpu.native import SETS, module_name

SOURCES = Path(__file__).parent / "src"
COMMON = ("-std=c++20", "-fPIC", "-fvisibility=hidden", "-DNDEBUG")
FLAGS = {
    "avx512": ("-march=x86-64-v4", "-mavx512bf16", "-mavx512vnni"),
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
    options = parser.parse_args()
    try:
        built = build(options.compiler, options.jobs, options.force)
    except CannotBuild as reason:
        print(f"native kernels: not built: {reason}", file=sys.stderr)
        return 1
    print(f"native kernels: {', '.join(built) + ' built' if built else 'up to date'}")
    return 0


def build(compiler: str | None = None, jobs: int = 2, force: bool = False) -> list[str]:
    """Builds the module of every instruction set that is older than its sources; gives their names.

    Raises CannotBuild.
    """
    targets = {name: target(name) for name in SETS}
    newest = max(path.stat().st_mtime for path in (*SOURCES.iterdir(), Path(__file__)))
    stale = [
        name for name, path in targets.items() if force or not path.exists() or path.stat().st_mtime < newest
    ]
    if not stale:
        return []
    compiler = find_compiler(compiler)
    includes, binding = nanobind_paths()
    with tempfile.TemporaryDirectory() as folder, ThreadPoolExecutor(jobs) as pool:
        scratch = Path(folder)

        def compile_one(source: Path, name: str, flags: tuple[str, ...]) -> Path:
            out = scratch / f"{name}-{source.stem}.o"
            run(compiler, *COMMON, *flags, *includes, "-c", str(source), "-o", str(out))
            return out

        support = pool.submit(compile_one, binding, "all", ("-O2", "-fno-strict-aliasing"))
        objects = {
            name: [
                pool.submit(
                    compile_one,
                    source,
                    name,
                    ("-O3", "-fopenmp", f"-DTUTTI_MODULE={module_name(name)}", *FLAGS[name]),
                )
                for source in sorted(SOURCES.glob("*.cpp"))
            ]
            for name in stale
        }
        for name in stale:
            linked = scratch / targets[name].name
            inputs = [str(part.result()) for part in (*objects[name], support)]
            run(compiler, "-shared", "-fopenmp", "-s", *inputs, "-o", str(linked))
            shutil.copy(linked, targets[name].with_suffix(".new"))
            targets[name].with_suffix(".new").replace(targets[name])  # at once: others may be importing it
    return stale


def target(name: str) -> Path:
    """The file of the module for the instruction set `name`."""
    return Path(__file__).parent / (module_name(name) + sysconfig.get_config_var("EXT_SUFFIX"))


def find_compiler(wanted: str | None) -> str:
    """The compiler to use. Raises CannotBuild."""
    for name in (wanted,) if wanted else ("c++", "g++", "clang++"):
        if found := shutil.which(name):
            return found
    raise CannotBuild(f"no C++ compiler ({wanted or 'c++, g++, clang++'}); install one, for instance g++")


def nanobind_paths() -> tuple[tuple[str, ...], Path]:
    """(-I flags, nanobind's one source file). Raises CannotBuild."""
    python = Path(sysconfig.get_path("include"))
    if not (python / "Python.h").exists():
        raise CannotBuild(f"no Python.h in {python}; install Python's development files (python3-dev)")
    try:
        import nanobind  # type: ignore[import-untyped]
    except ImportError:
        raise CannotBuild("nanobind is not installed; pip install nanobind") from None
    headers = Path(nanobind.include_dir())
    folders = (headers, headers.parent / "ext" / "robin_map" / "include", python)
    return tuple(f"-I{folder}" for folder in folders), Path(nanobind.source_dir()) / "nb_combined.cpp"


def run(*command: str) -> None:
    """Runs a compiler. Raises CannotBuild with what it said."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise CannotBuild(f"{' '.join(command[:1] + command[-4:])} failed:\n{done.stderr[-4000:]}")


if __name__ == "__main__":
    sys.exit(main())
