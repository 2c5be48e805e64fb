"""Models that draw from files of other programs: GGUF and safetensors in original names, single or whole."""

from __future__ import annotations

import copy
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import gguf
import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from torch import Tensor

from tests.gguf_files import finish, write_gguf
from tests.models.film_pipelines import film_pipeline
from tests.models.original_files import NETWORKS, flux, gguf_file, renamed, rounded, safetensors_file
from tests.models.original_wholes import sd3_file, sdxl_file, unet
from tests.models.pipelines import pipeline, shaken
from tests.models.studio import MANNERS, Studio, options
from tests.models.test_drawing_quantized import drawn, packed
from tutti.engine.planning import plan_for
from tutti.errors import CheckpointError, ConfigError, ModelNotFound
from tutti.formats.checkpoint import open_checkpoint
from tutti.formats.gguf.blocks import kinds
from tutti.formats.gguf.blocks.kinds import BlockType
from tutti.formats.gguf.blocks.pack import PACK
from tutti.graph import BuildOptions
from tutti.llm.options import engine_options
from tutti.models.drawing.parts import load_module
from tutti.models.registry import find_graph

PICTURES = [name for name in NETWORKS if name in MANNERS]


def made(family: str) -> tuple[Any, Path]:
    return pipeline(family) if family in MANNERS else film_pipeline(family)


def original(family: str) -> dict[str, Tensor]:
    """The transformer's tensors under their authors' names."""
    return NETWORKS[family][1](made(family)[0].transformer.state_dict())


def in_gguf(family: str, kind: BlockType, folder: Path) -> Path:
    return gguf_file(folder / f"{family}-{kind.name}.gguf", NETWORKS[family][0], original(family), kind)


def after(net: Any, kind: BlockType) -> Any:
    """A network with its weights as they are read from a file of this type."""
    net = copy.deepcopy(net)
    for parameter in net.parameters():
        parameter.data = rounded(parameter.data, kind)
    return net


@pytest.mark.parametrize("kind", [kinds.Q4_0, kinds.Q5_1, kinds.F16, kinds.BF16], ids=lambda kind: kind.name)
@pytest.mark.parametrize("family", PICTURES)
def test_a_gguf_file_draws_what_the_pipeline_with_its_weights_does(
    family: str, kind: BlockType, tmp_path: Path
) -> None:
    file = in_gguf(family, kind, tmp_path)
    studio = Studio(pipeline(family)[1], components={"transformer": str(file)})
    assert bool(packed(studio.engine.runner.model.net)) == kind.quantized
    pipe = copy.deepcopy(pipeline(family)[0])
    pipe.transformer = after(pipe.transformer, kind)
    ours = studio.draw(manner=MANNERS[family])
    assert np.abs(ours - drawn(pipe, family)).max() <= 1


def test_a_unet_in_gguf_draws_what_the_pipeline_with_its_weights_does(tmp_path: Path) -> None:
    pipe, folder = pipeline("sdxl")
    file = gguf_file(tmp_path / "unet.gguf", "sdxl", unet(pipe.unet.state_dict()), kinds.Q4_0)
    rough = copy.deepcopy(pipe)
    rough.unet = after(pipe.unet, kinds.Q4_0)
    studio = Studio(folder, components={"unet": str(file)})
    assert packed(studio.engine.runner.model.net)
    assert np.abs(studio.draw(manner=MANNERS["sdxl"]) - drawn(rough, "sdxl")).max() <= 1


def wide_flux() -> Any:
    """FLUX.1's network with rows of whole super-blocks."""
    return shaken(
        diffusers.FluxTransformer2DModel(
            in_channels=16,
            num_layers=1,
            num_single_layers=1,
            attention_head_dim=128,
            num_attention_heads=2,
            joint_attention_dim=16,
            pooled_projection_dim=16,
            axes_dims_rope=(32, 48, 48),
        ),
        6,
    )


