"""Motion that no video shows: gestures of the head by formula, and motions put in a row or mixed.

A formula can move a head, whose pose is three angles. An expression is a code of the motion encoder that means nothing
by itself: smiles and blinks are read from a video (`driving.driving_motion`), saved, and put together with these.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ..parts.face.keypoints import Pose
from .motion import Motion

PITCH, YAW, ROLL = range(3)
IDLE_HERTZ = (0.11, 0.17, 0.29)
"""Slow waves that never meet, for each angle."""
IDLE_SHARES = (0.5, 1.0, 0.35)
"""How far pitch, yaw and roll wander, by the degrees that are asked for."""
EASE_SECONDS = 0.4


def _shaken(time: Tensor, seconds: float, times: int) -> Tensor:
    """To and fro, growing and dying away."""
    part = time / seconds
    return torch.sin(2 * math.pi * times * part) * torch.sin(math.pi * part)


def _held(time: Tensor, seconds: float) -> Tensor:
    """To 1 and, at the end, back to 0, each with ease."""
    ease = min(EASE_SECONDS, seconds / 2)
    return _smooth(time / ease) * _smooth((seconds - time) / ease)


def _smooth(x: Tensor) -> Tensor:
    x = x.clamp(0, 1)
    return x * x * (3 - 2 * x)


def _wandering(time: Tensor, seconds: float, seed: int) -> Tensor:
    """Waves with phases of a seed [n, 3]."""
    draw = torch.Generator().manual_seed(seed)
    phases = 2 * math.pi * torch.rand(len(IDLE_HERTZ), 3, generator=draw)
    angles = 2 * math.pi * torch.tensor(IDLE_HERTZ) * time[:, None]
    waves = torch.sin(angles[..., None] + phases).mean(1)
    return waves * torch.tensor(IDLE_SHARES) * _held(time, seconds)[:, None]


GESTURES = ("idle", "still", "nod", "shake", "tilt", "turn", "raise")
_AXES = {"nod": PITCH, "shake": YAW, "tilt": ROLL, "turn": YAW, "raise": PITCH}


def gesture(
    name: str,
    pose: Pose,
    tokens: Tensor,
    seconds: float,
    fps: float,
    degrees: float,
    times: int = 2,
    seed: int = 0,
) -> Motion:
    """A gesture of a portrait's head, which begins and ends in the portrait's own pose.

    Args:
        name: one of `GESTURES`. "nod", "shake" and "tilt" go to and fro ``times`` times; "turn" and "raise" go there
            and back.
        pose: of one frame.
        tokens: expression of one frame [1, 32, 16], which is held.
        degrees: how far; a negative number begins to the other side.
        seed: of "idle".

    Raises:
        ValueError: the name is unknown.
    """
    if name not in GESTURES:
        raise ValueError(f"Choose a gesture of {', '.join(GESTURES)}: there is no {name!r:.40}.")
    frames = max(1, round(seconds * fps))
    time = torch.arange(frames) / fps
    moved = torch.zeros(frames, 3)
    if name == "idle":
        moved = degrees * _wandering(time, seconds, seed)
    elif name in _AXES:
        curve = _held(time, seconds) if name in ("turn", "raise") else _shaken(time, seconds, times)
        moved[:, _AXES[name]] = degrees * curve
    still = pose.to("cpu")
    made = Pose(
        still.keypoints.float().expand(frames, -1, -1),
        still.angles.float() + moved,
        still.translation.float().expand(frames, -1),
        still.scale.float().expand(frames, -1),
    )
    return Motion(made, tokens.float().cpu().expand(frames, -1, -1))


def chain(first: Motion, second: Motion, between: int) -> Motion:
    """One motion after another, with ``between`` frames that lead over with ease."""
    way = _smooth((torch.arange(between) + 1) / (between + 1))
    last, next_one = first[len(first) - 1 :], second[:1]
    return Motion.concat([first, *([mixed(last, next_one, way, way)] if between else []), second])


def blend(one: Motion, other: Motion, head: float, face: float) -> Motion:
    """The head and the expression of both, by the shares of the ``other``. The shorter one holds its last frame."""
    frames = max(len(one), len(other))
    held = [part[torch.arange(frames).clamp(max=len(part) - 1)] for part in (one, other)]
    return mixed(*held, torch.full((frames,), head), torch.full((frames,), face))


def mixed(one: Motion, other: Motion, head: Tensor, face: Tensor) -> Motion:
    """Motions of n frames, or of one, mixed by the other's share in each frame [n]: of the head's pose, and of the
    expression."""
    a, b = one.pose, other.pose
    pose = Pose(
        _between(a.keypoints, b.keypoints, head),
        _between(a.angles, b.angles, head),
        _between(a.translation, b.translation, head),
        _between(a.scale, b.scale, head),
    )
    return Motion(pose, _between(one.tokens, other.tokens, face))


def _between(a: Tensor, b: Tensor, share: Tensor) -> Tensor:
    return torch.lerp(a.float().cpu(), b.float().cpu(), share.float().view(-1, *[1] * (a.ndim - 1)))
