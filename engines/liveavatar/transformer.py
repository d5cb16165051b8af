"""The causal speech-to-video transformer of Wan2.2-S2V, with the checkpoint's parameter names.

Parameter paths equal the checkpoint's keys, so that a state dict loads as it is and the leaf layers of another
implementation of the same model (ComfyUI's) can take the place of ours.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..parts import regions
from ..parts.attention.product import attention
from ..parts.precision import input_dtype, layer_norm, run
from ..parts.wan.rope import Rotation
from .attention import Attention
from .audio_injection import AudioInjector, CausalAudioEncoder, SpeechTokens
from .config import BLOCK_LATENTS, S2VConfig
from .framepack import FramePacker, tokens

Attend = Callable[[int, Tensor, Tensor, Tensor], Tensor]
"""Where queries, keys and values of a self-attention layer meet: (layer, q, k, v) -> values."""

NOISY, REFERENCE, MOTION = range(3)
"""Rows of the condition-mask embedding that marks what a token is."""


class TextKV(NamedTuple):
    """A prompt as one layer keeps it and `attention` takes it.

    ``k`` and ``v`` [1, tokens, heads, head_dim], of which the last stand for ``last`` tokens of padding.
    """

    k: Tensor
    v: Tensor
    last: int


@dataclass(frozen=True)
class Modulation:
    """The contribution of one timestep to every layer, float32.

    ``blocks`` [6, dim]: shift, scale and gate of self-attention, then of the feed-forward; ``head`` [dim].
    """

    blocks: Tensor
    head: Tensor


class Block(nn.Module):
    """Self-attention, text cross-attention and feed-forward, modulated by the timestep."""

    def __init__(self, config: S2VConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.self_attn = Attention(config.dim, config.num_heads, config.eps)
        self.norm3 = nn.LayerNorm(config.dim, eps=config.eps)
        self.cross_attn = Attention(config.dim, config.num_heads, config.eps)
        self.ffn = nn.Sequential(
            nn.Linear(config.dim, config.ffn_dim),
            nn.GELU(approximate="tanh"),
            nn.Linear(config.ffn_dim, config.dim),
        )
        self.modulation = nn.Parameter(torch.zeros(1, 6, config.dim))

    def forward(
        self,
        x: Tensor,
        modulation: Tensor,
        text: TextKV,
        attend: Callable[..., Tensor],
        rotation: Rotation | None = None,
    ) -> Tensor:
        """``x`` [1, tokens, dim] -> the same shape and dtype.

        Args:
            modulation: the timestep's [6, dim].
            text: the prompt's keys and values for this layer.
            attend: (q, k, v) -> values, where queries meet the keys of this and other frames.
            rotation: of queries and keys before they meet; None leaves them as they are.
        """
        dtype, eps = x.dtype, self.eps
        shift1, scale1, gate1, shift2, scale2, gate2 = (
            self.modulation[0].to(device=x.device, dtype=torch.float32) + modulation
        )
        # The residual stays in float32 within a block, as in the reference.
        y = regions.modulate(x, shift1, scale1, eps, dtype)
        q, (k, v) = self.self_attn.query(y), self.self_attn.key_value(y)
        if rotation is not None:
            q, k = regions.rotate(q, rotation), regions.rotate(k, rotation)
        y = self.self_attn.output(attend(q, k, v))
        x = regions.add(x, y, gate1)
        y = self.norm3(regions.total(x, input_dtype(self.norm3, dtype))).to(dtype)
        y = self.cross_attn.output(attention(self.cross_attn.query(y), *text))
        x = regions.add(x, y)
        y = self.ffn(regions.modulate(x, shift2, scale2, eps, dtype))
        return regions.total(regions.add(x, y, gate2), dtype)


class Head(nn.Module):
    """Modulated projection from tokens to latent patches."""

    def __init__(self, config: S2VConfig) -> None:
        super().__init__()
        self.eps = config.eps
        self.head = nn.Linear(config.dim, 4 * config.out_dim)
        self.modulation = nn.Parameter(torch.zeros(1, 2, config.dim))

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """[1, tokens, dim] -> [1, tokens, 4 * out_dim]; ``time`` [dim] is the timestep's embedding."""
        shift, scale = self.modulation[0].to(device=x.device, dtype=torch.float32) + time
        return run(self.head, layer_norm(x, self.eps) * (1 + scale) + shift, x.dtype).to(x.dtype)