@pytest.fixture(scope="module")
def wide(tmp_path_factory: pytest.TempPathFactory) -> tuple[Any, Path]:
    net, folder = wide_flux(), tmp_path_factory.mktemp("wide") / "flux"
    shutil.copytree(pipeline("flux_schnell")[1], folder)
    shutil.rmtree(folder / "transformer")
    net.save_pretrained(folder / "transformer")
    return net, folder


def answer(net: Any) -> Tensor:
    """What FLUX.1's network makes of some numbers."""
    generator = torch.Generator().manual_seed(1)
    with torch.inference_mode():
        found: Tensor = net(
            hidden_states=torch.randn(1, 6, 16, generator=generator),
            encoder_hidden_states=torch.randn(1, 5, 16, generator=generator),
            pooled_projections=torch.randn(1, 16, generator=generator),
            timestep=torch.tensor([0.5]),
            img_ids=torch.zeros(6, 3),
            txt_ids=torch.zeros(5, 3),
            return_dict=False,
        )[0]
    return found


@pytest.mark.parametrize("kind", PACK, ids=lambda kind: kind.name)
def test_every_type_of_block_stays_as_it_is(kind: BlockType, wide: tuple[Any, Path], tmp_path: Path) -> None:
    net, folder = wide
    file = gguf_file(tmp_path / "wide.gguf", "flux", flux(net.state_dict()), kind)
    checkpoint = open_checkpoint(folder, {"transformer": str(file)})
    ours = load_module(checkpoint, "transformer", BuildOptions())
    matrices = [one for one in packed(ours) if one.in_features % 256 == 0]
    assert len(matrices) > 20
    elements = sum(one.in_features * one.out_features for one in matrices)
    biases = sum(4 * one.out_features for one in matrices)
    bits = 8 * (sum(one.nbytes for one in matrices) - biases) / elements
    assert bits <= kinds.KEPT[kind] * 1.01
    torch.testing.assert_close(answer(ours), answer(after(net, kind)), atol=2e-4, rtol=2e-4)
    counted = checkpoint.kept_bytes("transformer.double_blocks.0.img_attn.qkv.weight")
    assert counted == 3 * 256 * 256 * kinds.KEPT[kind] / 8


@pytest.mark.parametrize("family", ["wan", "wan_two"])
def test_films_take_gguf_files_for_each_transformer(family: str, tmp_path: Path) -> None:
    pipe, folder = film_pipeline(family)
    names = ["transformer"] + (["transformer_2"] if family == "wan_two" else [])
    files = {}
    for name in names:
        state = NETWORKS[family][1](getattr(pipe, name).state_dict())
        files[name] = str(gguf_file(tmp_path / f"{name}.gguf", "wan", state, kinds.Q5_0))
    checkpoint = open_checkpoint(folder, files)
    inputs = {
        "hidden_states": torch.randn(1, 4, 2, 4, 4),
        "timestep": torch.tensor([500.0]),
        "encoder_hidden_states": torch.randn(1, 5, 16),
        "return_dict": False,
    }
    for name in names:
        ours = load_module(checkpoint, name, BuildOptions())
        assert packed(ours)
        with torch.inference_mode():
            theirs = after(getattr(pipe, name), kinds.Q5_0)(**inputs)[0]
            torch.testing.assert_close(ours(**inputs)[0], theirs, atol=1e-4, rtol=1e-4)
    inexact = load_module(checkpoint, names[0], BuildOptions(dtype="bfloat16"))
    assert inexact.dtype == torch.bfloat16
    assert inexact.condition_embedder.time_embedder.linear_1.weight.dtype == torch.float32


