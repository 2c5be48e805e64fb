"""API keys."""

from __future__ import annotations

import pytest

from tutti.errors import ConfigError, Unauthorized
from tutti.gateway.keys import ANYONE, ApiKeys


def test_without_keys_everybody_may_call() -> None:
    assert ApiKeys().authorize(None) is ANYONE
    assert ApiKeys().authorize("whatever") is ANYONE


def test_each_key_is_a_caller_of_its_own_and_not_shown() -> None:
    keys = ApiKeys(["one", "two"])
    first, second = keys.authorize("one"), keys.authorize("two")
    assert first != second
    assert first.key not in ("one", "two", None)
    assert keys.authorize("one") == first


@pytest.mark.parametrize("key", [None, "", "three", "on", "one ", "ключ"])
def test_any_other_key_is_refused(key: str | None) -> None:
    with pytest.raises(Unauthorized):
        ApiKeys(["one", "two"]).authorize(key)


def test_an_empty_key_is_a_mistake_in_the_settings() -> None:
    with pytest.raises(ConfigError):
        ApiKeys([""])
