"""How text is split into words before byte-level BPE joins bytes, by the names that GGUF files give the ways.

A file has the name alone (`tokenizer.ggml.pre`); the patterns are those in the tokenizer.json of the models it stands
for, as steps of the `tokenizers` library. No torch.
"""

from __future__ import annotations

from typing import Any

Steps = list[dict[str, Any]]

_ENDINGS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
_REST = r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_UPPER, _LOWER = r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]", r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]"
_WORD = r"[^\r\n\p{L}\p{N}]?"
_REST_SLASH = r" ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+"

LLAMA3 = rf"{_ENDINGS}|{_WORD}\p{{L}}+|\p{{N}}{{1,3}}|{_REST}"
QWEN2 = rf"{_ENDINGS}|{_WORD}\p{{L}}+|\p{{N}}|{_REST}"
QWEN35 = rf"{_ENDINGS}|{_WORD}[\p{{L}}\p{{M}}]+|\p{{N}}| ?[^\s\p{{L}}\p{{M}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
TEKKEN = rf"{_WORD}{_UPPER}*{_LOWER}+|{_WORD}{_UPPER}+{_LOWER}*|\p{{N}}|{_REST_SLASH}"
GPT4O = (
    rf"{_WORD}{_UPPER}*{_LOWER}+{_ENDINGS}?|{_WORD}{_UPPER}+{_LOWER}*{_ENDINGS}?|\p{{N}}{{1,3}}|{_REST_SLASH}"
)
DEEPSEEK3 = (
    r"[!\"#$%&'()*+,\-./:;<=>?@\[\\\]^_`{|}~][A-Za-z]+|[^\r\n\p{L}\p{P}\p{S}]?[\p{L}\p{M}]+| ?[\p{P}\p{S}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
# Letters that have a case, but for Georgian and mathematical ones.
_CASED = r"[\p{Lu}\p{Ll}\p{Lt}&&[^\x{10D0}-\x{10FF}\x{1D400}-\x{1D7FF}]]"
_MARKS = "[!-/:-~！-／：-～‘-‟　-。]"
_EAST = "[一-龥ࠀ-一가-퟿]+"


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _bytes(*, words: bool = False) -> dict[str, Any]:
    """Bytes to printable characters; `words` splits as GPT-2 does before."""
    return {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": words}


def _digits(*, each: bool) -> dict[str, Any]:
    return {"type": "Digits", "individual_digits": each}


def _by(pattern: str) -> Steps:
    return [_split(pattern), _bytes()]


_GPT2 = [_bytes(words=True)]
_FALCON = [
    {"type": "Punctuation", "behavior": "Contiguous"},
    _bytes(words=True),
    _digits(each=False),
    _split("[0-9][0-9][0-9]"),
]
_STARCODER = [_digits(each=True), _bytes(words=True)]
_DEEPSEEK_LLM = [
    *(_split(part) for part in (r"[\r\n]", rf"\s?{_CASED}+", rf"\s?{_MARKS}+", r"\s+$", _EAST)),
    _digits(each=True),
    _bytes(),
]
_DEEPSEEK_CODER = [
    *(_split(part) for part in (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", _EAST)),
    _digits(each=True),
    _bytes(),
]
_DEEPSEEK3 = [_split(r"\p{N}{1,3}"), _split("[一-龥぀-ゟ゠-ヿ]+"), _split(DEEPSEEK3), _bytes()]

WAYS: dict[str, Steps] = {
    "default": _FALCON,
    "falcon": _FALCON,
    **dict.fromkeys(
        ("gpt-2", "gpt2", "phi-2", "mpt", "olmo", "jais", "dolly", "granite-docling", "roberta-bpe"), _GPT2
    ),
    **dict.fromkeys(("llama-bpe", "llama3", "llama-v3", "falcon3", "smaug-bpe", "dbrx"), _by(LLAMA3)),
    **dict.fromkeys(("glm4", "chatglm-bpe"), _by(LLAMA3)),
    **dict.fromkeys(("qwen2", "deepseek-r1-qwen", "stablelm2", "hunyuan", "megrez"), _by(QWEN2)),
    "qwen35": _by(QWEN35),
    **dict.fromkeys(("starcoder", "refact", "command-r", "smollm", "codeshell", "exaone"), _STARCODER),
    "deepseek-llm": _DEEPSEEK_LLM,
    "deepseek-coder": _DEEPSEEK_CODER,
    **dict.fromkeys(("deepseek-v3", "deepseek-r1"), _DEEPSEEK3),
    "tekken": _by(TEKKEN),
    **dict.fromkeys(("gpt-4o", "llama4", "minimax-m2"), _by(GPT4O)),
}
# Text is brought to NFC first.
COMPOSED = {"qwen2", "deepseek-r1-qwen", "qwen35", "megrez"}
# A word that is a token is not put together of others.
WHOLE_WORDS = {"llama-bpe", "llama3", "llama-v3", "falcon3", "tekken", "gpt-4o"}
# Text begins with a mark where the file does not say.
BEGINS = {"llama-bpe", "llama3", "llama-v3", "tekken"}
