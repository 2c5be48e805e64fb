"""`tutti doctor`: what this machine has, what is missing, what to do about it.

Every line is a `Finding`: what was looked at, what was found, whether that is well, and what to do if it is not.
Torch is looked at in a child process, so that a broken installation is a finding and not a crash.
"""

from __future__ import annotations

import importlib.util
import json
import platform
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import msgspec
import typer

import tutti
from tutti.settings import Settings, format_size, read_settings


class State(StrEnum):
    """How well a finding is: `note` costs speed or a feature, `bad` stops Tutti from working."""

    OK = "ok"
    NOTE = "note"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `advice` says what to do; empty where there is nothing to do."""

    name: str
    found: str
    state: State = State.OK
    advice: str = ""


# Packages of the extras, and what each is for.
OPTIONAL = {"triton": ("gpu", "kernels on NVIDIA and AMD GPUs")}

_TORCH_PROBE = """
import json, torch
gpus = []
if torch.cuda.is_available():
    for i in range(torch.cuda.device_count()):
        p = torch.cuda.get_device_properties(i)
        gpus.append([p.name, p.total_memory, f"{p.major}.{p.minor}"])
print(json.dumps({"version": torch.__version__, "capability": torch.backends.cpu.get_cpu_capability(),
                  "onednn": torch.backends.mkldnn.is_available(), "gpus": gpus, "cuda": torch.version.cuda}))
