"""Models that draw with fewer bits: int8 and fp8, all networks or some, asked for or in the files."""

from __future__ import annotations

import copy
import functools
import json
import re
import shutil
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from tests.models.pipelines import MAKERS, adapter_file, pipeline
from tests.models.studio import MANNERS, Studio, options, pixels, studio
from tutti.engine.planning import plan_for
from tutti.errors import CheckpointError, ConfigError
from tutti.events import ImageDone
from tutti.formats.checkpoint import open_checkpoint
from tutti.graph import BuildOptions
from tutti.kernels import dequantize, quantize
from tutti.kernels.memory import give_back_memory
from tutti.kernels.weights import Dense
from tutti.layers.packed import PackedModule
from tutti.models.drawing.parts import load_module
from tutti.models.registry import find_graph

NETWORKS = ("transformer", "unet", "text_encoder", "text_encoder_2", "text_encoder_3")


@functools.cache
def quantized(family: str, form: str) -> Studio:
    return Studio(pipeline(family)[1], quantization=form)


def rounded(family: str, components: tuple[str, ...] = NETWORKS) -> Any:
    """diffusers' pipeline with the weights of its linear layers rounded to fp8."""
    pipe = copy.deepcopy(pipeline(family)[0])
    for name in components:
        for layer in (getattr(pipe, name, None) or nn.Identity()).modules():
            if isinstance(layer, nn.Linear):
                layer.weight.data = dequantize(quantize(Dense(layer.weight.data), "fp8"))
    return pipe


def drawn(pipe: Any, family: str, **more: Any) -> np.ndarray:
    """What the pipeline draws of what `Studio.draw` asks."""
    fields = {"width": 16, "height": 24, "num_inference_steps": 3, **MANNERS[family], **more}
    made = pipe("a red circle", generator=torch.Generator().manual_seed(5), output_type="pil", **fields)
    return np.asarray(made.images[0]).astype(int)


def packed(net: Any) -> list[PackedModule]:
    return [one for one in net.modules() if isinstance(one, PackedModule)]


@pytest.mark.parametrize("family", MAKERS)
def test_fp8_draws_what_the_pipeline_with_rounded_weights_does(family: str) -> None:
    ours = quantized(family, "fp8").draw(manner=MANNERS[family])
    assert np.abs(ours - drawn(rounded(family), family)).max() <= 1
    plain = studio(family).draw(manner=MANNERS[family])
    assert 0 < np.abs(ours - plain).mean() < plain.std() / 4


@pytest.mark.parametrize("family", MAKERS)
def test_int8_stays_near_the_float_picture(family: str) -> None:
    ours = quantized(family, "int8").draw(manner=MANNERS[family])
    plain = studio(family).draw(manner=MANNERS[family])
    assert 0 < np.abs(ours - plain).mean() < plain.std() / 15


@pytest.mark.parametrize("family", ["z_image", "qwen_image", "sd3"])
def test_bfloat16_with_int8_matrices_stays_near_too(family: str) -> None:
    made = Studio(pipeline(family)[1], dtype="bfloat16", quantization="int8")
    plain = studio(family).draw(manner=MANNERS[family])
    assert np.abs(made.draw(manner=MANNERS[family]) - plain).mean() < plain.std() / 10


@pytest.mark.parametrize("form", ["int8", "fp8"])
def test_a_quantized_picture_is_the_same_alone_and_in_a_batch(form: str) -> None:
    made = quantized("z_image", form)
    alone = made.draw("a cat")
    for number in range(3):
        made.submit(f"other {number}", "x" * (3 * number + 1), width=16 + 8 * number, seed=number)
    made.submit("one", "a cat")
    ends = made.finish()
    assert len(ends) == 4 and all(isinstance(end, ImageDone) for end in ends.values())
    assert np.abs(pixels(ends["one"]) - alone).max() <= 1


