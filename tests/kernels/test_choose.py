"""What is chosen, and what is said where native kernels are missing."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tutti.kernels import choose, reference
from tutti.kernels.cpu import build, native


def test_importing_the_package_does_not_import_torch() -> None:
    code = "import sys, tutti.kernels; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_half_precision_is_served_by_the_reference() -> None:
    assert choose.chosen("rms_norm", torch.zeros(1, dtype=torch.float16)) is reference.rms_norm


def test_switched_off_kernels_leave_torch_and_say_so() -> None:
    code = """
import json, torch
from tutti import kernels
from tutti.kernels.choose import report
linear = kernels.pack_linear(kernels.Dense(torch.ones(2, 2)), None, device="cpu", dtype=torch.bfloat16)
print(json.dumps([report(), type(linear).__name__, kernels.gated(torch.ones(1, 2), "relu").tolist()]))
"""
    environment = {**os.environ, "TUTTI_NATIVE_KERNELS": "false"}
    said = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    report, linear, result = json.loads(said)
    assert "TUTTI_NATIVE_KERNELS" in report["cpu"]
    assert linear == "OneDnnLinear"
    assert result == [[1.0]]


def test_the_report_names_the_instruction_set_or_the_way_to_build() -> None:
    loaded = native.load()
    said = choose.report()["cpu"]
    assert (loaded.name in said) if loaded.name else ("tutti.kernels.cpu.build" in said or "none for" in said)


def test_modules_built_from_other_sources_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if native.load().module is None:
        pytest.skip("native kernels are not built")
    (tmp_path / "changed.cpp").write_text("// another source")
    monkeypatch.setattr(native, "SOURCES", tmp_path)
    loaded = native.load()
    assert loaded.module is None
    assert "built from other sources" in loaded.reason


def test_building_where_everything_is_up_to_date_needs_no_compiler() -> None:
    if native.load().module is None:
        pytest.skip("native kernels are not built")
    assert build.build("no-such-compiler") == []


def test_building_without_a_compiler_says_so() -> None:
    with pytest.raises(build.CannotBuild, match=r"no C\+\+ compiler \(no-such-compiler\)"):
        build.build("no-such-compiler", force=True)
