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
    shared = "tutti.models.drawing.denoiser"
    shape = f"tutti.models.{family}.config:describe_vae"
    stages = (
        stage(family, "text", Kind.ONCE, "text", inputs=("text",)),
        Stage("vae_encoder", Kind.ONCE, f"{vae}:build_encoder", shape, inputs=("image",)),
        stage(family, "denoiser", Kind.DENOISE, "denoiser"),
        Stage("vae", Kind.ONCE, f"{vae}:build", shape, output="image"),
    )
    edges = (
        Edge("text", "denoiser", f"{shared}:condition"),
        Edge("vae_encoder", "denoiser"),
        Edge("denoiser", "vae", f"{shared}:finished"),
    )
    return Graph(family, architectures, stages, edges, drawer=f"tutti.models.{family}.config:drawer")


def filming_graph(family: str, *architectures: str) -> Graph:
    """The same of a family that films, whose module `vae` gives films."""
    shared = "tutti.models.drawing.denoiser"
    stages = (
        stage(family, "text", Kind.ONCE, "text", inputs=("text",)),
        stage(family, "denoiser", Kind.DENOISE, "denoiser"),
        stage(family, "vae", Kind.ONCE, "vae", output="video"),
    )
    edges = (
        Edge("text", "denoiser", f"{shared}:condition"),
        Edge("denoiser", "vae", f"{shared}:finished"),
    )
    return Graph(family, architectures, stages, edges, drawer=f"tutti.models.{family}.config:drawer")
