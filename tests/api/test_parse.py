"""Bodies to requests, and the words for what is wrong with them."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tutti.api.openai.fields import ChatFields, CompletionFields
from tutti.api.openai.parse import parse
from tutti.api.openai.sampling import sampling_params, structured_outputs
from tutti.api.openai.tools import read_tools
from tutti.errors import InvalidRequest

HELLO = [{"role": "user", "content": "hello"}]
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object"}}}


def chat(**fields: Any) -> ChatFields:
    return parse(msgspec.json.encode({"messages": HELLO, **fields}), ChatFields)


def completion(**fields: Any) -> CompletionFields:
    return parse(msgspec.json.encode({"prompt": "hello", **fields}), CompletionFields)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"\xff", b'{"messages": [}', b'{"a": NaN}', b'{"model": "\xed\xa0\x80"}']
)
def test_what_is_not_json_is_said_to_be_none(body: bytes) -> None:
    with pytest.raises(InvalidRequest, match="JSON"):
        parse(body, ChatFields)


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"[]", None),
        (b"{}", "messages"),
        (b'{"messages": "hello"}', "messages"),
        (b'{"messages": [1]}', "messages[0]"),
        (b'{"messages": []}', "messages"),
    ],
)
def test_messages_must_be_there(body: bytes, param: str | None) -> None:
    with pytest.raises(InvalidRequest) as caught:
        parse(body, ChatFields)
    assert caught.value.param == param


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("max_tokens", "ten", "max_tokens: expected int or null, got str"),
        ("temperature", "hot", "temperature: expected float or null, got str"),
        ("stream", 1, "stream: expected bool or null, got int"),
        ("stop", [1], "stop.*: expected str, got int"),
        ("logit_bias", {"x": 1}, "logit_bias: expected int, got str"),
        ("tools", {}, "tools: expected array or null, got object"),
        ("response_format", {"type": "xml"}, "response_format.type: invalid enum value 'xml'"),
        ("prompt_logprobs", 1.5, "prompt_logprobs"),
    ],
)
def test_a_wrong_type_is_named_with_its_field(field: str, value: Any, words: str) -> None:
    with pytest.raises(InvalidRequest, match=words) as caught:
        chat(**{field: value})
    assert caught.value.param is not None
    assert caught.value.param.startswith(field)


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"stream": True, "prompt_logprobs": 1}, "prompt_logprobs"),
        ({"top_logprobs": 3}, "top_logprobs"),
        ({"functions": [{}]}, "functions"),
        ({"use_beam_search": True}, "use_beam_search"),
        ({"truncate_prompt_tokens": 5}, "truncate_prompt_tokens"),
        ({"modalities": ["text", "smell"]}, "modalities[1]"),
        ({"continue_final_message": True, "add_generation_prompt": True}, "continue_final_message"),
        ({"cache_salt": ""}, "cache_salt"),
        ({"structured_outputs": {"json": {}, "regex": "a"}}, "structured_outputs"),
    ],
)
def test_what_cannot_be_served_as_it_is_is_refused(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        chat(**fields)
    assert caught.value.param == param


def test_suffix_and_best_of_have_their_rules() -> None:
    for fields, param in (
        ({"best_of": 1, "n": 2}, "best_of"),
        ({"best_of": 2, "stream": True}, "best_of"),
    ):
        with pytest.raises(InvalidRequest) as caught:
            completion(**fields)
        assert caught.value.param == param


def test_unknown_fields_and_nulls_are_ignored() -> None:
    fields = chat(temperature=None, store=True, metadata={"a": 1}, stream_options=None, use_beam_search=False)
    assert fields.temperature is None


def test_sampling_takes_the_callers_word_then_the_models_then_neutral() -> None:
    fields = chat(temperature=0.5, stop="x", top_k=None, logit_bias={"5": 1}, seed=3)
    params = sampling_params(
        fields,
        {"temperature": 0.7, "top_k": 20},
        max_tokens=None,
        logprobs=None,
        structured_outputs=None,
    )
    assert (params.temperature, params.top_k, params.top_p) == (0.5, 20, 1.0)
    assert params.stop == ("x",)
    assert params.logit_bias == {5: 1.0}
    assert params.max_tokens is None


@pytest.mark.parametrize("name", ["logprobs", "prompt_logprobs"])
@pytest.mark.parametrize("count", [-1, 21])
def test_logprobs_have_a_limit(name: str, count: int) -> None:
    fields = chat(prompt_logprobs=count) if name == "prompt_logprobs" else chat()
    logprobs = count if name == "logprobs" else None
    with pytest.raises(InvalidRequest, match="between 0 and 20") as caught:
        sampling_params(fields, {}, max_tokens=1, logprobs=logprobs, structured_outputs=None)
    assert caught.value.param == name


SCHEMA = {"type": "object", "properties": {"a": {"type": "integer"}}}


@pytest.mark.parametrize(
    ("fields", "name", "value"),
    [
        ({"response_format": {"type": "json_object"}}, "json_object", True),
        (
            {"response_format": {"type": "json_schema", "json_schema": {"name": "x", "schema": SCHEMA}}},
            "json",
            SCHEMA,
        ),
        ({"structured_outputs": {"regex": "a+"}}, "regex", "a+"),
        ({"guided_json": SCHEMA}, "json", SCHEMA),
        ({"guided_regex": "a+"}, "regex", "a+"),
        ({"guided_choice": ["a", "b"]}, "choice", ("a", "b")),
        ({"guided_grammar": "root ::= 'a'"}, "grammar", "root ::= 'a'"),
        (
            {"response_format": {"type": "structural_tag", "structures": [], "triggers": []}},
            "structural_tag",
            {"type": "structural_tag", "structures": [], "triggers": []},
        ),
    ],
)
def test_every_way_to_ask_for_a_form_is_understood(fields: dict[str, Any], name: str, value: Any) -> None:
    form = structured_outputs(chat(**fields))
    assert form is not None
    assert msgspec.structs.asdict(form)[name] == value


def test_plain_text_is_no_form_and_two_forms_are_one_too_many() -> None:
    assert structured_outputs(chat(response_format={"type": "text"})) is None
    with pytest.raises(InvalidRequest, match="only one of response_format, guided_regex"):
        structured_outputs(chat(response_format={"type": "json_object"}, guided_regex="a"))
    with pytest.raises(InvalidRequest, match=r"json_schema\.schema"):
        structured_outputs(chat(response_format={"type": "json_schema"}))


def test_tools_are_chosen_freely_unless_the_caller_says_otherwise() -> None:
    assert read_tools(chat()) == ((), "none")
    assert read_tools(chat(tools=[TOOL])) == ((TOOL,), "auto")
    assert read_tools(chat(tools=[TOOL], tool_choice="required"))[1] == "required"
    named = {"type": "function", "function": {"name": "look"}}
    assert read_tools(chat(tools=[TOOL], tool_choice=named))[1] == named


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"tools": [{}]}, "tools[0]"),
        ({"tools": [{"type": "retrieval"}]}, "tools[0]"),
        ({"tool_choice": "required"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": "perhaps"}, "tool_choice"),
        ({"tools": [TOOL], "tool_choice": {"type": "function", "function": {"name": "go"}}}, "tool_choice"),
    ],
)
def test_wrong_tools_are_named(fields: dict[str, Any], param: str) -> None:
    with pytest.raises(InvalidRequest) as caught:
        read_tools(chat(**fields))
    assert caught.value.param == param


json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats(allow_nan=False)
    | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(ChatFields.__struct_fields__), json_values, max_size=4))
def test_any_body_is_understood_or_refused_in_words(fields: dict[str, Any]) -> None:
    refusals: set[str] = set()
    try:
        read = chat(**fields)
        read_tools(read)
        structured_outputs(read)
        sampling_params(read, {}, max_tokens=read.max_tokens, logprobs=None, structured_outputs=None)
    except InvalidRequest as error:
        refusals.add(error.message)
    assert "" not in refusals


def test_deep_nesting_is_refused() -> None:
    body = b'{"messages": [{"role": "user", "content": ' + b"[" * 100_000 + b"]" * 100_000 + b"}]}"
    with pytest.raises(InvalidRequest, match="nested too deeply"):
        parse(body, ChatFields)