"""
_KERNEL_PROBE = "import json; from tutti.kernels.choose import report; print(json.dumps(report()))"
_MARKS = {State.OK: "[green]ok[/green]  ", State.NOTE: "[yellow]note[/yellow]", State.BAD: "[red]bad[/red] "}


def doctor(
    as_json: Annotated[bool, typer.Option("--json", help="Print the findings as JSON.")] = False,
) -> None:
    """Show what this machine has, what is missing and what to do."""
    findings = list(examine(read_settings()))
    if as_json:
        print(msgspec.json.format(msgspec.json.encode(findings)).decode())
    else:
        _print(findings)
    if any(finding.state is State.BAD for finding in findings):
        raise typer.Exit(1)


def examine(settings: Settings) -> Iterator[Finding]:
    """Every finding, in the order of the report."""
    yield Finding("Tutti", f"{tutti.__version__} in {Path(tutti.__file__).parent}")
    yield _python()
    yield from _cpu(settings)
    yield from _memory()
    yield from _torch()
    yield from _kernels(settings)
    for package, (extra, purpose) in OPTIONAL.items():
        yield _optional(package, extra, purpose)
    yield _pico()
    yield from _disk(settings)


def _python() -> Finding:
    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    return Finding("Python", f"{platform.python_version()} on {system}")


def _cpu(settings: Settings) -> Iterator[Finding]:
    from tutti.cli.machine import read_cpu

    cpu = read_cpu()
    yield Finding("CPU", cpu.model)
    cores = f"{cpu.usable} of {cpu.cores} may be used"
    if cpu.usable < cpu.cores:
        yield Finding("cores", cores, State.NOTE, "affinity or a control group's quota holds the others back")
    elif settings.threads is not None and settings.threads > cpu.usable:
        yield Finding(
            "cores", cores, State.NOTE, f"TUTTI_THREADS={settings.threads} is more than there are: unset it"
        )
    else:
        yield Finding("cores", cores)
    found = ", ".join(cpu.instructions) or "none that are known"
    if platform.machine() in ("x86_64", "AMD64") and "avx512f" not in cpu.instructions:
        yield Finding(
            "instructions", found, State.NOTE, "without AVX-512 answers come more slowly: try -q int8"
        )
    else:
        yield Finding("instructions", found)


def _memory() -> Iterator[Finding]:
    from tutti.cli.machine import HUGE_PAGES, read_memory
    from tutti.engine.machine import available_memory

    memory = read_memory()
    usable = available_memory()
    found = f"{format_size(usable)} usable of {format_size(memory.total)}"
    if memory.limit is not None:
        found += f" (limited to {format_size(memory.limit)} by a control group)"
    if usable < 2 * 10**9:
        yield Finding(
            "memory", found, State.NOTE, "little: end other programs, or choose a small model (tutti fit)"
        )
    else:
        yield Finding("memory", found)
    if memory.huge_pages == "never":
        advice = f"weights are read up to twice as fast after: echo madvise | sudo tee /{HUGE_PAGES}"
        yield Finding("huge pages", memory.huge_pages, State.NOTE, advice)
    elif platform.system() == "Linux":
        yield Finding("huge pages", memory.huge_pages)


def _torch() -> Iterator[Finding]:
    probe = _ask(_TORCH_PROBE)
    if isinstance(probe, str):
        yield Finding("torch", probe, State.BAD, "install it again: pip install torch==2.13.0")
        return
    found = f"{probe['version']}, CPU code for {probe['capability']}"
    if not probe["onednn"]:
        yield Finding(
            "torch", found, State.NOTE, "built without oneDNN: bf16 and int8 on the CPU will be slow"
        )
    else:
        yield Finding("torch", found)
    for name, memory, capability in probe["gpus"]:
        yield Finding("GPU", f"{name}, {format_size(memory)}, compute capability {capability}")
    if probe["gpus"]:
        return
    if _has_nvidia_device():
        advice = "install a CUDA build of torch" if not probe["cuda"] else "check the driver with nvidia-smi"
        yield Finding("GPU", "there is one, but torch cannot use it", State.NOTE, advice)
    else:
        yield Finding("GPU", "none; the CPU serves")


def _has_nvidia_device() -> bool:
    return Path("/proc/driver/nvidia/gpus").is_dir()


def _kernels(settings: Settings) -> Iterator[Finding]:
    probe = _ask(_KERNEL_PROBE)
    if isinstance(probe, str):
        yield Finding("kernels", probe, State.BAD, "install Tutti again")
        return
    for device, said in probe.items():
        if device != "cpu" or said.startswith("native"):
            yield Finding(f"{device} kernels", said)
        elif not settings.native_kernels:
            yield Finding(
                f"{device} kernels", said, State.NOTE, "unset TUTTI_NATIVE_KERNELS to use the native ones"
            )
        else:
            advice = "make native (or python -m tutti.kernels.cpu.build): answers come faster; needs a C++20 compiler"
            yield Finding(f"{device} kernels", said, State.NOTE, advice)


def _optional(package: str, extra: str, purpose: str) -> Finding:
    if importlib.util.find_spec(package) is None:
        return Finding(
            package, f"absent ({purpose})", State.OK, f"pip install 'tutti-engine[{extra}]' if wanted"
        )
    return Finding(package, f"installed ({purpose})")


def _pico() -> Finding:
    from tutti.errors import TuttiError
    from tutti.hub import resolve_model

    try:
        path = resolve_model("pico")
    except TuttiError as error:
        return Finding("pico", str(error), State.NOTE, "make pico")
    return Finding(
        "pico", f"{format_size(sum(file.stat().st_size for file in path.iterdir()))}; try: tutti run pico"
    )


def _disk(settings: Settings) -> Iterator[Finding]:
    from tutti.cli.machine import free_disk
    from tutti.hub import cache_folder

    for name, path in (("home", settings.home_path), ("downloads", cache_folder())):
        free = free_disk(path)
        found = f"{path}, {format_size(free)} free"
        if free < 10 * 10**9:
            advice = "little room for models: free some, or set " + (
                "TUTTI_HOME" if name == "home" else "HF_HOME"
            )
            yield Finding(name, found, State.NOTE, advice)
        else:
            yield Finding(name, found)


def _ask(code: str) -> dict[str, Any] | str:
    """What a child process found, or the last line of what went wrong."""
    child = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=False
    )
    if child.returncode:
        lines = child.stderr.strip().splitlines()
        return lines[-1] if lines else f"python ended with exit code {child.returncode}"
    return json.loads(child.stdout.splitlines()[-1])


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.markup import escape

    console = Console(highlight=False)
    for finding in findings:
        console.print(f"{_MARKS[finding.state]} {finding.name:<15}{escape(finding.found)}", soft_wrap=True)
        if finding.advice:
            console.print(f"{'':20}[dim]{escape(finding.advice)}[/dim]", soft_wrap=True)
    notes = sum(finding.state is not State.OK for finding in findings)
    console.print("Nothing is missing." if not notes else f"{notes} of these could be better.")
