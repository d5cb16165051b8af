"""Speech features as the network hears them: windows around every frame, and tokens per latent."""

from __future__ import annotations

from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from ..parts.wan.geometry import TEMPORAL_STRIDE
from .config import LongCatConfig
from .layers import LayerNorm, Linear

REACH = 2
"""Features on either side of a frame's own that its window holds."""
TOKEN_EPS = 1e-5


class SpeechFeatures(Protocol):
    """Features of one or several speakers' sound, read range by range.

    Attributes:
        speakers: how many there are.
        count: features of each, `Version.stride` per video frame.
    """

    speakers: int
    count: int

    def read(self, first: int, last: int) -> Tensor:
        """Features ``first`` to ``last`` (not included) of all speakers, [speakers, last - first, groups, channels]."""


class KnownFeatures:
    """Features that are all there: `SpeechFeatures` over a tensor [speakers, features, groups, channels]."""

    def __init__(self, features: Tensor) -> None:
        self._features = features
        self.speakers, self.count = features.shape[:2]

    def read(self, first: int, last: int) -> Tensor:
        return self._features[:, first:last]


def window_indices(start: int, frames: int, stride: int, count: int) -> Tensor:
    """Which of ``count`` features each of ``frames`` video frames from ``start`` on hears, int64 [frames, 5]; before
    the first and behind the last feature these stand still."""
    own = stride * (start + torch.arange(frames))
    return (own[:, None] + torch.arange(-REACH, REACH + 1)).clamp(0, count - 1)


def speech_windows(features: SpeechFeatures, start: int, frames: int, stride: int) -> Tensor:
    """Windows of a segment from video frame ``start`` on, [speakers, frames, 5, groups, channels]."""
    indices = window_indices(start, frames, stride, features.count)
    first = int(indices.min())
    return features.read(first, int(indices.max()) + 1)[:, indices - first]


class SpeechProjection(nn.Module):
    """Makes the windows of a latent's frames into tokens: those of one frame for the first latent, of four for all
    others."""

    def __init__(self, config: LongCatConfig) -> None:
        super().__init__()
        channels = config.audio_block * config.audio_channel
        self.token_shape = config.context_tokens, config.output_dim
        self.proj1 = Linear(config.audio_window * channels, config.intermediate_dim)
        self.proj1_vf = Linear(
            (config.audio_window + TEMPORAL_STRIDE - 1) * channels, config.intermediate_dim
        )
        self.proj2 = Linear(config.intermediate_dim, config.intermediate_dim)
        self.proj3 = Linear(config.intermediate_dim, config.context_tokens * config.output_dim)
        self.norm = LayerNorm(config.output_dim, eps=TOKEN_EPS)

    def forward(self, windows: Tensor) -> Tensor:
        """[speakers, 1 + 4k, 5, groups, channels] -> [speakers, 1 + k, tokens, width]."""
        first, others = windows[:, :1], windows[:, 1:].unflatten(1, (-1, TEMPORAL_STRIDE))
        before, after = others[:, :, 0, : REACH + 1], others[:, :, -1, REACH:]
        heard = torch.cat((before, others[:, :, 1:-1, REACH], after), 2)
        hidden = torch.cat((self.proj1(first.flatten(2)), self.proj1_vf(heard.flatten(2))), 1)
        hidden = F.relu(self.proj2(F.relu(hidden)))
        return self.norm(self.proj3(hidden).unflatten(-1, self.token_shape))
