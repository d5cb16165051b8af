"""What moves: one number per frame for each of these, all 0 at rest."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np

LIMITS = {"yaw": 0.45, "pitch": 0.3, "roll": 0.3}
"""Radians to each side; a head that turns further would need another drawing."""


@dataclass(frozen=True)
class Pose:
    """One frame."""

    open: float = 0.0  # 0 lips closed .. 1 wide open
    wide: float = 0.0  # -1 rounded .. 1 spread
    teeth: float = 0.0  # 0 .. 1, how far the teeth close the gap
    tongue: float = 0.0  # 0 lies .. 1 its tip behind the upper teeth
    smile: float = 0.0  # -1 corners down .. 1 up
    cheek: float = 0.0  # 0 .. 1 raised, the lower lids with them
    blink: float = 0.0  # 0 open .. 1 shut
    gaze_x: float = 0.0  # -1 .. 1 to the picture's right
    gaze_y: float = 0.0  # -1 .. 1 down
    brow: float = 0.0  # -1 down .. 1 up
    frown: float = 0.0  # 0 .. 1 inner ends drawn together and down
    yaw: float = 0.0  # radians, to the picture's right
    pitch: float = 0.0  # radians, down
    roll: float = 0.0  # radians, clockwise
    dx: float = 0.0  # of half a head's width
    dy: float = 0.0
    breath: float = 0.0  # 0 .. 1 shoulders up


NAMES = tuple(field.name for field in fields(Pose))
MOUTH = NAMES[:4]
Motion = dict[str, np.ndarray]
"""One array [frames] for each of `NAMES`."""


def still(frames: int) -> Motion:
    """The portrait at rest (what a reference picture shows): mouth closed, eyes open."""
    return {name: np.zeros(frames) for name in NAMES}


def poses(motion: Motion) -> list[Pose]:
    """Frame by frame. ValueError for a turn beyond `LIMITS` or a name that nothing answers to."""
    if unknown := set(motion) - set(NAMES):
        raise ValueError(f"Leave out {', '.join(sorted(unknown))}: a pose has {', '.join(NAMES)}.")
    for name, limit in LIMITS.items():
        if name in motion and (far := float(np.abs(motion[name]).max(initial=0))) > limit + 1e-6:
            raise ValueError(
                f"Keep {name} within {limit} rad: {far:.2f} would turn the face off its drawing."
            )
    columns = zip(*(np.asarray(values).tolist() for values in motion.values()), strict=True)
    return [Pose(**dict(zip(motion, row, strict=True))) for row in columns]