@pytest.mark.parametrize("family", ["ltx", "wan_begun"])
def test_every_layer_of_other_films_has_its_weights(family: str, tmp_path: Path) -> None:
    pipe, folder = film_pipeline(family)
    checkpoint = open_checkpoint(folder, {"transformer": str(in_gguf(family, kinds.Q5_1, tmp_path))})
    ours = load_module(checkpoint, "transformer", BuildOptions())
    theirs = after(pipe.transformer, kinds.Q5_1)
    assert packed(ours)
    for path, layer in theirs.named_modules():
        if isinstance(layer, torch.nn.Linear):
            x = torch.randn(3, layer.in_features)
            torch.testing.assert_close(ours.get_submodule(path)(x), layer(x), atol=1e-5, rtol=1e-5)
        else:
            for name, parameter in layer.named_parameters(recurse=False):
                assert torch.equal(getattr(ours.get_submodule(path), name), parameter)
    whole = open_checkpoint(folder)
    for name in pipe.components:
        if "vae" not in name and any(tensor.startswith(f"{name}.") for tensor in whole.tensors):
            fewer = load_module(whole, name, BuildOptions(quantization="fp8"))
            assert packed(fewer) and not any(type(one) is torch.nn.Linear for one in fewer.modules())


@pytest.mark.parametrize("beginning", ["", "model.diffusion_model."])
@pytest.mark.parametrize("family", PICTURES)
def test_a_file_of_safetensors_draws_what_the_pipeline_does(
    family: str, beginning: str, tmp_path: Path
) -> None:
    pipe, folder = pipeline(family)
    file = safetensors_file(tmp_path / "net.safetensors", original(family), beginning)
    ours = Studio(folder, components={"transformer": str(file)}).draw(manner=MANNERS[family])
    assert np.abs(ours - drawn(pipe, family)).max() <= 1


def attentive_vae(like: Any) -> Any:
    """A VAE as the published ones are, with attention, for the latents of another one."""
    return shaken(
        diffusers.AutoencoderKL(
            block_out_channels=(8, 16),
            down_block_types=("DownEncoderBlock2D",) * 2,
            up_block_types=("UpDecoderBlock2D",) * 2,
            layers_per_block=1,
            latent_channels=like.latent_channels,
            norm_num_groups=4,
            sample_size=64,
            scaling_factor=0.36,
            shift_factor=like.shift_factor,
        ),
        1,
    )


def whole(family: str, folder: Path) -> tuple[Any, Path, Path]:
    """A pipeline, the file that has all of its weights, and its folder without them."""
    pipe = copy.deepcopy(pipeline(family)[0])
    pipe.vae = attentive_vae(pipe.vae.config)
    if family == "sd3":
        projection = pipe.text_encoder.text_projection.weight
        projection.data = torch.eye(*projection.shape)
    pipe.save_pretrained(folder / family)
    for file in (folder / family).glob("*/*.safetensors"):
        file.unlink()
    state = sdxl_file(pipe) if family == "sdxl" else sd3_file(pipe)
    return pipe, safetensors_file(folder / f"{family}.safetensors", state), folder / family


@pytest.mark.parametrize("family", ["sdxl", "sd3"])
def test_a_whole_model_in_one_file_draws_what_the_pipeline_does(family: str, tmp_path: Path) -> None:
    pipe, file, folder = whole(family, tmp_path)
    found = engine_options(str(file), {"pipeline": str(folder)})
    network = "unet" if family == "sdxl" else "transformer"
    encoders = ["text_encoder", "text_encoder_2"] + (["text_encoder_3"] if family == "sd3" else [])
    assert found.components == dict.fromkeys([network, "vae", *encoders], str(file))
    assert (found.model, found.served_model_name) == (str(folder), (str(file),))
    studio = Studio(folder, components=found.components)
    assert np.abs(studio.draw(manner=MANNERS[family]) - drawn(pipe, family)).max() <= 1
    checkpoint = open_checkpoint(folder, found.components)
    for name in (network, *encoders):
        fewer = load_module(checkpoint, name, BuildOptions(quantization="int8"))
        left = [path for path, one in fewer.named_modules() if type(one) is torch.nn.Linear]
        assert packed(fewer) and left in ([], ["text_projection"])  # the identity, which was in no file


