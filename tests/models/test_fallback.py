"""Models without a family run through transformers' modules over our pages, or are refused with the reason."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import PreTrainedModel

from tests.models import checkpoints, driver
from tests.models.checkpoints import BASE, IDS, VOCAB, WINDOW
from tutti.errors import CheckpointError, ConfigError, InvalidRequest
from tutti.formats.checkpoint import SINGLE
from tutti.graph import resolve
from tutti.layers.packed import PackedModule
from tutti.models.protocols import ForwardInputs
from tutti.models.registry import find_graph

PROMPTS = [random.Random(length).choices(range(256), k=length) for length in (1, 5, 21, 40)]
UNGROUPED = {key: value for key, value in BASE.items() if key != "num_key_value_heads"}
GPT = {"vocab_size": VOCAB, "n_embd": 64, "n_layer": 3, "n_head": 4, "n_positions": 256, **IDS}
EXPERTS = {"num_experts": 4, "num_experts_per_tok": 2}
LATENT = {
    "kv_lora_rank": 32,
    "q_lora_rank": 20,
    "qk_nope_head_dim": 16,
    "qk_rope_head_dim": 8,
    "v_head_dim": 12,
    "num_key_value_heads": 4,
}
GROUPS = {"n_routed_experts": 6, "num_experts_per_tok": 2, "n_group": 2, "topk_group": 1}

# Class of model -> its configuration.
MODELS: dict[str, dict[str, Any]] = {
    "GPT2LMHeadModel": GPT,
    "GPTBigCodeForCausalLM": GPT,
    "GPTNeoXForCausalLM": UNGROUPED,
    "OPTForCausalLM": UNGROUPED | {"ffn_dim": 96},
    "Starcoder2ForCausalLM": BASE | {"sliding_window": WINDOW},
    "SmolLM3ForCausalLM": BASE,
    "NemotronForCausalLM": BASE,
    "Glm4ForCausalLM": BASE | {"head_dim": 16},
    "Exaone4ForCausalLM": BASE | {"sliding_window": WINDOW, "sliding_window_pattern": 2},
    "Qwen2MoeForCausalLM": BASE | EXPERTS | {"moe_intermediate_size": 24},
    "OlmoeForCausalLM": BASE | EXPERTS,
    "PhimoeForCausalLM": BASE | {"num_local_experts": 4},
    "DeepseekV3ForCausalLM": BASE | LATENT | GROUPS | {"moe_intermediate_size": 24},
}


def make(architecture: str, values: dict[str, Any], folder: Path) -> PreTrainedModel:
    """The model with random weights, saved to `folder`."""
    kind = getattr(transformers, architecture)
    model: PreTrainedModel = checkpoints.randomize(kind(kind.config_class(**values))).eval()
    model.save_pretrained(folder)
    return model


def edited(tmp_path: Path, name: str, edit: Callable[[dict[str, torch.Tensor]], None], **config: Any) -> Path:
    """The family's checkpoint with its tensors and its config changed."""
    folder = tmp_path / "edited"
    shutil.copytree(checkpoints.cached(name), folder)
    tensors = load_file(folder / SINGLE)
    edit(tensors)
    save_file(tensors, folder / SINGLE, metadata={"format": "pt"})
    values = json.loads((folder / "config.json").read_text()) | config
    (folder / "config.json").write_text(json.dumps(values))
    return folder


def refused(path: Path, **options: object) -> str:
    with pytest.raises(CheckpointError) as error:
        driver.load_model(path, **options)
    return error.value.message


