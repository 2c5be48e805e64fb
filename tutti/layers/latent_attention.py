"""Multi-head latent attention (DeepSeek-AI 2024, section 2.1), computed on the latents themselves.

A head's key is K l and its value V l, for a latent l of which there is one per token. Since q . (K l) = (K^T q) . l,
the head's matrices move to the query and the result, and the cache holds latents: all heads attend over one KV head
whose values are the first columns of its keys.

    | latent, normed ............ | rotated key |     one token in the cache
    |<-- value: rank columns ---->|
    |<-- key: rank + rope_dim columns --------->|
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from tutti.kernels import apply_rope, paged_attention
from tutti.kernels.paged import LayerCache, PagedBatch
from tutti.kernels.weights import Weight
from tutti.layers.config import LatentAttentionConfig
from tutti.layers.linear import Linear
from tutti.layers.norm import Norm, make_norm
from tutti.layers.parameters import LoadOptions, Named, TensorSpec, owned
from tutti.layers.rope import Rotation


class HeadMatrices:
    """Every head's K [plain_dim, rank] and V [value_dim, rank], which checkpoints keep as one matrix:

    | K of head 0 | V of head 0 | K of head 1 | ...  (rows)
    """

    def __init__(self, config: LatentAttentionConfig) -> None:
        self.rows = (config.plain_dim, config.value_dim)
        self.key = torch.empty(0)  # [heads, plain_dim, rank]
        self.value = torch.empty(0)  # [heads, rank, value_dim]
        self.specs = (TensorSpec("weight", (config.heads * sum(self.rows), config.rank)),)

    @property
    def nbytes(self) -> int:
        """See `Parameter.nbytes`."""
        return self.key.nbytes + self.value.nbytes

    def load(self, tensors: Mapping[str, Weight], options: LoadOptions) -> None:
        """See `Parameter.load`. They stay in the activations' dtype when loading quantizes."""
        heads = owned(tensors["weight"], options).unflatten(0, (-1, sum(self.rows)))
        key, value = heads.split(self.rows, 1)
        self.key, self.value = key.contiguous(), value.transpose(1, 2).contiguous()


class LatentAttention:
    """Attention of `heads` query heads over one latent KV head."""

    def __init__(self, hidden: int, config: LatentAttentionConfig) -> None:
        self.config = config
        query = config.heads * (config.plain_dim + config.rope_dim)
        self.split = (config.query_rank or query, config.rank, config.rope_dim)
        self.down = Linear(hidden, self.split[0], config.rank + config.rope_dim, bias=config.bias)
        self.query_norm: Norm | None = None
        self.query_up: Linear | None = None
        if config.query_rank is not None:
            self.query_norm = make_norm(config.query_rank, config.norm)
            self.query_up = Linear(config.query_rank, query)
        self.latent_norm = make_norm(config.rank, config.norm)
        self.matrices = HeadMatrices(config)
        self.out = Linear(config.heads * config.value_dim, hidden, bias=config.bias)

    def parameters(self) -> Named:
        """`down` (slots query, latent with rotated key), `latent_norm`, `matrices`, `out`; `query_norm`, `query_up`."""
        yield "down", self.down
        if self.query_norm is not None and self.query_up is not None:
            yield "query_norm", self.query_norm
            yield "query_up", self.query_up
        yield "latent_norm", self.latent_norm
        yield "matrices", self.matrices
        yield "out", self.out

    def __call__(self, x: Tensor, rotation: Rotation | None, batch: PagedBatch, cache: LayerCache) -> Tensor:
        """`x` [tokens, hidden] -> [tokens, hidden]; writes this step's latents and rotated keys to the cache."""
        config = self.config
        query, latent, k_rope = self.down(x).split(self.split, -1)
        if self.query_norm is not None and self.query_up is not None:
            query = self.query_up(self.query_norm(query))
        heads = query.unflatten(-1, (config.heads, -1))
        q_plain, q_rope = heads.split((config.plain_dim, config.rope_dim), -1)
        k_rope = k_rope[:, None]
        if rotation is not None:
            q_rope, k_rope = apply_rope(
                q_rope, k_rope, rotation.cos, rotation.sin, interleaved=rotation.interleaved
            )
        q_latent = torch.bmm(q_plain.transpose(0, 1), self.matrices.key).transpose(0, 1)
        attended = paged_attention(
            torch.cat((q_latent, q_rope), -1),
            torch.cat((self.latent_norm(latent)[:, None], k_rope), -1),
            None,
            cache,
            batch,
            scale=config.scale,
        )
        values = torch.bmm(attended.transpose(0, 1), self.matrices.value).transpose(0, 1)
        return self.out(values.flatten(1))