def test_an_encoder_of_8_bit_floats_in_a_file_of_its_own_stays_so(tmp_path: Path) -> None:
    pipe, folder = pipeline("flux_dev")
    state = load_file(folder / "text_encoder_2" / "model.safetensors")
    cast = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in state.items()}
    save_file(cast, tmp_path / "t5xxl_fp8_e4m3fn.safetensors")
    rough = copy.deepcopy(pipe)
    for parameter in rough.text_encoder_2.parameters():
        parameter.data = parameter.data.to(torch.float8_e4m3fn).float()
    made = Studio(folder, components={"text_encoder_2": str(tmp_path / "t5xxl_fp8_e4m3fn.safetensors")})
    assert packed(made.engine.encoders[0].model.t5)
    ours = made.draw(manner=MANNERS["flux_dev"])
    assert np.abs(ours - drawn(rough, "flux_dev")).max() <= 1


def test_a_t5_in_gguf_reads_what_the_one_with_its_weights_does(tmp_path: Path) -> None:
    folder = shutil.copytree(pipeline("flux_dev")[1], tmp_path / "model")
    config = transformers.T5Config(
        vocab_size=300,
        d_model=32,
        d_kv=16,
        d_ff=64,
        num_layers=2,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    t5 = shaken(transformers.T5EncoderModel(config), 4)
    t5.save_pretrained(folder / "text_encoder_2")
    state = t5.state_dict()
    del state["encoder.embed_tokens.weight"]
    writers = {
        r"shared": "token_embd",
        r"encoder\.final_layer_norm": "enc.output_norm",
        r"encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.(q|k|v|o)": r"enc.blk.\1.attn_\2",
        r"encoder\.block\.(\d+)\.layer\.0\.SelfAttention\.relative_attention_bias": r"enc.blk.\1.attn_rel_b",
        r"encoder\.block\.(\d+)\.layer\.0\.layer_norm": r"enc.blk.\1.attn_norm",
        r"encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_0": r"enc.blk.\1.ffn_gate",
        r"encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wi_1": r"enc.blk.\1.ffn_up",
        r"encoder\.block\.(\d+)\.layer\.1\.DenseReluDense\.wo": r"enc.blk.\1.ffn_down",
        r"encoder\.block\.(\d+)\.layer\.1\.layer_norm": r"enc.blk.\1.ffn_norm",
    }
    file = gguf_file(tmp_path / "t5.gguf", "t5encoder", renamed(state, writers), kinds.Q5_1)
    checkpoint = open_checkpoint(folder, {"text_encoder_2": str(file)})
    ours = load_module(checkpoint, "text_encoder_2", BuildOptions())
    assert len(packed(ours)) == 14 and checkpoint.kept_bytes("text_encoder_2.shared.weight") is None
    ids = torch.tensor([[5, 9, 200, 1]])
    with torch.inference_mode():
        theirs = after(t5, kinds.Q5_1)(ids).last_hidden_state
        torch.testing.assert_close(ours(ids).last_hidden_state, theirs, atol=1e-4, rtol=1e-4)


def test_extents_of_1_that_ggml_leaves_out_come_back(tmp_path: Path) -> None:
    folder, state = pipeline("z_image")[1], original("z_image")
    files = []
    for name in ("whole", "flat"):
        files.append(gguf_file(tmp_path / f"{name}.gguf", "lumina2", state, kinds.Q5_1))
        state = {name: tensor[0] if name.endswith("pad_token") else tensor for name, tensor in state.items()}
    whole, flat = (
        load_module(open_checkpoint(folder, {"transformer": str(file)}), "transformer", BuildOptions())
        for file in files
    )
    assert flat.x_pad_token.shape == whole.x_pad_token.shape == (1, 32)
    torch.testing.assert_close(flat.x_pad_token, whole.x_pad_token, atol=0.2, rtol=0.1)


def damaged(folder: Path) -> tuple[str, Path]:
    file = in_gguf("flux_schnell", kinds.Q5_1, folder)
    file.write_bytes(file.read_bytes()[:-500])
    return "transformer", file


def cut(folder: Path) -> tuple[str, Path]:
    file = safetensors_file(folder / "net.safetensors", original("flux_schnell"))
    file.write_bytes(file.read_bytes()[:-100])
    return "transformer", file


def foreign(folder: Path) -> tuple[str, Path]:
    return "transformer", in_gguf("z_image", kinds.Q8_0, folder)


def foreign_safetensors(folder: Path) -> tuple[str, Path]:
    return "transformer", safetensors_file(folder / "net.safetensors", original("sd3"))


def of_a_language_model(folder: Path) -> tuple[str, Path]:
    return "transformer", write_gguf(folder / "llama.gguf")


def incomplete(folder: Path) -> tuple[str, Path]:
    state = original("flux_schnell")
    del state["double_blocks.0.img_mlp.2.weight"]
    return "transformer", safetensors_file(folder / "net.safetensors", state)


def told_its_guidance(folder: Path) -> tuple[str, Path]:
    return "transformer", in_gguf("flux_dev", kinds.Q5_1, folder)


def of_another_size(folder: Path) -> tuple[str, Path]:
    return "transformer", gguf_file(folder / "wide.gguf", "flux", flux(wide_flux().state_dict()), kinds.F16)


def encoder_in_gguf(folder: Path) -> tuple[str, Path]:
    return "text_encoder", gguf_file(folder / "t5.gguf", "flux", original("flux_schnell"), kinds.F16)


def adapter(folder: Path) -> tuple[str, Path]:
    save_file({"a.lora_A.weight": torch.zeros(2, 2)}, folder / "lora.safetensors")
    return "transformer", folder / "lora.safetensors"


def absent(folder: Path) -> tuple[str, Path]:
    return "transformer", folder / "none.gguf"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (damaged, "is cut short, or damaged"),
        (cut, "is cut short"),
        (
            foreign,
            "is a ZImageTransformer2DModel, and the transformer of the pipeline a FluxTransformer2DModel",
        ),
        (foreign_safetensors, "is a SD3Transformer2DModel, and the transformer of the pipeline a Flux"),
        (of_a_language_model, "of 'llama', which is of no network that draws; there are flux, sd3"),
        (incomplete, "for the transformer: it has no tensor 'double_blocks.0.img_mlp.2.weight'"),
        (
            told_its_guidance,
            "no FluxTransformer2DModel of this configuration: .* no place there: guidance_in",
        ),
        (of_another_size, r"tensors have another shape: .* and .* more; take the file and the folder of one"),
        (encoder_in_gguf, "and the text_encoder of the pipeline a CLIPTextModel"),
        (adapter, "its tensors are not those of a FluxTransformer2DModel"),
        (absent, "there is no file .*none.gguf, which was to be the transformer"),
    ],
)
def test_a_file_that_does_not_fit_is_refused_with_the_reason(
    make: Callable[[Path], tuple[str, Path]], message: str, tmp_path: Path
) -> None:
    component, file = make(tmp_path)

    def load() -> None:
        checkpoint = open_checkpoint(pipeline("flux_schnell")[1], {component: str(file)})
        load_module(checkpoint, component, BuildOptions())

    with pytest.raises((CheckpointError, ModelNotFound), match=message):
        load()


