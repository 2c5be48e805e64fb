"""Tiny encoders of text: random checkpoints of every family, with tokenizers, in sentence-transformers' form.

`folder(name, ...)` writes one; `write_gguf` writes it as llama.cpp's converter does.
"""

from __future__ import annotations

import base64
import functools
import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import tokenizers
import torch
import transformers
from gguf import GGMLQuantizationType, GGUFWriter
from safetensors.torch import save_file
from tokenizers import decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedModel

from tests.models.checkpoints import randomize
from tests.models.gguf_files import finish, fits
from tests.processor.small_tokenizers import CORPUS
from tutti.formats.checkpoint import open_checkpoint

CONTEXT = 96
SIZES = {
    "hidden_size": 48,
    "intermediate_size": 80,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "type_vocab_size": 2,
}
TEXTS = [
    "hello",
    "The quick brown fox jumps over the lazy dog.",
    "naïve café, 日本語のテキスト 🙂 and a good many words more, so that this text is longer than the others",
    "a b",
    "What is the capital of France?",
]
_KEPT: list[tempfile.TemporaryDirectory[str]] = []


def word_piece(*, lowercase: bool = True, size: int = 600) -> tokenizers.Tokenizer:
    """BERT's tokenizer, trained on a small corpus."""
    made = tokenizers.Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.BertNormalizer(lowercase=lowercase)
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece()
    marks = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    made.train_from_iterator(
        [*CORPUS, *TEXTS],
        trainers.WordPieceTrainer(vocab_size=size, special_tokens=marks, show_progress=False),
    )
    ends = [(mark, made.token_to_id(mark)) for mark in ("[CLS]", "[SEP]")]
    made.post_processor = processors.BertProcessing(ends[1], ends[0])
    return made


def byte_pairs() -> tokenizers.Tokenizer:
    """RoBERTa's tokenizer: its marks are <s> and </s>, padding is 1."""
    made = tokenizers.Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    marks = ["<s>", "<pad>", "</s>", "<unk>", "<mask>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        CORPUS,
        trainers.BpeTrainer(
            vocab_size=500, special_tokens=marks, initial_alphabet=alphabet, show_progress=False
        ),
    )
    made.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0), add_prefix_space=False)
    return made


def unigrams(charsmap: bytes = b"") -> tokenizers.Tokenizer:
    """XLM-RoBERTa's tokenizer, as transformers converts it; `charsmap` is SentencePiece's table of characters."""
    made = tokenizers.Tokenizer(models.Unigram())
    steps = [normalizers.Strip(left=False, right=True), normalizers.Replace(tokenizers.Regex(" {2,}"), "▁")]
    if charsmap:
        steps.insert(0, normalizers.Precompiled(charsmap))
    made.normalizer = normalizers.Sequence(steps)
    made.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    made.decoder = decoders.Metaspace(replacement="▁", prepend_scheme="always")
    marks = ["<s>", "<pad>", "</s>", "<unk>"]
    made.train_from_iterator(
        [*CORPUS, *TEXTS],
        trainers.UnigramTrainer(vocab_size=400, special_tokens=marks, unk_token="<unk>", show_progress=False),
    )
    made.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>", pair="<s> $A </s> </s> $B </s>", special_tokens=[("<s>", 0), ("</s>", 2)]
    )
    written = json.loads(made.to_str())
    vocab = written["model"]["vocab"]
    written["model"]["vocab"] = [[piece, float(np.float32(score))] for piece, score in vocab]
    return tokenizers.Tokenizer.from_str(json.dumps(written))  # whose scores are SentencePiece's float32


def _bert(kind: type[PreTrainedModel], vocab: int, **more: Any) -> PreTrainedModel:
    settings = transformers.BertConfig(
        vocab_size=vocab, max_position_embeddings=CONTEXT, pad_token_id=0, **SIZES, **more
    )
    return kind(settings)


def _roberta(kind: type[PreTrainedModel], vocab: int, **more: Any) -> PreTrainedModel:
    settings = transformers.XLMRobertaConfig(
        vocab_size=vocab, max_position_embeddings=CONTEXT + 2, pad_token_id=1, **SIZES, **more
    )
    return kind(settings)


def _nomic(vocab: int) -> PreTrainedModel:
    settings = transformers.NomicBertConfig(vocab_size=vocab, max_position_embeddings=CONTEXT, **SIZES)
    return transformers.NomicBertModel(settings)


