"""LoRA adapters answer as PEFT's merged model does, over weights as they are and over quantized ones."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

import gguf
import peft
import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.models import checkpoints, gguf_files
from tutti import LLM, SamplingParams
from tutti.errors import CheckpointError, ModelNotFound
from tutti.gateway.opening import stored_options
from tutti.hub.create import create
from tutti.hub.modelfile import read_modelfile
from tutti.hub.registry import Options
from tutti.hub.store import open_store

OPTIONS: dict[str, Any] = {
    "dtype": "float32",
    "device": "cpu",
    "memory": "2GB",
    "threads": 1,
    "max_model_len": 96,
}
GREEDY = SamplingParams(temperature=0.0, max_tokens=12, ignore_eos=True)
PROMPTS = [list(range(20, 31)), [7, 80, 3], list(range(100, 140))]
TARGETS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]


@cache
def adapted(name: str) -> tuple[Path, list[list[int]]]:
    """A random adapter of a tiny model, in PEFT's folder, and what its merged model answers."""
    torch.manual_seed(3)
    config = peft.LoraConfig(
        r=4,
        lora_alpha=24,
        target_modules=TARGETS,
        rank_pattern={"q_proj": 6},
        alpha_pattern={"layers.0.self_attn.o_proj": 9},
        init_lora_weights=False,
    )
    base = checkpoints.reference(name)
    model = peft.get_peft_model(
        type(base).from_pretrained(checkpoints.cached(name), attn_implementation="eager"), config
    )
    folder = Path(mkdtemp(prefix="tutti-lora-")) / "adapter"
    model.save_pretrained(folder)
    merged = model.merge_and_unload()
    answers = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        mask = torch.ones_like(ids)
        out = merged.generate(ids, attention_mask=mask, max_new_tokens=12, do_sample=False, eos_token_id=None)
        answers.append(out[0, len(prompt) :].tolist())
    return folder, answers


def answers(model: Path | str, *adapters: Path, **options: Any) -> list[list[int]]:
    llm = LLM(str(model), **{**OPTIONS, "adapters": tuple(map(str, adapters)), **options})
    prompts = [{"prompt_token_ids": prompt} for prompt in PROMPTS]
    return [output.outputs[0].token_ids for output in llm.generate(prompts, GREEDY)]


