"""GGUF files we write: the `gguf` package and transformers read in them what the checkpoint says."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers.modeling_gguf_pytorch_utils import load_gguf_checkpoint
from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

from tests.formats.gguf_files import metadata, stored, types, wide, written
from tests.formats.test_gguf_quantize import BOUNDS, rms
from tests.models.checkpoints import CHAT_TEMPLATE, END, EOS, VOCAB, cached, reference
from tutti.errors import CheckpointError, ConfigError
from tutti.formats.gguf.blocks import kinds
from tutti.formats.gguf.convert import Step, convert
from tutti.formats.gguf.export.families import rope_factors
from tutti.formats.gguf.export.naming import ggml_name
from tutti.formats.gguf.mixes import MIXES, Outline, find_mix, kind_of


def copied(source: Path, folder: Path, **changes: object) -> Path:
    """The checkpoint `source` in `folder`, with `changes` to its config.json."""
    shutil.copytree(source, folder)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    return folder


@pytest.mark.parametrize("name", ["llama", "llama-plain", "llama-linear", "qwen3"])
def test_transformers_reads_the_weights_and_the_configuration_back(name: str) -> None:
    """Names, the order of queries and keys, ties, biases: transformers undoes all of it by its own rules."""
    model = reference(name)
    parsed = load_gguf_checkpoint(str(written(name, "f32")), return_tensors=True, model_to_load=model)
    wanted = model.state_dict()
    if model.config.tie_word_embeddings:
        wanted.pop("lm_head.weight")
    assert parsed["tensors"].keys() == wanted.keys()
    assert all(torch.equal(parsed["tensors"][key], value) for key, value in wanted.items())
    for key in ("num_hidden_layers", "hidden_size", "intermediate_size", "num_key_value_heads", "vocab_size"):
        assert parsed["config"][key] == getattr(model.config, key)
    assert parsed["config"]["tie_word_embeddings"] == model.config.tie_word_embeddings


def test_metadata_say_what_the_configuration_and_the_tokenizer_say() -> None:
    values = metadata(written("llama", "q4_K_M"))
    assert values["general.architecture"] == "llama"
    assert values["general.file_type"] == 15
    assert values["llama.attention.key_length"] == 24
    assert values["llama.rope.freq_base"] == 10000.0
    assert values["tokenizer.ggml.model"] == "gpt2"
    assert len(values["tokenizer.ggml.tokens"]) == VOCAB
    assert values["tokenizer.ggml.token_type"][END] == 3
    assert values["tokenizer.ggml.eos_token_id"] == EOS
    assert values["tokenizer.chat_template"] == CHAT_TEMPLATE
    assert metadata(written("llama-linear", "f16"))["llama.rope.scaling.factor"] == 2.5
    elements = sum(value.numel() for value in load_file(cached("qwen3") / "model.safetensors").values())
    assert metadata(written("qwen3", "f16"))["general.parameter_count"] == elements


def test_llama_3s_rope_divides_frequencies_as_transformers_does() -> None:
    config = transformers.AutoConfig.from_pretrained(cached("llama"))
    scaled, _ = ROPE_INIT_FUNCTIONS["llama3"](config, torch.device("cpu"))
    plain = 1 / 10000.0 ** (torch.arange(0, 24, 2).float() / 24)
    factors = torch.tensor(rope_factors(json.loads((cached("llama") / "config.json").read_text())))
    assert (plain / factors / scaled - 1).abs().max() < 1e-5
    assert torch.equal(stored(written("llama", "q8_0"))["rope_freqs.weight"][1], factors)


@pytest.mark.parametrize("mix", MIXES)
def test_every_tensor_is_within_its_types_error(mix: str) -> None:
    weights = load_file(wide() / "model.safetensors")
    found = stored(written("wide", mix))
    assert len(found) == len(weights)
    for name, weight in weights.items():
        number, values = found[str(ggml_name(name))]
        kind = kinds.by_id(number)
        assert values.shape == weight.shape
        assert rms(values - weight) <= BOUNDS[kind] * 1.1 * rms(weight)


def test_a_q4_k_m_file_has_llama_cpps_types() -> None:
    """Of eight layers, the first, the last and every third between have more bits: 0, 3, 6 and 7."""
    found = types(written("wide", "q4_K_M"))
    assert found["token_embd.weight"] == "Q4_K"
    assert found["output.weight"] == "Q6_K"
    assert found["output_norm.weight"] == found["blk.3.attn_q_norm.weight"] == "F32"
    for layer in range(8):
        more = "Q6_K" if layer in (0, 3, 6, 7) else "Q4_K"
        assert found[f"blk.{layer}.attn_v.weight"] == found[f"blk.{layer}.ffn_down.weight"] == more
        for part in ("attn_q", "attn_k", "attn_output", "ffn_gate", "ffn_up"):
            assert found[f"blk.{layer}.{part}.weight"] == "Q4_K"


def test_other_mixes_follow_their_rules() -> None:
    model = Outline(layers=32, heads=32, kv_heads=8, experts=0, tied=False)
    row = (64, 4096)

    def chosen(mix: str, name: str, shape: tuple[int, ...] = row, outline: Outline = model) -> str:
        return kind_of(find_mix(mix), f"{name}.weight", shape, outline).name

    assert [chosen("q4_K_S", f"blk.{n}.attn_v") for n in (0, 3, 4, 31)] == ["Q5_K", "Q5_K", "Q4_K", "Q4_K"]
    assert [chosen("q4_K_S", f"blk.{n}.ffn_down") for n in (0, 3, 4)] == ["Q5_K", "Q5_K", "Q4_K"]
    assert [chosen("q5_K_M", f"blk.{n}.ffn_down") for n in (3, 4, 6, 28)] == ["Q6_K", "Q5_K", "Q6_K", "Q6_K"]
    assert [chosen(mix, "output") for mix in ("q4_0", "q8_0", "f16")] == ["Q6_K", "Q8_0", "F16"]
    tied = Outline(layers=32, heads=32, kv_heads=8, experts=0, tied=True)
    assert chosen("q4_0", "token_embd") == "Q4_0"
    assert chosen("q4_0", "token_embd", outline=tied) == "Q6_K"
    mixture = Outline(layers=32, heads=32, kv_heads=8, experts=8, tied=False)
    assert chosen("q4_K_M", "blk.9.attn_k", outline=mixture) == "Q8_0"
    assert chosen("q4_K_M", "blk.9.ffn_gate_inp", outline=mixture) == "F32"
    large = Outline(layers=80, heads=64, kv_heads=8, experts=0, tied=False)
    assert chosen("q4_K_S", "blk.40.attn_v", outline=large) == "Q5_K"
    assert chosen("q4_K_M", "blk.9.attn_q", (64, 96)) == "Q5_0"
    assert chosen("q4_K_M", "output", (64, 96)) == "Q8_0"
    assert chosen("q4_0", "blk.9.attn_q", (64, 40)) == "F16"
    assert kind_of(find_mix("Q4_0"), "blk.9.attn_q.bias", (4096,), model) is kinds.F32


@pytest.mark.parametrize("mix", ["q4_K_M", "q8_0", "bf16"])
def test_from_a_gguf_file_comes_what_comes_from_the_checkpoint(mix: str, tmp_path: Path) -> None:
    target = tmp_path / "again.gguf"
    convert(written("wide", "f32"), target, find_mix(mix))
    ours, direct = stored(target), stored(written("wide", mix))
    assert ours.keys() == direct.keys()
    assert all(
        ours[name][0] == direct[name][0] and torch.equal(ours[name][1], direct[name][1]) for name in ours
    )
    assert metadata(target) == metadata(written("wide", mix))


def test_what_was_rounded_coarsely_is_copied_but_not_rounded_again(tmp_path: Path) -> None:
    source = written("wide", "q4_K_M")
    convert(source, tmp_path / "copy.gguf", find_mix("q4_K_M"))
    assert (tmp_path / "copy.gguf").read_bytes() == source.read_bytes()
    with pytest.raises(CheckpointError, match="would lose twice"):
        convert(source, tmp_path / "worse.gguf", find_mix("q8_0"))
    convert(written("wide", "q8_0"), tmp_path / "fewer.gguf", find_mix("q4_0"))
    assert types(tmp_path / "fewer.gguf")["blk.0.attn_q.weight"] == "Q4_0"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["copy.gguf", "fewer.gguf"]


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    folder = copied(cached("qwen3"), tmp_path / "damaged")
    weights = load_file(folder / "model.safetensors")
    weights["model.layers.2.mlp.down_proj.weight"][3, 5] = float("nan")
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    target = tmp_path / "model.gguf"
    target.write_text("what was here before")
    with pytest.raises(CheckpointError, match=r"blk\.2\.ffn_down\.weight: .*not finite"):
        convert(folder, target, find_mix("q8_0"))

    def interrupted(step: Step) -> None:
        assert 0 < step.written <= step.nbytes
        if step.number > 10:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        convert(cached("qwen3"), target, find_mix("q8_0"), interrupted)
    assert target.read_text() == "what was here before"
    assert sorted(file.name for file in tmp_path.iterdir()) == ["damaged", "model.gguf"]


def test_targets_that_cannot_be_are_refused(tmp_path: Path) -> None:
    for target in (tmp_path, tmp_path / "absent" / "model.gguf"):
        with pytest.raises(ConfigError, match="directory"):
            convert(cached("qwen3"), target, find_mix("q8_0"))
    with pytest.raises(ConfigError, match="the source itself"):
        convert(written("qwen3", "f32"), written("qwen3", "f32"), find_mix("q8_0"))
    with pytest.raises(ConfigError, match="q4_K_M"):
        find_mix("q3_X")


@pytest.mark.parametrize(
    ("name", "changes", "words"),
    [
        ("gemma2", {}, "cannot be written as GGUF yet"),
        ("qwen2", {}, "sliding window of 9"),
        ("llama", {"hidden_act": "gelu"}, "activation 'gelu'"),
        ("llama", {"quantization_config": {"quant_method": "gptq"}}, "quantized already"),
        (
            "llama",
            {"rope_parameters": {"rope_type": "longrope", "rope_theta": 1.0}},
            "'longrope' has no place",
        ),
        ("llama", {"vocab_size": 100}, "264 tokens where config.json has 100"),
    ],
)
def test_what_gguf_cannot_say_is_refused(
    name: str, changes: dict[str, object], words: str, tmp_path: Path
) -> None:
    folder = copied(cached(name), tmp_path / "model", **changes)
    with pytest.raises(CheckpointError, match=words):
        convert(folder, tmp_path / "model.gguf", find_mix("q8_0"))
    assert not (tmp_path / "model.gguf").exists()


@pytest.mark.parametrize("keep", [0, 3, 20, 200, 3000, -40])
def test_files_that_are_cut_short_or_something_else_are_refused(keep: int, tmp_path: Path) -> None:
    data = written("qwen3", "q8_0").read_bytes()
    (tmp_path / "cut.gguf").write_bytes(data[:keep])
    with pytest.raises(CheckpointError, match=r"GGUF|cut short"):
        convert(tmp_path / "cut.gguf", tmp_path / "model.gguf", find_mix("f16"))
    assert [file.name for file in tmp_path.iterdir()] == ["cut.gguf"]
