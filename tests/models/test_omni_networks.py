"""Qwen2.5-Omni's encoders, flow and vocoder are those of transformers, and need nothing of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
from transformers.models.qwen2_5_omni import modeling_qwen2_5_omni as theirs

from tests.models import checkpoints
from tutti.errors import CheckpointError
from tutti.formats.checkpoint import CONFIG, SINGLE, open_checkpoint
from tutti.graph import BuildOptions
from tutti.models.qwen2_5_omni import hearing, sight, token2wav
from tutti.models.qwen2_5_omni.flow import Flow, Past
from tutti.models.qwen2_5_omni.speakers import Speaker
from tutti.models.qwen2_5_omni.vocoder import Vocoder
from tutti.models.qwen2_5_omni.voiceprint import SpeakerEncoder
from tutti.models.qwen2_vl import vision
from tutti.models.qwen2_vl.encoder import frame_windows
from tutti.models.qwen2_vl.vision import Patches

NAME = "qwen2_5_omni"
OPTIONS = BuildOptions("cpu", "float32")
GRIDS = [(1, 4, 6), (3, 10, 6), (1, 2, 2), (2, 8, 8), (1, 14, 2)]
WIDTHS = [1, 2, 33, 40, 41, 80, 97]  # frames; a window has 40

ASKS = """
import sys
import numpy as np
from PIL import Image
from tutti import Omni, SamplingParams

