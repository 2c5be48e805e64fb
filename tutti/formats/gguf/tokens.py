"""The vocabulary in a GGUF file: its tokens, what kind each is, and which of them mean something. No torch."""

from __future__ import annotations

from dataclasses import dataclass

from tutti.errors import CheckpointError
from tutti.formats.gguf.keys import Keys

NORMAL, UNKNOWN, CONTROL, USER, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # kinds of token

NAMED = {
    "bos_token": "tokenizer.ggml.bos_token_id",
    "eos_token": "tokenizer.ggml.eos_token_id",
    "unk_token": "tokenizer.ggml.unknown_token_id",
    "pad_token": "tokenizer.ggml.padding_token_id",
    "sep_token": "tokenizer.ggml.seperator_token_id",  # the format's own spelling
    "cls_token": "tokenizer.ggml.cls_token_id",
    "mask_token": "tokenizer.ggml.mask_token_id",
}
ENDS = ("tokenizer.ggml.eos_token_id", "tokenizer.ggml.eot_token_id", "tokenizer.ggml.eom_token_id")

# Tokens that end a turn in every vocabulary that has them; files state one of a model's at most.
TURN_ENDS = frozenset(
    (
        "<|eot_id|> <|eom_id|> <|im_end|> <|end|> <|endoftext|> <|end_of_text|> <end_of_turn> <EOT> <|return|> <|call|>"
    ).split()
)
HARMONY = {"<|return|>", "<|call|>"}  # where both are, <|end|> ends a message and the turn goes on


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """`tokens` by id; `kinds` and `scores` are as long, or empty where the file has none."""

    tokens: list[str]
    kinds: list[float]
    scores: list[float]

    def kind(self, token: int) -> float:
        """The kind of a token."""
        return self.kinds[token] if self.kinds else NORMAL


def read_vocabulary(keys: Keys) -> Vocabulary:
    """The file's vocabulary. Raises CheckpointError when there is none, or its lists are not equally long."""
    tokens = keys.strings("tokenizer.ggml.tokens")
    kinds = keys.numbers("tokenizer.ggml.token_type")
    scores = keys.numbers("tokenizer.ggml.scores")
    if not tokens:
        raise CheckpointError(
            f"{keys.file.path} has no vocabulary (tokenizer.ggml.tokens); name one with --tokenizer"
        )
    for name, values in (("token_type", kinds), ("scores", scores)):
        if values and len(values) != len(tokens):
            raise CheckpointError(f"{keys.file.path}: {len(values)} of {name} for {len(tokens)} tokens")
    return Vocabulary(tokens, kinds, scores)


def end_ids(keys: Keys) -> list[int] | None:
    """The ids of the tokens that end an answer, None where the file has no vocabulary."""
    if "tokenizer.ggml.tokens" not in keys:
        return None
    vocabulary = read_vocabulary(keys)
    found = {token for key in ENDS if (token := keys.whole(key)) is not None}
    marks = {
        text: token
        for token, text in enumerate(vocabulary.tokens)
        if text in TURN_ENDS and vocabulary.kind(token) in (CONTROL, USER)
    }
    if marks.keys() >= HARMONY:
        found.discard(marks.pop("<|end|>", -1))
    return sorted(token for token in found | set(marks.values()) if token < len(vocabulary.tokens))


def named_tokens(keys: Keys, vocabulary: Vocabulary) -> dict[str, str]:
    """The tokens that have a name, "bos_token" and the like, by it."""
    ids = {name: keys.whole(key) for name, key in NAMED.items()}
    count = len(vocabulary.tokens)
    return {
        name: vocabulary.tokens[token] for name, token in ids.items() if token is not None and token < count
    }
