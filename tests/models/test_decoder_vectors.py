"""Language models that are said to make vectors do: the last hidden state, or the mean, as transformers has it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from tests.models import checkpoints, gguf_files
from tutti import LLM, PoolingParams
from tutti.errors import CheckpointError, InvalidRequest

PROMPTS = [list(range(1, length + 1)) for length in (1, 5, 33, 64, 40)]
RAW = PoolingParams(normalize=False)


def said(name: str, folder: Path, pooling: str, *, bare: bool = False, **config: Any) -> Path:
    """The tiny checkpoint with the files that say so; `bare`: its tensors without their prefix, and without a head."""
    folder.mkdir()
    for file in checkpoints.cached(name).iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    parts = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Normalize", "2_Normalize"))
    modules = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in parts]
    (folder / "modules.json").write_text(json.dumps(modules))
    (folder / "1_Pooling").mkdir()
    (folder / "1_Pooling" / "config.json").write_text(json.dumps({f"pooling_mode_{pooling}": True}))
    settings = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(settings | config))
    if bare:
        tensors = load_file(folder / "model.safetensors")
        kept = {key.removeprefix("model."): value for key, value in tensors.items() if "lm_head" not in key}
        save_file(kept, folder / "model.safetensors")
    return folder


def hidden(name: str, prompt: list[int]) -> torch.Tensor:
    """transformers' hidden states after the last norm, [tokens, hidden]."""
    with torch.inference_mode():
        return checkpoints.reference(name).model(torch.tensor([prompt])).last_hidden_state[0]


def load(path: Path, **options: Any) -> LLM:
    return LLM(str(path), dtype="float32", threads=1, device="cpu", **options)


@pytest.mark.parametrize(
    ("name", "pooling", "bare"),
    [
        ("qwen3", "lasttoken", False),
        ("qwen3", "lasttoken", True),
        ("mistral", "mean_tokens", False),  # with windows shorter than the texts
        ("deepseek_v2", "lasttoken", False),  # whose keys and values are one latent
    ],
)
def test_vectors_equal_transformers_alone_and_in_a_batch(
    tmp_path: Path, name: str, pooling: str, bare: bool
) -> None:
    llm = load(said(name, tmp_path / "model", pooling, bare=bare), max_num_batched_tokens=80)
    rows = [hidden(name, prompt) for prompt in PROMPTS]
    expected = torch.stack([one[-1] if pooling == "lasttoken" else one.mean(0) for one in rows])
    found = torch.tensor([one.outputs.embedding for one in llm.embed(PROMPTS, pooling_params=RAW)])
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-4)
    alone = torch.tensor([llm.embed(prompt)[0].outputs.embedding for prompt in PROMPTS])
    torch.testing.assert_close(alone, F.normalize(expected), rtol=2e-4, atol=2e-4)
    assert llm.engine.info.outputs == ("embedding",) and not llm.engine.plan.blocks
    with pytest.raises(InvalidRequest, match="gives embedding, not text"):
        llm.generate([1, 2])


def test_a_gguf_file_that_names_a_pooling_makes_vectors(tmp_path: Path) -> None:
    plain = gguf.GGUFReader(gguf_files.cached("qwen3"))
    writer = gguf.GGUFWriter(tmp_path / "x.gguf", "qwen3")
    for key, field in plain.fields.items():
        if not key.startswith(("GGUF.", "general.architecture")):
            kind = field.types[0]
            inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), kind, inner)
    writer.add_pooling_type(gguf.PoolingType.LAST)
    for tensor in plain.tensors:
        writer.add_tensor(tensor.name, tensor.data)
    gguf_files.finish(writer)
    llm = load(tmp_path / "x.gguf")
    found = torch.tensor([one.outputs.embedding for one in llm.embed(PROMPTS, pooling_params=RAW)])
    with torch.inference_mode():
        model = gguf_files.reference("qwen3").model
        expected = torch.stack([model(torch.tensor([one])).last_hidden_state[0, -1] for one in PROMPTS])
    torch.testing.assert_close(found, expected, rtol=2e-4, atol=2e-4)


def test_a_model_whose_tokens_look_ahead_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="see those after them"):
        load(said("qwen3", tmp_path / "model", "lasttoken", is_causal=False))
