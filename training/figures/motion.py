"""How a person moves while speaking: what the mouth does comes from the speech, the rest goes with it.

Blinks mark the ends of phrases, brows and nods the stressed syllables, so that much of what is seen can be foretold
from what is heard.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..motion import FPS
from .pose import LIMITS, Motion, still


@dataclass(frozen=True)
class Mood:
    """What a mood adds to every frame, and how lively it is."""

    smile: float
    cheek: float
    brow: float
    frown: float
    life: float
    laughs: bool = False


MOODS = {
    # calm: what a text that says nothing of a mood gets
    "calm": Mood(smile=0.08, cheek=0.0, brow=0.0, frown=0.0, life=1.0),
    "serious": Mood(smile=-0.14, cheek=0.0, brow=-0.14, frown=0.45, life=0.7),
    "smiling": Mood(smile=0.5, cheek=0.42, brow=0.12, frown=0.0, life=1.0),
    "laughing": Mood(smile=0.85, cheek=0.8, brow=0.25, frown=0.0, life=1.35, laughs=True),
}
PAUSE = 0.24
"""Seconds of silence that end a phrase."""


def talking(mouth: np.ndarray, rng: np.random.Generator, mood: str, lead: int | None = None) -> Motion:
    """Motion for mouth shapes [T, 3] (open, wide, teeth, as `visemes` has them) at 25 frames per second.

    With `lead` the first frames so many are at rest and movement and mood grow from there; with None the clip is the
    middle of a speech. KeyError for an unknown mood.
    """
    feel, frames = MOODS[mood], len(mouth)
    begin = 0 if lead is None else lead
    seconds = np.arange(frames) / FPS
    age = seconds - begin / FPS
    ramp = np.ones(frames) if lead is None else _ease(age / 1.2)
    heard = mouth * (np.arange(frames) >= begin)[:, None]
    motion = still(frames)
    motion["open"], motion["wide"], motion["teeth"] = heard.T.astype(np.float64)
    motion["tongue"] = tongue_of(heard)
    effort = smoothed(heard[:, 0], 3)
    _hold_head(motion, rng, seconds, feel.life)
    _look(motion, rng, frames)
    stresses, ends = stressed(effort), phrase_ends(heard[:, 0])
    _stress(motion, rng, seconds, effort, stresses, feel.life)
    _blink(motion, rng, seconds, ends)
    motion["smile"] += feel.smile * (1 + 0.15 * _waves(rng, seconds, 0.1, 0.3))
    motion["cheek"] += feel.cheek * (0.85 + 0.15 * _waves(rng, seconds, 0.1, 0.3))
    motion["brow"] += feel.brow + 0.3 * smoothed(effort, 6)
    motion["frown"] += feel.frown
    motion["breath"] = 0.5 - 0.5 * np.cos(2 * np.pi * (0.28 * seconds + rng.random()))
    if feel.laughs:
        _laugh(motion, rng, seconds, heard[:, 0], ends)
    # Eyes stay with the viewer when the head turns.
    motion["gaze_x"] -= 1.6 * motion["yaw"]
    motion["gaze_y"] -= 1.2 * motion["pitch"]
    for name, values in motion.items():
        if name not in ("open", "wide", "teeth", "tongue", "blink"):
            values *= ramp
    motion["blink"] *= age >= 0
    return _bounded(motion)


def tongue_of(mouth: np.ndarray) -> np.ndarray:
    """How far the tongue's tip is lifted, for mouth shapes [T, 3]: it is where t, d, n, l and th are."""
    far = (mouth - (0.27, 0.2, 0.5)) / (0.14, 0.3, 0.2)
    return np.exp(-0.5 * (far**2).sum(1)) * np.clip(10 * mouth[:, 0], 0, 1)


def stressed(effort: np.ndarray) -> list[int]:
    """Frames of the stressed syllables: the peaks of the mouth's smoothed opening, at least 0.3 s apart."""
    inner = effort[1:-1]
    peaks = 1 + np.flatnonzero((inner >= effort[:-2]) & (inner > effort[2:]) & (inner > 0.3))
    kept: list[int] = []
    for peak in peaks[np.argsort(-effort[peaks], kind="stable")].tolist():
        if all(abs(peak - other) > 0.3 * FPS for other in kept):
            kept.append(peak)
    return sorted(kept)


def phrase_ends(opening: np.ndarray) -> list[int]:
    """Frames at which speech stops for at least PAUSE."""
    quiet, need = opening < 0.04, round(PAUSE * FPS)
    starts = np.flatnonzero(quiet[1:] & ~quiet[:-1]) + 1
    return [int(at) for at in starts if quiet[at : at + need].all() and at + need <= len(opening)]


def smoothed(values: np.ndarray, reach: int) -> np.ndarray:
    """Triangular moving average, edges held."""
    kernel = np.bartlett(2 * reach + 3)[1:-1]
    return np.convolve(np.pad(values, reach, mode="edge"), kernel / kernel.sum(), "valid")


def lid(age: np.ndarray) -> np.ndarray:
    """How far the lids are shut, `age` seconds after a blink began: shut within 0.1 s, open again after 0.35 s."""
    closing, opening = _ease(age / 0.1), _ease((age - 0.145) / 0.205)
    return np.where(age < 0, 0.0, closing - opening)