BUILD: dict[str, tuple[Callable[[int], PreTrainedModel], Callable[[], tokenizers.Tokenizer]]] = {
    "bert": (lambda vocab: _bert(transformers.BertModel, vocab), word_piece),
    "roberta": (lambda vocab: _roberta(transformers.XLMRobertaModel, vocab), byte_pairs),
    "xlm-roberta": (lambda vocab: _roberta(transformers.XLMRobertaModel, vocab), unigrams),
    "cross-xlm-roberta": (
        lambda vocab: _roberta(transformers.XLMRobertaForSequenceClassification, vocab, num_labels=1),
        unigrams,
    ),
    "nomic": (_nomic, word_piece),
    "cross": (
        lambda vocab: _bert(transformers.BertForSequenceClassification, vocab, num_labels=1),
        word_piece,
    ),
    "cross-roberta": (
        lambda vocab: _roberta(transformers.XLMRobertaForSequenceClassification, vocab, num_labels=1),
        byte_pairs,
    ),
    "classes": (
        lambda vocab: _bert(transformers.BertForSequenceClassification, vocab, num_labels=3),
        word_piece,
    ),
}


@functools.cache
def root() -> Path:
    """The session's folder."""
    made = tempfile.TemporaryDirectory(prefix="tutti-encoders-")
    _KEPT.append(made)
    return Path(made.name)


@functools.cache
def cached(name: str) -> Path:
    """The checkpoint, as transformers saves it, with its tokenizer."""
    folder = root() / name
    build, tokenizer = BUILD[name]
    written = tokenizer()
    randomize(build(written.get_vocab_size())).eval().save_pretrained(folder)
    written.save(str(folder / "tokenizer.json"))
    roberta = "roberta" in name
    settings = {
        "tokenizer_class": "PreTrainedTokenizerFast",
        "pad_token": "<pad>" if roberta else "[PAD]",
        "cls_token": "<s>" if roberta else "[CLS]",
        "sep_token": "</s>" if roberta else "[SEP]",
        "unk_token": "<unk>" if roberta else "[UNK]",
        "model_max_length": CONTEXT,
        "model_input_names": ["input_ids", "attention_mask", *([] if roberta else ["token_type_ids"])],
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder


def sentences(
    name: str,
    folder: Path,
    pooling: str,
    *modules: str,
    prompts: Mapping[str, str] | None = None,
    limit: int = CONTEXT,
) -> Path:
    """The checkpoint in sentence-transformers' form; `modules` after the pooling are "Dense" and "Normalize"."""
    folder.mkdir()
    for file in cached(name).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    listed = [("Transformer", ""), ("Pooling", "1_Pooling")]
    listed += [(module, f"{number}_{module}") for number, module in enumerate(modules, 2)]
    types = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{module}"}
        for number, (module, path) in enumerate(listed)
    ]
    (folder / "modules.json").write_text(json.dumps(types))
    for _, path in listed[1:]:
        (folder / path).mkdir()
    flags = {
        f"pooling_mode_{kind}": kind == pooling
        for kind in ("cls_token", "mean_tokens", "max_tokens", "lasttoken")
    }
    pooled = {"word_embedding_dimension": SIZES["hidden_size"], **flags}
    (folder / "1_Pooling" / "config.json").write_text(json.dumps(pooled))
    (folder / "sentence_bert_config.json").write_text(
        json.dumps({"max_seq_length": limit, "do_lower_case": False})
    )
    said = {"prompts": dict(prompts or {}), "default_prompt_name": None, "similarity_fn_name": "cosine"}
    (folder / "config_sentence_transformers.json").write_text(json.dumps(said))
    if "Dense" in modules:
        place = folder / "2_Dense"
        settings = {
            "in_features": SIZES["hidden_size"],
            "out_features": 20,
            "bias": True,
            "activation_function": "torch.nn.modules.activation.Tanh",
        }
        (place / "config.json").write_text(json.dumps(settings))
        draw = torch.Generator().manual_seed(1)
        weights = {
            "linear.weight": torch.randn(20, SIZES["hidden_size"], generator=draw) * 0.2,
            "linear.bias": torch.randn(20, generator=draw) * 0.2,
        }
        save_file(weights, place / "model.safetensors", {"format": "pt"})
    return folder


@functools.cache
def reference(name: str) -> PreTrainedModel:
    """transformers' model of the checkpoint."""
    kind = transformers.AutoModelForSequenceClassification if name[0] == "c" else transformers.AutoModel
    return kind.from_pretrained(cached(name), dtype=torch.float32, attn_implementation="eager").eval()


def hidden(name: str, text: str) -> torch.Tensor:
    """transformers' hidden states [tokens, hidden] of one text, marks included."""
    backend = tokenizers.Tokenizer.from_file(str(cached(name) / "tokenizer.json"))
    ids = torch.tensor([backend.encode(text).ids])
    with torch.inference_mode():
        return reference(name)(input_ids=ids).last_hidden_state[0]


def logits(name: str, first: str, second: str) -> torch.Tensor:
    """transformers' logits [labels] of a pair."""
    whole = tokenizers.Tokenizer.from_file(str(cached(name) / "tokenizer.json")).encode(first, second)
    kinds = {"token_type_ids": torch.tensor([whole.type_ids])}
    with torch.inference_mode():
        return reference(name)(input_ids=torch.tensor([whole.ids]), **kinds).logits[0]


# --- GGUF -------------------------------------------------------------------------------------------------------


