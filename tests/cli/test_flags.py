"""Command lines: vLLM's become ours, sizes and counts are read, what cannot be done is refused."""

from __future__ import annotations

import pytest

from tutti.cli.flags import EngineFlags, parse_tokens
from tutti.cli.vllm_flags import IGNORED, translate
from tutti.errors import ConfigError


def translated(line: str) -> tuple[list[str], list[str]]:
    notes: list[str] = []
    return translate(line.split(), notes.append), notes


def test_flags_that_mean_nothing_here_are_taken_out_with_a_note_each() -> None:
    ours, notes = translated(
        "m --gpu-memory-utilization 0.9 --enforce-eager --dtype float32 --swap-space=4 --disable-log-requests"
    )
    assert ours == ["m", "--dtype", "float32"]
    assert len(notes) == 4
    assert "--memory 16GB" in notes[0]


def test_underscores_are_dashes() -> None:
    assert translated("m --max_model_len 4k --max_num_seqs=8")[0] == [
        "m",
        "--max-model-len",
        "4k",
        "--max-num-seqs=8",
    ]


def test_one_device_is_accepted_and_two_are_refused() -> None:
    assert translated("m -dp 1 --pipeline-parallel-size 1")[0] == ["m"]
    with pytest.raises(ConfigError, match="one device"):
        translated("m --pipeline-parallel-size 2")


def test_ranks_are_asked_for_as_vllm_has_it() -> None:
    assert translated("m -tp 2 --ulysses_degree=2")[0] == [
        "m",
        "--tensor-parallel-size",
        "2",
        "--ulysses-degree=2",
    ]


def test_what_would_change_the_answers_is_not_ignored_in_silence() -> None:
    with pytest.raises(ConfigError, match="kv-cache-dtype fp8"):
        translated("m --kv-cache-dtype fp8")


def test_several_values_after_one_flag_are_spread() -> None:
    assert translated("m --served-model-name a b --port 1")[0] == [
        "m",
        *("--served-model-name", "a", "--served-model-name", "b", "--port", "1"),
    ]
    assert translated("--api-key k m")[0] == ["--api-key", "k", "m"]


def test_dotted_json_flags_are_known_by_their_first_word() -> None:
    assert translated("m --speculative-config.method ngram --speculative_config.num 3")[0] == ["m"]


def test_what_follows_two_dashes_is_left_alone() -> None:
    assert translated("m -- --enforce-eager")[0] == ["m", "--", "--enforce-eager"]


def test_a_flag_without_its_value_says_so() -> None:
    with pytest.raises(ConfigError, match="needs a value"):
        translated("m --swap-space")


def test_no_ignored_flag_is_also_one_of_ours() -> None:
    assert not {name.replace("-", "_") for name in IGNORED} & set(EngineFlags.__dataclass_fields__)


@pytest.mark.parametrize(
    ("text", "count"), [("4096", 4096), ("4k", 4000), ("4K", 4096), ("1.5k", 1500), (8, 8)]
)
def test_counts_of_tokens(text: str | int, count: int) -> None:
    assert parse_tokens(text) == count


@pytest.mark.parametrize("text", ["many", "-1", "4g", ""])
def test_a_count_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(ConfigError):
        parse_tokens(text)
