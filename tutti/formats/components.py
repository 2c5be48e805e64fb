"""A pipeline's component in a file of its own: GGUF, or safetensors, under the names that its authors gave the tensors.

Such a file has no configuration, so it takes the place of a component's weights in a pipeline's folder. It may be one
network ("transformer"), or a whole model: then its tensors' names begin with what they are of. Which of diffusers'
tensors are made of which of these is for those to know who build the network. No torch.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tutti.errors import CheckpointError, ModelNotFound
from tutti.formats.checkpoint import Checkpoint
from tutti.formats.float8 import open_safetensors
from tutti.formats.gguf.changes import Made, Piece, Reshaped
from tutti.formats.gguf.checkpoint import GGUFCheckpoint
from tutti.formats.gguf.parts import read_model
from tutti.formats.gguf.reader import Array, GGUFFile
from tutti.formats.quantization import is_matrix
from tutti.formats.safetensors import read_header
from tutti.hub.gguf import is_gguf

_NETWORK = "model.diffusion_model."
_T5 = "text_encoders.t5xxl.transformer."  # the second encoder of one model, the third of another
# How the names of a component's tensors begin in the file of a whole model; the first of them is there.
_BEGINNINGS: Mapping[str, tuple[str, ...]] = {
    "transformer": (_NETWORK,),
    "transformer_2": (_NETWORK,),
    "unet": (_NETWORK,),
    "vae": ("first_stage_model.", "vae."),
    "text_encoder": ("conditioner.embedders.0.transformer.", "text_encoders.clip_l.transformer."),
    "text_encoder_2": ("conditioner.embedders.1.model.", "text_encoders.clip_g.transformer.", _T5),
    "text_encoder_3": (_T5,),
}


@dataclass(frozen=True, slots=True)
class Network:
    """A network that is published so: diffusers' class, its name in GGUF files, tensors that it alone has all of."""

    kind: str
    architecture: str
    names: tuple[str, ...]
    pipeline: str  # an example of where the rest is

    @property
    def component(self) -> str:
        """What a pipeline calls it."""
        return "unet" if self.kind.startswith("UNet") else "transformer"


NETWORKS = (
    Network(
        "FluxTransformer2DModel",
        "flux",
        ("double_blocks.0.img_attn.norm.key_norm.scale", "single_blocks.0.linear1.weight"),
        "black-forest-labs/FLUX.1-dev",
    ),
    Network(
        "SD3Transformer2DModel",
        "sd3",
        ("joint_blocks.0.context_block.adaLN_modulation.1.bias",),
        "stabilityai/stable-diffusion-3.5-medium",
    ),
    Network(
        "QwenImageTransformer2DModel",
        "qwen_image",
        ("transformer_blocks.0.img_mod.1.weight", "txt_norm.weight"),
        "Qwen/Qwen-Image",
    ),
    Network(
        "ZImageTransformer2DModel",
        "lumina2",
        ("layers.0.adaLN_modulation.0.weight", "cap_embedder.0.weight"),
        "Tongyi-MAI/Z-Image-Turbo",
    ),
    Network(
        "WanTransformer3DModel",
        "wan",
        ("head.modulation", "blocks.0.self_attn.q.weight"),
        "Wan-AI/Wan2.2-T2V-A14B-Diffusers",
    ),
    Network(
        "LTXVideoTransformer3DModel",
        "ltxv",
        ("patchify_proj.weight", "transformer_blocks.0.scale_shift_table"),
        "Lightricks/LTX-Video",
    ),
    Network(
        "UNet2DConditionModel",
        "sdxl",
        ("input_blocks.0.0.weight", "label_emb.0.0.weight"),
        "stabilityai/stable-diffusion-xl-base-1.0",
    ),
)
# T5 as llama.cpp names its tensors, which is how text encoders are published beside networks in GGUF.
_ENCODERS = ("t5encoder", "t5")
_ENCODER_KINDS = ("T5EncoderModel", "UMT5EncoderModel")
_ENCODER_NAMES = (
    (r"token_embd\.", "shared."),
    (r"enc\.output_norm\.", "encoder.final_layer_norm."),
    (r"enc\.blk\.(\d+)\.attn_([qkvo])\.", r"encoder.block.\1.layer.0.SelfAttention.\2."),
    (r"enc\.blk\.(\d+)\.attn_rel_b\.", r"encoder.block.\1.layer.0.SelfAttention.relative_attention_bias."),
    (r"enc\.blk\.(\d+)\.attn_norm\.", r"encoder.block.\1.layer.0.layer_norm."),
    (r"enc\.blk\.(\d+)\.ffn_gate\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_0."),
    (r"enc\.blk\.(\d+)\.ffn_up\.", r"encoder.block.\1.layer.1.DenseReluDense.wi_1."),
    (r"enc\.blk\.(\d+)\.ffn_down\.", r"encoder.block.\1.layer.1.DenseReluDense.wo."),
    (r"enc\.blk\.(\d+)\.ffn_norm\.", r"encoder.block.\1.layer.1.layer_norm."),
)
_OTHERS = {"z_image": "lumina2", "zimage": "lumina2"}  # architectures by other names
_UNTOLD = ("", "pig")  # architectures of files that do not say