def called_outside(block: nn.Module) -> tuple[nn.Module, ...]:
    """The layer of a block, in whatever format, that makes the prompt's keys and values outside of its forward."""
    return (block.cross_attn.k,)


class S2VTransformer(nn.Module):
    """Predicts the flow (noise minus clean) of one block of latent frames.

    What does not depend on the noisy latents is prepared once by the ``encode_*`` methods and handed in:
    timesteps, prompt, speech of a block, and the condition through `prefill`.

    Args:
        config: architecture; ``S2VConfig()`` is the 14B model.
        compute_dtype: number format of the hidden states. None: that of the patch embedding.
    """

    def __init__(self, config: S2VConfig, compute_dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.config = config
        self._compute_dtype = compute_dtype
        dim, patch = config.dim, (1, 2, 2)
        self.patch_embedding = nn.Conv3d(config.in_dim, dim, patch, patch)
        self.cond_encoder = nn.Conv3d(config.cond_dim, dim, patch, patch)
        self.text_embedding = nn.Sequential(
            nn.Linear(config.text_dim, dim), nn.GELU(approximate="tanh"), nn.Linear(dim, dim)
        )
        self.time_embedding = nn.Sequential(nn.Linear(config.freq_dim, dim), nn.SiLU(), nn.Linear(dim, dim))
        self.time_projection = nn.Sequential(nn.SiLU(), nn.Linear(dim, 6 * dim))
        self.trainable_cond_mask = nn.Embedding(3, dim)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.num_layers))
        self.head = Head(config)
        self.casual_audio_encoder = CausalAudioEncoder(config)  # the checkpoint's spelling
        self.audio_injector = AudioInjector(config)
        self.frame_packer = FramePacker(config.in_dim, dim)

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the hidden states."""
        return self._compute_dtype or self.patch_embedding.weight.dtype

    def encode_time(self, timestep: float, device: torch.device) -> Modulation:
        """Modulation of a timestep in 0..1000 (sigma * 1000, float32)."""
        half = self.config.freq_dim // 2
        frequencies = 10000.0 ** (-torch.arange(half, dtype=torch.float64) / half)
        angles = torch.tensor(timestep, dtype=torch.float32).double() * frequencies
        wave = torch.cat((angles.cos(), angles.sin())).float().to(device)[None]
        first, _, second = self.time_embedding
        time = run(second, F.silu(run(first, wave, self.dtype)), self.dtype)
        blocks = run(self.time_projection[1], F.silu(time), self.dtype)
        return Modulation(blocks[0].float().unflatten(0, (6, -1)), time[0].float())

    def encode_text(self, context: Tensor) -> list[TextKV]:
        """Cross-attention keys and values per layer of a prompt.

        ``context`` [tokens, text_dim] is the text encoder's output, with or without rows of zeros behind it. It
        counts as padded with them to the model's text length, and the embedded padding is attended to: the model was
        trained that way.
        """
        width = context.shape[-1]
        if width != self.config.text_dim:
            raise ValueError(
                f"The prompt's embedding is {width} wide, the model expects {self.config.text_dim}; "
                "use the UMT5-XXL text encoder of Wan."
            )
        context = context[: self.config.text_len].to(self.dtype)
        filled = context.any(1).nonzero()
        words = int(filled[-1]) + 1 if len(filled) else 0
        padding = self.config.text_len - words
        context = F.pad(context[:words], (0, 0, 0, min(padding, 1)))[None]
        first, gelu, second = self.text_embedding
        embedded = run(second, gelu(run(first, context, self.dtype)), self.dtype).to(self.dtype)
        return [TextKV(*block.cross_attn.key_value(embedded), max(padding, 1)) for block in self.blocks]

    def encode_speech(self, features: Tensor) -> list[SpeechTokens | None]:
        """Per layer, the audio tokens of one block, or None where a layer injects none.

        ``features`` [speakers, layers, audio_dim, 12]: the block's wav2vec2 features, one per video frame.
        """
        overall, local = self.casual_audio_encoder.encode_block(features, self.dtype)
        return [self.audio_injector.prepare(i, overall, local) for i in range(self.config.num_layers)]

    def encode_pose(self, pose: Tensor) -> Tensor:
        """Latents of a block's pose video [1, 16, 3, h, w] -> an addend for the tokens of its noisy latents [1, 3 n,
        dim]."""
        return tokens(self.cond_encoder, pose, self.dtype) + self._mask_embedding(pose.device)[NOISY]

    def prefill(
        self,
        reference: Tensor,
        motion: Tensor,
        time: Modulation,
        text: list[TextKV],
        rotation: Rotation,
        store: Callable[[int, Tensor, Tensor], None],
    ) -> None:
        """Run the condition tokens through all layers and hand out their keys and values.

        Args:
            reference: latent of the reference image [1, 16, 1, h, w].
            motion: latents of the motion history [1, 16, frames, h, w]; the last 19 count.
            time: modulation of timestep 0.
            rotation: of reference and motion tokens.
            store: called per layer with unrotated keys and values [1, 2.5 n, heads, head_dim].
        """
        mask = self._mask_embedding(reference.device)
        x = torch.cat(
            (
                tokens(self.patch_embedding, reference, self.dtype) + mask[REFERENCE],
                self.frame_packer(motion, self.dtype) + mask[MOTION],
            ),
            dim=1,
        )

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            store(layer, k, v)
            return attention(regions.rotate(q, rotation), regions.rotate(k, rotation), v)

        self._run_blocks(x, time, text, attend)

    def forward(
        self,
        latents: Tensor,
        time: Modulation,
        text: list[TextKV],
        speech: list[SpeechTokens | None],
        attend: Attend,
        rotation: Rotation,
        pose: Tensor,
        speaker_mask: Tensor | None = None,
    ) -> Tensor:
        """Flow of one block of noisy latents [1, 16, 3, h, w].

        Args:
            attend: self-attention against the caches, given rotated queries and keys.
            rotation: of the block's tokens.
            pose: the block's, from `encode_pose`.
            speaker_mask: [speakers, 3 n, 1], where each speaker is heard; None with a single one.
        """
        x = tokens(self.patch_embedding, latents, self.dtype) + pose
        x = self._run_blocks(x, time, text, attend, rotation, speech, speaker_mask)
        x = self.head(x, time.head)
        rows, columns = latents.shape[-2] // 2, latents.shape[-1] // 2
        x = x.unflatten(2, (2, 2, -1)).unflatten(1, (BLOCK_LATENTS, rows, columns))
        return x.permute(0, 6, 1, 2, 4, 3, 5).flatten(5).flatten(3, 4)

    def _run_blocks(
        self,
        x: Tensor,
        time: Modulation,
        text: list[TextKV],
        attend: Attend,
        rotation: Rotation | None = None,
        speech: list[SpeechTokens | None] | None = None,
        speaker_mask: Tensor | None = None,
    ) -> Tensor:
        for layer, block in enumerate(self.blocks):
            meet = partial(attend, layer)
            x = block(x, time.blocks, text[layer], meet, rotation)
            if speech is not None and speech[layer] is not None:
                x = self.audio_injector(layer, x, speech[layer], speaker_mask)
        return x

    def _mask_embedding(self, device: torch.device) -> Tensor:
        # Called, not read: the weight of another implementation's layer may be packed or patched.
        return self.trainable_cond_mask(torch.arange(3, device=device)).to(self.dtype)
