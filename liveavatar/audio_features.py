"""Timing of speech features: wav2vec2's 50 per second onto the video's 25."""

from __future__ import annotations

from collections.abc import Iterable

import torch
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
    return join_track([hidden], hidden.shape[1])


def join_track(pieces: Iterable[Tensor], count: int) -> Tensor:
    """`feature_track` of ``count`` hidden states that come in consecutive pieces [layers, t, dim].

    One piece is held at a time: those of an hour of speech would fill 9 GB before the track is made of them.
    """
    length = int(count / FEATURE_RATE * TRACK_RATE)
    # In float32, as the reference's interpolation computes them: in a long track the difference shows.
    positions = torch.arange(length) * ((torch.tensor(count) - 1) / max(1, length - 1))
    before = positions.long().clamp(max=count - 2)
    weight = (positions - before).clamp(max=1)[:, None]
    track, kept, start, done = None, None, 0, 0
    for piece in pieces:
        if track is None:
            track, kept = piece.new_empty(piece.shape[0], length, piece.shape[2]), piece[:, :0]
        piece = torch.cat((kept, piece), dim=1)
        kept, last = piece[:, -1:].clone(), start + piece.shape[1] - 1
        ready = slice(done, int(torch.searchsorted(before, last)))
        index = (before[ready] - start).to(piece.device)
        low, high = piece[:, index].float(), piece[:, index + 1].float()
        track[:, ready] = torch.lerp(low, high, weight[ready].to(piece.device)).to(piece.dtype)
        start, done = last, ready.stop
    return track


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
