"""A tokenizer in Hugging Face's form as GGUF's metadata: tokens, scores or merges, special tokens, chat template.

Two kinds exist in GGUF for decoders: "gpt2", byte-level BPE with merges, whose splitting of words llama.cpp knows by a
name; and "llama", SentencePiece's BPE with scores. Another splitting of words is refused: the file would tokenize
wrongly. No torch.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tutti.errors import CheckpointError
from tutti.formats.checkpoint import read_json
from tutti.formats.gguf.export.sentencepiece import read_pieces
from tutti.formats.gguf.metadata import Metadata, flag, integer, integers, numbers, text, texts

NORMAL, UNKNOWN, CONTROL, USER_DEFINED, UNUSED, BYTE = 1, 2, 3, 4, 5, 6  # token types

_TAIL = r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
_HEAD = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|"
_SPLITS = {_HEAD + r"\p{N}{1,3}" + _TAIL: "llama-bpe", _HEAD + r"\p{N}" + _TAIL: "qwen2"}


@dataclass(slots=True)
class Tokens:
    """The tokens by id; `scores` for SentencePiece alone."""

    texts: list[str]
    kinds: list[int]
    scores: list[float] | None = None

    def put(self, number: int, token: str, kind: int) -> None:
        """Token `number`, in the place of whatever stood there."""
        while len(self.texts) <= number:
            self.texts.append(f"[PAD{len(self.texts)}]")
            self.kinds.append(UNUSED)
            if self.scores is not None:
                self.scores.append(0.0)
        self.texts[number], self.kinds[number] = token, kind


def describe(folder: Path, config: Mapping[str, Any]) -> Metadata:
    """The tokenizer of the checkpoint in `folder`, padded to config.json's vocabulary. Raises CheckpointError."""
    file = folder / "tokenizer.json"
    settings = (
        read_json(folder / "tokenizer_config.json") if (folder / "tokenizer_config.json").exists() else {}
    )
    if not file.exists():
        raise CheckpointError(f"{folder} has no tokenizer.json; it is not a complete checkpoint")
    tokenizer = read_json(file)
    model = tokenizer.get("model") or {}
    if model.get("type") != "BPE":
        raise CheckpointError(
            f"{file}: a tokenizer of the kind {model.get('type')} has no place in GGUF; BPE has"
        )
    sentencepiece = bool(model.get("byte_fallback"))
    tokens = _tokens(model, folder / "tokenizer.model") if sentencepiece else _by_id(model)
    for added in tokenizer.get("added_tokens") or ():
        tokens.put(added["id"], added["content"], CONTROL if added.get("special") else USER_DEFINED)
    if sentencepiece and model.get("unk_token") in tokens.texts:
        tokens.kinds[tokens.texts.index(model["unk_token"])] = UNKNOWN
    size = int(config["vocab_size"])
    if len(tokens.texts) > size:
        raise CheckpointError(f"{file} has {len(tokens.texts)} tokens where config.json has {size}")
    if len(tokens.texts) < size:
        tokens.put(size - 1, f"[PAD{size - 1}]", UNUSED)
    values: Metadata = {
        "model": text("llama" if sentencepiece else "gpt2"),
        "pre": text("default" if sentencepiece else _splitting(tokenizer, file)),
        "tokens": texts(tokens.texts),
        "token_type": integers(tokens.kinds),
    }
    if tokens.scores is not None:
        values["scores"] = numbers(tokens.scores)
        values["add_space_prefix"] = flag(_prepends(tokenizer))
    else:
        values["merges"] = texts(_merges(model))
    values |= _specials(tokens.texts, tokenizer, settings, config, folder)
    return {f"tokenizer.ggml.{key}": value for key, value in values.items()} | _templates(folder, settings)


def _by_id(model: Mapping[str, Any]) -> Tokens:
    tokens = Tokens([], [])
    for token, number in sorted(model["vocab"].items(), key=lambda item: item[1]):
        tokens.put(number, token, NORMAL)
    return tokens


def _tokens(model: Mapping[str, Any], pieces: Path) -> Tokens:
    """SentencePiece's tokens and scores, from its own file if there is one, otherwise from the order of merges."""
    if pieces.exists():
        read = read_pieces(pieces)
        return Tokens([p.text for p in read], [p.kind for p in read], [p.score for p in read])
    tokens = Tokens([], [], [])
    ranks: dict[str, int] = {}
    for rank, merge in enumerate(_merges(model)):
        ranks.setdefault(merge.replace(" ", "", 1), rank)
    assert tokens.scores is not None
    for token, number in sorted(model["vocab"].items(), key=lambda item: item[1]):
        is_byte = len(token) == 6 and token.startswith("<0x") and token.endswith(">")
        tokens.put(number, token, BYTE if is_byte else NORMAL)
        tokens.scores[number] = -float(ranks.get(token, len(ranks)))
    return tokens


