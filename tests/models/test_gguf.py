"""GGUF files of every family give what transformers gives for the checkpoint they were made of."""

from __future__ import annotations

import copy
import functools
import random
from pathlib import Path

import gguf
import pytest
import torch
from gguf import GGMLQuantizationType
from transformers import PreTrainedModel

from tests.models import driver, gguf_files
from tutti.errors import CheckpointError
from tutti.formats.checkpoint import open_checkpoint
from tutti.graph import resolve
from tutti.models.registry import find_graph

NEW = 12
PROMPTS = [random.Random(length).choices(range(256), k=length) for length in (1, 5, 21, 40)]
SERVED = {"phi3": {"context": 64}}  # its original context, within which the short factors serve


def rounded(name: str, kind: GGMLQuantizationType) -> PreTrainedModel:
    """transformers' model with its matrices rounded to what the type can say."""
    model = copy.deepcopy(gguf_files.reference(name))
    with torch.no_grad():
        for parameter in model.parameters():
            if gguf_files.fits(tuple(parameter.shape), kind):
                stored = gguf.quants.quantize(parameter.numpy(), kind)
                parameter.copy_(torch.from_numpy(gguf.quants.dequantize(stored, kind)))
    return model


@functools.cache
def theirs(name: str, kind: GGMLQuantizationType = gguf_files.F32) -> list[list[int]]:
    """transformers' greedy continuation of each prompt."""
    model = gguf_files.reference(name) if kind is gguf_files.F32 else rounded(name, kind)
    found = []
    for prompt in PROMPTS:
        ids = torch.tensor([prompt])
        with torch.inference_mode():
            out = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                max_new_tokens=NEW,
                do_sample=False,
                eos_token_id=None,
                pad_token_id=0,
            )
        found.append(out[0, len(prompt) :].tolist())
    return found


@pytest.mark.parametrize("name", gguf_files.MODELS)
def test_greedy_tokens_of_a_float32_file_equal_transformers(name: str) -> None:
    model = driver.load_model(gguf_files.cached(name), **SERVED.get(name, {}))
    assert driver.greedy(model, PROMPTS, NEW, 7) == theirs(name)
    shape = resolve(find_graph(config := open_checkpoint(gguf_files.cached(name)).config).stages[0].describe)(
        config
    )
    assert (shape.groups, shape.vocab) == (model.groups, model.vocab_size)


@pytest.mark.parametrize("kind", [gguf_files.F16, gguf_files.BF16, gguf_files.Q8_0])
@pytest.mark.parametrize("name", ["llama-plain", "mistral", "qwen2", "gemma2", "falcon-multi-query"])
def test_greedy_tokens_of_a_quantized_file_equal_those_of_its_values(
    name: str, kind: GGMLQuantizationType
) -> None:
    model = driver.load_model(gguf_files.cached(name, kind))
    assert driver.greedy(model, PROMPTS, NEW, 7) == theirs(name, kind)


def test_a_plain_tensor_is_a_view_of_the_file_and_a_released_one_reads_it_again() -> None:
    checkpoint = open_checkpoint(gguf_files.cached("qwen3", gguf_files.F16))
    name = "model.layers.0.mlp.up_proj.weight"
    tensor = checkpoint.tensor(name)
    assert tensor.dtype == torch.float16
    before = tensor.clone()
    checkpoint.release(name)
    assert torch.equal(tensor, before)
    assert tensor.data_ptr() == checkpoint.tensor(name).data_ptr()


def test_an_encoder_beside_the_language_model_is_left_alone_and_anything_else_is_named(
    tmp_path: Path,
) -> None:
    seeing = gguf_files.write("gemma3", tmp_path / "a.gguf", others=("v.blk.0.attn_q.weight", "mm.0.weight"))
    assert (
        open_checkpoint(seeing).tensors.keys() == open_checkpoint(gguf_files.cached("gemma3")).tensors.keys()
    )
    strange = gguf_files.write("gemma3", tmp_path / "b.gguf", others=("blk.0.ssm_in.weight",))
    with pytest.raises(CheckpointError, match=r"no place for the tensor 'blk\.0\.ssm_in\.weight'"):
        open_checkpoint(strange)


@pytest.mark.parametrize("name", gguf_files.MODELS)
@pytest.mark.parametrize("kind", [gguf_files.F32, gguf_files.Q8_0])
def test_every_tensor_is_what_the_checkpoint_says_of_it(name: str, kind: GGMLQuantizationType) -> None:
    checkpoint = open_checkpoint(gguf_files.cached(name, kind))
    for tensor, info in checkpoint.tensors.items():
        values = checkpoint.tensor(tensor)
        assert (tuple(values.shape), values.dtype) == (info.shape, getattr(torch, info.dtype)), tensor
        assert values.nbytes == info.nbytes
        checkpoint.release(tensor)
    if not name.startswith("deepseek2"):  # most of whose rows are too short for blocks
        assert checkpoint.config["dtype"] == ("float32" if kind is gguf_files.F32 else "bfloat16")
