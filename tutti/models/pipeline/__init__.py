"""Every text-to-image pipeline of diffusers that has no family of its own: run whole, one request after the other."""

from tutti.graph import Graph, Kind, Stage

_CONFIG = f"{__name__}.config"
GRAPH = Graph(
    "pipeline",
    (),  # no architectures: what nobody else names (see `models.registry`)
    (
        Stage(
            "denoiser",
            Kind.DENOISE,
            f"{__name__}.denoiser:build",
            f"{_CONFIG}:describe",
            output="image",
            inputs=("text",),
        ),
    ),
    drawer=f"{_CONFIG}:drawer",
    claims=f"{_CONFIG}:claims",
    remark="by diffusers' own pipeline, one request after the other",
)