def as_gguf(folder: Path, path: Path, config: dict[str, Any], alpha: float) -> Path:
    """The adapter as llama.cpp's converter writes it: renamed, rows of queries and keys turned as Llama's."""
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", alpha)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config["num_hidden_layers"])
    for name, tensor in load_file(folder / "adapter_model.safetensors").items():
        module, side = name.removeprefix("base_model.model.").removesuffix(".weight").rsplit(".lora_", 1)
        heads = {"q_proj": "num_attention_heads", "k_proj": "num_key_value_heads"}.get(
            module.rsplit(".", 1)[1]
        )
        if side == "B" and heads is not None:
            rows = tensor.view(config[heads], 2, -1, tensor.shape[1])
            tensor = rows.transpose(1, 2).reshape(tensor.shape)
        writer.add_tensor(f"{names.get_name(module)}.weight.lora_{side.lower()}", tensor.contiguous().numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


@pytest.mark.parametrize("name", ["llama", "qwen3"])
def test_an_adapter_answers_as_the_merged_model(name: str) -> None:
    folder, expected = adapted(name)
    assert answers(checkpoints.cached(name), folder) == expected
    assert answers(checkpoints.cached(name)) != expected


@pytest.fixture
def uniform(tmp_path: Path) -> tuple[Path, Path]:
    """An adapter of one rank and scale, as GGUF files can say it: PEFT's folder and the GGUF file of it."""
    folder, _ = adapted("llama")
    config = json.loads((folder / "adapter_config.json").read_text())
    config |= {"rank_pattern": {}, "alpha_pattern": {}, "r": 4, "lora_alpha": 24}
    tensors = {
        name: tensor
        for name, tensor in load_file(folder / "adapter_model.safetensors").items()
        if 6 not in tensor.shape
    }
    generator = torch.Generator().manual_seed(5)
    for name, tensor in load_file(folder / "adapter_model.safetensors").items():
        if 6 in tensor.shape:
            shape = tuple(4 if size == 6 else size for size in tensor.shape)
            tensors[name] = torch.randn(shape, generator=generator) * 0.1
    same = tmp_path / "uniform"
    same.mkdir()
    (same / "adapter_config.json").write_text(json.dumps(config))
    save_file(tensors, same / "adapter_model.safetensors")
    model = json.loads((checkpoints.cached("llama") / "config.json").read_text())
    return same, as_gguf(same, tmp_path / "adapter.gguf", model, 24.0)


def test_a_gguf_adapter_is_pefts_for_both_kinds_of_models(uniform: tuple[Path, Path]) -> None:
    folder, file = uniform
    expected = answers(checkpoints.cached("llama"), folder)
    assert answers(checkpoints.cached("llama"), file) == expected
    assert answers(gguf_files.cached("llama"), file) == answers(gguf_files.cached("llama"), folder)
    assert answers(gguf_files.cached("llama"), file) != answers(gguf_files.cached("llama"))


def test_quantized_weights_take_adapters() -> None:
    folder, _ = adapted("llama")
    model = checkpoints.cached("llama")
    assert answers(model, folder, quantization="int8") != answers(model, quantization="int8")


def test_what_does_not_fit_is_told_by_the_tensors_name(tmp_path: Path) -> None:
    folder, _ = adapted("llama")
    with pytest.raises(CheckpointError, match=r"layers\.\d+\..*lora_B.*make \["):
        answers(_narrow(tmp_path), folder)
    config = json.loads((folder / "adapter_config.json").read_text())
    tensors = load_file(folder / "adapter_model.safetensors")

    def changed(name: str, extra: dict[str, torch.Tensor], **fields: Any) -> Path:
        path = tmp_path / name
        path.mkdir()
        (path / "adapter_config.json").write_text(json.dumps(config | fields))
        save_file(tensors | extra, path / "adapter_model.safetensors")
        return path

    model = checkpoints.cached("llama")
    pair = {
        f"base_model.model.model.layers.99.mlp.up_proj.lora_{side}.weight": torch.ones(4, 4) for side in "AB"
    }
    embedding = {"base_model.model.model.embed_tokens.lora_embedding_A": torch.ones(4, 4)}
    for path, words in (
        (changed("far", pair), r"no linear layer for 1 tensors.*layers\.99\.mlp\.up_proj\.lora_B"),
        (changed("embedding", embedding), "embed_tokens.lora_embedding_A"),
        (changed("dora", {}, use_dora=True), "use_dora"),
        (changed("half", dict([pair.popitem()])), "alone"),
    ):
        with pytest.raises(CheckpointError, match=words):
            answers(model, path)
    with pytest.raises(ModelNotFound, match="no LoRA adapter"):
        answers(model, tmp_path / "nowhere")


def _narrow(folder: Path) -> Path:
    """A Llama of other widths."""
    from transformers import AutoConfig, LlamaForCausalLM

    model = checkpoints.cached("llama")
    config = AutoConfig.from_pretrained(model)
    config.intermediate_size //= 2
    path = folder / "narrow"
    LlamaForCausalLM(config).save_pretrained(path)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (path / name).write_bytes((model / name).read_bytes())
    return path


async def test_an_adapter_of_a_modelfile_is_served(
    uniform: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TUTTI_MODELS", str(tmp_path / "models"))
    from tutti.formats.gguf.header import describe

    folder, file = uniform
    text = f"FROM {checkpoints.cached('llama')}\nADAPTER {folder}\nADAPTER {file}\n"
    async for _ in create(
        open_store(), "both", read_modelfile(text), describe, folder=tmp_path, options=Options()
    ):
        pass
    found = stored_options("both")["adapters"]
    assert len(found) == 2
    one = LLM("both", **OPTIONS)
    assert one.options.adapters == found
    prompts = [{"prompt_token_ids": prompt} for prompt in PROMPTS]
    told = [output.outputs[0].token_ids for output in one.generate(prompts, GREEDY)]
    assert told == answers(checkpoints.cached("llama"), folder, file)
