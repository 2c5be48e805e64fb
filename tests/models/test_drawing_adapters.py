"""LoRA adapters of models that draw: each request's own, equal to diffusers'."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from tests.models.checkpoints import cached
from tests.models.pipelines import adapter_file, matrices, pipeline
from tests.models.studio import MANNERS, Studio, options, pixels, reference
from tests.models.whole_pipelines import WHOLE, whole_pipeline
from tutti.engine.core import Engine
from tutti.engine.planning import plan_for
from tutti.errors import Busy, CheckpointError, ConfigError, InvalidRequest
from tutti.events import Failed
from tutti.formats.checkpoint import open_checkpoint
from tutti.models.drawing.adapters import Adapters
from tutti.models.registry import find_graph


def theirs(family: str, path: Path, scale: float) -> np.ndarray:
    pipe = pipeline(family)[0]
    pipe.load_lora_weights(str(path), adapter_name="one")
    try:
        pipe.set_adapters(["one"], [scale])
        return np.asarray(reference(family, "pil", "a cat")).astype(int)
    finally:
        pipe.unload_lora_weights()


@pytest.mark.parametrize("family", ["z_image", "flux_dev", "qwen_image", "sd3", "sdxl"])
def test_each_row_of_a_batch_has_its_own_adapter_as_diffusers_has_it(family: str, tmp_path: Path) -> None:
    first, second = adapter_file(family, tmp_path, 1), adapter_file(family, tmp_path, 2, alpha=1)
    made = Studio(pipeline(family)[1], lora_modules=(f"a={first}", f"b={second}"))
    made.submit("a", "a cat", MANNERS[family], lora="a", lora_scale=0.7)
    made.submit("plain", "a cat", MANNERS[family])
    made.submit("b", "a cat", MANNERS[family], lora="b")
    made.submit("other", "a long dog", MANNERS[family], lora="b", width=32)
    ends = made.finish()
    plain = np.asarray(reference(family, "pil", "a cat")).astype(int)
    assert np.abs(pixels(ends["plain"]) - plain).max() <= 1
    for name, path, scale in (("a", first, 0.7), ("b", second, 1.0)):
        wanted = theirs(family, path, scale)
        assert np.abs(pixels(ends[name]) - wanted).max() <= 1
        assert np.abs(wanted - plain).max() > 8
    if not made.processor.drawer.caches:
        return
    cached = {"cache": "first_block", "cache_threshold": 1.2, "steps": 5, "lora": "a"}
    alone = made.draw("a cat", MANNERS[family], **cached)
    made.submit("beside", "a dog", MANNERS[family], steps=5, lora="b", cache="teacache", cache_threshold=1.0)
    made.submit("plain", "a bird", MANNERS[family], steps=4)
    made.submit("one", "a cat", MANNERS[family], **cached)
    assert np.abs(pixels(made.finish()["one"]) - alone).max() <= 1
    made.nothing_is_left()


def test_a_file_of_kohyas_is_the_same(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    layers = {"img_attn_proj": (32, 32), "img_attn_qkv": (32, 96), "txt_mlp_0": (32, 128)}
    state = {}
    for name, (width, out) in layers.items():
        key = f"lora_unet_double_blocks_0_{name}"
        state[f"{key}.lora_down.weight"] = torch.randn(2, width, generator=generator)
        state[f"{key}.lora_up.weight"] = torch.randn(out, 2, generator=generator)
        state[f"{key}.alpha"] = torch.tensor(1.0)
    path = tmp_path / "kohya.safetensors"
    save_file(state, path)
    made = Studio(pipeline("flux_dev")[1], lora_modules=(f"k={tmp_path}",))
    wanted = theirs("flux_dev", path, 0.8)
    ours = made.draw("a cat", MANNERS["flux_dev"], lora="k", lora_scale=0.8)
    assert np.abs(ours - wanted).max() <= 1
    assert np.abs(ours - made.draw("a cat", MANNERS["flux_dev"])).max() > 4


def test_a_file_of_kohyas_for_a_unet_is_the_same(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    state, found = {}, 0
    for name, layer in pipeline("sdxl")[0].unet.named_modules():
        if isinstance(layer, torch.nn.Linear) and "mid_block.attentions" in name:
            key, found = (
                "lora_unet_" + name.replace("mid_block.attentions.0", "middle_block_1").replace(".", "_"),
                found + 1,
            )
            state[f"{key}.lora_down.weight"] = torch.randn(2, layer.in_features, generator=generator)
            state[f"{key}.lora_up.weight"] = torch.randn(layer.out_features, 2, generator=generator)
            state[f"{key}.alpha"] = torch.tensor(1.0)
    assert found > 4
    path = tmp_path / "kohya.safetensors"
    save_file(state, path)
    made = Studio(pipeline("sdxl")[1], lora_modules=(f"k={path}",))
    wanted = theirs("sdxl", path, 0.8)
    ours = made.draw("a cat", MANNERS["sdxl"], lora="k", lora_scale=0.8)
    assert np.abs(ours - wanted).max() <= 1
    assert np.abs(ours - made.draw("a cat", MANNERS["sdxl"])).max() > 4


def test_what_was_used_last_stays_and_what_is_in_use_too(tmp_path: Path) -> None:
    net = pipeline("z_image")[0].transformer
    paths = {str(seed): adapter_file("z_image", tmp_path, seed) for seed in range(3)}
    kept = Adapters()
    size = sum(tensor.nbytes for tensor in matrices(net, 0).values())
    kept.serve(open_checkpoint(pipeline("z_image")[1]), net, paths, 2 * size)
    assert kept.loaded == ("0", "1")
    held = kept.use("0", 1.0)
    other = kept.use("2", 1.0)
    assert kept.loaded == ("0", "2")
    with pytest.raises(Busy, match="no room for the adapter '1'"):
        kept.use("1", 1.0)
    del held
    kept.use("1", 1.0)
    assert kept.loaded == ("2", "1") and other.adapter.bytes == size


def test_the_plan_counts_adapters(tmp_path: Path) -> None:
    path = adapter_file("z_image", tmp_path, 0)
    checkpoint = open_checkpoint(pipeline("z_image")[1])
    asked = options(checkpoint.path, lora_modules=(f"a={path}", f"b={path}"))
    plan = plan_for(checkpoint, find_graph(checkpoint.config), asked, torch.device("cpu"))
    assert next(row.bytes for row in plan.rows if row.name == "adapters") == 4 * path.stat().st_size
    assert plan.drawing is not None and plan.drawing.adapters == 4 * path.stat().st_size


def cut(folder: Path) -> Path:
    path = adapter_file("z_image", folder, 0)
    path.write_bytes(path.read_bytes()[:-100])
    return path


def foreign(folder: Path) -> Path:
    return adapter_file("flux_dev", folder, 0)


def of_another_size(folder: Path) -> Path:
    state = matrices(pipeline("z_image")[0].transformer, 0)
    name = next(iter(state))
    save_file(state | {name: torch.zeros(2, 7)}, folder / "small.safetensors")
    return folder / "small.safetensors"


def of_a_text_encoder(folder: Path) -> Path:
    state = {f"text_encoder.layers.0.lora_{side}.weight": torch.zeros(2, 2) for side in "AB"}
    save_file(state, folder / "text.safetensors")
    return folder / "text.safetensors"


def dora(folder: Path) -> Path:
    save_file({"transformer.layers.0.dora_scale": torch.zeros(2)}, folder / "dora.safetensors")
    return folder / "dora.safetensors"


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (cut, "ends before|cut short"),
        (foreign, "is an adapter for another model: this one has no linear layer for"),
        (of_another_size, r"another model: its matrices for .* make \[.*, 7\], and the layer is"),
        (of_a_text_encoder, "changes more than the network that draws"),
        (dora, "DoRA, LoKr and LoHa adapters are not served"),
    ],
)
def test_an_adapter_that_does_not_fit_is_told_at_the_start(make: Any, message: str, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=message):
        Studio(pipeline("z_image")[1], lora_modules=(f"a={make(tmp_path)}",))


def test_a_module_that_is_none_is_told_by_the_plan(tmp_path: Path) -> None:
    for given, message in (("a", "write NAME=PATH"), (f"a={tmp_path / 'no'}", "no such file")):
        with pytest.raises(ConfigError, match=message):
            Studio(pipeline("z_image")[1], lora_modules=(given,))


def test_flags_of_the_other_kind_of_model_are_refused(tmp_path: Path) -> None:
    path = adapter_file("z_image", tmp_path, 0)
    with pytest.raises(ConfigError, match="--lora-modules NAME=PATH"):
        Studio(pipeline("z_image")[1], adapters=(str(path),))
    with pytest.raises(ConfigError, match="takes no LoRA adapters"):
        Studio(whole_pipeline(next(iter(WHOLE)))[1], lora_modules=(f"a={path}",))
    with pytest.raises(ConfigError, match="this model does not draw"):
        Engine(options(cached("qwen3"), lora_modules=(f"a={path}",)), list)


def test_a_name_that_is_not_known_is_the_callers_fault(tmp_path: Path) -> None:
    path = adapter_file("z_image", tmp_path, 0)
    made = Studio(pipeline("z_image")[1], lora_modules=(f"a={path}",))
    made.submit("one", lora="b")
    end = made.finish()["one"]
    assert isinstance(end, Failed)
    error = end.error.error()
    assert isinstance(error, InvalidRequest) and error.param == "lora"
    assert "there is no adapter 'b' for this model; there are a" in error.message
    with pytest.raises(InvalidRequest, match="scale of lora must be from -10 to 10, got nan"):
        made.submit("two", lora="a", lora_scale=float("nan"))
    made.nothing_is_left()
