"""The rules of the house: floors, names, sizes, and what an import costs."""

from __future__ import annotations

import ast
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from tests.house import names

ROOT = Path(__file__).resolve().parents[2]
SOURCES = sorted((ROOT / "tutti").rglob("*.py"))

# Rooms of the front process: importing every module of them must not import torch.
FRONT = ["tutti", "tutti.cli.main", "tutti.gateway", "tutti.hub", "tutti.media", "tutti.models.processor"]


def python(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False
    )


def fastest(code: str, times: int = 5) -> float:
    """Seconds of processor that `code` takes in a fresh interpreter, its own start left out; the least of several."""
    timed = f"import time; start = time.process_time()\n{code}\nprint(time.process_time() - start)"
    return min(float(python(timed).stdout.split()[-1]) for _ in range(times))


def test_no_model_is_named_in_the_core() -> None:
    assert names.check() == []


def test_the_name_lint_sees_every_spelling() -> None:
    forbidden = names.pattern(["abc3_moe", "gpt_oss", "phi"])
    seen = [
        name for _, name in names.offences("ABC gpt-oss graphics Abc3Moe phi3 xphi abc.cpp gptq", forbidden)
    ]
    assert seen == ["ABC", "gpt-oss", "Abc3Moe", "phi"]


def test_importing_tutti_takes_less_than_half_a_second_and_no_torch() -> None:
    assert fastest("import tutti") < 0.5
    assert python("import sys, tutti; sys.exit('torch' in sys.modules)").returncode == 0


@pytest.mark.parametrize("module", FRONT)
def test_a_front_room_imports_no_torch(module: str) -> None:
    heavy = "{'torch', 'transformers'} & set(sys.modules)"
    result = python(
        f"import sys, importlib; importlib.import_module({module!r}); sys.exit(str({heavy} or '') or 0)"
    )
    assert result.returncode == 0, result.stderr


def test_help_answers_in_three_tenths_of_a_second_and_imports_no_torch() -> None:
    command = [str(Path(sys.executable).parent / "tutti"), "--help"]

    def cpu_seconds() -> float:
        # What the processor did for it: the clock would also count what other programs do meanwhile.
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        subprocess.run(command, capture_output=True, check=True, timeout=60)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

    assert min(cpu_seconds() for _ in range(5)) < 0.3
    code = "import sys; from tutti.cli.main import app; app(['--help'], standalone_mode=False); "
    assert python(code + "sys.exit('torch' in sys.modules)").returncode == 0


def test_no_file_is_longer_than_500_lines() -> None:
    long = {
        str(path.relative_to(ROOT)): lines
        for path in SOURCES
        if (lines := len(path.read_text().splitlines())) > 500
    }
    assert long == {}


def test_every_module_says_what_it_owns() -> None:
    silent = [
        str(path.relative_to(ROOT)) for path in SOURCES if not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_only_the_settings_read_the_environment() -> None:
    readers = [
        str(path.relative_to(ROOT))
        for path in SOURCES
        if path.name != "settings.py"
        and ("os.environ" in path.read_text() or "os.getenv" in path.read_text())
    ]
    assert readers == []