def is_network(path: Path) -> bool:
    """Whether the file is of a model that draws, rather than of one that writes. Raises CheckpointError."""
    if not is_gguf(path):
        return path.is_file() and path.suffix == ".safetensors"
    architecture = _architecture(read_model(path))
    return architecture in (*_UNTOLD, *(one.architecture for one in NETWORKS))


def components_of(path: Path) -> tuple[Network, tuple[str, ...]]:
    """Which network is in the file, and which components a pipeline can take from it. Raises CheckpointError."""
    file = read_model(path) if is_gguf(path) else None
    names = read_header(path) if file is None else file.tensors
    network = _network(path, names, "" if file is None else _architecture(file))
    if network is None:
        raise CheckpointError(
            f"{path} is of no model that is known to be published in one file; there are "
            f"{', '.join(one.kind for one in NETWORKS)}"
        )
    found = {_NETWORK: network.component}
    for component, beginnings in _BEGINNINGS.items():
        beginning = _beginning(names, beginnings)
        if beginning and _NETWORK not in beginnings:
            found.setdefault(beginning, component)
    return network, tuple(found.values())


def open_component(path: Path, component: str, kind: str) -> Checkpoint:
    """The tensors of a component in the file `path`, where the pipeline has a `kind` of diffusers' or transformers'.

    Names are the file's own, without what they begin with in the file of a whole model. Raises ModelNotFound,
    CheckpointError.
    """
    if not path.is_file():
        raise ModelNotFound(f"there is no file {path}, which was to be the {component}")
    if is_gguf(path):
        return _open_gguf(read_model(path), component, kind)
    tensors = read_header(path)
    beginning = _beginning(tensors, _BEGINNINGS.get(component, ()))
    if not beginning or _NETWORK in _BEGINNINGS[component]:
        _check(path, component, kind, _network(path, tensors))
    own = {name.removeprefix(beginning): info for name, info in tensors.items() if name.startswith(beginning)}
    if not own:
        raise CheckpointError(f"{path} has no tensors, and was to be the {component}")
    return open_safetensors(path, own)


def _check(path: Path, component: str, kind: str, found: Network | None) -> None:
    """Raises CheckpointError where the file is of another network than the pipeline's, or of one and not an encoder."""
    other = kind in {one.kind for one in NETWORKS} or _NETWORK not in _BEGINNINGS.get(component, ())
    if found is not None and found.kind != kind and other:
        raise CheckpointError(
            f"{path} is a {found.kind}, and the {component} of the pipeline a {kind}: take the pipeline of "
            f"{found.pipeline}, or the like"
        )


def _network(path: Path, names: Iterable[str], architecture: str = "") -> Network | None:
    """Which of the networks has tensors of these names, or that architecture. Raises CheckpointError on another one."""
    if architecture not in _UNTOLD:
        found = next((one for one in NETWORKS if one.architecture == architecture), None)
        if found is None:
            raise CheckpointError(
                f"{path} is a GGUF file of {architecture!r}, which is of no network that draws; there are "
                f"{', '.join(one.architecture for one in NETWORKS)}"
            )
        return found
    bare = {name.removeprefix(_NETWORK) for name in names}
    return next((one for one in NETWORKS if bare.issuperset(one.names)), None)


def _architecture(file: GGUFFile) -> str:
    found = str(file.metadata.get("general.architecture", ""))
    return _OTHERS.get(found, found)


def _beginning(names: Iterable[str], beginnings: tuple[str, ...]) -> str:
    """The first of the `beginnings` that one of the names has; "" where there is none."""
    names = list(names)
    return next((one for one in beginnings if any(name.startswith(one) for name in names)), "")


def _open_gguf(file: GGUFFile, component: str, kind: str) -> Checkpoint:
    """See `open_component`. Shapes that were changed to have whole blocks in a row are told by the metadata."""
    architecture = _architecture(file)
    if architecture in _ENCODERS and kind in _ENCODER_KINDS:
        names = {name: _of_encoder(name) for name in file.tensors}
    else:
        _check(file.path, component, kind, _network(file.path, file.tensors, architecture))
        beginning = _beginning(file.tensors, _BEGINNINGS.get(component, ()))
        names = {name: name.removeprefix(beginning) for name in file.tensors if name.startswith(beginning)}
    if not names:
        raise CheckpointError(f"{file.path} has no tensors, and was to be the {component}")
    made = {}
    for name, own in names.items():
        shape = file.metadata.get(f"comfy.gguf.orig_shape.{name}")
        change = Reshaped(tuple(shape.read())) if isinstance(shape, Array) else None
        piece = Piece(name, file.tensors[name].shape)
        made[own] = Made((piece,), change, floats=not is_matrix(own, piece.shape))
    return GGUFCheckpoint(file, {}, made)


def _of_encoder(name: str) -> str:
    """transformers' name of a tensor of T5."""
    for pattern, new in _ENCODER_NAMES:
        if re.match(pattern, name):
            return re.sub(pattern, new, name)
    return name
