# ruff: noqa: RUF001
"""From phonemes to mouth shapes: three numbers per 10 ms, smoothed as neighbouring sounds blend.

open   0 closed .. 1 wide open
wide  -1 rounded (oo) .. 1 spread (ee)
teeth  0 .. 1, how far the teeth close the gap (s, f, sh)
"""

from __future__ import annotations

import numpy as np

from .speech import Phoneme

TRACK_RATE = 100  # mouth shapes per second
SYLLABLE_END = 0.045
"""Seconds; a shorter rest is the end of a syllable, as Mandarin has them, and closes no mouth."""

_SHAPES: dict[str, tuple[float, float, float]] = {
    **dict.fromkeys("aɑæɐ", (1.0, 0.15, 0.0)),
    **dict.fromkeys("ʌ", (0.8, 0.1, 0.0)),
    **dict.fromkeys("ɛe", (0.62, 0.6, 0.15)),
    **dict.fromkeys("əɜɚɘɵ", (0.45, 0.0, 0.1)),
    **dict.fromkeys("iɪɨᵻ", (0.32, 1.0, 0.4)),
    **dict.fromkeys("oɔɒ", (0.7, -0.7, 0.0)),
    **dict.fromkeys("uʊɯ", (0.34, -1.0, 0.0)),
    **dict.fromkeys("yøœʏ", (0.36, -0.9, 0.0)),
    **dict.fromkeys("mbpβɓ", (0.0, 0.05, 0.0)),
    **dict.fromkeys("fvʋɱ", (0.1, 0.2, 0.8)),
    **dict.fromkeys("szɕʑ", (0.18, 0.55, 1.0)),
    **dict.fromkeys("ʃʒʂʐ", (0.26, -0.55, 0.9)),
    **dict.fromkeys("tdnlɾɫɲʎ", (0.27, 0.2, 0.45)),
    **dict.fromkeys("θð", (0.25, 0.15, 0.6)),
    **dict.fromkeys("kɡgŋhxχçɣʔqɦ", (0.36, 0.1, 0.2)),
    **dict.fromkeys("ɹrʁʀɻ", (0.28, -0.4, 0.3)),
    **dict.fromkeys("wɥ", (0.16, -1.0, 0.0)),
    **dict.fromkeys("jʝʲ", (0.26, 0.8, 0.4)),
}
_VOWELS = set("aɑæɐʌɛeəɜɚiɪɨᵻoɔɒuʊɯyøœʏɘɵ")
_CLOSURES = set("mbpfvβɓʋɱ")
_REST = (0.0, 0.0, 0.0)


def mouth_track(phonemes: list[Phoneme], samples: np.ndarray, sample_rate: int) -> np.ndarray:
    """Mouth shapes [T, 3] float32 at TRACK_RATE for one utterance of int16 mono `samples`.

    Each sound pulls the mouth towards its shape with a weight that falls off around its middle; lip closures
    and pauses pull hardest. Loudness opens the mouth further, silence closes it.
    """
    total = len(samples) / sample_rate
    times = (np.arange(int(total * TRACK_RATE)) + 0.5) / TRACK_RATE
    centres, widths, pulls, shapes = [], [], [], []
    ends = [p.start for p in phonemes[1:]] + [total]
    for phoneme, end in zip(phonemes, ends, strict=True):
        if not phoneme.name and end - phoneme.start < SYLLABLE_END and phoneme is not phonemes[0]:
            continue
        parts = _parts(phoneme.name)
        step = (end - phoneme.start) / len(parts)
        for i, (shape, pull) in enumerate(parts):
            centres.append(phoneme.start + (i + 0.5) * step)
            widths.append(max(0.4 * step, 0.028))
            pulls.append(pull)
            shapes.append(shape)
    reach = (times[:, None] - np.array(centres)) / np.array(widths)
    weights = np.array(pulls) * np.exp(-0.5 * reach**2) + 1e-6
    track = weights @ np.array(shapes) / weights.sum(1, keepdims=True)
    track[times < phonemes[0].start] *= 0.3
    loud = loudness(samples, sample_rate, len(times))
    track[:, 0] *= 0.75 + 0.35 * loud
    track *= np.clip(loud * 12, 0, 1)[:, None] ** 0.5
    return np.clip(_smooth(track, 1.6), (0, -1, 0), (1, 1, 1)).astype(np.float32)


def loudness(samples: np.ndarray, sample_rate: int, count: int) -> np.ndarray:
    """Smoothed loudness 0..1 of int16 `samples` at `count` steps of TRACK_RATE (1 is the utterance's loud end)."""
    hop = sample_rate / TRACK_RATE
    power = np.concatenate([[0.0], np.cumsum(samples.astype(np.float64) ** 2)])
    left = np.clip(((np.arange(count) - 1.5) * hop).astype(int), 0, len(samples))
    right = np.clip(((np.arange(count) + 2.5) * hop).astype(int), 0, len(samples))
    level = np.sqrt((power[right] - power[left]) / np.maximum(right - left, 1))
    return np.clip(_smooth(level[:, None], 3)[:, 0] / (np.percentile(level, 95) + 1e-6), 0, 1)


def _parts(name: str) -> list[tuple[tuple[float, float, float], float]]:
    """Shapes and pulls of one IPA name: a diphthong or affricate has two parts, a pause is the closed mouth."""
    known = [c for c in name if c in _SHAPES]
    if not known:
        return [(_REST, 3.0)]
    if known[0] in _VOWELS:
        return [(_SHAPES[c], 1.0) for c in known[:2]]
    return [(_SHAPES[known[-1]], 3.5 if known[-1] in _CLOSURES else 0.8)]


def _smooth(values: np.ndarray, sigma: float) -> np.ndarray:
    """Gaussian smoothing over time, edges held."""
    reach = int(3 * sigma) + 1
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / sigma) ** 2)
    padded = np.pad(values, ((reach, reach), (0, 0)), mode="edge")
    return np.stack([np.convolve(column, kernel / kernel.sum(), "valid") for column in padded.T], 1)
