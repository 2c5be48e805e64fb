"""The lint that keeps models' names out of the core: `python tests/house/names.py`.

The names are read from the folders of `tutti/models/`: a folder that declares a `GRAPH` is a family. Where a name
ends in a generation's number or a variant (`abc3_moe`), the bare name (`abc`) is forbidden as well.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from pathlib import Path

PACKAGE = Path(__file__).resolve().parents[2] / "tutti"
CORE = ("engine", "layers", "kernels", "gateway", "api")
SUFFIXES = {".py", ".cpp", ".h"}


def families(models: Path = PACKAGE / "models") -> list[str]:
    """The family folders' names, the last resorts (which are no models) left out."""
    return sorted(
        init.parent.name
        for init in models.glob("*/__init__.py")
        if re.search(r"^GRAPHS?\b", init.read_text(), re.MULTILINE)
        and init.parent.name not in ("fallback", "pipeline")
    )


def pattern(names: list[str]) -> re.Pattern[str]:
    """Matches any of the names as a word of its own, however it is spelt (`gpt_oss`, `gpt-oss`, `GptOss`).

    A program (`name.cpp`) and the authors of a paper (`Name-AI`) may be named.
    """
    words = set()
    for name in names:
        words.add("[-_ ]?".join(name.split("_")))
        bare = re.match(r"([a-z]{3,}?)(_v)?\d", name)
        if bare:
            words.add(bare[1])
    alternatives = "|".join(sorted(words, key=len, reverse=True))
    return re.compile(rf"(?<![a-z])({alternatives})(?![a-z])(?!\.cpp|-AI)", re.IGNORECASE)


def offences(text: str, forbidden: re.Pattern[str]) -> Iterator[tuple[int, str]]:
    """(line number, name) of every model's name in `text`."""
    for number, line in enumerate(text.splitlines(), 1):
        for match in forbidden.finditer(line):
            yield number, match[1]


def check(package: Path = PACKAGE) -> list[str]:
    """Every offence in the core's rooms, as `file:line: ...`."""
    names = families(package / "models")
    if not names:
        return []
    forbidden = pattern(names)
    found = []
    for room in CORE:
        for path in sorted((package / room).rglob("*")):
            if path.suffix in SUFFIXES:
                for number, name in offences(path.read_text(), forbidden):
                    found.append(f"{path}:{number}: the core names a model ({name})")
    return found


if __name__ == "__main__":
    problems = check()
    print("\n".join(problems) or f"no model's name in {', '.join(CORE)}")
    sys.exit(bool(problems))
