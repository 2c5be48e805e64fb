"""Structured outputs: whatever tokens are drawn from what a grammar allows, the text has the form that was asked."""

from __future__ import annotations

import json
import random
import re
import threading
import time

import pytest
import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from tutti.errors import Busy, CheckpointError, InvalidGrammar, StageFailed
from tutti.layers.grammar import GrammarCompiler, GrammarState, TokenTable
from tutti.layers.sampling import Sampler, SamplerState
from tutti.layers.workers import WorkerPool
from tutti.models.processor.tokenizer import Tokenizer as Processor
from tutti.request import SamplingParams, StructuredOutputs

EOS, START = 0, 1  # <|end|>, <|start|>
SIZE = 700  # rows of the logits, more than the tokenizer has tokens
SLOW_PATTERN = "^[a-z]{0,3000}$"  # about a second
AMBIGUOUS = "([a-z]?){500}"


@pytest.fixture(scope="module")
def tokenizer() -> Processor:
    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=600,
        special_tokens=["<|end|>", "<|start|>"],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    texts = [
        '{"name": "red circle", "age": 12, "list": [1, 2, 3], "ok": true}',
        "what is the answer? 红色的圆",
    ]
    backend.train_from_iterator(texts * 4, trainer)
    return Processor(backend, {"eos_token": "<|end|>"})


@pytest.fixture(scope="module")
def table(tokenizer) -> TokenTable:
    return TokenTable([tokenizer.token_bytes(token) for token in range(SIZE)], tokenizer.special_ids)


@pytest.fixture(scope="module")
def compiler(table) -> GrammarCompiler:
    return GrammarCompiler(lambda: table, SIZE, {EOS})


def begin(compiler: GrammarCompiler, **outputs) -> GrammarState:
    return compiler.compile(StructuredOutputs(**outputs)).result(timeout=30)


def allowed(compiler: GrammarCompiler, state: GrammarState) -> list[int]:
    mask = compiler.bitmask(1)
    state.fill(mask, 0)
    bits = (mask[0].unsqueeze(1) >> torch.arange(32)) & 1
    return bits.flatten()[: compiler.vocab_size].nonzero().flatten().tolist()


def write(compiler: GrammarCompiler, tokenizer: Processor, seed: int, unlikely_end=False, **outputs) -> str:
    """A text of tokens drawn at random, through the sampler, from what the grammar allows.

    Bytes that are no UTF-8 (xgrammar lets encoded surrogates pass) are replaced, as in every stream of text.
    """
    state = begin(compiler, **outputs)
    sampler = Sampler(SIZE, "cpu")
    row = SamplerState(SamplingParams(seed=seed), (), {EOS})
    logits = torch.zeros(1, SIZE)
    for token in range(SIZE):  # makes an end likely, so that texts stay short
        if set(tokenizer.token_bytes(token)) & set(b'"}],0') and len(tokenizer.token_bytes(token)) == 1:
            logits[0, token] = 4.0
    if unlikely_end:
        logits -= 3 * logits  # long texts of control characters and quotes, if only they were allowed
        logits[0, tokenizer.encode("\n\t\\\x01", add_special_tokens=False)] = 3.0
        for token in range(SIZE):
            if not tokenizer.token_bytes(token).isascii():
                logits[0, token] = -30.0  # replaced bytes would count as several signs
    logits[0, EOS] = 9.0
    for _ in range(3000):
        result = sampler.sample(logits.clone(), [row], compiler.masks([state]).result())
        assert result.errors == [None]
        assert state.accept(result.tokens[0])
        row.accept(result.tokens[0])
        if state.finished:
            assert row.output[-1] == EOS
            return b"".join(tokenizer.token_bytes(token) for token in row.output[:-1]).decode(
                errors="replace"
            )
    raise AssertionError(f"no end: {tokenizer.decode(row.output)[:200]}")


def settle(pool: WorkerPool) -> None:
    """Wait for abandoned calls to end: one that is inside C++ when the process ends would abort it."""
    deadline = time.monotonic() + 60
    while pool._abandoned and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not pool._abandoned


PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "age": {"type": "integer", "minimum": 0, "maximum": 150},
        "tags": {"type": "array", "items": {"enum": ["a", "b"]}, "minItems": 1, "maxItems": 3},
        "parent": {"anyOf": [{"type": "null"}, {"$ref": "#/$defs/parent"}]},
    },
    "required": ["name", "age", "tags", "parent"],
    "$defs": {"parent": {"type": "object", "properties": {"id": {"type": "integer"}}, "required": ["id"]}},
}


@pytest.mark.parametrize("seed", range(12))
def test_random_tokens_of_a_json_schema_make_json_that_obeys_it(compiler, tokenizer, seed):
    schema = PERSON if seed % 2 else json.dumps(PERSON)
    value = json.loads(write(compiler, tokenizer, seed, json=schema))
    assert set(value) == {"name", "age", "tags", "parent"}
    assert len(value["name"]) <= 12 and 0 <= value["age"] <= 150
    assert 1 <= len(value["tags"]) <= 3 and set(value["tags"]) <= {"a", "b"}
    assert value["parent"] is None or isinstance(value["parent"]["id"], int)


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "string", "minLength": 20, "maxLength": 300},
        {"type": "string", "pattern": r"^[\s\S]{0,100}$"},
        {"type": "string", "pattern": "^([^a]{1,9},){1,10}$"},
        {
            "type": "object",
            "additionalProperties": {"type": ["string", "null"], "maxLength": 5},
            "maxProperties": 4,
        },
        *({"type": "string", "format": name} for name in ("date-time", "uuid", "nonsense")),
    ],
    ids=json.dumps,
)
def test_no_string_holds_a_raw_control_character(compiler, tokenizer, schema):
    for seed in range(5):
        value = json.loads(write(compiler, tokenizer, seed, json=schema, unlikely_end=True))
        if "minLength" in schema:
            assert 20 <= len(value) <= 300
        if "pattern" in schema:
            assert re.search(schema["pattern"], value)


@pytest.mark.parametrize("seed", range(6))
def test_random_tokens_of_json_object_make_an_object(compiler, tokenizer, seed):
    assert isinstance(json.loads(write(compiler, tokenizer, seed, json_object=True)), dict)


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(
    "regex",
    [r"[a-z]{1,8}@[a-z]{1,8}\.(com|org)", r"(\d{3}-){2}\d{4}", r"[红黄蓝]{2,5}色", r"a|bc|", r"\{\(\[{130}"],
)
def test_random_tokens_of_a_regex_match_it(compiler, tokenizer, regex, seed):
    assert re.fullmatch(regex, write(compiler, tokenizer, seed, regex=regex))


def test_random_tokens_of_a_choice_are_one_of_it_and_every_choice_is_possible(compiler, tokenizer):
    choices = ('say "yes"', "no\n", "红色", "c\\d", "(" * 130)
    texts = {write(compiler, tokenizer, seed, choice=choices) for seed in range(40)}
    assert texts == set(choices)


def test_random_tokens_of_a_grammar_belong_to_its_language(compiler, tokenizer):
    grammar = 'root ::= expr\nexpr ::= term (("+" | "-") term)*\nterm ::= [0-9] | "(" expr ")"'
    for seed in range(4):
        assert re.fullmatch(r"[0-9+()-]+", write(compiler, tokenizer, seed, grammar=grammar))


NEW_TAG = {
    "type": "structural_tag",
    "format": {
        "type": "tag",
        "begin": "<|start|>",
        "content": {"type": "json_schema", "json_schema": PERSON},
        "end": "!",
    },
}
OLD_TAG = {"structures": [{"begin": "<a>", "schema": {"type": "integer"}, "end": "</a>"}], "triggers": ["<a"]}


def test_a_structural_tag_may_use_special_tokens_and_other_forms_may_not(compiler, tokenizer):
    assert START in allowed(compiler, begin(compiler, structural_tag=NEW_TAG))
    text = write(compiler, tokenizer, 0, structural_tag=json.dumps(NEW_TAG))
    assert text.startswith("<|start|>") and text.endswith("!") and json.loads(text[9:-1])["age"] >= 0
    assert START not in allowed(compiler, begin(compiler, regex=r"[^a]*"))


