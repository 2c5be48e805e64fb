"""Finds and loads the extension module with the native kernels, the best one this processor can run.

`build` makes the modules. Nothing here compiles, and nothing fails when there is none: `load` says why instead.
"""

from __future__ import annotations

import importlib
import platform
from dataclasses import dataclass
from types import ModuleType

import torch

# Instruction sets, best first, and what each needs of torch.cpu.get_capabilities().
_AVX2 = ("avx2", "fma3", "f16c", "bmi", "bmi2")
SETS: dict[str, tuple[str, ...]] = {
    "avx512": ("avx512_f", "avx512_bw", "avx512_vl", "avx512_dq", "avx512_cd", "avx512_bf16", "avx512_vnni"),
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


def load() -> Native:
    """The best module that is built and that this processor can run."""
    able = runnable()
    problem = ""
    for name in able:
        try:
            return Native(importlib.import_module(f"tutti.kernels.cpu.{module_name(name)}"), name, "")
        except ModuleNotFoundError:
            continue
        except ImportError as error:
            problem = f" ({error})"
    if not able:
        return Native(None, None, f"there are none for this processor ({platform.machine()})")
    return Native(None, None, f"not built{problem}; run `python -m tutti.kernels.cpu.build`")


def runnable() -> list[str]:
    """The instruction sets of `SETS` this processor has, best first."""
    if platform.machine() not in ("x86_64", "AMD64"):
        return []
    have = torch.cpu.get_capabilities()
    return [name for name, needs in SETS.items() if all(have.get(need) for need in needs)]
