"""Loading a model: what fits is loaded in every form, what does not is named before the first byte is read."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models import checkpoints, driver
from tutti.errors import CheckpointError, ConfigError
from tutti.formats.checkpoint import SINGLE, open_checkpoint
from tutti.kernels import quantize_int8
from tutti.kernels.weights import Dense, Quantized, Weight, dequantize
from tutti.layers.config import NormConfig
from tutti.layers.linear import Linear
from tutti.layers.norm import make_norm
from tutti.layers.parameters import LoadOptions
from tutti.models.block import add_norm
from tutti.models.protocols import ForwardInputs
from tutti.models.registry import find_graph, graphs
from tutti.models.weights import Rows, load

PROMPT = [72, 101, 108, 108, 111, 44, 32, 119, 111, 114, 108, 100]
Tensors = dict[str, torch.Tensor]


def edited(tmp_path: Path, name: str, edit: Callable[[Tensors], None], **config: Any) -> Path:
    """The family's checkpoint with its tensors and its config changed."""
    folder = tmp_path / "edited"
    shutil.copytree(checkpoints.cached(name), folder)
    tensors = load_file(folder / SINGLE)
    edit(tensors)
    save_file(tensors, folder / SINGLE)
    values = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def refused(path: Path, **options: object) -> str:
    with pytest.raises(CheckpointError) as error:
        driver.load_model(path, **options)
    return error.value.message


class Source:
    """Weights from memory; `reads` are the names that were asked for."""

    def __init__(self, weights: Mapping[str, Weight]) -> None:
        self.weights = {f"{name}.weight": weight for name, weight in weights.items()}
        self.shapes = {name: weight.shape for name, weight in self.weights.items()}
        self.reads: list[str] = []

    def weight(self, name: str) -> Weight:
        self.reads.append(name)
        return self.weights[name]

    def release(self, name: str) -> None:
        assert name in self.reads


def test_all_missing_tensors_are_named(tmp_path: Path) -> None:
    gone = ["model.layers.1.self_attn.k_proj.weight", "model.layers.2.mlp.up_proj.bias", "model.norm.weight"]

    def edit(tensors: Tensors) -> None:
        for name in gone:
            del tensors[name]

    message = refused(edited(tmp_path, "llama", edit))
    assert all(name in message for name in gone) and "lacks 3 of" in message


def test_unknown_tensors_are_named(tmp_path: Path) -> None:
    def edit(tensors: Tensors) -> None:
        tensors["model.layers.0.self_attn.q_proj.bias"] = torch.zeros(64)

    assert "model.layers.0.self_attn.q_proj.bias" in refused(edited(tmp_path, "mistral", edit))


def test_a_shape_that_the_config_contradicts_is_named(tmp_path: Path) -> None:
    message = refused(edited(tmp_path, "mistral", lambda tensors: None, intermediate_size=95))
    assert "mlp.gate_proj.weight is [96, 64], not [95, 64]" in message


def test_nothing_is_read_from_a_checkpoint_that_does_not_fit() -> None:
    source = Source({"a": Dense(torch.zeros(2, 2))})
    parameters = [("one", Linear(2, 2)), ("two", Linear(2, 2))]
    options = LoadOptions(torch.device("cpu"), torch.float32)
    with pytest.raises(CheckpointError, match=r"b\.weight"):
        load(parameters, {"one": "a", "two": "b"}, source, options)
    assert source.reads == []


def test_the_copy_of_a_tied_head_and_old_buffers_are_ignored(tmp_path: Path) -> None:
    def edit(tensors: Tensors) -> None:
        tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
        tensors["model.layers.0.self_attn.rotary_emb.inv_freq"] = torch.zeros(8)

    path = edited(tmp_path, "llama-plain", edit)
    expected = driver.greedy(driver.load_model(checkpoints.cached("llama-plain")), [PROMPT], 5)
    assert driver.greedy(driver.load_model(path), [PROMPT], 5) == expected


def test_a_sharded_checkpoint_loads_as_the_single_one(tmp_path: Path) -> None:
    path = checkpoints.make("qwen3", tmp_path, max_shard_size="100KB")
    assert len(list(path.glob("*.safetensors"))) > 2
    mine, single = driver.load_model(path), driver.load_model(checkpoints.cached("qwen3"))
    assert torch.equal(driver.prompt_logits(mine, [PROMPT])[0], driver.prompt_logits(single, [PROMPT])[0])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("name", ["gemma3", "falcon", "qwen3"])
def test_half_precision_stays_near_transformers(tmp_path: Path, name: str, dtype: torch.dtype) -> None:
    path = checkpoints.make(name, tmp_path, dtype=dtype)
    model = driver.load_model(path, dtype=str(dtype).removeprefix("torch."))
    (mine,) = driver.prompt_logits(model, [PROMPT], 5, dtype=dtype)
    with torch.inference_mode():
        exact = checkpoints.reference(name)(torch.tensor([PROMPT])).logits[0]
    assert mine.dtype == torch.float32
    assert (mine - exact).norm() / exact.norm() < (0.08 if dtype == torch.bfloat16 else 0.02)


@pytest.mark.parametrize("name", ["llama", "qwen3", "phi3"])
def test_int8_stays_near_the_exact_model(name: str) -> None:
    exact = driver.load_model(checkpoints.cached(name), context=64)
    small = driver.load_model(checkpoints.cached(name), context=64, quantization="int8")
    a, b = (driver.prompt_logits(model, [PROMPT])[0] for model in (exact, small))
    assert 0 < (a - b).norm() / a.norm() < 0.1