def _ease(x: np.ndarray) -> np.ndarray:
    """0 to 1, without a jerk at either end."""
    x = np.clip(x, 0, 1)
    return x * x * (3 - 2 * x)


def _waves(rng: np.random.Generator, seconds: np.ndarray, slow: float, fast: float) -> np.ndarray:
    """Three slow sines, about -1 .. 1."""
    rate, phase = rng.uniform(slow, fast, (3, 1)), rng.random((3, 1))
    return np.sin(2 * np.pi * (rate * seconds + phase)).sum(0) / 2.2


def _hold_head(motion: Motion, rng: np.random.Generator, seconds: np.ndarray, life: float) -> None:
    """Slow drift, and a new bearing every few seconds."""
    for name, amount in (("yaw", 0.055), ("pitch", 0.03), ("roll", 0.03), ("dx", 0.035), ("dy", 0.014)):
        motion[name] += life * amount * _waves(rng, seconds, 0.08, 0.28)
    at = -rng.uniform(0, 3)
    bearing = np.zeros(3)
    while at < seconds[-1]:
        aim = rng.normal(0, (0.11, 0.04, 0.04)) * life
        share = _ease((seconds - at) / rng.uniform(0.35, 0.7))
        for name, step in zip(("yaw", "pitch", "roll"), aim - bearing, strict=True):
            motion[name] += step * share
        bearing, at = aim, at + rng.uniform(1.6, 4.5)


def _look(motion: Motion, rng: np.random.Generator, frames: int) -> None:
    """Fixations joined by saccades of one frame: mostly at the viewer, now and then aside."""
    at, held = 0, np.zeros(2)
    while at < frames:
        aside = rng.random() < 0.22
        aim = rng.uniform((-0.7, -0.4), (0.7, 0.35)) if aside else rng.normal(0, 0.06, 2)
        span = round(FPS * (rng.uniform(0.3, 0.9) if aside else rng.uniform(0.5, 2.4)))
        for name, value, before in zip(("gaze_x", "gaze_y"), aim, held, strict=True):
            motion[name][at : at + span] = value
            motion[name][at : at + 1] = (value + before) / 2 if at else value
        if np.abs(aim - held).max() > 0.45 and rng.random() < 0.4:
            motion["blink"] = np.maximum(motion["blink"], lid((np.arange(frames) - at + 1) / FPS))
        held, at = aim, at + span


def _stress(motion: Motion, rng, seconds, effort, stresses: list[int], life: float) -> None:
    """Brows rise and the head nods with stressed syllables, the more the stronger they are."""
    for frame in stresses:
        age, force = seconds - frame / FPS, effort[frame]
        if rng.random() < 0.9 * force:
            motion["brow"] += rng.uniform(0.3, 0.6) * life * np.exp(-0.5 * ((age + 0.02) / 0.13) ** 2)
        if rng.random() < force:
            down, back = _ease((age + 0.14) / 0.16), _ease((age - 0.04) / 0.32)
            motion["pitch"] += rng.uniform(0.035, 0.075) * life * (down - back)


def _blink(motion: Motion, rng: np.random.Generator, seconds: np.ndarray, ends: list[int]) -> None:
    """A blink when a phrase ends, and others in between; one of eight is double."""
    starts = [end / FPS + 0.06 for end in ends if rng.random() < 0.75]
    at = rng.uniform(-1.0, 3.0)
    while at < seconds[-1]:
        if all(abs(at - other) > 0.7 for other in starts):
            starts.append(at)
        at += rng.uniform(2.2, 5.2)
    starts += [start + 0.4 for start in starts if rng.random() < 0.125]
    for start in starts:
        motion["blink"] = np.maximum(motion["blink"], lid(seconds - start))
    motion["brow"] -= 0.08 * motion["blink"]


def _laugh(motion: Motion, rng, seconds: np.ndarray, opening: np.ndarray, ends: list[int]) -> None:
    """Pauses are laughed through: the mouth opens in a smile and the shoulders bob."""
    for end in ends:
        later = np.flatnonzero(opening[end:] > 0.04)
        until = (end + later[0]) / FPS if len(later) else seconds[-1] + 0.5
        length = min(until - end / FPS - 0.1, 1.4)
        if length < 0.3 or rng.random() < 0.3:
            continue
        age = seconds - end / FPS - 0.05
        swell = _ease(age / 0.14) * (1 - _ease((age - length + 0.16) / 0.16))
        beat = 0.5 + 0.5 * np.sin(2 * np.pi * 4.6 * age)
        motion["open"] = motion["open"] + swell * (0.16 + 0.2 * beat)
        motion["wide"] = motion["wide"] + swell * 0.5 * (1 - np.abs(motion["wide"]))
        motion["teeth"] = motion["teeth"] + swell * 0.25 * (1 - motion["teeth"])
        motion["pitch"] += swell * (0.02 * beat - 0.07)
        motion["dy"] += swell * 0.02 * beat
        motion["breath"] += swell * 0.6 * beat


def _bounded(motion: Motion) -> Motion:
    low = dict.fromkeys(("wide", "smile", "gaze_x", "gaze_y", "brow"), -1.0) | {
        k: -v for k, v in LIMITS.items()
    }
    low |= {"dx": -1.0, "dy": -1.0}
    return {
        name: np.clip(values, low.get(name, 0.0), LIMITS.get(name, 1.0)) for name, values in motion.items()
    }
