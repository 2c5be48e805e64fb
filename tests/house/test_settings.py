"""Settings come from the environment in one place; sizes are read and shown in decimal units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.errors import ConfigError
from tutti.settings import Settings, format_size, parse_address, parse_size, read_settings


def test_every_field_has_a_variable() -> None:
    found = read_settings({"TUTTI_PORT": "9000", "TUTTI_THREADS": "3", "TUTTI_NATIVE_KERNELS": "false"})
    assert (found.port, found.threads, found.native_kernels) == (9000, 3, False)
    assert read_settings({}) == Settings()


def test_hugging_faces_own_variables_count_and_ours_win() -> None:
    assert read_settings({"HF_ENDPOINT": "http://a", "HF_TOKEN": "t"}).hf_endpoint == "http://a"
    assert (
        read_settings({"HF_ENDPOINT": "http://a", "TUTTI_HF_ENDPOINT": "http://b"}).hf_endpoint == "http://b"
    )


def test_a_value_of_the_wrong_type_is_a_typed_error() -> None:
    with pytest.raises(ConfigError, match="TUTTI_"):
        read_settings({"TUTTI_PORT": "eighty"})


@pytest.mark.parametrize(
    ("text", "size"),
    [("16GB", 16 * 10**9), ("12GiB", 12 << 30), ("800m", 800 * 10**6), ("1.5 GB", 1_500_000_000), (42, 42)],
)
def test_sizes(text: str | int, size: int) -> None:
    assert parse_size(text) == size


@pytest.mark.parametrize("text", ["", "many", "-1GB", "1XB", "GB"])
def test_what_is_no_size_is_a_typed_error_with_an_example(text: str) -> None:
    with pytest.raises(ConfigError, match="16GB"):
        parse_size(text)


@given(st.integers(0, 10**17))
def test_a_shown_size_is_read_back_to_three_digits(size: int) -> None:
    assert parse_size(format_size(size)) == pytest.approx(size, rel=0.006)


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("", ("http", "127.0.0.1", 11434)),
        ("0.0.0.0", ("http", "0.0.0.0", 11434)),
        ("1.2.3.4:56", ("http", "1.2.3.4", 56)),
        (":56", ("http", "0.0.0.0", 56)),
        ("example.org:56/path", ("http", "example.org", 56)),
        ("http://example.org", ("http", "example.org", 80)),
        ("https://example.org/", ("https", "example.org", 443)),
        ("[::1]:56", ("http", "::1", 56)),
        ("::1", ("http", "::1", 11434)),
        (' "localhost" ', ("http", "localhost", 11434)),
    ],
)
def test_an_address_is_read_in_each_of_ollamas_forms(text: str, address: tuple[str, str, int]) -> None:
    assert parse_address(text) == address


@pytest.mark.parametrize("text", ["ftp://example.org", "example.org:99999", "[x"])
def test_what_is_no_address_is_a_typed_error(text: str) -> None:
    with pytest.raises(ConfigError, match="11434"):
        parse_address(text)


def test_ollamas_variables_count_and_ours_win() -> None:
    found = read_settings({"OLLAMA_KEEP_ALIVE": "1h", "OLLAMA_MAX_QUEUE": "7", "TUTTI_MAX_QUEUE": "8"})
    assert (found.keep_alive, found.max_queue) == ("1h", 8)