def test_what_cannot_be_said_of_a_model_is_refused(tmp_path: Path) -> None:
    folder = pipeline("z_image")[1]
    file = str(in_gguf("z_image", kinds.Q8_0, tmp_path))
    with pytest.raises(ConfigError, match=r"--component unet: .* no such component; there are .*transformer"):
        open_checkpoint(folder, {"unet": file})
    with pytest.raises(
        ConfigError, match=r"model_index.json, so it has no components that files could be for"
    ):
        open_checkpoint(tmp_path, {"transformer": file})
    with pytest.raises(ConfigError, match=r"weights of a ZImage.*: --pipeline FOLDER, .*Tongyi-MAI"):
        engine_options(file, {})
    with pytest.raises(ConfigError, match=r"--pipeline says where the rest of a model is"):
        engine_options(str(folder), {"pipeline": str(folder)})
    save_file({"a": torch.zeros(2)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match="is of no model that is known to be published in one file"):
        engine_options(str(tmp_path / "other.safetensors"), {"pipeline": str(folder)})


def test_the_plan_counts_what_stays_quantized(wide: tuple[Any, Path], tmp_path: Path) -> None:
    net, folder = wide
    file = gguf_file(tmp_path / "wide.gguf", "flux", flux(net.state_dict()), kinds.Q4_K)
    plans = []
    for components in ({}, {"transformer": str(file)}):
        checkpoint = open_checkpoint(folder, components)
        asked = options(folder, components=components)
        plan = plan_for(checkpoint, find_graph(checkpoint.config), asked, torch.device("cpu"))
        plans.append(next(row for row in plan.rows if row.name == "weights"))
    matrices = sum(one.numel() for one in net.parameters() if one.dim() == 2 and one.shape[1] % 256 == 0)
    assert plans[0].bytes - plans[1].bytes == matrices * (32 - kinds.KEPT[kinds.Q4_K]) / 8
    assert "Q4_K" in plans[1].note


def test_int8_is_made_of_what_is_quantized_otherwise(wide: tuple[Any, Path], tmp_path: Path) -> None:
    net, folder = wide
    file = gguf_file(tmp_path / "wide.gguf", "flux", flux(net.state_dict()), kinds.Q5_0)
    checkpoint = open_checkpoint(folder, {"transformer": str(file)})
    kept = load_module(checkpoint, "transformer", BuildOptions())
    ours = load_module(checkpoint, "transformer", BuildOptions(quantization="int8"))
    assert len({type(one.packed) for one in packed(ours)}) == 1
    assert len(packed(ours)) > len(packed(kept))
    difference = (answer(ours) - answer(kept)).std() / answer(kept).std()
    assert 0 < difference < 0.05


def test_a_gguf_file_in_the_components_folder_is_taken(tmp_path: Path) -> None:
    folder = shutil.copytree(pipeline("z_image")[1], tmp_path / "model")
    (folder / "transformer" / "diffusion_pytorch_model.safetensors").unlink()
    in_gguf("z_image", kinds.Q5_1, folder / "transformer")
    ours = Studio(folder).draw()
    file = folder / "transformer" / "z_image-Q5_1.gguf"
    assert np.array_equal(ours, Studio(pipeline("z_image")[1], components={"transformer": str(file)}).draw())
    in_gguf("z_image", kinds.Q4_0, folder / "transformer")
    with pytest.raises(CheckpointError, match="2 GGUF files: leave one, or say which with --component"):
        open_checkpoint(folder)


@pytest.mark.parametrize("told", [True, False])
def test_rows_of_another_length_are_put_back_where_the_file_says_so(
    told: bool, wide: tuple[Any, Path], tmp_path: Path
) -> None:
    net, folder = wide
    path = tmp_path / "odd.gguf"
    writer = gguf.GGUFWriter(path, "flux")
    for name, tensor in flux(net.state_dict()).items():
        if name == "double_blocks.0.img_mlp.0.weight":
            if told:
                writer.add_array(f"comfy.gguf.orig_shape.model.diffusion_model.{name}", list(tensor.shape))
            tensor = tensor.reshape(-1, 128)
        writer.add_tensor(f"model.diffusion_model.{name}", tensor.numpy())
    finish(writer)
    checkpoint = open_checkpoint(folder, {"transformer": str(path)})
    if told:
        ours = load_module(checkpoint, "transformer", BuildOptions())
        torch.testing.assert_close(answer(ours), answer(net))
    else:
        with pytest.raises(CheckpointError, match=r"img_mlp.0.weight is \[2048, 128\], not \[1024, 256\]"):
            load_module(checkpoint, "transformer", BuildOptions())
