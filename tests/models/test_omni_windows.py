"""Sound in windows is the sound of the whole, where nothing looks ahead of a window."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from tutti.models.qwen2_5_omni.dit import FlowNetwork
from tutti.models.qwen2_5_omni.speakers import Speaker
from tutti.models.qwen2_5_omni.token2wav import Heard, Token2Wav, Window
from tutti.models.qwen2_5_omni.vocoder import Vocoder

CODES = tuple((7 * i) % 30 + 1 for i in range(120))
A_CODE = 2 * 12  # samples
DIT = {
    "hidden_size": 32, "num_hidden_layers": 4, "num_attention_heads": 2, "head_dim": 16, "mel_dim": 8, "num_embeds": 31,
    "emb_dim": 8, "look_backward_layers": (0, 3), "look_ahead_layers": (), "enc_emb_dim": 4, "enc_dim": 8,
    "enc_channels": (8, 8, 8, 8, 24), "enc_attention_channels": 4, "enc_se_channels": 4,
}  # fmt: skip
VOCODER = {
    "mel_dim": 8, "upsample_initial_channel": 16, "upsample_rates": (4, 3), "upsample_kernel_sizes": (8, 7),
    "resblock_kernel_sizes": (3,), "resblock_dilation_sizes": ((1, 3),),
}  # fmt: skip


def sounds(*cuts: int) -> torch.Tensor:
    """The sound of `CODES`, in windows that end at `cuts`, each with a block of codes behind what is new."""
    torch.manual_seed(0)
    flow, vocoder = FlowNetwork(DIT), Vocoder(VOCODER)
    for part in (flow, vocoder):
        for parameter in part.parameters():
            nn.init.normal_(parameter, std=0.3)
    token2wav = Token2Wav(flow.eval(), vocoder.eval(), torch.device("cpu"), torch.float32)
    voice = Speaker(torch.randn(1, 4), torch.randn(1, 20, 8), 0)
    heard, pieces, done = Heard(), [], 0
    with torch.inference_mode():
        for cut in (*cuts, len(CODES)):
            window = Window(CODES[done : cut + 12], done, cut - done, voice, heard)
            pieces += [one.samples for one in token2wav.run([window])]
            done = cut
    return torch.cat(pieces)


@pytest.mark.parametrize("cuts", [(24,), (24, 72), (12, 24, 36, 48, 60, 72, 84, 96, 108), (108,)])
def test_windows_are_the_whole_where_no_layer_looks_ahead(cuts: tuple[int, ...]) -> None:
    whole, cut = sounds(), sounds(*cuts)
    assert len(whole) == len(CODES) * A_CODE
    torch.testing.assert_close(cut, whole, atol=1e-4, rtol=1e-3)