def _merges(model: Mapping[str, Any]) -> list[str]:
    return [merge if isinstance(merge, str) else " ".join(merge) for merge in model.get("merges") or ()]


def _splitting(tokenizer: Mapping[str, Any], file: Path) -> str:
    """llama.cpp's name for how words are split before merging."""
    if not tokenizer["model"].get("merges"):
        return "gpt-2"  # nothing is ever merged, wherever words end
    steps = tokenizer.get("pre_tokenizer") or {}
    steps = steps.get("pretokenizers", [steps])
    kinds = [step.get("type") for step in steps]
    own = bool(steps) and kinds[-1] == "ByteLevel" and steps[-1].get("use_regex", True)
    if kinds == ["ByteLevel"] and own:
        return "gpt-2"
    if kinds == ["Digits", "ByteLevel"] and own and steps[0].get("individual_digits"):
        return "smollm"
    if kinds == ["Split", "ByteLevel"] and not own:
        name = _SPLITS.get(steps[0].get("pattern", {}).get("Regex"))
        if name is not None:
            return name
    raise CheckpointError(
        f"{file}: llama.cpp has no name for how this tokenizer splits words ({json.dumps(steps)[:200]}); a GGUF file "
        "of it would tokenize wrongly"
    )


def _prepends(tokenizer: Mapping[str, Any]) -> bool:
    """Whether a space is put before a text."""
    steps = tokenizer.get("normalizer") or {}
    prepend = any(step.get("type") == "Prepend" for step in steps.get("normalizers", [steps]))
    scheme = (tokenizer.get("pre_tokenizer") or {}).get("prepend_scheme", "never")
    return prepend or scheme != "never"


def _specials(
    tokens: Sequence[str],
    tokenizer: Mapping[str, Any],
    settings: Mapping[str, Any],
    config: Mapping[str, Any],
    folder: Path,
) -> Metadata:
    """The special tokens' numbers, and whether a text begins or ends with one."""
    numbered = {token: number for number, token in enumerate(tokens)}
    values: Metadata = {}
    for role, key in (("bos", "bos"), ("eos", "eos"), ("unk", "unknown"), ("pad", "padding")):
        named = settings.get(f"{role}_token")
        named = named.get("content") if isinstance(named, Mapping) else named
        number = numbered.get(named) if named is not None else None
        if number is None and named is None and f"{role}_token" not in settings:
            number = _first(config.get(f"{role}_token_id"))
        if number is not None:
            values[f"{key}_token_id"] = integer(number)
    ends = _ends(folder)
    if "eos_token_id" not in values and ends:
        values["eos_token_id"] = integer(ends[0])
    if len(ends) > 1:
        values["eos_token_ids"] = integers(ends)  # Ollama's key; llama.cpp knows the others by their texts
    before, after = _surroundings(tokenizer)
    return values | {"add_bos_token": flag(before), "add_eos_token": flag(after)}


def _first(number: Any) -> int | None:
    return number[0] if isinstance(number, list) and number else number if isinstance(number, int) else None


def _ends(folder: Path) -> list[int]:
    """The tokens that end an answer, by generation_config.json."""
    file = folder / "generation_config.json"
    ends = read_json(file).get("eos_token_id") if file.exists() else None
    return [ends] if isinstance(ends, int) else list(ends or ())


def _surroundings(tokenizer: Mapping[str, Any]) -> tuple[bool, bool]:
    """Whether the post-processor puts a special token before a text, and after it."""
    step = tokenizer.get("post_processor") or {}
    for part in step.get("processors", [step]):
        template = part.get("single") or ()
        if part.get("type") == "TemplateProcessing" and template:
            return "SpecialToken" in template[0], "SpecialToken" in template[-1]
    return False, False


def _templates(folder: Path, settings: Mapping[str, Any]) -> Metadata:
    """The chat template, and further ones by their names."""
    file = folder / "chat_template.jinja"
    template = file.read_text(encoding="utf-8") if file.exists() else settings.get("chat_template")
    if not template:
        return {}
    if isinstance(template, str):
        return {"tokenizer.chat_template": text(template)}
    named = {one["name"]: one["template"] for one in template}
    values = {
        f"tokenizer.chat_template.{name}": text(one) for name, one in named.items() if name != "default"
    }
    if values:
        values["tokenizer.chat_templates"] = texts([name for name in named if name != "default"])
    return values | ({"tokenizer.chat_template": text(named["default"])} if "default" in named else {})