def test_each_component_has_the_form_that_is_asked_for_it() -> None:
    made = Studio(pipeline("flux_dev")[1], quantization="int8,text_encoder_2=fp8,text_encoder=none")
    text, net = made.engine.encoders[0].model, made.engine.runner.model.net
    assert packed(net) and not any(type(one) is nn.Linear for one in net.modules())
    assert len({type(one.packed) for one in packed(net) + packed(text.t5)}) == 2
    assert packed(text.t5) and not packed(text.clip)
    only = Studio(pipeline("flux_dev")[1], quantization="transformer=fp8")
    ours = only.draw(manner=MANNERS["flux_dev"])
    assert np.abs(ours - drawn(rounded("flux_dev", ("transformer",)), "flux_dev")).max() <= 1


@pytest.mark.parametrize("family", MAKERS)
@pytest.mark.parametrize("form", ["int8", "fp8", "transformer=fp8,unet=fp8"])
def test_the_plan_counts_the_bytes_that_the_weights_take(family: str, form: str) -> None:
    folder = pipeline(family)[1]
    checkpoint = open_checkpoint(folder)
    components = checkpoint.config["components"]
    if "," in form:
        form = "unet=fp8" if "unet" in components else "transformer=fp8"
    plan = plan_for(
        checkpoint, find_graph(checkpoint.config), options(folder, quantization=form), torch.device("cpu")
    )
    taken = 0
    for name in components:
        if any(tensor.startswith(f"{name}.") for tensor in checkpoint.tensors):
            net = load_module(checkpoint, name, BuildOptions(quantization=form))
            taken += sum({one.data_ptr(): one.nbytes for one in net.state_dict().values()}.values())
            for one in packed(net):  # less what pads tiny matrices to whole tiles
                least = one.out_features * (one.in_features + 8)
                taken += least if form == "int8" else one.nbytes
    counted = next(row for row in plan.rows if row.name == "weights")
    assert form in counted.note
    assert taken == pytest.approx(counted.bytes, rel=0.06)


class Watch:
    """The most bytes of memory of its own that this process had meanwhile, above those at the beginning."""

    def __enter__(self) -> Watch:
        give_back_memory()
        self.over = threading.Event()
        self._begin, self.most = self._now(), 0
        self._thread = threading.Thread(target=self._look)
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.over.set()
        self._thread.join()

    def _look(self) -> None:
        while not self.over.wait(0.002):
            self.most = max(self.most, self._now() - self._begin)

    def _now(self) -> int:
        found = re.search(r"RssAnon:\s+(\d+)", Path("/proc/self/status").read_text())
        assert found is not None
        return int(found[1]) * 1024


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
@pytest.mark.parametrize("form", ["int8", "fp8"])
def test_the_network_is_never_there_in_floats(form: str, tmp_path: Path) -> None:
    folder = shutil.copytree(pipeline("flux_schnell")[1], tmp_path / "large")
    shutil.rmtree(folder / "transformer")
    net = diffusers.FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=128,
        num_attention_heads=8,
        joint_attention_dim=16,
        pooled_projection_dim=16,
        axes_dims_rope=(32, 48, 48),
    ).bfloat16()
    numbers = sum(one.numel() for one in net.parameters())
    net.save_pretrained(folder / "transformer")
    checkpoint = open_checkpoint(folder)
    del net
    with Watch() as watch:
        load_module(checkpoint, "transformer", BuildOptions(dtype="float32", quantization=form))
    assert numbers > 50_000_000 and watch.most < 2.2 * numbers  # bytes: floats alone have four


@pytest.mark.parametrize("form", ["int8", "fp8"])
def test_adapters_add_to_quantized_layers(form: str, tmp_path: Path) -> None:
    file = adapter_file("z_image", tmp_path, 3)
    made = Studio(pipeline("z_image")[1], quantization=form, lora_modules=(f"ink={file}",))
    manner = MANNERS["z_image"]
    without, ours = made.draw(manner=manner), made.draw(manner=manner, lora="ink")
    if form == "fp8":
        pipe = rounded("z_image")
        pipe.load_lora_weights(str(file))
        assert np.abs(ours - drawn(pipe, "z_image")).max() <= 1
    assert np.abs(ours - without).mean() > 8