def test_int8_leaves_embeddings_and_norms_exact() -> None:
    model: Any = driver.load_model(checkpoints.cached("qwen3"), quantization="int8")
    stored = open_checkpoint(checkpoints.cached("qwen3"))
    assert torch.equal(model.embed.table, stored.tensor("model.embed_tokens.weight"))
    assert torch.equal(model.norm.weight, stored.tensor("model.norm.weight"))


def test_an_unknown_quantization_is_refused() -> None:
    with pytest.raises(ConfigError, match="int3"):
        driver.load_model(checkpoints.cached("qwen3"), quantization="int3")


def test_a_quantized_checkpoint_is_refused_until_its_format_is_known(tmp_path: Path) -> None:
    config = {"quantization_config": {"quant_method": "awq"}}
    assert "awq" in refused(edited(tmp_path, "qwen3", lambda tensors: None, **config))


def test_quantized_slots_are_merged_as_codes_and_rows_reordered() -> None:
    generator = torch.Generator().manual_seed(0)
    weights = {name: quantize_int8(Dense(torch.randn(3, 4, generator=generator))) for name in ("a", "b")}
    taken: dict[str, Weight] = {}

    class Taker(Linear):
        def load(self, tensors: Any, options: LoadOptions) -> None:
            taken.update(tensors)

    source = Source(weights)
    options = LoadOptions(torch.device("cpu"), torch.float32)
    load([("one", Taker(4, 3, 3))], {"one": ("a", "b")}, source, options)
    merged = taken["weight"]
    assert isinstance(merged, Quantized)
    assert torch.equal(dequantize(merged), torch.cat([dequantize(weight) for weight in weights.values()]))
    rows = Rows("a", lambda: torch.tensor([2, 0, 1]))
    load([("one", Taker(4, 3))], {"one": rows}, source, options, ignore=[r"b\.weight"])
    assert torch.equal(dequantize(taken["weight"]), dequantize(weights["a"])[[2, 0, 1]])


def test_given_embeddings_replace_the_tables_where_the_mask_says() -> None:
    model: Any = driver.load_model(checkpoints.cached("qwen3"))
    run = driver.Driver(model, [PROMPT])
    rows = model.embed(torch.tensor(PROMPT))
    mask = torch.arange(len(PROMPT)) % 2 == 0
    seen: list[ForwardInputs] = []
    forward = model.forward

    def replaced(inputs: ForwardInputs, caches: Any) -> torch.Tensor:
        seen.append(inputs)
        wrong = torch.where(mask, torch.zeros_like(inputs.tokens), inputs.tokens)
        return forward(ForwardInputs(wrong, inputs.positions, inputs.batches, rows, mask), caches)

    model.forward = replaced
    (mine,) = run.step(100)
    model.forward = forward
    assert seen and torch.equal(mine, driver.prompt_logits(model, [PROMPT])[0])


def test_alibi_is_refused(tmp_path: Path) -> None:
    assert "alibi" in refused(edited(tmp_path, "falcon", lambda tensors: None, alibi=True))


def test_every_family_is_found_by_its_architectures() -> None:
    for graph in graphs():
        for architecture in graph.architectures:
            assert find_graph({"architectures": [architecture]}) is graph


def test_an_unsupported_architecture_is_refused_with_what_is_supported() -> None:
    with pytest.raises(CheckpointError, match="Qwen3ForCausalLM") as error:
        find_graph({"architectures": ["DistilBertModel"]})
    assert "DistilBertModel" in error.value.message
    with pytest.raises(CheckpointError, match="architectures"):
        find_graph({})


def test_finding_a_family_imports_no_torch() -> None:
    code = (
        "import sys; from tutti.graph import resolve; from tutti.models.registry import find_graph, graphs\n"
        "import json\n"
        "for config in map(json.loads, sys.argv[1:]):\n"
        "    assert resolve(find_graph(config).stages[0].describe)(config).vocab\n"
        "    assert not {'torch', 'transformers'} & set(sys.modules), config\n"
    )
    configs = [(checkpoints.cached(name) / "config.json").read_text() for name in checkpoints.names("text")]
    done = subprocess.run(
        [sys.executable, "-c", code, *configs], timeout=60, check=False, stderr=subprocess.PIPE, text=True
    )
    assert done.returncode == 0, done.stderr


def test_long_factors_serve_prompts_beyond_the_original_context() -> None:
    model = driver.load_model(checkpoints.cached("phi3"))
    prompts = [torch.randperm(200, generator=torch.Generator().manual_seed(n))[:n].tolist() for n in (66, 90)]
    reference = checkpoints.reference("phi3")
    expected = []
    for prompt in prompts:
        ids = torch.tensor([prompt])
        out = reference.generate(
            ids, attention_mask=torch.ones_like(ids), max_new_tokens=8, do_sample=False, eos_token_id=None
        )
        expected.append(out[0, len(prompt) :].tolist())
    assert driver.greedy(model, prompts, 8, 7) == expected


def test_norms_that_come_after_are_summed_with_the_residual() -> None:
    x, residual = torch.randn(2, 4), torch.randn(2, 4)
    h, total = add_norm(None, x, residual)
    assert torch.equal(h, residual + x) and h is total
    with pytest.raises(ValueError, match="batch"):
        make_norm(4, NormConfig(1e-5, kind="batch"))