def test_strings_of_limited_length_in_a_structural_tag_hold_no_raw_control_characters(compiler, tokenizer):
    state = begin(compiler, structural_tag=NEW_TAG)
    for token in tokenizer.encode('<|start|>{"name": "', add_special_tokens=False):
        assert state.accept(token)
    assert not state.accept(tokenizer.encode("\t", add_special_tokens=False)[0])
    for token in tokenizer.encode('a", "age": 1, "tags": ["a"], "parent": null}!', add_special_tokens=False):
        assert state.accept(token)
    assert allowed(compiler, state) == [EOS]


def test_the_older_structural_tag_is_understood(compiler, tokenizer):
    state = begin(compiler, structural_tag=OLD_TAG)
    for token in tokenizer.encode("free text <a>12", add_special_tokens=False):
        assert state.accept(token)
    assert not state.accept(tokenizer.encode("x", add_special_tokens=False)[0])
    for token in tokenizer.encode("</a>", add_special_tokens=False):
        assert state.accept(token)


# --- what is refused --------------------------------------------------------------------------------------------------

STRING = {"type": "string"}


@pytest.mark.parametrize(
    ("outputs", "words"),
    [
        ({"json": "{nope"}, "not valid JSON"),
        ({"json": "3"}, "json"),
        ({"json": "[]"}, "json"),
        ({"json": {"type": "foo"}}, 'Unsupported type "foo"'),
        ({"json": {"type": "string", "minLength": 5, "maxLength": 2}}, "minLength 5 is greater"),
        ({"json": {"$ref": "#/foo"}}, "foo"),
        ({"json": {"$ref": "http://example.com/x"}}, "points out of the schema"),
        ({"json": {"type": "string", "pattern": "(a"}}, "parenthesis"),
        ({"json": {"properties": {"a": {"not": STRING}}}}, "at #/properties/a: 'not' cannot be enforced"),
        ({"json": {"type": "array", "items": STRING, "uniqueItems": True}}, "'uniqueItems' cannot"),
        ({"json": {"if": STRING, "then": STRING}}, "'if' cannot"),
        ({"json": {"allOf": [STRING, {"type": "integer"}]}}, "merge them"),
        ({"json": {"anyOf": [{"required": ["a"]}], "properties": {"a": STRING}}}, "beside 'anyOf'"),
        ({"json": {"minimum": 3}}, "'minimum' needs a 'type'"),
        ({"json": {"type": "number", "multipleOf": 0.5}}, "for integers only"),
        ({"json": {"type": "string", "pattern": "^a$", "minLength": 3}}, "say the length in the pattern"),
        ({"json": {"type": "object", "required": ["a"]}}, "'required' names 'a'"),
        ({"json": {"type": "string", "pattern": r"^[\s\S]{0,500}$"}}, "too often"),
        ({"json": {"type": "string", "pattern": "^((a.){10}b){10}$"}}, "too often"),
        ({"json": {"type": "string", "format": "json-pointer"}}, "json-pointer"),
        ({"json": {"enum": ["\ud800"]}}, "surrogate"),
        ({"json": {"enum": [{1, 2}]}}, "not valid JSON"),
        ({"json": '{"items":' * 3000 + "{}" + "}" * 3000}, "levels deep"),
        ({"json": {"enum": ["x" * 300_000]}}, "characters, more than"),
        ({"regex": "(abc"}, "parenthesis"),
        ({"regex": "[z-a]"}, "lower bound"),
        ({"regex": r"(?=a)b"}, "Lookahead"),
        ({"regex": "(" * 5000 + "a" + ")" * 5000}, "levels deep"),
        ({"regex": ""}, "empty"),
        ({"regex": "a\0b"}, "NUL"),
        ({"choice": ()}, "choice is empty"),
        ({"choice": ("\udfff",)}, "surrogate"),
        ({"grammar": "root ::= "}, "EBNF"),
        ({"grammar": 'other ::= "a"'}, '"root" is not found'),
        ({"grammar": "root ::= missing"}, '"missing" is not defined'),
        ({"structural_tag": "{"}, "not valid JSON"),
        ({"structural_tag": {"type": "structural_tag"}}, "format"),
        ({"structural_tag": {"structures": [{}], "triggers": []}}, "begin, schema and end"),
        ({"structural_tag": {"structures": 3}}, "begin, schema and end"),
        ({"structural_tag": {"type": "structural_tag", "format": {"type": "nope"}}}, "structural_tag"),
        (
            {
                "structural_tag": {
                    "type": "structural_tag",
                    "format": {"type": "json_schema", "json_schema": {"not": {}}},
                }
            },
            "'not' cannot",
        ),
    ],
    ids=lambda value: None if isinstance(value, str) else "-".join(value),
)
def test_what_cannot_be_enforced_is_refused_naming_the_field_and_the_reason(compiler, outputs, words):
    with pytest.raises(InvalidGrammar) as refused:
        begin(compiler, **outputs)
    field = next(iter(outputs))
    assert words in refused.value.message and refused.value.message.startswith(field)
    assert refused.value.param == field
    assert "/project/" not in refused.value.message and len(refused.value.message) < 600