@pytest.mark.parametrize(
    ("form", "message"),
    [
        ("int3", "'int3' is not known; a model that draws takes int8, fp8"),
        ("transformer=", "'' is not known"),
        ("vae=int8", "'vae' is no component that can be quantized"),
        ("unet=int8", "'unet' is no component.*transformer"),
    ],
)
def test_a_form_that_makes_no_sense_is_refused_before_anything_is_loaded(form: str, message: str) -> None:
    checkpoint = open_checkpoint(pipeline("flux_dev")[1])
    with pytest.raises(ConfigError, match=message):
        plan_for(
            checkpoint,
            find_graph(checkpoint.config),
            options(checkpoint.path, quantization=form),
            torch.device("cpu"),
        )


def test_weights_that_another_program_quantized_are_refused(tmp_path: Path) -> None:
    folder = shutil.copytree(pipeline("z_image")[1], tmp_path / "bnb")
    file = folder / "transformer" / "config.json"
    config = json.loads(file.read_text()) | {"quantization_config": {"quant_method": "bitsandbytes"}}
    file.write_text(json.dumps(config))
    with pytest.raises(
        CheckpointError, match=r"quantized by bitsandbytes, which is not read; .* --component"
    ):
        load_module(open_checkpoint(folder), "transformer", BuildOptions())


def _cast(name: str, weight: Tensor) -> dict[str, Tensor]:
    return {name: weight.to(torch.float8_e4m3fn)}


def _scaled(name: str, weight: Tensor) -> dict[str, Tensor]:
    """As ComfyUI's files are: one scale for all rows."""
    scale = weight.abs().max() / 448
    stem = name.removesuffix("weight")
    return {
        name: (weight / scale).to(torch.float8_e4m3fn),
        f"{stem}scale_weight": scale,
        f"{stem}scale_input": torch.tensor(0.5),
    }


def _by_rows(name: str, weight: Tensor) -> dict[str, Tensor]:
    scale = weight.abs().amax(1) / 448
    return {
        name: (weight / scale[:, None]).to(torch.float8_e4m3fn),
        f"{name.removesuffix('weight')}weight_scale": scale,
    }


@pytest.mark.parametrize("cast", [_cast, _scaled, _by_rows])
@pytest.mark.parametrize("family", ["qwen_image", "flux_dev"])
def test_files_that_are_fp8_stay_so(
    family: str, cast: Callable[[str, Tensor], dict[str, Tensor]], tmp_path: Path
) -> None:
    pipe, folder = copy.deepcopy(pipeline(family)[0]), shutil.copytree(pipeline(family)[1], tmp_path / "fp8")
    for component, stem in (("transformer", "diffusion_pytorch_model"), ("text_encoder", "model")):
        file = folder / component / f"{stem}.safetensors"
        state: dict[str, Tensor] = {"scaled_fp8": torch.zeros(2, dtype=torch.float8_e4m3fn)}
        layers = {
            name: one for name, one in getattr(pipe, component).named_modules() if type(one) is nn.Linear
        }
        for name, tensor in load_file(file).items():
            made = cast(name, tensor) if name.removesuffix(".weight") in layers else {name: tensor}
            if made.keys() != {name} or made[name] is not tensor:
                scale = next((one for key, one in made.items() if "weight" in key and "scale" in key), None)
                wide = made[name].float() * (1 if scale is None else scale.view(-1, 1))
                layers[name.removesuffix(".weight")].weight.data = wide
            state |= made
        save_file(state, file)
    made = Studio(folder)
    net = made.engine.runner.model.net
    assert packed(net) and not any(type(one) is nn.Linear for one in net.modules())
    assert np.abs(made.draw(manner=MANNERS[family]) - drawn(pipe, family)).max() <= 1
    assert made.engine.info.quantization == "fp8"
