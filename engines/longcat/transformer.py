"""LongCat-Video-Avatar's transformer, with the checkpoint's parameter names.

Clean latents never see the noisy ones and hear and read nothing, so they are the same in every step. They pass once,
in `prefill`, and noisy latents meet their keys and values in `forward`.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol

import torch
from torch import Tensor, nn

from ..gpu.row_kernels import Rows, Sum
from ..parts import regions
from ..parts.attention.product import attention
from ..parts.wan.rope import BASE, Rotation
from .config import EPS, LongCatConfig
from .layers import CrossAttention, FeedForward, LayerNorm, Linear, SelfAttention, modulation
from .layout import Layout
from .speakers import Speakers
from .speech import SpeechProjection


@dataclass(frozen=True)
class Text:
    """A prompt as all blocks read it: embedded tokens [1, tokens, dim], of which the last stands for ``last`` equal
    ones of padding."""

    tokens: Tensor
    last: int


class CleanTokens(Protocol):
    """Keys and values of the clean latents, as noisy ones meet them."""

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """What noisy tokens see of the clean ones and of each other; rotated, all [1, noisy tokens, heads,
        head_dim]."""

    def first_keys(self, layer: int) -> Tensor:
        """Rotated keys of the first clean latent [1, tokens, heads, head_dim]."""


class Block(nn.Module):
    """Self-attention, attention to text and to speech, feed-forward; modulated by time.

    Layers may be replaced by `Fp8Linear` (`fp8.use_fp8`); ``float8`` says so, and they are given what they take.
    Keys and values of text and speech are made anew in every call: 0.1 % of a block's work, where keeping them would
    take 0.6 GB for a speaker.
    """

    def __init__(self, config: LongCatConfig) -> None:
        super().__init__()
        dim, heads, time = config.hidden_size, config.num_heads, config.adaln_tembed_dim
        self.adaLN_modulation = modulation(dim, time, 6)
        self.audio_adaLN_modulation = modulation(dim, time, 3)
        self.attn = SelfAttention(dim, heads)
        self.pre_crs_attn_norm = LayerNorm(dim, eps=EPS)
        self.cross_attn = CrossAttention(dim, heads, dim)
        self.pre_video_crs_attn_norm = LayerNorm(dim, eps=EPS)
        if config.audio_prenorm:
            self.pre_audio_crs_attn_norm = LayerNorm(config.output_dim, eps=EPS)
        self.audio_cross_attn = CrossAttention(dim, heads, config.output_dim)
        self.ffn = FeedForward(dim, config.ffn_dim)
        self.float8 = False

    def forward(
        self,
        x: Tensor,
        time: Tensor,
        rotation: Rotation,
        attend: Callable[[Tensor, Tensor, Tensor], Tensor],
        text: Text | None = None,
        speech: Tensor | None = None,
        speakers: Speakers | None = None,
        first_keys: Tensor | None = None,
    ) -> Tensor:
        """``x`` [1, tokens, dim] -> the same shape and dtype.

        Args:
            time: embedded, float32 [1, time width].
            rotation: of the tokens.
            attend: (rotated queries, rotated keys, values) -> values.
            text: the prompt; None for clean latents, which also have no ``speech``.
            speech: audio tokens [latents, tokens of all voices, width].
            speakers: with several voices, together with ``first_keys``, the first latent's rotated keys.
        """
        dtype = x.dtype
        taken = None if self.float8 else dtype
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(time)[0].chunk(6)
        y = regions.modulate(x, shift1, scale1, EPS, taken)
        q, k, v = self.attn.query_key_value(y, rotation)
        x = regions.add(x, self.attn.output(attend(q, k, v)), gate1)
        if text is not None:
            x = regions.add(x, self._read(_normed(x, self.pre_crs_attn_norm, taken), text))
        if speech is not None:
            turns = None
            if speakers is not None:
                turns = speakers.rotations(q, first_keys, speech.shape[1] // speakers.tracks)
            shift, scale, gate = self.audio_adaLN_modulation(time)[0].chunk(3)
            y = self._hear(_normed(x, self.pre_video_crs_attn_norm, taken), speech, turns)
            x = regions.add(x, regions.modulate(y, shift, scale, EPS, dtype), gate)
        y = self.ffn(regions.modulate(x, shift2, scale2, EPS, taken), taken)
        return regions.total(regions.add(x, y, gate2), dtype)

    def _read(self, x: Tensor | Rows, text: Text) -> Tensor:
        q, (k, v) = self.cross_attn.query(x), self.cross_attn.key_value(text.tokens)
        return self.cross_attn.output(attention(q, k, v, text.last))

    def _hear(self, x: Tensor | Rows, speech: Tensor, turns: tuple[Rotation, Rotation] | None) -> Tensor:
        """What each latent hears, [1, tokens, dim]."""
        if hasattr(self, "pre_audio_crs_attn_norm"):
            speech = self.pre_audio_crs_attn_norm(speech)
        q, (k, v) = self.audio_cross_attn.query(x), self.audio_cross_attn.key_value(speech)
        if turns is not None:
            q, k = regions.rotate(q, turns[0]), regions.rotate(k, turns[1])
        heard = attention(q[0].unflatten(0, (len(speech), -1)), k, v)
        return self.audio_cross_attn.output(heard.flatten(0, 1)[None])


def _normed(x: Tensor | Sum, norm: LayerNorm, dtype: torch.dtype | None) -> Tensor | Rows:
    return regions.norm(x, norm.weight, norm.bias, norm.eps, dtype)


class PatchEmbedding(nn.Module):
    """Latents to tokens, 2x2 each."""

    def __init__(self, channels: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(channels, dim, (1, 2, 2), (1, 2, 2))


class TimeEmbedding(nn.Module):
    """Timesteps to vectors, in float32."""

    def __init__(self, waves: int, dim: int) -> None:
        super().__init__()
        self.waves = waves
        self.mlp = nn.Sequential(Linear(waves, dim), nn.SiLU(), Linear(dim, dim))

    def sinusoid(self, timesteps: Tensor) -> Tensor:
        """[n] -> float32 [n, waves], cosines first."""
        half = self.waves // 2
        # Rounded as in the training: at timestep 1000 that is 4e-5 of the result. float32 exp differs between CPUs.
        steps = -math.log(BASE) * torch.arange(half, dtype=torch.float32, device=timesteps.device) / half
        angles = timesteps.float()[:, None] * steps.double().exp().float()
        return torch.cat((angles.cos(), angles.sin()), 1)

    def forward(self, timesteps: Tensor) -> Tensor:
        """[n] -> float32 [n, dim]."""
        return self.mlp(self.sinusoid(timesteps))


class TextEmbedding(nn.Module):
    """States of the text encoder to tokens."""

    def __init__(self, text_dim: int, dim: int) -> None:
        super().__init__()
        self.y_proj = nn.Sequential(Linear(text_dim, dim), nn.GELU(approximate="tanh"), Linear(dim, dim))


class FinalLayer(nn.Module):
    """Modulated projection from tokens to latent patches, in float32."""

    def __init__(self, config: LongCatConfig) -> None:
        super().__init__()
        self.adaLN_modulation = modulation(config.hidden_size, config.adaln_tembed_dim, 2)
        self.linear = Linear(config.hidden_size, 4 * config.out_channels)

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """[1, tokens, dim] -> float32 [1, tokens, 4 * channels]."""
        shift, scale = self.adaLN_modulation(time)[0].chunk(2)
        return self.linear(regions.modulate(x, shift, scale, EPS, torch.float32))


class LongCatTransformer(nn.Module):
    """Predicts the flow (clean minus noise) of the noisy latents of a segment.

    What does not depend on the noise is prepared once by the ``encode_*`` methods and `prefill`, and handed in.

    Args:
        config: architecture; ``LongCatConfig()`` is version 1.5.
        dtype: number format of the hidden states; None: that of the patch embedding. float16 is too small for them.
    """

    def __init__(self, config: LongCatConfig, dtype: torch.dtype | None = None) -> None:
        super().__init__()
        self.config, self._dtype = config, dtype
        self.x_embedder = PatchEmbedding(config.in_channels, config.hidden_size)
        self.t_embedder = TimeEmbedding(config.frequency_embedding_size, config.adaln_tembed_dim)
        self.y_embedder = TextEmbedding(config.caption_channels, config.hidden_size)
        self.blocks = nn.ModuleList(Block(config) for _ in range(config.depth))
        self.audio_proj = SpeechProjection(config)
        self.final_layer = FinalLayer(config)

    @property
    def dtype(self) -> torch.dtype:
        """Number format of the hidden states."""
        return self._dtype or self.x_embedder.proj.weight.dtype

    def encode_time(self, timesteps: Tensor) -> Tensor:
        """Timesteps 0..1000 [n] -> float32 [n, time width]."""
        return self.t_embedder(timesteps)

    def encode_text(self, context: Tensor, padding: int) -> Text:
        """A prompt for all blocks.

        Args:
            context: the text encoder's states of the prompt's own tokens [tokens, text width].
            padding: tokens behind them, up to the length of 512 that the model reads. They are zeros behind the
                embedding and are attended to: the model was trained that way.

        Raises:
            ValueError: the states have another width, or are none at all.
        """
        if context.shape[-1] != self.config.caption_channels:
            raise ValueError(
                f"Use the UMT5-XXL text encoder: the prompt was encoded {context.shape[-1]} wide, the model expects "
                f"{self.config.caption_channels}."
            )
        if not self.config.text_tokens_zero_pad:
            padding = 0
        if len(context) + padding == 0:
            raise ValueError("Encode the prompt with its end token: an empty sequence cannot be read.")
        tokens = self.y_embedder.y_proj(context[None].to(self.dtype))
        if padding:
            tokens = torch.cat((tokens, tokens.new_zeros(1, 1, tokens.shape[2])), 1)
        return Text(tokens, max(padding, 1))

    def encode_speech(self, windows: Tensor) -> Tensor:
        """Windows [voices, 1 + 4k, 5, groups, channels] -> tokens per latent [1 + k, voices * tokens, width]."""
        tokens = self.audio_proj(windows.to(self.dtype))
        return tokens.transpose(0, 1).flatten(1, 2)

    def prefill(
        self,
        latents: Tensor,
        layout: Layout,
        time: Tensor,
        rotation: Rotation,
        store: Callable[[int, Tensor, Tensor], None],
    ) -> Tensor:
        """Run clean latents [1, 16, clean, h, w] through all blocks, and hand out their keys and values.

        Args:
            time: embedded timestep 0, [1, time width].
            rotation: of their tokens.
            store: called per layer with rotated keys and values, each [1, tokens, heads, head_dim].

        Returns what the network makes of them, in the shape of ``latents``; nothing depends on it.
        """

        def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
            store(layer, k, v)
            parts = [attention(q[:, group], k[:, group], v[:, group]) for group in layout.clean_groups]
            return torch.cat(parts, 1)

        x = self._tokens(latents)
        for layer, block in enumerate(self.blocks):
            x = block(x, time, rotation, partial(attend, layer))
        return self._latents(self.final_layer(x, time), latents)

    def forward(
        self,
        latents: Tensor,
        time: Tensor,
        rotation: Rotation,
        clean: CleanTokens,
        text: Text,
        speech: Tensor,
        speakers: Speakers | None = None,
    ) -> Tensor:
        """Flow of noisy latents [1, 16, noisy, h, w], float32 in the same shape.

        Args:
            time: embedded timestep [1, time width].
            rotation: of the noisy tokens.
            clean: what the clean latents left behind.
            speech: tokens of the noisy latents [noisy, tokens of all voices, width].
            speakers: with several voices.
        """
        x = self._tokens(latents)
        for layer, block in enumerate(self.blocks):
            keys = None if speakers is None else clean.first_keys(layer)
            x = block(x, time, rotation, partial(clean.attend, layer), text, speech, speakers, keys)
        return self._latents(self.final_layer(x, time), latents)

    def _tokens(self, latents: Tensor) -> Tensor:
        """[1, 16, T, h, w] -> [1, T * h/2 * w/2, dim], ordered time, row, column."""
        proj = self.x_embedder.proj
        return proj(latents.to(proj.weight.dtype)).flatten(2).transpose(1, 2).to(self.dtype)

    def _latents(self, patches: Tensor, like: Tensor) -> Tensor:
        """[1, tokens, 2 * 2 * channels], the channel fastest -> [1, channels, T, h, w]."""
        _, _, frames, height, width = like.shape
        x = patches.unflatten(2, (2, 2, -1)).unflatten(1, (frames, height // 2, width // 2))
        return x.permute(0, 6, 1, 2, 4, 3, 5).flatten(5).flatten(3, 4)
