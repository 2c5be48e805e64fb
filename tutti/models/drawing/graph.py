"""The graph that families that draw share: text, denoiser, VAE. No torch."""

from __future__ import annotations

from tutti.graph import Edge, Graph, Kind
from tutti.models.standard import stage


def drawing_graph(family: str, *architectures: str) -> Graph:
    """The graph of the folder `family`, which serves pipelines of these classes (the names in model_index.json).

    Its modules `text`, `denoiser` and `vae` have a `build` each; its `config` says what may be asked (`drawer`) and
    what the stages take (`describe_text`, `describe_denoiser`, `describe_vae`).
    """
    shared = "tutti.models.drawing.denoiser"
    stages = (
        stage(family, "text", Kind.ONCE, "text", inputs=("text",)),
        stage(family, "denoiser", Kind.DENOISE, "denoiser"),
        stage(family, "vae", Kind.ONCE, "vae", output="image"),
    )
    edges = (
        Edge("text", "denoiser", f"{shared}:condition"),
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
