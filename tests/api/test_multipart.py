"""Forms: what a client wrote is what is read, and nothing else than InvalidRequest comes of what is no form."""

from __future__ import annotations

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.api.multipart import parse_form
from tutti.errors import InvalidRequest

NAMES = st.text("abcdef_[]", min_size=1, max_size=8)


@given(
    st.dictionaries(NAMES, st.lists(st.text(max_size=20), min_size=1, max_size=3), max_size=3), st.binary()
)
def test_a_form_is_read_as_it_was_written(fields: dict[str, list[str]], data: bytes) -> None:
    request = httpx.Request("POST", "http://x", data=fields, files={"file": ('a "b".wav', data)})
    form = parse_form(request.read(), request.headers["content-type"])
    assert form.fields == fields
    assert form.files == {"file": data}


@given(
    st.binary(max_size=80), st.sampled_from(["x", "multipart/form-data", "multipart/form-data; boundary=a"])
)
def test_what_is_no_form_is_refused(body: bytes, kind: str) -> None:
    with pytest.raises(InvalidRequest):
        parse_form(body, kind)


@given(st.binary(max_size=80))
def test_the_inside_of_a_form_may_be_anything(piece: bytes) -> None:
    try:
        form = parse_form(b"--a\r\n" + piece + b"\r\n--a--\r\n", "multipart/form-data; boundary=a")
    except InvalidRequest:
        return
    assert len(form.fields) + len(form.files) >= 1
