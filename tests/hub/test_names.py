"""Names of stored models: what is left out, what is refused."""

from __future__ import annotations

from pathlib import PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.errors import InvalidModelName
from tutti.hub.names import name_for_file, name_of_path, parse_name


@pytest.mark.parametrize(
    ("text", "full", "short"),
    [
        ("llama3", "registry.ollama.ai/library/llama3:latest", "llama3:latest"),
        ("Llama3:8B", "registry.ollama.ai/library/Llama3:8B", "Llama3:8B"),
        ("mattw/pygmalion", "registry.ollama.ai/mattw/pygmalion:latest", "mattw/pygmalion:latest"),
        ("hf.co/user/repo-GGUF:Q4_K_M", "hf.co/user/repo-GGUF:Q4_K_M", "hf.co/user/repo-GGUF:Q4_K_M"),
        ("http://localhost:5000/library/m:x", "localhost:5000/library/m:x", "localhost:5000/library/m:x"),
        ("_m", "registry.ollama.ai/library/_m:latest", "_m:latest"),
        ("a" * 80, f"registry.ollama.ai/library/{'a' * 80}:latest", f"{'a' * 80}:latest"),
    ],
)
def test_what_a_name_leaves_out_is_the_usual(text: str, full: str, short: str) -> None:
    name = parse_name(text)
    assert (name.full, str(name)) == (full, short)
    assert parse_name(str(name)).full == full


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "a b", "../x", "a/../b", "/etc/passwd", "x:", ":x", "a//b", "a/b/c/d", ".x", "x:..", "-x", "a" * 81,
        "ftp://a/b/c", "://x", "x\0", "x\n", "ü", "a.b/c/", "x:y/z", "a\\b", "x@sha256:00", "~x", "n.s/m",
    ],
)  # fmt: skip
def test_what_is_no_name_is_refused(text: str) -> None:
    with pytest.raises(InvalidModelName, match="invalid model name"):
        parse_name(text)


@given(st.text(max_size=60) | st.from_regex(r"[./:a-z\\-]{1,20}", fullmatch=True))
def test_whatever_is_typed_a_name_stays_in_its_folder(text: str) -> None:
    try:
        path = parse_name(text).path
    except InvalidModelName:
        return
    assert len(path.parts) == 4
    assert not {"..", ".", "/"} & set(path.parts)
    assert name_of_path(path) is not None


def test_a_path_that_is_no_models_has_no_name() -> None:
    for path in ("x", "a/b/c", "a/b/c/.hidden", "a/b/c/d/e"):
        assert name_of_path(PurePosixPath(path)) is None


def test_a_file_lends_its_name() -> None:
    assert str(name_for_file("https://host/Qwen2.5 0.5B(Q4_K_M).gguf")) == "qwen2.5-0.5b-q4_k_m:latest"
    assert str(name_for_file("./a-00001-of-00002.gguf")) == "a:latest"
    with pytest.raises(InvalidModelName):
        name_for_file("((.gguf")
