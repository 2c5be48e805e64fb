"""How pico learns to draw: training computes what diffusers' classes compute, and the viewer sees what is painted."""

from __future__ import annotations

from random import Random

import pytest
import torch
from tokenizers import Tokenizer

from pico.evaluate import SHIPPED
from pico.painter import denoiser, vae
from pico.painter.captions import asked, told
from pico.painter.forward import ROWS, predict
from pico.painter.gallery import painted, wanted
from pico.pictures import DRAWN
from pico.requests import SIGN
from pico.scenes import Scene, Thing
from pico.tokenizer import render_prompt
from pico.training import update
from pico.transformers_engine import TransformersEngine
from pico.viewer.model import GRID, NOTHING, Viewer, truth
from pico.viewer.train import exact
from pico.words import COLOURS, SHAPES


def test_what_training_computes_is_what_the_class_computes() -> None:
    net = denoiser.build()
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    latents, time = torch.randn(3, vae.LATENTS, vae.SIDE, vae.SIDE), torch.rand(3)
    captions, lengths = torch.randn(3, ROWS, 256), torch.tensor([1, 12, ROWS])
    lists = [one[:length] for one, length in zip(captions, lengths, strict=True)]
    with torch.no_grad():
        ours = predict(net, latents, time, captions, lengths)
        theirs = net(list(latents[:, :, None]), time, lists, return_dict=False)[0]
    assert torch.allclose(ours, torch.stack(theirs)[:, :, 0], atol=1e-4)


def test_the_mean_of_the_weights_follows_them() -> None:
    learner = denoiser.Learner(denoiser.build())
    optimizers = denoiser.optimizers_of(learner.net)
    before = learner.mean.layers[0].attention.to_q.weight.clone()
    latents, rows = torch.randn(2, vae.LATENTS, vae.SIDE, vae.SIDE), torch.randn(2, ROWS, 256)
    for _ in range(2):
        learner.follow()
        found = denoiser.losses(learner.net, latents, rows, torch.tensor([5, 9]))
        update(found["loss"], learner.parameters(), optimizers, 1.0)
    learner.follow()
    mean, now = learner.mean.layers[0].attention.to_q.weight, learner.net.layers[0].attention.to_q.weight
    assert 0 < (mean - before).norm() < (now - before).norm()


def test_the_painter_is_told_the_states_of_the_caption_alone() -> None:
    engine = TransformersEngine.load(SHIPPED)
    chats = asked(Random(2), "heldout", 6)
    captions = told(engine.model.model, engine.tokenizer, chats)
    chat, length = chats[0], int(captions.lengths[0])
    prompt = engine.tokenizer.encode(render_prompt(chat.prompt)).ids
    answer = engine.tokenizer.encode(chat.answer.removesuffix(SIGN)).ids
    with torch.inference_mode():
        states = engine.model.model(torch.tensor([[*prompt, *answer]])).last_hidden_state[0]
    assert length == len(answer) <= ROWS
    assert torch.allclose(
        captions.rows[0, :length].float(), states[len(prompt) :].float(), atol=0.1, rtol=0.1
    )
    assert not captions.rows[0, length:].any()


def test_a_caption_is_never_longer_than_the_painter_reads() -> None:
    tokenizer = Tokenizer.from_file(str(SHIPPED / "tokenizer.json"))
    rng = Random(0)
    longest = max(len(tokenizer.encode(chat.answer).ids) for chat in asked(rng, "train", 2000))
    assert longest - 1 <= ROWS


def test_the_vae_halves_twice() -> None:
    pixels = painted(Random(0), [wanted(Random(1), "train")])
    assert pixels.shape == (1, 3, DRAWN, DRAWN)
    assert vae.latents_of(vae.build().eval(), pixels).shape == (1, vae.LATENTS, vae.SIDE, vae.SIDE)


def test_places_of_all_arrangements_are_a_grid() -> None:
    thing = Thing(COLOURS[1], SHAPES[2])
    cases = {("row", 2): 5, ("column", 0): 1, ("spots", 3): 6, ("spots", 2): 4, ("row", 1): 4}
    for (layout, place), at in cases.items():
        seen = truth([Scene(layout, (thing,), (place,))])  # type: ignore[arg-type]
        assert seen.colours[0, at] == 2 and seen.shapes[0, at] == 3
        assert (seen.colours[0] != NOTHING).sum() == 1 and seen.colours.shape == (1, GRID)


def test_the_viewer_tells_all_of_painted_pictures() -> None:
    assert exact(Viewer.load(), 500) >= 0.99


@pytest.mark.parametrize("split", ["train", "heldout"])
def test_scenes_are_painted_as_large_as_pico_draws(split: str) -> None:
    scene = wanted(Random(4), split)  # type: ignore[arg-type]
    assert painted(Random(0), [scene, scene]).shape == (2, 3, DRAWN, DRAWN)
