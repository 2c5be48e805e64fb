"""Text that comes token by token is the text of the whole, whatever the split."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.processor.small_tokenizers import CORPUS, KINDS
from tutti.models.processor import TextStream, Tokenizer
from tutti.models.processor.stream import StopString
from tutti.request import SamplingParams

TEXT = "The naïve café \U0001f44b\U0001f3fd: 红色的圆, ok?  Two  spaces\nand lines.\n"
LOSSLESS = ["byte_level", "byte_level_with_begin", "byte_fallback", "byte_fallback_by_normalizer"]


def streamed(
    tokenizer: Tokenizer, pieces: list[list[int]], sampling: SamplingParams, prompt=()
) -> tuple[str, str]:
    """The joined text of `pieces`, and what stopped it."""
    stream = TextStream(tokenizer, sampling, prompt)
    texts = []
    for piece in pieces:
        out = stream.push(piece)
        texts.append(out.text)
    last = stream.finish()
    return "".join([*texts, last.text]), last.stop


def split(values, cuts):
    """`values` cut at the places in `cuts`."""
    places = sorted({0, len(values), *(cut % (len(values) + 1) for cut in cuts)})
    return [values[a:b] for a, b in pairwise(places)]


cuts = st.lists(st.integers(0, 500), max_size=12)


@pytest.mark.parametrize("kind", KINDS)
def test_text_of_any_split_is_the_text_of_the_whole(kind, loaded):
    tokenizer = loaded[kind]

    @settings(max_examples=80, deadline=None)
    @given(st.one_of(st.text(max_size=40), st.sampled_from([*CORPUS, TEXT])), cuts, st.booleans())
    def check(text: str, places: list[int], skip: bool) -> None:
        ids = tokenizer.encode(text)
        sampling = SamplingParams(skip_special_tokens=skip, ignore_eos=True)
        assert streamed(tokenizer, split(ids, places), sampling)[0] == tokenizer.decode(ids, skip)

    check()


@pytest.mark.parametrize("kind", ["byte_level", "word_piece", "unigram"])
def test_text_of_any_tokens_is_the_text_of_the_whole(kind, loaded):
    """Also of tokens that no text has: lone continuation bytes, special tokens in the middle, ids out of range."""
    tokenizer = loaded[kind]

    @settings(max_examples=150, deadline=None)
    @given(st.lists(st.integers(0, tokenizer.vocab_size + 2), max_size=30), cuts, st.booleans())
    def check(ids: list[int], places: list[int], skip: bool) -> None:
        sampling = SamplingParams(skip_special_tokens=skip, ignore_eos=True)
        assert streamed(tokenizer, split(ids, places), sampling)[0] == tokenizer.decode(ids, skip)

    check()


def test_invalid_byte_tokens_keep_the_characters_around_them(loaded):
    """`tokenizers` spoils a whole run of byte tokens for one wrong byte; streaming has shown the good ones already."""
    tokenizer = loaded["byte_fallback"]
    ids = [tokenizer.token_id(f"<0x{byte:02X}>") for byte in "红".encode() + b"\xff" + "色".encode()]
    assert streamed(tokenizer, [[token] for token in ids], SamplingParams())[0] == "红\ufffd色"


@pytest.mark.parametrize("kind", KINDS)
def test_no_piece_ends_inside_a_character(kind, loaded):
    tokenizer = loaded[kind]
    stream = TextStream(tokenizer, SamplingParams())
    assert not any("\ufffd" in stream.push([token]).text for token in tokenizer.encode(TEXT))


@pytest.mark.parametrize("kind", LOSSLESS)
def test_an_answer_continues_its_prompt(kind, loaded):
    """Prompt and answer joined read as their tokens decoded together: the answer keeps its first space."""
    tokenizer = loaded[kind]
    ids = tokenizer.encode("The capital of France is Paris, they say.")
    for cut in range(1, len(ids)):
        prompt, answer = ids[:cut], ids[cut:]
        before = tokenizer.decode(prompt)
        assert before + streamed(tokenizer, [answer], SamplingParams(), prompt)[0] == tokenizer.decode(ids)


def test_the_begin_token_alone_opens_a_text(loaded):
    tokenizer = loaded["byte_fallback"]
    ids = tokenizer.encode("Hello there")
    assert streamed(tokenizer, [ids[1:]], SamplingParams(), ids[:1])[0] == "Hello there"


STOPS = st.lists(st.text("ab ", min_size=1, max_size=4), min_size=1, max_size=3)


def by_hand(text: str, stops: list[str], include: bool) -> tuple[str, str | None]:
    """The outcome of stop strings, character by character."""
    for end in range(1, len(text) + 1):
        ending = [stop for stop in stops if text[:end].endswith(stop)]
        if ending:
            longest = max(ending, key=len)
            return text[: end if include else end - len(longest)], longest
    return text, None


@settings(max_examples=300, deadline=None)
@given(st.text("ab ", max_size=40), STOPS, cuts, st.booleans())
def test_stop_strings_cut_at_the_first_match_whatever_the_split(loaded, text, stops, places, include):
    tokenizer = loaded["byte_level"]
    pieces = split(tokenizer.encode(text), places)
    sampling = SamplingParams(stop=tuple(stops), include_stop_str_in_output=include, ignore_eos=True)
    assert streamed(tokenizer, pieces, sampling) == by_hand(text, stops, include)


@settings(max_examples=200, deadline=None)
@given(st.text("ab", max_size=60), st.text("ab", min_size=1, max_size=6), cuts)
def test_a_stop_string_is_found_where_str_find_finds_it(text, string, places):
    stop = StopString(string)
    found, seen = None, 0
    for piece in split(text, places):
        offset = stop.find(piece)
        if offset is not None:
            found = seen + offset
            break
        seen += len(piece)
    assert found == (None if string not in text else text.find(string) + len(string))


def test_what_may_become_a_stop_string_is_held_back_and_no_more(loaded):
    tokenizer = loaded["byte_level"]
    stream = TextStream(tokenizer, SamplingParams(stop=("abc",)))
    single = {sign: tokenizer.encode(sign)[0] for sign in "abcx"}
    shown = [stream.push([single[sign]]).text for sign in "xabxab"]
    assert shown == ["x", "", "", "abx", "", ""]
    piece = stream.push([single["c"], single["x"]])
    assert (piece.text, piece.stop, piece.taken) == ("", "abc", 1)
    assert stream.push([single["x"]]).text == "" and stream.finish().text == ""


def test_stop_strings_wait_for_min_tokens(loaded):
    tokenizer = loaded["byte_level"]
    ids = [tokenizer.encode(sign)[0] for sign in "abab"]
    assert streamed(tokenizer, [ids], SamplingParams(stop=("b",), min_tokens=2)) == ("aba", "b")


def test_the_token_that_ends_an_answer_is_not_part_of_it(loaded):
    tokenizer = loaded["byte_level"]
    a, b = (tokenizer.encode(sign)[0] for sign in "ab")
    eos = tokenizer.token_id("<|im_end|>")
    assert streamed(tokenizer, [[a, b]], SamplingParams(stop_token_ids=(b,)))[0] == "a"
    included = SamplingParams(stop_token_ids=(b,), include_stop_str_in_output=True)
    assert streamed(tokenizer, [[a, b]], included)[0] == "ab"
    assert streamed(tokenizer, [[a, eos]], SamplingParams(skip_special_tokens=False))[0] == "a"
    shown = SamplingParams(skip_special_tokens=False, ignore_eos=True)
    assert streamed(tokenizer, [[a, eos]], shown)[0] == "a<|im_end|>"


def test_a_long_answer_costs_the_same_per_token(loaded):
    """Linear work: bytes that never make a character do not make the stream decode everything again."""
    tokenizer = loaded["byte_level"]
    lone = next(token for token in range(tokenizer.vocab_size) if tokenizer.token_bytes(token) == b"\xff")
    stream = TextStream(tokenizer, SamplingParams(stop=("never here",)))
    assert "".join(stream.push([lone]).text for _ in range(50_000)) == "\ufffd" * 50_000
