"""Sound in windows is the sound of the whole, where nothing looks ahead of a window."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from torch import nn

from tutti.models.qwen2_5_omni.dit import FlowNetwork
from tutti.models.qwen2_5_omni.speakers import Speaker
from tutti.models.qwen2_5_omni.token2wav import SIZES, Heard, Token2Wav, Window
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


def networks(**changes: Any) -> Token2Wav:
    torch.manual_seed(0)
    flow, vocoder = FlowNetwork(DIT | changes), Vocoder(VOCODER)
    for part in (flow, vocoder):
        for parameter in part.parameters():
            nn.init.normal_(parameter, std=0.3)
    return Token2Wav(flow.eval(), vocoder.eval(), torch.device("cpu"), torch.float32)


def a_voice(seed: int) -> Speaker:
    generator = torch.Generator().manual_seed(seed)
    return Speaker(torch.randn(1, 4, generator=generator), torch.randn(1, 20, 8, generator=generator), 0)


def the_next(codes: tuple[int, ...], first: int, until: int, voice: Speaker, heard: Heard) -> Window:
    """The window up to `until`, with a block of codes behind what is new."""
    return Window(codes[first : until + 12], first, until - first, voice, heard)


def sounds(*cuts: int) -> torch.Tensor:
    """The sound of `CODES`, in windows that end at `cuts`."""
    token2wav, voice, heard, pieces, done = networks(), a_voice(1), Heard(), [], 0
    with torch.inference_mode():
        for cut in (*cuts, len(CODES)):
            pieces += [one.samples for one in token2wav.run([the_next(CODES, done, cut, voice, heard)])]
            done = cut
    return torch.cat(pieces)


@pytest.mark.parametrize("cuts", [(24,), (24, 72), (12, 24, 36, 48, 60, 72, 84, 96, 108), (108,)])
def test_windows_are_the_whole_where_no_layer_looks_ahead(cuts: tuple[int, ...]) -> None:
    whole, cut = sounds(), sounds(*cuts)
    assert len(whole) == len(CODES) * A_CODE
    torch.testing.assert_close(cut, whole, atol=1e-4, rtol=1e-3)


def test_a_window_sounds_the_same_alone_and_beside_others() -> None:
    token2wav = networks(look_ahead_layers=(2,))
    answers = [(CODES[shift:], a_voice(shift), done) for shift, done in ((0, 24), (5, 36), (9, 72))]

    def heard_so_far() -> list[Heard]:
        found = [Heard() for _ in answers]
        for (codes, voice, done), heard in zip(answers, found, strict=True):
            token2wav.run([the_next(codes, 0, done, voice, heard)])
        return found

    def ahead(beside: list[Heard]) -> list[Window]:
        pairs = zip(answers, beside, strict=True)
        return [the_next(codes, h.codes, h.codes + 12, voice, h) for (codes, voice, _), h in pairs]

    with torch.inference_mode():
        together, apart = heard_so_far(), heard_so_far()
        for _ in range(2):
            windows = ahead(together)
            assert len({token2wav.bucket(window) for window in windows}) == 1
            alone = [token2wav.run([window])[0].samples for window in ahead(apart)]
            for ours, one in zip(token2wav.run(windows), alone, strict=True):
                assert len(one) == 12 * A_CODE
                torch.testing.assert_close(ours.samples, one, atol=1e-4, rtol=1e-3)


def test_a_window_waits_for_the_one_before_it_and_for_others_of_its_shape_alone() -> None:
    token2wav, voice = networks(), a_voice(1)
    heard, another = Heard(), Heard()
    first, second = the_next(CODES, 0, 24, voice, heard), the_next(CODES, 24, 48, voice, heard)
    other = the_next(CODES, 0, 24, a_voice(2), another)
    assert token2wav.bucket(first) == token2wav.bucket(other)
    assert token2wav.bucket(second) is second  # it is not its turn
    with torch.inference_mode():
        token2wav.run([first, other])
    assert token2wav.bucket(second) == token2wav.bucket(the_next(CODES, 24, 48, voice, another))
    assert token2wav.bucket(second) != token2wav.bucket(the_next(CODES, 24, 36, voice, another))


def test_windows_are_whole_blocks_and_a_size_begins_where_one_ends() -> None:
    assert all(size % 12 == 0 for _, size in SIZES)
    for (start, size), (stop, _) in itertools.pairwise(SIZES):
        assert (stop - start) % size == 0
