"""Motions with their sound, put in a row or mixed."""

from __future__ import annotations

from dataclasses import replace

from ..engines.personalive.gestures import blend, chain
from ..media.audio import duration, mix, pad, trim
from ..media.portrait import resample_fps
from .personalive import Driving


def chained(first: Driving, second: Driving, seconds_between: float) -> Driving:
    """One motion after another at the first one's frame rate, with a way between them; the sounds follow one another,
    too."""
    second = _at(second, first.fps)
    between = round(seconds_between * first.fps)
    start = (len(first.motion) + between) / first.fps
    sounds = []
    if first.audio is not None:
        sounds.append(_fitted(first.audio, len(first.motion) / first.fps))
    if second.audio is not None:
        sounds.append(pad(_fitted(second.audio, len(second.motion) / first.fps), before_seconds=start))
    return Driving(chain(first.motion, second.motion, between), first.fps, mix(sounds) if sounds else None)


def blended(one: Driving, other: Driving, head: float, face: float) -> Driving:
    """Both motions at once, at the first one's frame rate and with its sound, or else with the other one's."""
    other = _at(other, one.fps)
    return Driving(blend(one.motion, other.motion, head, face), one.fps, one.audio or other.audio)


def _at(driving: Driving, fps: float) -> Driving:
    if driving.fps == fps:
        return driving
    frames = resample_fps(len(driving.motion), driving.fps, fps)
    return replace(driving, motion=driving.motion[frames], fps=fps)


def _fitted(audio: dict, seconds: float) -> dict:
    """A sound of a motion's length."""
    audio = trim(audio, seconds=seconds)
    return pad(audio, after_seconds=max(0.0, seconds - duration(audio)))
