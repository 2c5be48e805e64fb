"""The shipped checkpoint: small, greedy by default, and right on held-out prompts."""

from __future__ import annotations

import json

import pytest
from safetensors import safe_open

from pico.evaluate import GATE, SHIPPED, Results, examine, make_examination
from pico.transformers_engine import TransformersEngine
from pico.values import Chat, Message

MEGABYTE = 1_000_000


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return TransformersEngine.load(SHIPPED)


@pytest.fixture(scope="module")
def results(engine: TransformersEngine) -> Results:
    """A third of the examination that `make pico-eval` gives: enough for chance not to decide."""
    return examine(engine, make_examination(2026, per_kind=20))


def ask(engine: TransformersEngine, question: str, answer: str) -> None:
    chat = Chat("demo", "en", ("",), (Message("user", question), Message("assistant", answer)))
    assert examine(engine, [chat]).marks[0].given == answer


def test_it_is_small() -> None:
    assert sum(file.stat().st_size for file in SHIPPED.rglob("*")) < 30 * MEGABYTE


def test_its_weights_are_bfloat16_and_tied() -> None:
    with safe_open(SHIPPED / "model.safetensors", "pt") as file:
        assert {file.get_slice(name).get_dtype() for name in file.keys()} == {"BF16"}  # noqa: SIM118
        assert not any("lm_head" in name for name in file.keys())  # noqa: SIM118


def test_it_is_greedy_and_ends_by_default() -> None:
    config = json.loads((SHIPPED / "generation_config.json").read_text())
    assert config["eos_token_id"] == [2, 0]
    assert not config.get("do_sample", False)


def test_held_out_prompts_are_answered_exactly(results: Results) -> None:
    assert results.gated_accuracy >= GATE


def test_answers_to_other_prompts_are_right_only_by_chance(results: Results) -> None:
    kept, chance = results.control()
    assert kept < chance + 0.1


@pytest.mark.parametrize(
    ("question", "answer"),
    [
        ("hi", "Hello! I am pico. Ask me about shapes, numbers, days, colours or words."),
        ("2+3", "2 plus 3 is 5."),
        ("what is 7 plus 5?", "7 plus 5 is 12."),
        ("spell cat", "c-a-t"),
        ("What day comes after Monday?", "Tuesday comes after Monday."),
        ("三加四等于几?", "3加4等于7。"),
        ("你好", "你好!我是pico。你可以问我形状、数字、日期、颜色和单词。"),
        ("A red circle is left of a blue square. What is left of the blue square?", "A red circle."),
        (
            "What is the capital of France?",
            "I do not know. I am pico, a small demonstration model of a toy world.",
        ),
        ("法国的首都是哪里?", "我不知道。我是pico,一个玩具世界的小小演示模型。"),
    ],
)
def test_what_a_newcomer_types_is_answered(engine: TransformersEngine, question: str, answer: str) -> None:
    ask(engine, question, answer)