def test_a_compilation_that_takes_too_long_is_refused_and_the_next_one_is_served(table):
    compiler = GrammarCompiler(lambda: table, SIZE, {EOS}, compile_seconds=0.3)
    begin(compiler, regex="a")  # the library is loaded
    forms = (
        StructuredOutputs(json={"type": "string", "pattern": SLOW_PATTERN}),
        StructuredOutputs(regex="b"),
    )
    futures = [compiler.compile(form) for form in forms]
    began = time.monotonic()
    with pytest.raises(InvalidGrammar, match="takes more than"):
        futures[0].result(timeout=30)
    assert time.monotonic() - began < 10
    assert allowed(compiler, futures[1].result(timeout=30))
    settle(compiler._compiling)


def test_a_tokenizer_that_is_absent_fails_the_request_with_its_own_error():
    def load() -> TokenTable:
        raise CheckpointError("no tokenizer.json")

    with pytest.raises(CheckpointError, match="no tokenizer"):
        begin(GrammarCompiler(load, SIZE, {EOS}), regex="a")

    def broken() -> TokenTable:
        raise KeyError("x")

    with pytest.raises(StageFailed, match="KeyError"):
        begin(GrammarCompiler(broken, SIZE, {EOS}), regex="a")


# --- states and masks -------------------------------------------------------------------------------------------------


def test_equal_forms_are_compiled_once_and_their_states_are_independent(compiler):
    first, second = (begin(compiler, regex="(ab)+") for _ in range(2))
    assert first._grammar is second._grammar
    before = allowed(compiler, second)
    assert first.accept(before[0])
    assert allowed(compiler, second) == before != allowed(compiler, first)


def test_the_cache_forgets_what_was_not_used_longest(table, monkeypatch):
    monkeypatch.setattr("tutti.layers.grammar.CACHE_ENTRIES", 3)
    compiler = GrammarCompiler(lambda: table, SIZE, {EOS})
    for regex in ("a", "b", "c", "a", "d"):
        begin(compiler, regex=regex)
    assert [text for _, text in compiler._cache] == ["c", "a", "d"]


def test_rollback_returns_to_an_earlier_place(compiler, tokenizer):
    state = begin(compiler, json=PERSON)
    random.seed(1)
    places = []
    for _ in range(12):
        places.append(allowed(compiler, state))
        assert state.accept(random.choice([token for token in places[-1] if token != EOS]))
    state.rollback(5)
    assert allowed(compiler, state) == places[7]
    state.rollback(7)
    assert allowed(compiler, state) == places[0]
    with pytest.raises(ValueError, match="cannot take back"):
        state.rollback(1)


def test_a_token_that_does_not_fit_is_not_accepted_and_changes_nothing(compiler):
    state = begin(compiler, choice=("ab",))
    before = allowed(compiler, state)
    refused = next(token for token in range(SIZE) if token not in before)
    assert not state.accept(refused) and allowed(compiler, state) == before


