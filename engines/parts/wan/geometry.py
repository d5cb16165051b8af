"""Sizes of Wan 2.1's latents, by those of its pixels."""

from __future__ import annotations

TEMPORAL_STRIDE = 4
"""Video frames per latent frame; the first latent of a video is one frame."""
SPATIAL_STRIDE = 8
"""Pixels per latent row or column."""