def write_gguf(
    folder: Path, path: Path, kind: GGMLQuantizationType = GGMLQuantizationType.F32, *, pooling: int = 1
) -> Path:
    """The checkpoint in `folder` as a GGUF file, under the names of the `gguf` package's own table."""
    checkpoint = open_checkpoint(folder)
    config, nomic = checkpoint.config, checkpoint.config["model_type"] == "nomic_bert"
    architecture = gguf.MODEL_ARCH.NOMIC_BERT if nomic else gguf.MODEL_ARCH.BERT
    writer = GGUFWriter(path, gguf.MODEL_ARCH_NAMES[architecture])
    writer.add_block_count(config["num_hidden_layers"])
    offset = config["pad_token_id"] + 1 if "roberta" in config["model_type"] else 0
    writer.add_context_length(config["max_position_embeddings"] - offset)
    writer.add_embedding_length(config["hidden_size"])
    writer.add_feed_forward_length(config["intermediate_size"])
    writer.add_head_count(config["num_attention_heads"])
    writer.add_layer_norm_eps(config["layer_norm_eps"])
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType(pooling))
    if nomic:
        writer.add_rope_freq_base(config["rope_parameters"]["rope_theta"])
    tokenizer = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    kinds = {"WordPiece": write_word_piece, "BPE": write_byte_pairs, "Unigram": write_unigrams}
    kinds[type(tokenizer.model).__name__](writer, tokenizer)
    names = gguf.get_tensor_name_map(architecture, config["num_hidden_layers"])
    for name in checkpoint.tensors:
        if "pooler" in name or "position_ids" in name:
            continue
        new = names.get_name(name.removeprefix("roberta."), try_suffixes=(".weight", ".bias"))
        values = checkpoint.tensor(name).float().numpy()
        if "position_embeddings" in name:
            values = values[offset:]
        assert new is not None, name
        if kind != GGMLQuantizationType.F32 and fits(values.shape, kind) and "token_types" not in new:
            writer.add_tensor(new, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(new, np.ascontiguousarray(values))
    finish(writer)
    return path


def write_byte_pairs(writer: GGUFWriter, tokenizer: tokenizers.Tokenizer) -> None:
    """The vocabulary of a RoBERTa as the converter writes it."""
    known = tokenizer.get_vocab()
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    tokens = sorted(known, key=known.__getitem__)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("roberta-bpe")
    writer.add_token_list(tokens)
    writer.add_token_types([3 if token in special else 1 for token in tokens])
    writer.add_token_merges([" ".join(merge) for merge in merges])
    _write_marks(writer, known)


def write_unigrams(writer: GGUFWriter, tokenizer: tokenizers.Tokenizer) -> None:
    """The vocabulary of an XLM-RoBERTa as the converter writes it."""
    made = json.loads(tokenizer.to_str())
    pieces = made["model"]["vocab"]
    special = {token["content"] for token in made["added_tokens"]}
    writer.add_tokenizer_model("t5")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece for piece, _ in pieces])
    writer.add_token_scores([score for _, score in pieces])
    writer.add_token_types([2 if piece == "<unk>" else 3 if piece in special else 1 for piece, _ in pieces])
    writer.add_add_space_prefix(True)
    writer.add_remove_extra_whitespaces(True)
    steps = (made["normalizer"] or {}).get("normalizers", [])
    if table := next((step for step in steps if step["type"] == "Precompiled"), None):
        writer.add_precompiled_charsmap(base64.b64decode(table["precompiled_charsmap"]))
    _write_marks(writer, tokenizer.get_vocab())


def _write_marks(writer: GGUFWriter, known: Mapping[str, int]) -> None:
    writer.add_token_type_count(2)
    writer.add_bos_token_id(known["<s>"])
    writer.add_eos_token_id(known["</s>"])
    writer.add_unk_token_id(known["<unk>"])
    writer.add_sep_token_id(known["</s>"])
    writer.add_pad_token_id(known["<pad>"])


def write_word_piece(writer: GGUFWriter, tokenizer: tokenizers.Tokenizer, *, kinds: bool = True) -> None:
    """The vocabulary as the converter writes it; older files have no kinds of tokens but one."""
    known = tokenizer.get_vocab()
    special = {token.content for token in tokenizer.get_added_tokens_decoder().values()}
    tokens = sorted(known, key=known.__getitem__)

    def marked(token: str) -> str:
        if token in special:
            return token
        return token[2:] if token.startswith("##") else "▁" + token

    writer.add_tokenizer_model("bert")
    writer.add_token_list([marked(token) for token in tokens])
    writer.add_token_types([3 if kinds and token in special else 1 for token in tokens])
    writer.add_token_type_count(2)
    for add, mark in (
        (writer.add_unk_token_id, "[UNK]"),
        (writer.add_sep_token_id, "[SEP]"),
        (writer.add_pad_token_id, "[PAD]"),
        (writer.add_mask_token_id, "[MASK]"),
        (writer.add_bos_token_id, "[CLS]"),
    ):
        add(known[mark])