omni = Omni(sys.argv[1], dtype="float32", device="cpu", memory="2GB", threads=1)
greedy = SamplingParams(temperature=0.0, max_tokens=4, ignore_eos=True)
answer = omni.generate(
    text="hi", images=[Image.new("RGB", (30, 20), (10, 200, 40))], audio=(np.zeros(9000, np.float32), 16000),
    modalities=["text", "audio"], sampling=greedy,
    stage_sampling={"talker": SamplingParams(temperature=0.0, max_tokens=20)},
)
assert len(answer.token_ids) == 4 and answer.audio is not None
print(*(name for name in ("transformers", "torch._dynamo", "sympy") if name in sys.modules))
"""


@pytest.fixture(autouse=True)
def _for_inference() -> Any:
    with torch.inference_mode():
        yield


def near(ours: Tensor, reference: Tensor) -> None:
    torch.testing.assert_close(ours, reference, atol=2e-5, rtol=1e-4)


def randomized(module: Any) -> Any:
    return checkpoints.randomize(module, seed=1).eval()


def test_recordings_of_all_lengths_are_heard_as_by_transformers() -> None:
    tower = hearing.build(open_checkpoint(checkpoints.cached(NAME)), OPTIONS)
    reference: Any = checkpoints.reference(NAME)
    ears = reference.thinker.audio_tower
    mels = [torch.randn(tower.bands, frames) for frames in WIDTHS]
    rows = tower.run(mels)
    assert [len(one) for one in rows[:2]] == [0, 0]
    for ours, mel in list(zip(rows, mels, strict=True))[2:]:
        length = torch.tensor([mel.shape[1]])
        near(ours, ears(mel, feature_lens=length, aftercnn_lens=(length + 1) // 2).last_hidden_state)
        near(tower.join([tower.run([piece])[0] for piece in tower.split(mel)]), ours)


@pytest.mark.parametrize("name", [NAME, "qwen2_5_vl"])
def test_pictures_of_all_shapes_are_seen_as_by_transformers(name: str) -> None:
    checkpoint = open_checkpoint(checkpoints.cached(name))
    reference: Any = checkpoints.reference(name)
    omni = name == NAME
    tower = (sight if omni else vision).build(checkpoint, OPTIONS)
    eyes = reference.thinker.visual if omni else reference.model.visual
    values = [torch.randn(frames * rows * columns, 96) for frames, rows, columns in GRIDS]
    pictures = [Patches(one, grid) for one, grid in zip(values, GRIDS, strict=True)]
    expected = eyes(torch.cat(values), grid_thw=torch.tensor(GRIDS)).pooler_output
    near(torch.cat(tower.run(pictures)), expected)


def test_windows_of_one_size_follow_each_other() -> None:
    order, lengths = frame_windows(3, 5, 2)
    assert lengths == [1, 2, 2, 2, 4, 4]
    assert order.tolist() == [14, 4, 9, 10, 11, 12, 13, 0, 1, 5, 6, 2, 3, 7, 8]


def test_the_slope_is_that_of_transformers() -> None:
    stage = token2wav.build(open_checkpoint(checkpoints.cached(NAME)), OPTIONS)
    reference: Any = checkpoints.reference(NAME)
    codes = torch.randint(0, 64, (1, 31))
    condition, mel = torch.randn(1, 16), torch.randn(1, 30, 80)
    x, time = torch.randn(1, 62, 80), 0.3
    guided, free = reference.token2wav.code2wav_dit_model(
        hidden_states=x, condition_vector=mel, quantized_code=codes, time_step=torch.tensor(time),
        speaker_embedding=condition[:, None].expand(-1, 62, -1),
    ).chunk(2)  # fmt: skip
    flow = Flow(stage.flow, codes, [stage.flow.voice(condition, mel)], [Past()], 3)
    near(flow.slope(time, x), guided + (guided - free) * 0.5)


@pytest.mark.parametrize("frames", [2, 19])
def test_a_spectrogram_sounds_as_with_transformers(frames: int) -> None:
    config: dict[str, Any] = {"mel_dim": 8, "upsample_initial_channel": 32, "upsample_rates": [5, 2]}
    config |= {"upsample_kernel_sizes": [11, 4], "resblock_kernel_sizes": [3, 7]}
    config |= {"resblock_dilation_sizes": [[1, 3, 5], [1, 2, 4]]}
    reference = randomized(theirs.Qwen2_5OmniToken2WavBigVGANModel(theirs.Qwen2_5OmniBigVGANConfig(**config)))
    vocoder = Vocoder(config)
    vocoder.load_state_dict(reference.state_dict())
    mel = 8 * torch.randn(1, 8, frames) - 5  # some of it too low or too high for the vocoder
    near(vocoder(mel)[0], reference(mel))


def test_a_voice_is_heard_as_by_transformers() -> None:
    config: dict[str, Any] = {"mel_dim": 8, "enc_channels": [16, 16, 16, 32], "enc_res2net_scale": 4}
    config |= {"enc_kernel_sizes": [5, 3, 3, 1], "enc_dilations": [1, 2, 3, 1]}
    reference = randomized(theirs.ECAPA_TimeDelayNet(theirs.Qwen2_5OmniDiTConfig(**config)))
    encoder = SpeakerEncoder(config)
    encoder.load_state_dict(reference.state_dict())
    mel = torch.randn(2, 30, 8)
    near(encoder(mel), reference(mel))


def test_half_precision_stays_near() -> None:
    checkpoint = open_checkpoint(checkpoints.cached(NAME))
    mel, picture = torch.randn(16, 97), Patches(torch.randn(60, 96), (1, 10, 6))
    voice = Speaker(torch.randn(1, 16), torch.randn(1, 30, 80), 11)
    rows: dict[str, list[Tensor]] = {}
    for dtype in ("float32", "bfloat16", "float16"):
        options = BuildOptions("cpu", dtype)
        found = [
            *hearing.build(checkpoint, options).run([mel]),
            *sight.build(checkpoint, options).run([picture]),
        ]
        stage = token2wav.build(checkpoint, options)
        window = token2wav.Window(tuple(range(40)), 0, 40, voice, token2wav.Heard())
        assert {one.dtype for one in found} == {getattr(torch, dtype)}
        rows[dtype] = [*(one.float() for one in found), stage.run([window])[0].samples]
    for ours in (rows["bfloat16"], rows["float16"]):
        for one, exact in zip(ours, rows["float32"], strict=True):
            assert (one - exact).norm() < 0.05 * exact.norm()


@pytest.mark.parametrize(
    "lost",
    [
        "thinker.audio_tower.layers.1.self_attn.v_proj.bias",
        "thinker.visual.blocks.0.attn.k.weight",
        "thinker.visual.blocks.1.mlp.up_proj.bias",
        "token2wav.code2wav_dit_model.transformer_blocks.1.attn.to_k.bias",
        "token2wav.code2wav_bigvgan_model.resblocks.0.activations.3.act.alpha",
    ],
)
def test_a_tensor_that_is_missing_or_of_another_shape_is_named(tmp_path: Path, lost: str) -> None:
    folder = checkpoints.cached(NAME)
    (tmp_path / CONFIG).write_text((folder / CONFIG).read_text())
    tensors = load_file(folder / SINGLE)
    homes: dict[str, Any] = {"thinker.audio": hearing, "thinker.visual": sight, "token2wav": token2wav}
    build = next(home.build for name, home in homes.items() if lost.startswith(name))
    del tensors[lost]
    for others, said in (({}, "lacks 1 of"), ({lost: torch.zeros(3, 5)}, r"is \[3, 5\], not \[")):
        save_file(tensors | others, tmp_path / SINGLE)
        with pytest.raises(CheckpointError, match=said) as error:
            build(open_checkpoint(tmp_path), OPTIONS)
        assert lost in error.value.message


def test_answers_with_sight_and_hearing_aloud_need_no_transformers() -> None:
    command = [sys.executable, "-c", ASKS, str(checkpoints.cached(NAME))]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 0, found.stderr
    assert found.stdout.split() == []
