"""What sees for a model: a GGUF file of the architecture `clip` beside the language model's. No torch.

    NAME.gguf  NAME.mmproj.gguf        (as they lie in a directory of the store)

Both together are the checkpoint of LLaVA that they were made of: a tower, two layers behind it, and a language model.
The converter leaves out the tower's layers behind the one that is heard.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Mapping
from typing import Any

from tutti.errors import CheckpointError
from tutti.formats.gguf.changes import Made, Piece
from tutti.formats.gguf.config import read_config
from tutti.formats.gguf.keys import Keys
from tutti.formats.gguf.reader import GGUFFile, Place, read_gguf
from tutti.formats.gguf.tokens import CONTROL, UNKNOWN, USER, read_vocabulary
from tutti.hub.gguf import projector_beside

log = logging.getLogger(__name__)

Config = dict[str, Any]
SPEAKERS = ("llama", "mistral", "qwen2")  # language models that LLaVA is made of
TOWER, PROJECTOR, LANGUAGE = "vision_tower.vision_model.", "multi_modal_projector.", "language_model."

_WHOLE = {
    "v.class_embd": f"{TOWER}embeddings.class_embedding",
    "v.patch_embd.weight": f"{TOWER}embeddings.patch_embedding.weight",
    "v.position_embd.weight": f"{TOWER}embeddings.position_embedding.weight",
    **{f"v.pre_ln.{kind}": f"{TOWER}pre_layrnorm.{kind}" for kind in ("weight", "bias")},
    **{f"mm.0.{kind}": f"{PROJECTOR}linear_1.{kind}" for kind in ("weight", "bias")},
    **{f"mm.2.{kind}": f"{PROJECTOR}linear_2.{kind}" for kind in ("weight", "bias")},
}
_LAYER = {
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_out": "self_attn.out_proj",
    "ln1": "layer_norm1",
    "ln2": "layer_norm2",
    "ffn_up": "mlp.fc1",
    "ffn_down": "mlp.fc2",
}
_BLOCK = re.compile(r"v\.blk\.(?P<layer>\d{1,4})\.(?P<base>\w+)\.(?P<kind>weight|bias)")
_RESERVED = re.compile(r"<\|?image(_pad)?\|?>|<\|?reserved.*>")


def sees(file: GGUFFile, config: Config) -> GGUFFile | None:
    """What sees for the language model in `file`, whose configuration is `config`; None where nothing does.

    A kind that is not known is passed over with a warning: the model then takes text, as without it.
    """
    path = projector_beside(file.path)
    if path is None:
        return None
    found = read_gguf(path)
    keys = Keys(found)
    kind = keys.text("clip.projector_type") or ("mlp" if keys.flag("clip.has_llava_projector") else None)
    tiled = "clip.vision.image_grid_pinpoints" in keys
    if kind == "mlp" and config["model_type"] in SPEAKERS and not tiled:
        return found
    what = f"{kind} in tiles" if tiled else kind
    log.warning(
        "%s: a projector of the kind %r is not supported before a %s (known: mlp before %s); the model takes text",
        path,
        what,
        config["model_type"],
        ", ".join(SPEAKERS),
    )
    return None


def whole_config(file: GGUFFile) -> Config:
    """The configuration of the model in `file`, with what sees for it. Raises CheckpointError."""
    config = read_config(file)
    projector = sees(file, config)
    return config if projector is None else _joined(file, config, Keys(projector))


def _joined(file: GGUFFile, config: Config, eyes: Keys) -> Config:
    hidden = eyes.file.tensors.get("mm.2.weight")
    if hidden is None or hidden.shape[0] != config["hidden_size"]:
        width = "nothing" if hidden is None else f"rows of {hidden.shape[0]}"
        raise CheckpointError(
            f"{eyes.file.path} gives {width}, but {file.path} takes rows of {config['hidden_size']}: "
            "they are not of one model"
        )
    side, patch = eyes.require("clip.vision.image_size"), eyes.require("clip.vision.patch_size")
    if side % patch:
        raise CheckpointError(f"{eyes.file.path}: pictures of {side} pixels are no multiple of {patch}")
    mark, text = _mark(file)
    return {
        "architectures": ["LlavaForConditionalGeneration"],
        "model_type": "llava",
        "dtype": config["dtype"],
        "image_token_index": mark,
        "media_marks": {"image": f"{text}\n"},
        "projector_hidden_act": "gelu",
        "vision_feature_layer": -1,
        "vision_feature_select_strategy": "default",
        "tie_word_embeddings": config["tie_word_embeddings"],
        "text_config": config,
        "vision_config": {
            "model_type": "clip_vision_model",
            "hidden_size": eyes.require("clip.vision.embedding_length"),
            "intermediate_size": eyes.require("clip.vision.feed_forward_length"),
            "num_hidden_layers": eyes.require("clip.vision.block_count"),
            "num_attention_heads": eyes.require("clip.vision.attention.head_count"),
            "image_size": side,
            "patch_size": patch,
            "layer_norm_eps": eyes.number("clip.vision.attention.layer_norm_epsilon") or 1e-5,
            "hidden_act": "gelu" if eyes.flag("clip.use_gelu") else "quick_gelu",
        },
    }


def _mark(file: GGUFFile) -> tuple[int, str]:
    """A token that no text has, to stand where a picture is: language models seldom have one for that.

    Raises CheckpointError.
    """
    vocabulary = read_vocabulary(Keys(file))
    for kinds, reserved in (((CONTROL, USER), True), ((UNKNOWN,), False)):
        for token, text in enumerate(vocabulary.tokens):
            if vocabulary.kind(token) in kinds and (not reserved or _RESERVED.fullmatch(text)):
                return token, text
    named = Keys(file).whole("tokenizer.ggml.padding_token_id")
    if named is not None and named < len(vocabulary.tokens) and vocabulary.kind(named) == CONTROL:
        return named, vocabulary.tokens[named]
    raise CheckpointError(f"{file.path}: no token of the vocabulary can stand where a picture is")


def pictures(file: GGUFFile) -> Config | None:
    """How pictures are prepared for the model in `file`; None where it takes none."""
    projector = sees(file, read_config(file))
    if projector is None:
        return None
    keys = Keys(projector)
    side = keys.require("clip.vision.image_size")
    found: Config = {"size": {"shortest_edge": side}, "crop_size": {"height": side, "width": side}}
    for theirs, ours in (("image_mean", "image_mean"), ("image_std", "image_std")):
        values = keys.numbers(f"clip.vision.{theirs}")
        if values:
            found[ours] = values
    return found


def whole_tensors(
    language: Mapping[str, Made], projector: GGUFFile, config: Config
) -> tuple[dict[str, Made], dict[str, Place]]:
    """The tensors of the whole model, of which `language` has the language model's, and the projector's places.

    Raises CheckpointError for tensors that the tower has no place for.
    """
    found = {f"{LANGUAGE}{name}": made for name, made in language.items()}
    places: dict[str, Place] = dict(projector.tensors)
    layers = config["vision_config"]["num_hidden_layers"]
    swapped = _swapped(projector, config["vision_config"]["intermediate_size"])
    for name, place in projector.tensors.items():
        match = _BLOCK.fullmatch(name)
        if match is not None and int(match["layer"]) >= layers:
            continue
        new = _WHOLE.get(name) if match is None else _of_layer(match, swapped)
        if new is not None:
            found[new] = Made((Piece(name, place.shape),))
        elif not name.startswith("v.post_ln."):
            raise CheckpointError(f"{projector.path}: there is no place for the tensor {name!r}")
    for kind in ("weight", "bias"):  # what it norms nobody hears, so the file has it not; any vector will do
        places[f"v.post_ln.{kind}"] = place = projector.tensors[f"v.pre_ln.{kind}"]
        found[f"{TOWER}post_layernorm.{kind}"] = Made((Piece(place.name, place.shape),))
    return found, places


def _of_layer(match: re.Match[str], swapped: bool) -> str | None:
    base = match["base"]
    if swapped:
        base = {"ffn_up": "ffn_down", "ffn_down": "ffn_up"}.get(base, base)
    name = _LAYER.get(base)
    return None if name is None else f"{TOWER}encoder.layers.{int(match['layer'])}.{name}.{match['kind']}"


def _swapped(projector: GGUFFile, wide: int) -> bool:
    """Whether the layers of the tower's feed-forward are called by each other's names, as older files do it."""
    up = projector.tensors.get("v.blk.0.ffn_up.weight")
    return up is not None and up.shape[0] != wide
