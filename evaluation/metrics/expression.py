"""How lively the face is."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from ..metric import Metric, NotMeasurable, Observed

AT_ONCE = 512


def aligned(faces: Tensor, shift: Tensor) -> Tensor:
    """Grey faces ``[F, S, S]`` moved back by their shift ``[F, 2]`` in parts of their size."""
    done = []
    for some, moved in zip(faces.split(AT_ONCE), shift.split(AT_ONCE), strict=True):
        step = torch.eye(2, 3).repeat(len(some), 1, 1)
        step[:, :, 2] = 2 * moved.float()
        grid = F.affine_grid(step, [len(some), 1, *some.shape[1:]], align_corners=False)
        done.append(
            F.grid_sample(some[:, None].float(), grid, padding_mode="border", align_corners=False)[:, 0]
        )
    return torch.cat(done)


def _spread(seen: Observed) -> float:
    faces = seen.tracks["face"].values
    if len(faces) < 2:
        raise NotMeasurable("A single frame has one expression.")
    return float(aligned(faces, seen.tracks["head"].values).std(0).mean())


METRICS = (
    Metric(
        "expression spread",
        "of 255",
        "higher",
        ("face", "head"),
        "spread of the face's brightness over time after the head's movement is taken out; no expression model",
        _spread,
    ),
)
