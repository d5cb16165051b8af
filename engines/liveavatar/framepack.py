"""Frame packing: the motion history as a short token sequence, coarser the older it is."""

from __future__ import annotations

import torch
from einops import rearrange
from torch import Tensor, nn

from ..parts.precision import run
from ..parts.wan.rope import RotaryEmbedding, Rotation, concatenate

HISTORY_LATENTS = 19
"""Latent frames of history: 16 at quarter, 2 at half and 1 at full resolution."""


def tokens(projection: nn.Module, latents: Tensor, dtype: torch.dtype) -> Tensor:
    """Latents [1, 16, f, h, w] -> one token for each patch of the projection [1, tokens, dim]."""
    # With the channels last, what a GPU gives are tokens already and need not be moved.
    latents = latents.contiguous(memory_format=torch.channels_last_3d)
    return rearrange(run(projection, latents, dtype).to(dtype), "b dim f h w -> b (f h w) dim")


class FramePacker(nn.Module):
    """Patchify the last 19 motion latents with kernels (1,2,2), (2,4,4) and (4,8,8).

    For ``n`` tokens per latent frame the result has ``n + n/4 + n/4`` tokens, newest first.
    """

    def __init__(self, in_dim: int, dim: int) -> None:
        super().__init__()
        self.proj = nn.Conv3d(in_dim, dim, (1, 2, 2), (1, 2, 2))
        self.proj_2x = nn.Conv3d(in_dim, dim, (2, 4, 4), (2, 4, 4))
        self.proj_4x = nn.Conv3d(in_dim, dim, (4, 8, 8), (4, 8, 8))

    def forward(self, motion: Tensor, dtype: torch.dtype) -> Tensor:
        """Motion latents [B, 16, frames, h, w] -> tokens [B, 1.5 n, dim]; short histories are zero-padded."""
        missing = HISTORY_LATENTS - motion.shape[2]
        if missing > 0:
            motion = nn.functional.pad(motion, (0, 0, 0, 0, missing, 0))
        oldest, older, newest = motion[:, :, -HISTORY_LATENTS:].split((16, 2, 1), dim=2)
        groups = ((self.proj, newest), (self.proj_2x, older), (self.proj_4x, oldest))
        return torch.cat([tokens(p, x, dtype) for p, x in groups], dim=1)


def motion_rotation(rope: RotaryEmbedding, rows: int, columns: int, device: torch.device) -> Rotation:
    """Rotations of the packed tokens for a patch grid of ``rows`` x ``columns``; times are negative and fixed."""

    def spread(count: int, parts: int) -> list[int]:
        return torch.linspace(0, count - 1, count // parts).floor().int().tolist()

    return concatenate(
        [
            rope.grid((-1,), range(rows), range(columns), device),
            rope.grid((-3,), spread(rows, 2), spread(columns, 2), device),
            rope.grid((-19, -14, -9, -4), spread(rows, 4), spread(columns, 4), device),
        ]
    )
