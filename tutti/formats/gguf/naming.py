"""From the names and layouts of a GGUF file's tensors to those that the model's families expect. No torch.

Converters rename tensors, turn Llama's queries and keys, add one to Gemma's norms, sort Falcon's fused projection and
stack experts. `read_tensors` says of each tensor of the original checkpoint what it is made of; `changes` has how.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from tutti.errors import CheckpointError
from tutti.formats.gguf.changes import Alternated, Latent, Made, Piece, Regrouped, Shifted, Straightened
from tutti.formats.gguf.reader import GGUFFile, Place

if TYPE_CHECKING:
    from torch import Tensor

Config = dict[str, Any]

WHOLE = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
ATTENTION = {
    "attn_norm": "input_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "attn_q_norm": "self_attn.q_norm",
    "attn_k_norm": "self_attn.k_norm",
}
FEED_FORWARD = {
    "ffn_norm": "post_attention_layernorm",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
SANDWICH = {
    "post_attention_norm": "post_attention_layernorm",
    "ffn_norm": "pre_feedforward_layernorm",
    "post_ffw_norm": "post_feedforward_layernorm",
}
EXPERTS = {
    "ffn_gate_exps": "gate_proj",
    "ffn_up_exps": "up_proj",
    "ffn_down_exps": "down_proj",
}
SHARED = {
    "ffn_gate_inp": "mlp.gate",
    "ffn_gate_shexp": "mlp.shared_experts.gate_proj",
    "ffn_up_shexp": "mlp.shared_experts.up_proj",
    "ffn_down_shexp": "mlp.shared_experts.down_proj",
}
# Read with the configuration; buffers; encoders of pictures and sound, which some files have beside the language model.
UNNEEDED = re.compile(r"rope_(freqs|factors_long|factors_short)\.weight|.*\.attn_rot_embd.*|(v|a|mm)\..*")

_TENSOR = re.compile(r"(?:blk\.(?P<layer>\d{1,6})\.)?(?P<base>cls\.output|\w+)(?:\.(?P<suffix>weight|bias))?")

# What becomes of one tensor of the file: the names and what they are made of.
Rule = Callable[[str, Place], Iterator[tuple[str, Made]]]


@dataclass(frozen=True, slots=True)
class Scheme:
    """How an architecture's tensors are named. `layers` is the prefix of its layers' names.

    `rules` are for tensors, by their base name, that do not go over as they are.
    """

    names: dict[str, str]
    whole: dict[str, str] = field(default_factory=lambda: WHOLE)
    layers: str = "model.layers"
    rules: dict[str, Rule] = field(default_factory=dict)


def read_tensors(file: GGUFFile, config: Config) -> dict[str, Made]:
    """What each tensor of the original checkpoint is made of, by its name there.

    Raises CheckpointError for tensors that the architecture has no place for, or two that become one.
    """
    scheme = SCHEMES[config["model_type"]](config, file)
    found: dict[str, Made] = {}
    for name, place in file.tensors.items():
        if UNNEEDED.fullmatch(name):
            continue
        for new, made in _translate(name, place, scheme):
            if new in found:
                raise CheckpointError(f"{file.path}: {name} and {found[new].pieces[0].tensor} are both {new}")
            found[new] = made
    return found


def original(name: str, shape: tuple[int, ...], file: GGUFFile, config: Config) -> tuple[str, Tensor | None]:
    """The module that the matrix `name` of this shape belonged to before it was converted, and the order of its rows.

    The order is None where they stand as they were. Raises CheckpointError for what is not a matrix of one module.
    """
    scheme = SCHEMES.get(str(config.get("model_type")))
    if scheme is None:
        raise CheckpointError(f"{file.path}: names of tensors are not known for {config.get('model_type')}")
    first = next(iter(file.tensors.values()))
    made = list(_translate(name, replace(first, name=name, shape=shape), scheme(config, file)))
    if len(made) != 1 or not made[0][0].endswith(".weight"):
        raise CheckpointError(f"{file.path}: {name!r} is not a matrix of one module of this model")
    (new, one), *_ = made
    order = None if one.change is None else one.change.rows(shape[0])
    if one.change is not None and order is None:
        raise CheckpointError(f"{file.path}: {name!r} was changed in a way that is not undone here")
    return new.removesuffix(".weight"), order


def _translate(name: str, place: Place, scheme: Scheme) -> Iterator[tuple[str, Made]]:
    """The tensors that are made of the tensor `name`."""
    match = _TENSOR.fullmatch(name)
    base = "" if match is None else match["base"]
    table = scheme.whole if match is None or match["layer"] is None else scheme.names
    if match is None or (base not in table and base not in scheme.rules):
        raise CheckpointError(f"there is no place for the tensor {name!r} in a model of this architecture")
    prefix = "" if match["layer"] is None else f"{scheme.layers}.{int(match['layer'])}."
    suffix = match["suffix"] or "weight"
    if base in scheme.rules:
        for new, made in scheme.rules[base](suffix, place):
            yield prefix + new, made
        return
    new = prefix + table[base]
    yield (new if new.endswith(".sinks") else f"{new}.{suffix}"), Made((Piece(name, place.shape),))


def _plain(config: Config, file: GGUFFile) -> Scheme:
    return Scheme(ATTENTION | FEED_FORWARD)


def _llama(config: Config, file: GGUFFile) -> Scheme:
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}

    def straightened(base: str) -> Rule:
        def rule(suffix: str, place: Place) -> Iterator[tuple[str, Made]]:
            piece = Piece(place.name, place.shape)
            yield f"{ATTENTION[base]}.{suffix}", Made((piece,), Straightened(heads[base]))

        return rule

    return Scheme(ATTENTION | FEED_FORWARD, rules={base: straightened(base) for base in heads})


def _gemma(config: Config, file: GGUFFile) -> Scheme:
    """Files have one added to norms, which the model adds itself."""
    names = ATTENTION | FEED_FORWARD | SANDWICH

    def shifted(new: str) -> Rule:
        def rule(suffix: str, place: Place) -> Iterator[tuple[str, Made]]:
            yield f"{new}.{suffix}", Made((Piece(place.name, place.shape),), Shifted(-1.0))

        return rule

    return Scheme(
        names, rules={base: shifted(new) for base, new in (names | WHOLE).items() if base.endswith("norm")}
    )


def _phi(config: Config, file: GGUFFile) -> Scheme:
    names = ATTENTION | {
        "attn_output": "self_attn.dense",
        "attn_q_norm": "self_attn.q_layernorm",
        "attn_k_norm": "self_attn.k_layernorm",
        "ffn_up": "mlp.fc1",
        "ffn_down": "mlp.fc2",
    }
    return Scheme(names, WHOLE | {"output_norm": "model.final_layernorm"})


def _phi3(config: Config, file: GGUFFile) -> Scheme:
    return Scheme(
        ATTENTION | FEED_FORWARD | {"attn_qkv": "self_attn.qkv_proj", "ffn_up": "mlp.gate_up_proj"},
    )


def _falcon(config: Config, file: GGUFFile) -> Scheme:
    heads, kv_heads = config["num_attention_heads"], config["num_key_value_heads"]
    grouped = config["new_decoder_architecture"]

    def qkv(suffix: str, place: Place) -> Iterator[tuple[str, Made]]:
        piece = Piece(place.name, place.shape)
        yield f"self_attention.query_key_value.{suffix}", Made((piece,), Regrouped(heads, kv_heads))

    return Scheme(
        {
            "attn_norm": "ln_mlp" if grouped else "input_layernorm",
            "attn_norm_2": "ln_attn",
            "attn_output": "self_attention.dense",
            "ffn_up": "mlp.dense_h_to_4h",
            "ffn_down": "mlp.dense_4h_to_h",
        },
        {"token_embd": "transformer.word_embeddings", "output_norm": "transformer.ln_f", "output": "lm_head"},
        "transformer.h",
        {"attn_qkv": qkv},
    )


def _mixture(config: Config, file: GGUFFile) -> Scheme:
    return Scheme(
        ATTENTION | FEED_FORWARD | SHARED, rules={base: _apart(new) for base, new in EXPERTS.items()}
    )


def _apart(new: str) -> Rule:
    """Experts stacked in one tensor [experts, rows, columns], one by one."""

    def rule(suffix: str, place: Place) -> Iterator[tuple[str, Made]]:
        for index in range(_stacked(place)):
            yield f"mlp.experts.{index}.{new}.{suffix}", Made((Piece(place.name, place.shape[1:], index),))

    return rule


def _stacked(place: Place) -> int:
    """How many experts a tensor holds. Raises CheckpointError."""
    if len(place.shape) < 2 or not place.nbytes:
        raise CheckpointError(f"the tensor {place.name!r} {list(place.shape)} is no stack of experts")
    return place.shape[0]


def _gpt_oss(config: Config, file: GGUFFile) -> Scheme:
    """Rows of gate and up alternate in the original; both come from the rule of the gate."""

    def gate_up(suffix: str, place: Place) -> Iterator[tuple[str, Made]]:
        up = file.tensors.get(place.name.replace("ffn_gate_exps", "ffn_up_exps"))
        if up is None or up.shape != place.shape:
            raise CheckpointError(
                f"{file.path}: {place.name} has no fellow of its shape among the ffn_up_exps"
            )
        for index in range(_stacked(place)):
            pieces = tuple(Piece(one.name, one.shape[1:], index) for one in (place, up))
            yield f"mlp.experts.{index}.gate_up_proj.{suffix}", Made(pieces, Alternated())

    def nothing(suffix: str, place: Place) -> Iterator[tuple[str, Made]]:
        yield from ()

    names = ATTENTION | {
        "attn_out": "self_attn.o_proj",
        "attn_sinks": "self_attn.sinks",
        "post_attention_norm": "post_attention_layernorm",
        "ffn_norm": "post_attention_layernorm",
        "ffn_gate_inp": "mlp.router",
    }
    rules = {"ffn_gate_exps": gate_up, "ffn_up_exps": nothing, "ffn_down_exps": _apart("down_proj")}
    return Scheme(names, rules=rules)


def _deepseek(config: Config, file: GGUFFile) -> Scheme:
    """Newer files have the latent's projection in two: to keys, turned on its side, and to values."""

    def latent(suffix: str, place: Place) -> Iterator[tuple[str, Made]]:
        values = file.tensors.get(place.name.replace("attn_k_b", "attn_v_b"))
        if values is None or len(place.shape) != 3 or len(values.shape) != 3:
            raise CheckpointError(f"{file.path}: {place.name} has no fellow among the attn_v_b")
        pieces = (Piece(place.name, place.shape), Piece(values.name, values.shape))
        yield f"self_attn.kv_b_proj.{suffix}", Made(pieces, Latent())

    def joined(suffix: str, place: Place) -> Iterator[tuple[str, Made]]:
        yield f"self_attn.kv_b_proj.{suffix}", Made((Piece(place.name, place.shape),), floats=True)

    def nothing(suffix: str, place: Place) -> Iterator[tuple[str, Made]]:
        yield from ()

    names = {
        "attn_q_a": "self_attn.q_a_proj",
        "attn_q_a_norm": "self_attn.q_a_layernorm",
        "attn_q_b": "self_attn.q_b_proj",
        "attn_kv_a_mqa": "self_attn.kv_a_proj_with_mqa",
        "attn_kv_a_norm": "self_attn.kv_a_layernorm",
    }
    rules: dict[str, Rule] = {base: _apart(new) for base, new in EXPERTS.items()}
    both = "blk.0.attn_kv_b.weight" in file.tensors  # then the halves are copies
    rules |= {"attn_kv_b": joined, "attn_k_b": nothing if both else latent, "attn_v_b": nothing}
    return Scheme(ATTENTION | FEED_FORWARD | SHARED | names, rules=rules)


