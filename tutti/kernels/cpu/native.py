"""Finds and loads the extension module with the native kernels, the best one this processor can run.

`build` makes the modules. Nothing here compiles, and nothing fails when there is none: `load` says why instead.
"""

from __future__ import annotations

import hashlib
import importlib
import platform
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import torch

SOURCES = Path(__file__).parent / "src"

# Instruction sets, best first, and what each needs of torch.cpu.get_capabilities().
_AVX2 = ("avx2", "fma3", "f16c", "bmi", "bmi2")
_AVX512 = ("avx512_f", "avx512_bw", "avx512_vl", "avx512_dq", "avx512_cd", "avx512_bf16", "avx512_vnni")
SETS: dict[str, tuple[str, ...]] = {
    "amx": (*_AVX512, "amx_tile", "amx_bf16", "amx_int8"),
    "avx512": _AVX512,
    "avxvnni": (*_AVX2, "avx_vnni"),
    "avx2": _AVX2,
}


@dataclass(frozen=True, slots=True)
class Native:
    """The loaded module, or None and why. `name` is the instruction set."""

    module: ModuleType | None
    name: str | None
    reason: str


def module_name(instruction_set: str) -> str:
    """The extension module built for an instruction set."""
    return f"_{instruction_set}"


def digest() -> str:
    """What the sources are, as a module built from them says in its attribute `sources`."""
    contents = b"".join(
        path.read_bytes() for path in sorted(SOURCES.iterdir()) if path.suffix in (".cpp", ".h")
    )
    return hashlib.sha256(contents).hexdigest()[:16]


def load() -> Native:
    """The best module that is built from the sources as they are and that this processor can run."""
    able = runnable()
    problem = "not built"
    for name in able:
        try:
            module = importlib.import_module(f"tutti.kernels.cpu.{module_name(name)}")
        except ModuleNotFoundError:
            continue
        except ImportError as error:
            problem = f"not usable ({error})"
            continue
        if module.sources != digest():
            problem = "built from other sources"
        elif not module.permitted():
            problem = "not permitted by the system"
        else:
            return Native(module, name, "")
    if not able:
        return Native(None, None, f"there are none for this processor ({platform.machine()})")
    return Native(None, None, f"{problem}; run `python -m tutti.kernels.cpu.build`")


def runnable() -> list[str]:
    """The instruction sets of `SETS` this processor has, best first."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return []
    have = torch.cpu.get_capabilities()
    return [name for name, needs in SETS.items() if all(have.get(need) for need in needs)]
