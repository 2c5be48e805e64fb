"""Settings come from the environment in one place; sizes are read and shown in decimal units."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.errors import ConfigError
from tutti.settings import Address, Settings, format_size, parse_address, parse_size, read_settings


def test_every_field_has_a_variable() -> None:
    found = read_settings({"TUTTI_PORT": "9000", "TUTTI_THREADS": "3", "TUTTI_NATIVE_KERNELS": "false"})
    assert (found.port, found.threads, found.native_kernels) == (9000, 3, False)
    assert read_settings({}) == Settings()


def test_hugging_faces_own_variables_count_and_ours_win() -> None:
    assert read_settings({"HF_ENDPOINT": "http://a", "HF_TOKEN": "t"}).hf_endpoint == "http://a"
    assert (
        read_settings({"HF_ENDPOINT": "http://a", "TUTTI_HF_ENDPOINT": "http://b"}).hf_endpoint == "http://b"
    )


def test_origins_are_listed_as_ollama_has_them() -> None:
    settings = read_settings({"OLLAMA_ORIGINS": '"https://a.org, http://*.b.org,*"'})
    assert settings.allowed_origins == ("https://a.org", "http://*.b.org", "*")
    assert Settings().allowed_origins == ()
    with pytest.raises(ConfigError, match=r"'example\.org' is none; write for instance https"):
        _ = Settings(origins="https://a.org,example.org").allowed_origins


@pytest.mark.parametrize(
    ("said", "url"),
    [
        ("", "http://127.0.0.1:11434"), ("1.2.3.4", "http://1.2.3.4:11434"), (":1234", "http://127.0.0.1:1234"),
        ("1.2.3.4:1234", "http://1.2.3.4:1234"), ("example.com", "http://example.com:11434"),
        ("[::1]", "http://[::1]:11434"), ("::1", "http://[::1]:11434"), ("[::1]:1337", "http://[::1]:1337"),
        ("0.0.0.0", "http://127.0.0.1:11434"), ("[::]:80", "http://[::1]:80"), (" ' 1.2.3.4 ' ", "http://1.2.3.4:11434"),
        ("http://1.2.3.4", "http://1.2.3.4:80"), ("https://1.2.3.4", "https://1.2.3.4:443"),
        ("https://example.com/some/place/", "https://example.com:443/some/place"),
    ],
)  # fmt: skip
def test_ollama_host_in_all_its_forms(said: str, url: str) -> None:
    assert read_settings({"OLLAMA_HOST": said}).server_address.url == url


@pytest.mark.parametrize("said", ["1.2.3.4:66000", "a:b", "ftp://1.2.3.4", "[::1"])
def test_what_is_no_address_is_a_typed_error(said: str) -> None:
    with pytest.raises(ConfigError, match="is no address"):
        _ = read_settings({"OLLAMA_HOST": said}).server_address


def test_where_we_serve_counts_before_ollamas_variable() -> None:
    theirs = {"OLLAMA_HOST": "http://a"}
    for ours, url in (
        ({"TUTTI_HOST": "::1"}, "http://[::1]:11434"),
        ({"TUTTI_PORT": "8000"}, "http://127.0.0.1:8000"),
        ({"TUTTI_HOST": "::1", "TUTTI_PORT": "8000"}, "http://[::1]:8000"),
        ({"TUTTI_SERVER": "b:1", "TUTTI_PORT": "8000"}, "http://b:1"),
    ):
        assert read_settings(theirs | ours).server_address.url == url


def test_an_empty_variable_of_another_program_says_nothing() -> None:
    assert read_settings({"OLLAMA_NOHISTORY": "", "OLLAMA_MODELS": ""}) == Settings()
    assert read_settings({"OLLAMA_NOHISTORY": "1"}).nohistory


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


def test_a_port_alone_is_everywhere_on_this_machine() -> None:
    assert parse_address(":56") == Address("http", "0.0.0.0", 56)
    assert parse_address("") == Address("http", "127.0.0.1", 11434)


def test_ollamas_variables_count_and_ours_win() -> None:
    found = read_settings({"OLLAMA_KEEP_ALIVE": "1h", "OLLAMA_MAX_QUEUE": "7", "TUTTI_MAX_QUEUE": "8"})
    assert (found.keep_alive, found.max_queue) == ("1h", 8)
