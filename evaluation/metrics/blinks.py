"""How often the eyes close."""

from __future__ import annotations

import torch
from torch import Tensor

from ..metric import Metric, NotMeasurable, Observed
from ..tracks import Track

LONGEST = 0.5
"""Seconds; eyes that are closed for longer do not blink."""
NOISE = 6.0
"""A blink is deeper than this many times the usual change from frame to frame."""
SHALLOWEST = 0.03
"""A blink changes the darkness, from 0 to 1, by so much at least; light and the turning head change it less."""
GAP = 0.2
"""Seconds; dips that are as near are one blink, since the lashes of a closed eye are dark again."""
SLOW = 2.0
"""Seconds over which the darkness of open eyes is taken: heads turn and light changes."""


def blinks(track: Track, fps: float) -> Tensor:
    """The times of blinks in seconds ``[N]``: short dips in the darkness of the eyes' box."""
    eyes = track.even(fps)
    reach = round(SLOW * fps / 2)
    if len(eyes) <= 2 * reach:
        raise NotMeasurable(f"Blinks need {SLOW:g} s or more.")
    padded = torch.nn.functional.pad(eyes[None, None], (reach, reach), mode="replicate")[0, 0]
    usual = padded.unfold(0, 2 * reach + 1, 1).median(1).values
    dip = usual - eyes
    noise = max(float(eyes.diff().abs().median()), 1e-4)
    depth = float(dip.quantile(0.998)) / 2
    if depth < max(NOISE * noise, SHALLOWEST) / 2:
        return torch.zeros(0, dtype=torch.float64)
    closed = dip > depth
    edges = torch.nn.functional.pad(closed.int(), (1, 1)).diff()
    begins, ends = (edges == 1).nonzero()[:, 0], (edges == -1).nonzero()[:, 0]
    apart = begins[1:] - ends[:-1] > GAP * fps
    begins, ends = torch.cat((begins[:1], begins[1:][apart])), torch.cat((ends[:-1][apart], ends[-1:]))
    return ((begins + ends - 1) / 2 / fps)[(ends - begins) <= LONGEST * fps].double()


def _rate(seen: Observed) -> float:
    return len(blinks(seen.tracks["eyes"], seen.fps)) / seen.seconds * 60


METRICS = (
    Metric(
        "blinks",
        "per minute",
        "as it is",
        ("eyes",),
        "short dips in the darkness of the eyes' box; people blink 10 to 30 times a minute",
        _rate,
    ),
)
