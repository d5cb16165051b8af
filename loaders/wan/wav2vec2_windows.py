"""Hidden layers of an audio encoder, ours or the host's, for sound of any length."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor

from .wav2vec2 import EPSILON, FRAME_RATE, HOP, RECEPTIVE_FIELD, SAMPLE_RATE, at_least_one_frame

LAYERS = 25  # hidden layers of wav2vec2 large, which the model mixes
WINDOW_SECONDS = 60.0
OVERLAP_SECONDS = 8.0

Read = Callable[[int, int], Tensor]
"""The samples from one place to another of a mono sound at 16 kHz, as float32 [S]; silence outside of it."""


def hidden_states(encoder: Any, waveform: Tensor) -> Tensor:
    """All 25 hidden layers of a mono 16 kHz waveform [S] in one pass, [25, T, C] on the CPU in the encoder's dtype.

    T = floor((S - 400) / 320) + 1, at least 1. ValueError for another kind of encoder than wav2vec2 large.
    """
    return _encode(encoder, at_least_one_frame(waveform.float()))


def encoder_shape(encoder: Any) -> tuple[int, int]:
    """Number and width of an encoder's hidden layers, from the shortest sound; ValueError as in `hidden_states`."""
    layers, _, dim = hidden_states(encoder, torch.zeros(RECEPTIVE_FIELD)).shape
    return layers, dim


def loudness(read: Read, samples: int, check_interrupt: Callable[[], None]) -> tuple[float, float]:
    """Mean and variance of a whole sound, from a minute of it at a time."""
    total = squares = 0.0
    step = round(WINDOW_SECONDS * SAMPLE_RATE)
    for start in range(0, samples, step):
        check_interrupt()
        window = read(start, min(start + step, samples)).double()
        total, squares = total + window.sum().item(), squares + window.square().sum().item()
    mean = total / samples
    return mean, max(0.0, squares / samples - mean**2)


def hidden_state_windows(
    encoder: Any,
    read: Read,
    samples: int,
    statistics: tuple[float, float],
    first: int = 0,
    check_interrupt: Callable[[], None] = lambda: None,
    window_seconds: float = WINDOW_SECONDS,
    overlap_seconds: float = OVERLAP_SECONDS,
) -> Iterator[tuple[int, Tensor]]:
    """The hidden states of a sound that is longer than a window, one window after the other.

    Windows begin on frame borders, are spread evenly and share at least ``overlap_seconds``; loudness is
    normalised over the whole sound, as in one pass. The outer quarters of an overlap, which lack context on
    one side, are dropped, and the inner half is a linear cross-fade.

    Args:
        samples: length of the sound at 16 kHz.
        statistics: its mean and variance; see `loudness`.
        first: the frame whose window is the first that is encoded.
        check_interrupt: called before each window; raises to stop.

    Yields (index of its first frame, frames [25, t, C] on the CPU): consecutive pieces.
    """
    spans = _windows(
        frame_count(samples), round(window_seconds * FRAME_RATE), round(overlap_seconds * FRAME_RATE)
    )
    # A piece ends within the overlap with the next window, which fades in there.
    overlaps = [(after, stop) for (_, stop), (after, _) in itertools.pairwise(spans)]
    ends = [(after + stop) // 2 - (stop - after) // 4 for after, stop in overlaps] + [spans[-1][1]]
    wanted = next(number for number, end in enumerate(ends) if first < end or number + 1 == len(ends))
    fading: Tensor | None = None
    for number in range(max(0, wanted - 1), len(spans)):
        check_interrupt()
        start, stop = spans[number]
        ready = ends[number - 1] if number else 0
        window = read(start * HOP, (stop - 1) * HOP + RECEPTIVE_FIELD)
        states = encode_window(encoder, window, statistics)
        if fading is not None:
            part = states[:, ready - start :][:, : fading.shape[1]]
            weight = (torch.arange(part.shape[1]) + 0.5).div(part.shape[1])[None, :, None]
            part.copy_(torch.lerp(fading.float(), part.float(), weight))
        if number >= wanted:
            yield ready, states[:, ready - start : ends[number] - start]
        if number + 1 < len(spans):
            after, stop = overlaps[number]
            fade_end = (after + stop) // 2 + (stop - after) // 4
            fading = states[:, ends[number] - start : fade_end - start].clone()
        del states, window


def encode_window(encoder: Any, window: Tensor, statistics: tuple[float, float]) -> Tensor:
    """Hidden states [25, T, C] of a part of a sound, normalised by the mean and variance of the whole."""
    if not _normalizes(encoder):
        return _encode(encoder, window)
    mean, variance = statistics
    encoder.model.do_normalize = False
    try:
        return _encode(encoder, (window - mean) / (variance + EPSILON) ** 0.5)
    finally:
        encoder.model.do_normalize = True


def frame_count(samples: int) -> int:
    """Frames that wav2vec2 makes of this many samples at 16 kHz; too short audio is padded to one frame."""
    return (max(samples, RECEPTIVE_FIELD) - RECEPTIVE_FIELD) // HOP + 1


def _windows(frames: int, window: int, overlap: int) -> list[tuple[int, int]]:
    """Spans of ``window`` frames, evenly spread, neighbours sharing at least ``overlap`` frames."""
    if frames <= window:
        return [(0, frames)]
    if not 0 <= overlap <= window // 2:
        raise ValueError(
            f"windows of {window} frames cannot overlap by {overlap}; at most half a window is possible"
        )
    count = -(-(frames - overlap) // (window - overlap))
    starts = ((frames - window) * i // (count - 1) for i in range(count))
    return [(start, start + window) for start in starts]


def _normalizes(encoder: Any) -> bool:
    """Whether an encoder, ours or the host's, brings every waveform to unit variance by itself."""
    return bool(getattr(getattr(encoder, "model", None), "do_normalize", False))


def _encode(encoder: Any, samples: Tensor) -> Tensor:
    """One pass, stacked [25, T, C] on the CPU."""
    frames = frame_count(len(samples))
    with torch.no_grad():
        layers = encoder.encode_audio(samples[None, None], SAMPLE_RATE)["encoded_audio_all_layers"]
    if len(layers) != LAYERS or layers[0].shape[1] != frames:
        raise ValueError(
            f"This audio encoder gives {len(layers)} layers of {layers[0].shape[1]} frames, but "
            f"LiveAvatar needs {LAYERS} of {frames}; load wav2vec2-large-xlsr-53-english."
        )
    return torch.stack([layer[0].cpu() for layer in layers])
