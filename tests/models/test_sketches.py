"""Sketches of what is being drawn: like the true picture, and without a pass of the VAE."""

from __future__ import annotations

import io

import numpy as np
import pytest
import torch
from PIL import Image
from torch.nn.functional import adaptive_avg_pool2d, interpolate

from tests.models.film_pipelines import film_pipeline
from tests.models.pipelines import pipeline
from tests.models.studio import Studio
from tutti.engine.once import Once
from tutti.events import ImageDone
from tutti.formats.checkpoint import open_checkpoint
from tutti.graph import BuildOptions, resolve
from tutti.models.drawing.denoiser import Decoded, Latents
from tutti.models.drawing.sketch import fitted
from tutti.models.protocols import Picture
from tutti.models.registry import find_graph


def latents(channels: int, rows: int, columns: int) -> torch.Tensor:
    """Latents that are smooth, as those of pictures are; others than a sketch is fitted to."""
    noise = torch.randn(1, channels, 5, 5, generator=torch.Generator().manual_seed(9))
    return interpolate(noise, size=(rows, columns), mode="bilinear")[0]


@pytest.mark.parametrize("family", ["z_image", "qwen_image", "sd3", "wan"])
def test_a_sketch_looks_like_the_picture(family: str) -> None:
    folder = film_pipeline(family)[1] if family == "wan" else pipeline(family)[1]
    checkpoint = open_checkpoint(folder)
    graph = find_graph(checkpoint.config, checkpoint.path)
    vae = resolve(graph.stage("vae").build)(checkpoint, BuildOptions("cpu", "float32"))
    denoiser = resolve(graph.stage("denoiser").build)(checkpoint, BuildOptions("cpu", "float32"))
    shown = latents(denoiser.channels, 16, 24)
    if family == "wan":
        shown = shown[:, None]
    with torch.inference_mode():
        sketch, whole = (
            vae.run([Decoded(Latents(shown, preview=True, sketch=quick), "")])[0] for quick in (True, False)
        )
    assert isinstance(sketch, Picture) and isinstance(whole, Picture) and sketch.preview
    assert sketch.pixels.shape == whole.pixels.shape and sketch.pixels.std() > 3
    ours, theirs = (
        adaptive_avg_pool2d(torch.from_numpy(one.pixels).float().movedim(-1, 0), (16, 24)).flatten().numpy()
        for one in (sketch, whole)
    )
    # Decoders of random weights are anything but linear; of those that were trained, more is.
    assert np.corrcoef(ours, theirs)[0, 1] > 0.35


def test_of_a_decoder_that_is_linear_a_sketch_is_the_picture() -> None:
    colours = torch.randn(3, 16, generator=torch.Generator().manual_seed(2)) / 40

    def decode(latents: torch.Tensor) -> torch.Tensor:
        return interpolate(torch.einsum("kc,ncyx->nkyx", colours, latents) + 0.1, scale_factor=8)

    shown = latents(16, 16, 24)[None]
    sketch = fitted(decode, 16, torch.device("cpu")).draw(shown)
    assert sketch.shape == (1, 3, 128, 192)
    small = adaptive_avg_pool2d(sketch, (16, 24))
    torch.testing.assert_close(small, decode(shown)[..., ::8, ::8], atol=0.03, rtol=0)
    large = fitted(decode, 16, torch.device("cpu")).draw(latents(16, 128, 160)[None])
    assert large.shape == (1, 3, 128, 160)  # of a large picture, a sketch has a pixel for each latent


def test_a_sketch_takes_no_pass_of_the_vae_and_a_decoded_preview_does() -> None:
    made = Studio(pipeline("z_image")[1])
    (vae,) = (one for one in made.engine.encoders if one.name == "vae")
    assert isinstance(vae, Once)
    passes: list[int] = []  # pictures in each
    vae.model.vae.decoder.register_forward_hook(lambda _, given, __: passes.append(len(given[0])))  # type: ignore[attr-defined]
    made.submit("first", steps=6, previews=5)
    made.finish()
    assert passes == [2, 1]  # what the map is fitted to, and the picture
    passes.clear()
    made.submit("sketched", steps=6, previews=5)
    while made.engine.loop.turn():
        pass
    shown = [event for event in made.events if isinstance(event, ImageDone)]
    assert [event.preview for event in shown] == [True] * 5 + [False] and passes == [1]
    assert {Image.open(io.BytesIO(event.png)).size for event in shown} == {(16, 24)}
    made.finish()
    passes.clear()
    made.submit("decoded", steps=6, previews=3, decoded=True)
    made.finish()
    assert sum(passes) == 4
    made.nothing_is_left()
