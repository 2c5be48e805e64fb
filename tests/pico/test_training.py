"""Training computes what transformers' and torch's classes compute, faster."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy

import pytest
import torch
from tokenizers import Tokenizer
from torch import Tensor, nn

from pico.__main__ import STAGES, chosen
from pico.batches import Batch
from pico.decoder import through_layer, through_layers
from pico.evaluate import SHIPPED
from pico.model import build_model
from pico.muon import Muon
from pico.omni import build_thinker
from pico.train import loss_of
from pico.voice import flow, talker, token2wav, vocoder


def test_matrices_move_as_torch_moves_them() -> None:
    torch.manual_seed(0)
    shapes = [(64, 64), (64, 64), (32, 64), (64, 32), (64, 32), (16, 64)]
    ours = [nn.Parameter(torch.randn(shape)) for shape in shapes]
    theirs = [nn.Parameter(p.detach().clone()) for p in ours]
    idle = nn.Parameter(torch.randn(64, 64))
    begun, still = [p.detach().clone() for p in ours], idle.detach().clone()
    optimizers = [
        Muon([*ours, idle], lr=0.02, weight_decay=0.05),
        torch.optim.Muon(theirs, lr=0.02, weight_decay=0.05, adjust_lr_fn="original"),
    ]
    for _ in range(5):
        for one, other in zip(ours, theirs, strict=True):
            one.grad = torch.randn_like(one)
            other.grad = one.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for one, other, before in zip(ours, theirs, begun, strict=True):
        moved = (other - before).norm()
        assert (one - other).norm() < 0.02 * moved
    assert torch.equal(idle, still)


def test_muon_goes_on_from_its_state() -> None:
    def stepped(matrix: nn.Parameter, muon: Muon, gradient: Tensor) -> None:
        matrix.grad = gradient.clone()
        muon.step()

    torch.manual_seed(0)
    first, second = torch.randn(2, 8, 16)
    one = nn.Parameter(torch.randn(8, 16))
    muon = Muon([one], lr=0.1, weight_decay=0.0)
    stepped(one, muon, first)
    other = nn.Parameter(one.detach().clone())
    again = Muon([other], lr=0.1, weight_decay=0.0)
    again.load_state_dict(deepcopy(muon.state_dict()))
    stepped(one, muon, second)
    stepped(other, again, second)
    assert torch.equal(one, other)


def text_model() -> nn.Module:
    return build_model(0).model


def thinker() -> nn.Module:
    return build_thinker(Tokenizer.from_file(str(SHIPPED / "tokenizer.json")), {}).model


def speaker() -> nn.Module:
    return talker.build(Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))).model


@pytest.mark.parametrize("make", [text_model, thinker, speaker])
def test_a_batch_goes_through_a_decoder_as_through_transformers_class(make: Callable[[], nn.Module]) -> None:
    model = make().eval()
    model.set_attn_implementation("eager")  # which tells where it looks
    x = torch.randn(3, 21, model.config.hidden_size)
    positions = torch.arange(21).expand(1 if make is text_model else 3, 3, -1)
    if make is text_model:
        positions = positions[0]
    goal = torch.randn_like(x)
    entered = [x.clone().requires_grad_() for _ in range(2)]
    every = range(len(model.layers))
    states, looks = through_layers(model, entered[0], positions, through_layer, every)
    (states[-1] * goal).sum().backward()
    gradients = [p.grad for p in model.layers.parameters()]
    model.zero_grad()
    caught: list[Tensor] = []
    model.layers[-1].register_forward_hook(lambda _layer, _given, found: caught.append(found))
    theirs = model(
        inputs_embeds=entered[1], position_ids=positions, output_attentions=True, output_hidden_states=True
    )
    (caught[0] * goal).sum().backward()
    torch.testing.assert_close(states[-1], caught[0], atol=1e-5, rtol=1e-4)
    for look, attention in zip(looks, theirs.attentions, strict=True):
        torch.testing.assert_close(look, attention[:, 0], atol=1e-6, rtol=1e-4)
    torch.testing.assert_close(entered[0].grad, entered[1].grad, atol=1e-4, rtol=1e-3)
    for ours, parameter in zip(gradients, model.layers.parameters(), strict=True):
        torch.testing.assert_close(ours, parameter.grad, atol=1e-4, rtol=1e-3)


def test_the_loss_of_text_is_that_of_transformers_class() -> None:
    model = build_model(0)
    ids = torch.randint(0, 1500, (4, 16))
    targets = torch.where(torch.rand(4, 16) < 0.5, torch.randint(0, 1500, (4, 16)), -100)
    targets[0, 0] = 7
    logits = model(ids).logits
    theirs = nn.functional.cross_entropy(logits.flatten(0, 1), targets.flatten())
    ours = loss_of(model, Batch(ids, targets))
    assert ours.item() == pytest.approx(theirs.item(), rel=2e-3)  # bfloat16


@pytest.mark.parametrize("blind", [False, True])
def test_the_flow_slopes_as_transformers_class_slopes(blind: bool) -> None:
    net = token2wav.build().code2wav_dit_model.eval()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    spectra, time, codes = torch.randn(2, 72, 80), torch.rand(2), torch.randint(1, 256, (2, 36))
    condition, heard = torch.randn(1, token2wav.VOICE_WIDTH), torch.randn(1, token2wav.VOICE_FRAMES, 80)
    goal = torch.randn_like(spectra)
    ours = flow.slopes(net, spectra, time, codes, (condition, heard), blind, flow.through_block)
    (ours * goal).sum().backward()
    gradients = [p.grad.clone() if p.grad is not None else None for p in net.parameters()]
    net.zero_grad()
    theirs = net(
        hidden_states=spectra, condition_vector=heard.expand(2, -1, -1),
        speaker_embedding=condition[:, None].expand(2, 72, -1), quantized_code=codes, time_step=time,
        drop_audio_conditioning=blind, drop_code=blind, apply_cfg=False,
    )  # fmt: skip
    (theirs * goal).sum().backward()
    torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-3)
    for one, parameter in zip(gradients, net.parameters(), strict=True):
        if one is not None and parameter.grad is not None:
            torch.testing.assert_close(one, parameter.grad, atol=1e-3, rtol=1e-2)


def test_the_vocoder_sounds_as_transformers_class_sounds() -> None:
    net = token2wav.build().code2wav_bigvgan_model
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    spectra = torch.randn(2, 80, 5) - 3
    ours, theirs = vocoder.sound(net, spectra, vocoder.through_activation), net(spectra)
    goal = torch.randn_like(theirs)
    (ours * goal).sum().backward()
    gradients = [p.grad.clone() for p in net.parameters()]
    net.zero_grad()
    (theirs * goal).sum().backward()
    torch.testing.assert_close(ours, theirs, atol=3e-4, rtol=1e-3)
    for one, parameter in zip(gradients, net.parameters(), strict=True):
        assert (one - parameter.grad).norm() < 1e-3 * parameter.grad.norm()


def test_stages_share_the_cores_and_the_longest_have_them_all() -> None:
    def begun(done: set[str], running: set[str], cores: int) -> dict[str, int]:
        return chosen([stage for stage in STAGES if stage.name not in done], running, cores)

    assert begun(set(), set(), 2) == {"train": 1, "voice.codec": 1}
    assert begun({"voice.codec"}, {"train"}, 1) == {"lessons": 1}
    early = {"train", "voice.codec", "lessons", "ears", "eyes", "voice.token2wav"}
    assert begun(early, set(), 2) == {"voice.lessons": 1, "painter.vae": 1}
    assert begun({*early, "painter.vae"}, {"voice.lessons"}, 1) == {}
    assert begun({*early, "painter.vae", "voice.lessons"}, set(), 2) == {"thinker": 2}
    last = {*early, "painter.vae", "voice.lessons", "thinker"}
    assert begun(last, set(), 2) == {"voice.talker": 2}
    assert begun({*last, "voice.talker"}, set(), 2) == {"painter.denoiser": 2}