@pytest.mark.parametrize("architecture", MODELS)
def test_logits_equal_transformers(architecture: str, tmp_path: Path) -> None:
    make(architecture, MODELS[architecture], tmp_path)
    reference = transformers.AutoModelForCausalLM.from_pretrained(
        tmp_path, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    model = driver.load_model(tmp_path)
    for mine, prompt in zip(driver.prompt_logits(model, PROMPTS, 7), PROMPTS, strict=True):
        with torch.inference_mode():
            expected = reference(torch.tensor([prompt])).logits[0]
        torch.testing.assert_close(mine, expected, atol=1e-4, rtol=1e-4)


@pytest.mark.parametrize(
    ("architecture", "values", "reason"),
    [
        ("MambaForCausalLM", BASE | {"state_size": 4}, "state_size"),
        ("Lfm2ForCausalLM", BASE | {"layer_types": ["conv", "full_attention", "conv"]}, "conv"),
        ("GPTJForCausalLM", GPT | {"rotary_dim": 8}, "does not go through transformers' attention interface"),
        ("BertLMHeadModel", UNGROUPED, "come after them"),
        ("BloomForCausalLM", {"vocab_size": VOCAB, "hidden_size": 64, **IDS}, "max_position_embeddings"),
    ],
)
def test_what_keeps_other_state_or_attends_by_itself_is_refused(
    architecture: str, values: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    make(architecture, values, tmp_path)
    message = refused(tmp_path)
    assert architecture in message and reason in message and "supported without a family are" in message


def test_an_architecture_unknown_to_transformers_is_refused(tmp_path: Path) -> None:
    path = edited(
        tmp_path, "olmo2", lambda tensors: None, architectures=["NewForCausalLM"], model_type="new_kind"
    )
    assert "NewForCausalLM is not supported: transformers knows no such" in refused(path)


def test_a_context_shorter_than_the_window_is_served() -> None:
    model = driver.load_model(checkpoints.cached("mixtral"), context=WINDOW - 1)
    assert model.context == WINDOW - 1 and model.groups[0].window == WINDOW


def test_tokens_that_see_later_ones_are_refused(tmp_path: Path) -> None:
    path = edited(tmp_path, "olmo2", lambda tensors: None, is_causal=False)
    assert "see those that come after them" in refused(path)


def test_a_window_that_was_read_wrongly_is_refused(tmp_path: Path) -> None:
    """`use_sliding_window` means nothing to Mixtral, and everything to our reading."""
    message = refused(edited(tmp_path, "mixtral", lambda tensors: None, use_sliding_window=False))
    assert f"window={WINDOW}" in message and "window=None" in message


def test_missing_unknown_and_misshapen_tensors_are_named(tmp_path: Path) -> None:
    def lacking(tensors: dict[str, torch.Tensor]) -> None:
        del tensors["model.layers.1.self_attn.k_proj.weight"]

    def unknown(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.1.extra.weight"] = torch.zeros(2)

    def misshapen(tensors: dict[str, torch.Tensor]) -> None:
        tensors["model.layers.2.mlp.up_proj.weight"] = torch.zeros(95, 64)

    for index, (edit, name) in enumerate(
        (
            (lacking, "model.layers.1.self_attn.k_proj.weight"),
            (unknown, "model.layers.1.extra.weight"),
            (misshapen, "model.layers.2.mlp.up_proj.weight is [95, 64], not [96, 64]"),
        )
    ):
        assert name in refused(edited(tmp_path / str(index), "olmo2", edit))


@pytest.mark.parametrize(("name", "bound"), [("stablelm", 0.08), ("mixtral", 0.15)])
def test_bfloat16_stays_near_transformers(tmp_path: Path, name: str, bound: float) -> None:
    """A rounding may change which experts are chosen, in transformers as well: hence the wider bound."""
    model = driver.load_model(checkpoints.make(name, tmp_path, dtype=torch.bfloat16), dtype="bfloat16")
    (mine,) = driver.prompt_logits(model, [PROMPTS[2]], 5, dtype=torch.bfloat16)
    with torch.inference_mode():
        exact = checkpoints.reference(name)(torch.tensor([PROMPTS[2]])).logits[0]
    assert mine.dtype == torch.float32
    assert (mine - exact).norm() / exact.norm() < bound


def test_int8_stays_near_the_exact_model() -> None:
    path = checkpoints.cached("granite")
    exact, small = driver.load_model(path), driver.load_model(path, quantization="int8")
    a, b = (driver.prompt_logits(model, [PROMPTS[2]])[0] for model in (exact, small))
    assert 0 < (a - b).norm() / a.norm() < 0.1
    assert small.weight_bytes() < exact.weight_bytes()


def test_int8_is_refused_where_it_would_leave_experts_as_they_are() -> None:
    with pytest.raises(ConfigError, match="experts"):
        driver.load_model(checkpoints.cached("mixtral"), quantization="int8")


def test_embeddings_stay_mapped_and_count_as_the_files() -> None:
    model: Any = driver.load_model(checkpoints.cached("olmo2"))
    packed = [module.packed.bytes for module in model.model.modules() if isinstance(module, PackedModule)]
    assert len(packed) == 3 * 7 + 1
    assert model.weight_bytes() == sum(packed)


def test_given_embeddings_are_refused() -> None:
    run = driver.Driver(driver.load_model(checkpoints.cached("olmo2")), [PROMPTS[1]])
    forward = run.model.forward

    def embedded(inputs: ForwardInputs, caches: Any) -> torch.Tensor:
        rows = torch.zeros(len(inputs.tokens), 64)
        return forward(
            ForwardInputs(inputs.tokens, inputs.positions, inputs.batches, rows, inputs.tokens > 0), caches
        )

    run.model.forward = embedded  # type: ignore[method-assign]
    with pytest.raises(InvalidRequest, match="tokens alone"):
        run.step(10)


def test_longrope_is_served_within_its_original_context() -> None:
    rope = {"type": "longrope", "short_factor": [1.0], "long_factor": [2.0]}
    config = BASE | {
        "architectures": ["PhimoeForCausalLM"],
        "rope_scaling": rope,
        "original_max_position_embeddings": 64,
    }
    assert resolve(find_graph(config).stages[0].describe)(config).context == 64
