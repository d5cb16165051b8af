"""How pixels become latents in Wan 2.1's VAE."""

from __future__ import annotations

TEMPORAL_STRIDE = 4
"""Video frames per latent frame; the first latent of a video is one frame."""
SPATIAL_STRIDE = 8
"""Pixels per latent row or column."""