ENCODER_WHOLE = {
    "token_embd": "embeddings.word_embeddings",
    "token_types": "embeddings.token_type_embeddings",
    "position_embd": "embeddings.position_embeddings",
    "token_embd_norm": "embeddings.LayerNorm",
}


CLASSIFIER = {"cls": "classifier.dense", "cls.output": "classifier.out_proj"}


def _bert(config: Config, file: GGUFFile) -> Scheme:
    names = {
        "attn_q": "attention.self.query",
        "attn_k": "attention.self.key",
        "attn_v": "attention.self.value",
        "attn_output": "attention.output.dense",
        "attn_output_norm": "attention.output.LayerNorm",
        "ffn_up": "intermediate.dense",
        "ffn_down": "output.dense",
        "layer_output_norm": "output.LayerNorm",
    }
    return Scheme(names, ENCODER_WHOLE | CLASSIFIER, "encoder.layer")


def _nomic_bert(config: Config, file: GGUFFile) -> Scheme:
    names = {
        "attn_qkv": "attn.Wqkv",
        "attn_output": "attn.out_proj",
        "attn_output_norm": "norm1",
        "ffn_up": "mlp.fc11",
        "ffn_gate": "mlp.fc12",
        "ffn_down": "mlp.fc2",
        "layer_output_norm": "norm2",
    }
    return Scheme(names, ENCODER_WHOLE | {"token_embd_norm": "emb_ln"}, "encoder.layers")


SCHEMES: dict[str, Callable[[Config, GGUFFile], Scheme]] = {
    "llama": _llama,
    "mistral": _llama,
    "qwen2": _plain,
    "qwen3": _plain,
    "qwen3_moe": _mixture,
    "gemma2": _gemma,
    "gemma3_text": _gemma,
    "phi": _phi,
    "phi3": _phi3,
    "falcon": _falcon,
    "gpt_oss": _gpt_oss,
    "deepseek_v2": _deepseek,
    "bert": _bert,
    "xlm-roberta": _bert,
    "nomic_bert": _nomic_bert,
}
