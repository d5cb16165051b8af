"""From speech features to the tokens that move the face: the causal audio encoder and its injection."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from ..parts import regions
from ..parts.attention.product import attention
from ..parts.precision import layer_norm, run
from .attention import Attention
from .config import BLOCK_LATENTS, S2VConfig


class CausalConv1d(nn.Module):
    """Kernel-3 convolution over time that sees the present and the past; the start is replicated."""

    def __init__(self, in_dim: int, out_dim: int, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv1d(in_dim, out_dim, 3, stride)

    def forward(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        """[B, time, in_dim] -> [B, time / stride, out_dim], channels last."""
        x = F.pad(x.transpose(1, 2), (2, 0), mode="replicate")
        return run(self.conv, x, dtype).transpose(1, 2)


class MotionEncoder(nn.Module):
    """Speech features at 25 per second -> one global vector and ``tokens + 1`` local vectors per latent frame."""

    def __init__(self, in_dim: int, dim: int, tokens: int) -> None:
        super().__init__()
        self.tokens = tokens
        self.conv1_local = CausalConv1d(in_dim, dim // 4 * tokens)
        self.conv1_global = CausalConv1d(in_dim, dim // 4)
        self.conv2 = CausalConv1d(dim // 4, dim // 2, stride=2)
        self.conv3 = CausalConv1d(dim // 2, dim, stride=2)
        self.final_linear = nn.Linear(dim, dim)
        self.padding_tokens = nn.Parameter(torch.zeros(1, 1, 1, dim))

    def forward(self, x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """[B, time, in_dim] -> global [B, time', dim] and local [B, time', tokens + 1, dim]."""
        batch = x.shape[0]
        local = self.conv1_local(x, dtype)
        local = rearrange(local, "b time (tokens dim) -> (b tokens) time dim", tokens=self.tokens)
        both = torch.cat((local, self.conv1_global(x, dtype)))  # the same weights, read once
        local, overall = self._downsample(both, dtype).split((len(local), batch))
        local = rearrange(local, "(b tokens) time dim -> b time tokens dim", b=batch)
        padding = self.padding_tokens.to(local).expand(batch, local.shape[1], -1, -1)
        return run(self.final_linear, overall, dtype), torch.cat((local, padding), dim=2)

    def _downsample(self, x: Tensor, dtype: torch.dtype) -> Tensor:
        for conv in (self.conv2, self.conv3):
            x = conv(self._activate(x), dtype)
        return self._activate(x)

    @staticmethod
    def _activate(x: Tensor) -> Tensor:
        return F.silu(layer_norm(x, 1e-6))


class CausalAudioEncoder(nn.Module):
    """Learned mix of the wav2vec2 layers, then the motion encoder."""

    def __init__(self, config: S2VConfig) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.full((1, config.audio_layers, 1, 1), 0.01))
        self.encoder = MotionEncoder(config.audio_dim, config.dim, config.num_audio_token)

    def forward(self, features: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Features [B, layers, audio_dim, time] -> global [B, time', dim], local [B, time', tokens + 1, dim]."""
        weights = F.silu(self.weights.to(device=features.device, dtype=torch.float32))
        mixed = (features.float() * weights).sum(1) / weights.sum(1)
        return self.encoder(mixed.transpose(1, 2), dtype)

    def encode_block(self, features: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Tokens of one block from its 12 frames of features [B, layers, audio_dim, 12].

        The block's first frame stands in for the 73 frames before it, so nothing of an earlier block is heard:
        the model was trained that way. One will do for them: the convolutions replicate the start, and 1 and 73 are
        in step with their strides. Returns global [B, 3, dim] and local [B, 3, tokens + 1, dim].
        """
        overall, local = self(torch.cat((features[..., :1], features), dim=-1), dtype)
        return overall[:, -BLOCK_LATENTS:].to(dtype), local[:, -BLOCK_LATENTS:].to(dtype)


class AdaIN(nn.Module):
    """Shift and scale of the audio attention's queries, from the global audio vector."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.linear = nn.Linear(dim, 2 * dim)

    def forward(self, overall: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """[B, frames, dim] -> shift and scale in ``dtype``, each [B, frames, dim]."""
        # Queries take the format of the shift, and must have that of the keys.
        shift, scale = run(self.linear, F.silu(overall), dtype).to(dtype).chunk(2, dim=-1)
        return shift.contiguous(), scale.contiguous()  # once, and not for every step


@dataclass(frozen=True)
class SpeechTokens:
    """What one injection layer needs of a block's speech; the same for all denoising steps.

    ``shift`` and ``scale`` are [speakers, 3, dim]; ``k`` and ``v`` are [speakers * 3, tokens, heads, head_dim].
    """

    shift: Tensor
    scale: Tensor
    k: Tensor
    v: Tensor


class AudioInjector(nn.Module):
    """Cross-attention from each latent frame to its own audio tokens, after some of the blocks."""

    def __init__(self, config: S2VConfig) -> None:
        super().__init__()
        self.index = {layer: j for j, layer in enumerate(config.audio_inject_layers)}
        count = len(config.audio_inject_layers)
        self.injector = nn.ModuleList(
            Attention(config.dim, config.num_heads, config.eps) for _ in range(count)
        )
        self.injector_adain_layers = nn.ModuleList(AdaIN(config.dim) for _ in range(count))

    def prepare(self, layer: int, overall: Tensor, local: Tensor) -> SpeechTokens | None:
        """Project a block's audio tokens for the injection after ``layer``; None where that layer has none."""
        j = self.index.get(layer)
        if j is None:
            return None
        shift, scale = self.injector_adain_layers[j](overall, overall.dtype)
        k, v = self.injector[j].key_value(local.flatten(0, 1))
        return SpeechTokens(shift, scale, k, v)

    def forward(self, layer: int, x: Tensor, speech: SpeechTokens, mask: Tensor | None) -> Tensor:
        """Add the speech of all speakers to ``x`` [1, 3 n, dim].

        ``mask`` [speakers, 3 n, 1] says where each speaker is heard; required for more than one.
        """
        injector = self.injector[self.index[layer]]
        # AdaIN's own epsilon, 1e-5, differs from the backbone's.
        q = injector.query(regions.modulate_speech(x, speech.shift, speech.scale, 1e-5))
        return regions.add_speech(x, injector.output(attention(q, speech.k, speech.v)), mask)
