"""Timing of speech features: wav2vec2's 50 per second onto the video's 25."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from .config import BLOCK_FRAMES, FPS

FEATURE_RATE = 50
"""wav2vec2 hidden states per second, nominally."""
TRACK_RATE = 30
"""Features per second of the intermediate track that the model was trained with."""


def feature_track(hidden: Tensor) -> Tensor:
    """Resample wav2vec2 hidden states [layers, T, dim] linearly to 30 per second: [layers, int(T / 50 * 30), dim].

    The first and last features keep their places, as in the reference.
    """
    length = int(hidden.shape[1] / FEATURE_RATE * TRACK_RATE)
    track = F.interpolate(hidden.transpose(1, 2), size=length, mode="linear", align_corners=True)
    return track.transpose(1, 2)


def frame_indices(first: int, count: int) -> Tensor:
    """Track index of ``count`` video frames from frame ``first`` on: round(frame * 30 / 25), int64."""
    frames = torch.arange(first, first + count)
    return (frames * TRACK_RATE + FPS // 2) // FPS


def frame_features(track: Tensor, first: int, count: int) -> Tensor:
    """Features of video frames [layers, dim, count] from a track [layers, length, dim].

    Frames past the end of the track get zeros, as in the reference: pad the sound with silence, not the features.
    """
    indices = frame_indices(first, count).to(track.device)
    inside = indices < track.shape[1]
    features = track[:, indices.clamp(max=track.shape[1] - 1)] * inside[None, :, None].to(track)
    return features.transpose(1, 2)


def block_features(tracks: list[Tensor], block: int) -> Tensor:
    """Features of one block for all speakers: [speakers, layers, dim, 12]."""
    return torch.stack([frame_features(track, block * BLOCK_FRAMES, BLOCK_FRAMES) for track in tracks])
