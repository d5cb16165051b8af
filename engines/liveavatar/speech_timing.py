"""Timing of speech features: wav2vec2's 50 per second onto the video's 25."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

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
    track = [part for _, part in track_parts([(0, hidden)], hidden.shape[1])]
    return torch.cat(track, dim=1) if track else hidden[:, :0]


def track_parts(pieces: Iterable[tuple[int, Tensor]], count: int) -> Iterator[tuple[int, Tensor]]:
    """`feature_track` of ``count`` hidden states, in parts, from consecutive pieces of them.

    Args:
        pieces: (index of its first hidden state, hidden states [layers, t, dim]), each beginning where the one
            before it ends; the first one may begin anywhere.
        count: hidden states of the whole speech, on which the features' places depend.

    Yields (index of its first feature, features [layers, n, dim]); together all features for which the hidden
    states on both sides are there.
    """
    length = int(count / FEATURE_RATE * TRACK_RATE)
    # In float32, as the reference's interpolation computes them: in a long track the difference shows.
    positions = torch.arange(length) * ((torch.tensor(count) - 1) / max(1, length - 1))
    before = positions.long().clamp(max=count - 2)
    weight = (positions - before).clamp(max=1)[:, None]
    last: Tensor | None = None  # the hidden state before the piece
    for start, piece in pieces:
        if last is not None:
            start, piece = start - 1, torch.cat((last, piece), dim=1)
        last = piece[:, -1:].clone()
        first, stop = torch.searchsorted(before, torch.tensor([start, start + piece.shape[1] - 1])).tolist()
        if first < stop:
            index = (before[first:stop] - start).to(piece.device)
            low, high = piece[:, index].float(), piece[:, index + 1].float()
            yield first, torch.lerp(low, high, weight[first:stop].to(piece.device)).to(piece.dtype)


def frame_indices(first: int, count: int) -> Tensor:
    """Track index of ``count`` video frames from frame ``first`` on: round(frame * 30 / 25), int64."""
    frames = torch.arange(first, first + count)
    return (frames * TRACK_RATE + FPS // 2) // FPS


def frame_features(track: Tensor, first: int, count: int) -> Tensor:
    """Features of video frames [layers, dim, count] from a track [layers, length, dim].

    Frames past the end of the track get zeros, as in the reference: pad the sound with silence, not the features.
    """
    return features_at(track, frame_indices(first, count))


def features_at(track: Tensor, indices: Tensor) -> Tensor:
    """Features at these places of a track [layers, length, dim], as [layers, dim, count]; zeros after its end."""
    indices = indices.to(track.device)
    inside = indices < track.shape[1]
    features = track[:, indices.clamp(max=track.shape[1] - 1)] * inside[None, :, None].to(track)
    return features.transpose(1, 2)


def block_features(tracks: list[Tensor], block: int) -> Tensor:
    """Features of one block for all speakers: [speakers, layers, dim, 12]."""
    return torch.stack([frame_features(track, block * BLOCK_FRAMES, BLOCK_FRAMES) for track in tracks])


def track_blocks(parts: Iterable[tuple[int, Tensor]], block: int) -> Iterator[Tensor]:
    """Features of one speaker's block ``block`` and of every one behind it, [layers, dim, 12] each, without an end.

    ``parts`` are those of a track (see `track_parts`), the first of which begins at or before that block. One
    part is held at a time; after the last one the features are zero.
    """
    parts = iter(parts)
    start, held = next(parts)
    while True:
        indices = frame_indices(block * BLOCK_FRAMES, BLOCK_FRAMES)
        while indices[-1] >= start + held.shape[1] and (part := next(parts, None)) is not None:
            used = min(max(0, int(indices[0]) - start), held.shape[1])
            start, held = start + used, torch.cat((held[:, used:], part[1]), dim=1)
        yield features_at(held, indices - start)
        block += 1
