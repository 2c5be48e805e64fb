"""The codec's decoder: frames of codes to sound. A checkpoint of its own, in the folder speech_tokenizer.

It is Qwen3-Omni's network but for its ends: codes are vectors that add up (residual vector quantization), a convolution
stands before the transformer, which has a width of its own, and no sample waits for the next frame.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from tutti.formats.checkpoint import Checkpoint, open_checkpoint
from tutti.graph import BuildOptions
from tutti.models.qwen2_5_omni.config import part
from tutti.models.qwen3_omni.code2wav import Code2Wav
from tutti.models.qwen3_omni.waveform import Walk, Waveform
from tutti.models.reading import Config, require
from tutti.models.towers import fill

FOLDER = "speech_tokenizer"
_LEAST_USE = 1e-5  # of a code, by which its sum of vectors is divided


class Network(nn.Module):
    """The decoder's parameters under the checkpoint's names; modules are transformers' (of Qwen3-Omni)."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        from transformers.models.qwen3_omni_moe import modeling_qwen3_omni_moe as omni

        settings = omni.Qwen3OmniMoeCode2WavConfig.from_dict(_settings(config))
        latent, hidden = config.get("latent_dim", 1024), settings.hidden_size
        wide = omni.Qwen3OmniMoeCode2WavConfig.from_dict(_settings(config) | {"hidden_size": latent})
        whole = omni.Qwen3OmniMoeCode2Wav._from_config(wide)
        self.config = settings
        self.quantizer = Quantizer(config)
        self.pre_conv = omni.Qwen3OmniMoeCausalConvNet(require(config, "codebook_dim"), latent, 3)
        self.pre_transformer = omni.Qwen3OmniMoeCode2WavTransformerModel._from_config(
            settings, attn_implementation="sdpa"
        )
        self.pre_transformer.input_proj = nn.Linear(latent, hidden)
        self.pre_transformer.output_proj = nn.Linear(hidden, latent)
        self.upsample, self.decoder = whole.upsample, whole.decoder


class Quantizer(nn.Module):
    """The codebooks: those of what is said (the first), and those of how it sounds, each with a projection."""

    def __init__(self, config: Config) -> None:
        super().__init__()
        width, size = require(config, "codebook_dim"), require(config, "codebook_size")
        first = int(config.get("num_semantic_quantizers", 1))
        self.rvq_first = _Books(first, size, width)
        self.rvq_rest = _Books(int(require(config, "num_quantizers")) - first, size, width)

    @torch.inference_mode()
    def tables(self) -> Tensor:
        """The vectors as they add up, [codebooks, size, width]."""
        return torch.stack([*self.rvq_first.tables(), *self.rvq_rest.tables()])


class _Books(nn.Module):
    def __init__(self, count: int, size: int, width: int) -> None:
        super().__init__()
        self.vq = nn.Module()
        self.vq.layers = nn.ModuleList(_Layer(size, width // 2) for _ in range(count))
        self.output_proj = nn.Conv1d(width // 2, width, 1, bias=False)

    def tables(self) -> list[Tensor]:
        """Each book's vectors [size, width] behind the projection."""
        projection = self.output_proj.weight[:, :, 0]
        layers: Any = self.vq.layers
        return [layer._codebook.vectors() @ projection.T for layer in layers]


class _Layer(nn.Module):
    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self._codebook = _Codebook(size, width)


class _Codebook(nn.Module):
    def __init__(self, size: int, width: int) -> None:
        super().__init__()
        self.cluster_usage = nn.Parameter(torch.empty(size))
        self.embedding_sum = nn.Parameter(torch.empty(size, width))

    def vectors(self) -> Tensor:
        """The mean of what each code stood for in training, [size, width]."""
        return self.embedding_sum / self.cluster_usage.clamp(min=_LEAST_USE)[:, None]


class Codec(Waveform):
    """The walk through the network, piece by piece."""

    def __init__(self, module: Network) -> None:
        super().__init__(module)
        tables = module.quantizer.tables()
        count, size, width = tables.shape
        self._vectors = tables.view(count * size, width)
        self._offsets = torch.arange(count, device=self._vectors.device)[:, None] * size

    def _embed(self, codes: Tensor, walk: Walk) -> Tensor:
        added = F.embedding(codes + self._offsets, self._vectors).sum(1)
        convolved = self._convolve(self.module.pre_conv, added.transpose(1, 2), walk)
        return self.module.pre_transformer.input_proj(convolved.transpose(1, 2))

    def _transformer(self, x: Tensor, before: Any, walk: Walk) -> Tensor:
        out: Tensor = self.module.pre_transformer.output_proj(super()._transformer(x, before, walk))
        return out

    def _upsample(self, layer: Any, x: Tensor, walk: Walk) -> Tensor:
        """Each sample becomes `stride`, to which the one before it adds its second half."""
        stride = layer.conv.stride[0]
        overlap = layer.conv.kernel_size[0] - stride
        whole = walk.joined(x, 1, 1) if overlap else x
        out: Tensor = layer.conv(whole)
        return out[..., stride : out.shape[-1] - overlap] if overlap else out


def _settings(config: Config) -> dict[str, Any]:
    """The section as transformers reads it for Qwen3-Omni."""
    rope = {"rope_type": "default", "rope_theta": config.get("rope_theta", 10000.0)}
    kept = {key: value for key, value in config.items() if key not in ("dtype", "model_type", "rope_theta")}
    return kept | {"rope_parameters": rope}


def build(checkpoint: Checkpoint, options: BuildOptions) -> Code2Wav:
    """The decoder with its weights in float32, in which they are published. Raises CheckpointError."""
    from transformers.initialization import no_init_weights

    codec = open_checkpoint(checkpoint.path / FOLDER)
    with no_init_weights():
        network = Network(part(codec.config, "decoder_config"))
    fill(network, codec, BuildOptions(options.device, "float32"), "decoder.")
    return Code2Wav(Codec(network.to(options.device).eval()), torch.device(options.device))
