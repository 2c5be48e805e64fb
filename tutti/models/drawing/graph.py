"""The graph that families that draw share: text, denoiser, VAE, and its encoder for pictures. No torch."""

from __future__ import annotations

from tutti.graph import Edge, Graph, Kind, Stage
from tutti.models.standard import stage


def drawing_graph(family: str, *architectures: str, vae: str = "tutti.models.drawing.vae") -> Graph:
    """The graph of the folder `family`, which serves pipelines of these classes (the names in model_index.json).

    Its modules `text` and `denoiser` have a `build` each; the module `vae` has `build` and `build_encoder`; the
    family's `config` says what may be asked (`drawer`) and what the stages take (`describe_text`, `describe_denoiser`,
    `describe_vae`).
    """
    shape = f"tutti.models.{family}.config:describe_vae"
    encoder = Stage("vae_encoder", Kind.ONCE, f"{vae}:build_encoder", shape, inputs=("image",))
    decoder = Stage("vae", Kind.ONCE, f"{vae}:build", shape, output="image")
    return _graph(family, architectures, decoder, encoder)


def filming_graph(family: str, *architectures: str) -> Graph:
    """The same of a family that films, whose module `vae` gives films."""
    return _graph(family, architectures, stage(family, "vae", Kind.ONCE, "vae", output="video"))


def _graph(family: str, architectures: tuple[str, ...], decoder: Stage, *encoders: Stage) -> Graph:
    shared = "tutti.models.drawing.denoiser"
    stages = (
        stage(family, "text", Kind.ONCE, "text", inputs=("text",)),
        *encoders,
        stage(family, "denoiser", Kind.DENOISE, "denoiser"),
        decoder,
    )
    edges = (
        Edge("text", "denoiser", f"{shared}:condition"),
        *(Edge(one.name, "denoiser") for one in encoders),
        Edge("denoiser", "vae", f"{shared}:finished"),
    )
    return Graph(family, architectures, stages, edges, drawer=f"tutti.models.{family}.config:drawer")
