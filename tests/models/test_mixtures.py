"""Mixtures of experts from the forms they are published in: MXFP4, fused, one by one; near in int8 and bfloat16."""

from __future__ import annotations

import copy
import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers.integrations.mxfp4 import convert_moe_packed_tensors

from tests.models import checkpoints, driver
from tutti.engine.plan import weight_bytes
from tutti.errors import CheckpointError
from tutti.formats.checkpoint import SINGLE, open_checkpoint
from tutti.formats.mxfp4 import BLOCKS, SCALES

PROMPT = [72, 101, 108, 108, 111, 44, 32, 119, 111, 114, 108, 100]
FUSED = ("gate_up_proj", "down_proj")


def edit_config(folder: Path, **values: object) -> None:
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def unanimous(folder: Path) -> Path:
    """The checkpoint with every expert active, so that no rounding changes which ones are chosen."""
    every = json.loads((folder / "config.json").read_text()).get("n_group")
    edit_config(folder, num_experts_per_tok=6, topk_group=every)
    return folder


@pytest.fixture
def packed(tmp_path: Path) -> Path:
    """gpt-oss with random MXFP4 experts, stored as in the published checkpoints."""
    checkpoints.make("gpt_oss", tmp_path)
    tensors, generator = load_file(tmp_path / SINGLE), torch.Generator().manual_seed(0)
    for name in [name for name in tensors if name.endswith(FUSED)]:
        experts, columns, rows = tensors.pop(name).shape
        shape = (experts, rows, columns // 32)
        tensors[name + BLOCKS] = torch.randint(0, 256, (*shape, 16), generator=generator, dtype=torch.uint8)
        tensors[name + SCALES] = torch.randint(121, 125, shape, generator=generator, dtype=torch.uint8)
    save_file(tensors, tmp_path / SINGLE, metadata={"format": "pt"})
    edit_config(tmp_path, quantization_config={"quant_method": "mxfp4"})
    return tmp_path


def test_packed_experts_give_the_logits_of_transformers(packed: Path) -> None:
    reference, stored = copy.deepcopy(checkpoints.reference("gpt_oss")), open_checkpoint(packed)
    for name, parameter in reference.named_parameters():
        if name.endswith(FUSED):
            blocks, scales = stored.tensor(name + BLOCKS), stored.tensor(name + SCALES)
            parameter.data = convert_moe_packed_tensors(blocks, scales, dtype=torch.float32).contiguous()
    with torch.inference_mode():
        expected = reference(torch.tensor([PROMPT])).logits[0]
    (mine,) = driver.prompt_logits(driver.load_model(packed), [PROMPT], 5)
    torch.testing.assert_close(mine, expected, atol=1e-4, rtol=1e-4)


def test_the_plan_counts_packed_experts_as_they_are_kept(
    packed: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    dense = checkpoints.make("gpt_oss", tmp_path_factory.mktemp("dense"))
    stored = open_checkpoint(packed)
    codes = 2 * sum(info.nbytes for name, info in stored.tensors.items() if name.endswith(BLOCKS))
    for quantization, saved in ((None, codes * (2 - 4.5 / 8)), ("int8", 0)):
        a, b = (weight_bytes(one, quantization, 2, "cpu") for one in (stored, open_checkpoint(dense)))
        assert abs(a + saved - b) <= 0.05 * b


def test_packed_experts_are_quantized_to_int8_when_asked(packed: Path) -> None:
    exact, small = (driver.load_model(unanimous(packed), quantization=form) for form in (None, "int8"))
    a, b = (driver.prompt_logits(model, [PROMPT])[0] for model in (exact, small))
    assert 0 < (a - b).norm() / a.norm() < 0.1


def test_scales_that_are_missing_are_named(packed: Path) -> None:
    tensors = load_file(packed / SINGLE)
    gone = f"model.layers.1.mlp.experts.down_proj{SCALES}"
    del tensors[gone]
    save_file(tensors, packed / SINGLE)
    with pytest.raises(CheckpointError, match=gone):
        driver.load_model(packed)


def test_another_quantization_and_another_limit_are_refused(tmp_path: Path) -> None:
    checkpoints.make("gpt_oss", tmp_path)
    edit_config(tmp_path, quantization_config={"quant_method": "awq"})
    with pytest.raises(CheckpointError, match="awq"):
        driver.load_model(tmp_path)
    edit_config(tmp_path, quantization_config=None, swiglu_limit=5.0)
    with pytest.raises(CheckpointError, match="swiglu_limit"):
        driver.load_model(tmp_path)


@pytest.mark.parametrize("name", ["qwen3_moe", "gpt_oss", "deepseek_v2"])
def test_int8_and_bfloat16_stay_near_the_exact_model(tmp_path: Path, name: str) -> None:
    path = unanimous(checkpoints.make(name, tmp_path / "exact"))
    halved = unanimous(checkpoints.make(name, tmp_path / "half", dtype=torch.bfloat16))
    (a,) = driver.prompt_logits(driver.load_model(path), [PROMPT], 5)
    (b,) = driver.prompt_logits(driver.load_model(path, quantization="int8"), [PROMPT], 5)
    half = driver.load_model(halved, dtype="bfloat16")
    (c,) = driver.prompt_logits(half, [PROMPT], 5, dtype=torch.bfloat16)
    assert 0 < (a - b).norm() / a.norm() < 0.1
    assert 0 < (a - c).norm() / a.norm() < 0.05


def test_a_latent_cache_holds_one_latent_and_one_rotated_key_per_token() -> None:
    (group,) = driver.load_model(checkpoints.cached("deepseek_v2")).groups
    assert (group.kv_heads, group.key_dim, group.value_dim, group.shared_value) == (1, 40, 32, True)
    assert group.bytes_per_token(2) == 3 * 40 * 2


@pytest.mark.parametrize(
    ("change", "word"),
    [({"topk_method": "noaux_tc"}, "noaux_tc"), ({"norm_topk_prob": True}, "norm_topk_prob")],
)
def test_routing_that_is_not_known_is_refused(tmp_path: Path, change: dict[str, object], word: str) -> None:
    checkpoints.make("deepseek_v2", tmp_path)
    edit_config(tmp_path, **change)
    with pytest.raises(CheckpointError, match=word):
        driver.load_model(tmp_path)
