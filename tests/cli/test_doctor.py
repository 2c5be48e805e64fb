"""`tutti doctor` and the facts behind it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.terminal import tutti
from tutti.cli import doctor
from tutti.cli.machine import free_disk, read_cpu, read_memory
from tutti.settings import Settings


@pytest.fixture
def machine(tmp_path: Path) -> Path:
    """Another machine, as a folder of the files that an operating system shows."""
    files = {
        "proc/cpuinfo": "model name : Some CPU 9000\nflags : fpu avx2 avx512f amx_int8 fma\n\nprocessor: 1\n",
        "proc/meminfo": "MemTotal: 8000000 kB\nMemAvailable: 5000000 kB\nSwapTotal: 0 kB\n",
        "sys/fs/cgroup/memory.max": "2048000000\n",
        "sys/kernel/mm/transparent_hugepage/enabled": "always madvise [never]\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return tmp_path


def test_the_cpu_is_read_with_its_instruction_sets(machine: Path) -> None:
    cpu = read_cpu(machine)
    assert cpu.model == "Some CPU 9000"
    assert cpu.instructions == ("amx_int8", "avx512f", "avx2", "fma")
    assert 1 <= cpu.usable <= cpu.cores


def test_memory_is_read_with_the_control_groups_limit(machine: Path) -> None:
    memory = read_memory(machine)
    assert (memory.total, memory.available, memory.swap) == (8_192_000_000, 5_120_000_000, 0)
    assert memory.limit == 2_048_000_000
    assert memory.huge_pages == "never"


def test_a_limit_that_limits_nothing_is_none(machine: Path) -> None:
    (machine / "sys/fs/cgroup/memory.max").write_text("max\n")
    assert read_memory(machine).limit is None


def test_free_disk_of_a_folder_that_does_not_exist_yet(tmp_path: Path) -> None:
    assert free_disk(tmp_path / "not" / "there") > 0


def test_doctor_tells_what_this_machine_has() -> None:
    result = tutti("doctor", "--json")
    assert result.returncode == 0, result.stderr
    found = {finding["name"]: finding for finding in json.loads(result.stdout)}
    assert found["torch"]["found"].startswith("2.13.0")
    assert {"CPU", "cores", "memory", "GPU", "cpu kernels", "home", "downloads"} <= set(found)
    assert all(finding["advice"] for finding in found.values() if finding["state"] != "ok")


def test_a_broken_torch_is_a_finding_and_not_a_crash(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "torch.py").write_text("raise ImportError('libcudart.so.99: cannot open shared object file')")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    torch = next(finding for finding in doctor.examine(Settings()) if finding.name == "torch")
    assert torch.state is doctor.State.BAD
    assert "libcudart.so.99" in torch.found
    assert "pip install" in torch.advice


def test_native_kernels_that_are_switched_off_are_a_note() -> None:
    result = tutti("doctor", "--json", environment={"TUTTI_NATIVE_KERNELS": "false"})
    found = {finding["name"]: finding for finding in json.loads(result.stdout)}
    assert found["cpu kernels"]["state"] == "note"
    assert "TUTTI_NATIVE_KERNELS" in found["cpu kernels"]["advice"]
