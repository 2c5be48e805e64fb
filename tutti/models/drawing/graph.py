"""The graphs that families that draw share: text, denoiser, VAE, and its encoder for pictures. No torch.

A unified model's has the denoiser and the VAE behind a stage that writes.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

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
    """The same of a family that films, whose module `vae` gives films, and encodes the pictures they begin with."""
    decoder = stage(family, "vae", Kind.ONCE, "vae", output="video")
    encoder = stage(family, "vae_encoder", Kind.ONCE, "vae", inputs=("image",))
    encoder = replace(encoder, build=f"{decoder.build}_encoder", describe=decoder.describe)
    return _graph(family, architectures, decoder, encoder)


def sounding_graph(family: str, *architectures: str) -> Graph:
    """The same of a family that makes sounds, whose module `vae` gives these, and has the bridge to itself."""
    decoder = stage(family, "vae", Kind.ONCE, "vae", output="sound")
    return _graph(family, architectures, decoder, bridge=f"tutti.models.{family}.vae:finished")


def unified_graph(
    base: Graph,
    family: str,
    *architectures: str,
    writer: str,
    condition: str,
    denoiser: str,
    followers: Mapping[str, str],
) -> Graph:
    """The graph of the folder `family`: `base`, whose stage `writer` may have what it writes drawn, too.

    The folder's module `writer` builds that stage; `denoiser` names what builds the denoiser. `condition` names the
    bridge from one to the other in the folder ("module:function"), `followers` those to other stages behind the writer,
    by their names. The family's `config` says what may be asked (`drawer`) and what the stages take. Denoiser and VAE
    are built when they are needed: most answers have no picture.
    """
    home = f"tutti.models.{family}"
    paints = stage(family, "denoiser", Kind.DENOISE, "denoiser")
    shows = stage(family, "vae", Kind.ONCE, "vae", output="image")
    stages = (
        *(replace(one, build=f"{home}.{writer}:build") if one.name == writer else one for one in base.stages),
        replace(paints, build=denoiser, late=True),
        replace(shows, build="tutti.models.drawing.vae:build", late=True),
    )
    edges = (
        *(
            replace(edge, bridge=f"{home}.{followers[edge.destination]}") if edge.source == writer else edge
            for edge in base.edges
        ),
        Edge(writer, paints.name, f"{home}.{condition}", prompt=False),
        Edge(paints.name, shows.name, "tutti.models.drawing.denoiser:finished"),
    )
    return replace(
        base,
        name=family,
        architectures=architectures,
        stages=stages,
        edges=edges,
        drawer=f"{home}.config:drawer",
    )


def _graph(
    family: str, architectures: tuple[str, ...], decoder: Stage, *encoders: Stage, bridge: str | None = None
) -> Graph:
    """`bridge` leads to the decoder, where that does not take pictures."""
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
        Edge("denoiser", "vae", bridge or f"{shared}:finished"),
    )
    return Graph(family, architectures, stages, edges, drawer=f"tutti.models.{family}.config:drawer")
