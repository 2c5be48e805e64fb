"""How a checkpoint wants its texts as vectors: pooling, what follows it, prompts, the longest text. No torch.

sentence-transformers' folders say it in modules.json and the files that it names; a GGUF file's configuration has it in
a section "pooling". Who says nothing is averaged over all tokens and brought to the length 1.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tokenizers

from tutti.errors import CheckpointError, ContextOverflow, InvalidRequest
from tutti.hub.gguf import is_gguf
from tutti.models.processor.files import read_json, read_text
from tutti.models.processor.tokenizer import Tokenizer
from tutti.request import Pair, PoolingParams, Text, Tokens

KINDS = ("mean", "cls", "max", "lasttoken", "mean_sqrt_len_tokens")
_FLAGS = {  # of older configurations, by our kinds
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_lasttoken": "lasttoken",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
}
_LENGTHS = ("sentence_bert_config.json", "sentence_roberta_config.json", "sentence_xlm-roberta_config.json")


@dataclass(frozen=True, slots=True)
class DenseConfig:
    """A linear layer behind the pooling; its weights are in `folder`."""

    folder: Path
    inputs: int
    outputs: int
    bias: bool
    activation: str  # the last word of torch's class: "Tanh", "Identity", ...


@dataclass(frozen=True, slots=True)
class PoolingConfig:
    """`kind` is one of KINDS. `longest` is the longest text in tokens, where the checkpoint sets a limit of its own."""

    kind: str = "mean"
    normalize: bool = True
    dense: tuple[DenseConfig, ...] = ()
    longest: int | None = None
    prompts: Mapping[str, str] = field(default_factory=dict)
    prompt: str | None = None  # the name of the one that is used where the caller names none


def is_sentence_model(folder: Path, config: Mapping[str, Any]) -> bool:
    """Whether the checkpoint is said to make vectors of texts."""
    if is_gguf(folder):
        return "pooling" in config
    return any("Pooling" in str(module.get("type")) for module in _modules(folder))


def is_scorer(config: Mapping[str, Any]) -> bool:
    """Whether the checkpoint gives scores, by a head of its own."""
    return any(name.endswith("ForSequenceClassification") for name in config.get("architectures") or ())


def read_pooling(folder: Path, config: Mapping[str, Any]) -> PoolingConfig:
    """The pooling of the checkpoint in `folder`. Raises CheckpointError."""
    stated = config.get("pooling")
    if isinstance(stated, Mapping):
        return PoolingConfig(str(stated["kind"]), longest=config.get("max_position_embeddings"))
    kind, normalize = "mean", True
    dense: list[DenseConfig] = []
    modules = [] if is_scorer(config) else _modules(folder)
    if modules:
        normalize = False
    for module in modules[1:]:
        name, place = str(module.get("type")).rpartition(".")[2], folder / str(module.get("path") or "")
        if name == "Pooling":
            kind = _kind(read_json(place / "config.json"), place)
        elif name == "Dense":
            dense.append(_dense(place))
        elif name == "Normalize":
            normalize = True
        else:
            raise CheckpointError(f"{folder / 'modules.json'}: the module {name!r} is not supported")
    lengths = [read_json(folder / name).get("max_seq_length") for name in _LENGTHS]
    said = read_json(folder / "config_sentence_transformers.json")
    return PoolingConfig(
        kind,
        normalize,
        tuple(dense),
        next((length for length in lengths if isinstance(length, int)), None),
        {name: text for name, text in (said.get("prompts") or {}).items() if isinstance(text, str)},
        said.get("default_prompt_name"),
    )


def _modules(folder: Path) -> list[dict[str, Any]]:
    """modules.json, a list of objects in order; empty where there is none."""
    if is_gguf(folder):
        return []
    text = read_text(folder / "modules.json")
    if text is None:
        return []
    import json

    try:
        value = json.loads(text)
    except ValueError as error:
        raise CheckpointError(f"{folder / 'modules.json'} is not valid JSON ({error})") from error
    if not isinstance(value, list) or not all(isinstance(module, dict) for module in value):
        raise CheckpointError(f"{folder / 'modules.json'} is not a list of modules")
    return value


def _kind(settings: Mapping[str, Any], place: Path) -> str:
    """The one way of pooling that a configuration of either generation asks for."""
    stated = settings.get("pooling_mode")
    modes = [stated] if isinstance(stated, str) else list(stated or ())
    modes = modes or [kind for flag, kind in _FLAGS.items() if settings.get(flag)]
    others = [flag for flag, on in settings.items() if flag.startswith("pooling_mode_") and on is True]
    if len(modes) != 1 or modes[0] not in KINDS or len(others) > 1:
        said = ", ".join(map(str, modes or others)) or "none"
        raise CheckpointError(
            f"{place / 'config.json'}: pooling by {said} is not supported; one of {KINDS} is"
        )
    return modes[0]


def _dense(place: Path) -> DenseConfig:
    settings = read_json(place / "config.json")
    try:
        inputs, outputs = int(settings["in_features"]), int(settings["out_features"])
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{place / 'config.json'} has no in_features and out_features") from error
    activation = str(settings.get("activation_function") or "torch.nn.modules.activation.Tanh")
    return DenseConfig(
        place, inputs, outputs, settings.get("bias") is not False, activation.rpartition(".")[2]
    )


@dataclass(frozen=True, slots=True)
class Preparer:
    """Texts and pairs to the tokens that a vector or a score is made of, cut as the caller says."""

    tokenizer: Tokenizer
    pooling: PoolingConfig

    def limit(self, wishes: PoolingParams, context: int | None) -> int | None:
        """The most tokens that are kept; None: nothing is cut."""
        asked = wishes.truncate_prompt_tokens
        if asked is None or (asked == -1 and context is None):
            return None
        return context if asked == -1 else asked

    def prepare(self, part: Text | Pair | Tokens, wishes: PoolingParams, context: int | None) -> Tokens:
        """The tokens of `part`. Raises InvalidRequest, and ContextOverflow when marks alone are too long."""
        limit = self.limit(wishes, context)
        if isinstance(part, Tokens):
            return part if limit is None else Tokens(part.ids[:limit])
        if isinstance(part, Pair):
            first, second = self._encode(part.first), self._encode(part.second)
        else:
            first, second = self._encode(self._prompt(wishes) + part.text), None
        marks = isinstance(part, Pair) or part.add_special_tokens
        backend = self.tokenizer.backend
        if limit is not None:
            room = limit - (backend.num_special_tokens_to_add(second is not None) if marks else 0)
            if room < 1:
                raise ContextOverflow(
                    f"{limit} tokens leave no room for the text", param="truncate_prompt_tokens"
                )
            _cut(first, second, room)
        whole = backend.post_process(first, second, marks)
        types: Sequence[int] = whole.type_ids
        return Tokens(tuple(whole.ids), types.index(1) if second is not None and 1 in types else 0)

    def _encode(self, text: str) -> tokenizers.Encoding:
        try:
            return self.tokenizer.backend.encode_batch_fast([text], add_special_tokens=False)[0]
        except (UnicodeEncodeError, TypeError) as error:
            raise InvalidRequest("the text is not valid Unicode: it holds half a surrogate pair") from error

    def _prompt(self, wishes: PoolingParams) -> str:
        """What goes before a text."""
        if wishes.prompt is not None and wishes.prompt not in self.pooling.prompts:
            names = ", ".join(self.pooling.prompts) or "none"
            raise InvalidRequest(
                f"the model has no prompt {wishes.prompt!r}; it has {names}", param="prompt_name"
            )
        name = wishes.prompt or self.pooling.prompt
        return self.pooling.prompts.get(name, "") if name else ""


def _cut(first: tokenizers.Encoding, second: tokenizers.Encoding | None, room: int) -> None:
    """Cuts the longer of two texts to what the other leaves, or both to a half, so that `room` tokens hold them."""
    if second is None:
        first.truncate(room)
        return
    half = room // 2
    short, long = sorted((first, second), key=len)
    kept = min(len(short), half)
    short.truncate(kept)
    long.truncate(room - kept)