def test_a_finished_grammar_allows_the_end_alone(compiler, tokenizer):
    state = begin(compiler, choice=("a",))
    state.accept(tokenizer.encode("a", add_special_tokens=False)[0])
    assert allowed(compiler, state) == [EOS] and not state.finished
    assert state.accept(EOS) and state.finished
    assert allowed(compiler, state) == [EOS] and not state.accept(EOS)
    state.rollback(1)
    assert not state.finished


def test_without_an_end_token_a_complete_grammar_is_finished(table, tokenizer):
    compiler = GrammarCompiler(lambda: table, SIZE, ())
    state = begin(compiler, choice=("a",))
    assert not state.finished
    assert state.accept(tokenizer.encode("a", add_special_tokens=False)[0]) and state.finished


def test_masks_of_a_batch_are_filled_by_a_thread_and_rows_without_grammar_stay_free(compiler):
    states = [begin(compiler, choice=("a",)), None, begin(compiler, regex="[0-9]+")]
    mask = compiler.masks(states).result()
    assert mask.shape == (3, -(-SIZE // 32)) and (mask[1] == -1).all()
    for row in (0, 2):
        expected = compiler.bitmask(1)
        states[row].fill(expected, 0)
        assert torch.equal(mask[row], expected[0])


@pytest.fixture(scope="module")
def wide() -> TokenTable:
    """A vocabulary of 20,000 short words, on which an ambiguous grammar takes long."""
    random.seed(0)
    words = {
        bytes(random.choices(b"abcdefghijklmnopqrstuvwxyz", k=random.randint(2, 9))) for _ in range(20_000)
    }
    return TokenTable([b"", *(bytes([byte]) for byte in range(256)), *sorted(words)], {0})


def test_a_grammar_that_takes_too_long_fails_alone_and_the_rest_of_its_batch_is_filled(wide):
    size = len(wide.pieces)
    compiler = GrammarCompiler(lambda: wide, size, {0}, mask_seconds=0.5)
    slow, other = begin(compiler, regex=AMBIGUOUS), begin(compiler, regex="[0-9]")
    began = time.monotonic()
    for _ in range(4):
        mask = compiler.masks([slow, other]).result()
        assert torch.equal(mask[1], compiler.masks([other]).result()[0])
        if slow.error is not None:
            break
        slow.accept(300)
    assert time.monotonic() - began < 20
    assert isinstance(slow.error, InvalidGrammar) and "too ambiguous" in slow.error.message
    assert not mask[0].any() and not slow.accept(300)
    result = Sampler(size, "cpu").sample(
        torch.zeros(2, size), [SamplerState(SamplingParams(), (), {0}) for _ in range(2)], mask
    )
    assert result.errors[0] is not None and result.errors[1] is None
    settle(compiler._masking)


def test_a_grammar_that_spends_its_budget_of_processor_time_gives_up(compiler, monkeypatch):
    monkeypatch.setattr("tutti.layers.grammar.BUDGET_SECONDS", 0.2)
    monkeypatch.setattr("tutti.layers.grammar.BUDGET_PER_TOKEN", 0.0)
    state = begin(compiler, grammar='root ::= root root root | root root | [a-z] | ""')
    for _ in range(2000):
        tokens = allowed(compiler, state)
        if not tokens or not state.accept(tokens[-1]):
            break
    assert isinstance(state.error, InvalidGrammar)
    assert allowed(compiler, state) == []


def test_abandoned_calls_are_replaced_and_limited():
    pool, gate = WorkerPool("test", workers=1, abandoned=2), threading.Event()
    stuck = [pool.submit(gate.wait, limit=0.05) for _ in range(2)]
    for job in stuck:
        with pytest.raises(TimeoutError):
            job.future.result(timeout=10)
    with pytest.raises(Busy):
        pool.submit(lambda: 1)
    gate.set()
    settle(pool)
    assert pool.submit(lambda: 1).future.result(timeout=10) == 1
    assert not stuck[0].abandon()
