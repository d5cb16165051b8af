"""Change where the engine joins what it makes: inside latents, between latents, between blocks."""

from __future__ import annotations

import torch
from torch import Tensor

from ..metric import Layout, Metric, NotMeasurable, Observed

INSIDE, LATENTS, BLOCKS = range(3)


def places(count: int, layout: Layout) -> Tensor:
    """For each of ``count`` changes, of frame 1 to its predecessor and so on: INSIDE, LATENTS or BLOCKS ``[count]``."""
    frame = torch.arange(1, count + 1) - layout.first
    found = torch.full((count,), INSIDE)
    found[frame % layout.latent == 0] = LATENTS
    found[frame % layout.block == 0] = BLOCKS
    return found


def seam_changes(change: Tensor, layout: Layout) -> list[Tensor]:
    """The changes ``[F - 1]`` sorted by `places`."""
    found = places(len(change), layout)
    return [change[found == place] for place in (INSIDE, LATENTS, BLOCKS)]


def _mean(place: int, name: str):
    def compute(seen: Observed) -> float:
        chosen = seam_changes(seen.tracks["change"].values, seen.layout)[place]
        if not len(chosen):
            raise NotMeasurable(f"There is no change {name} in so few frames.")
        return float(chosen.double().mean())

    return compute


def _ratio(seen: Observed) -> float:
    inside, latents, blocks = seam_changes(seen.tracks["change"].values, seen.layout)
    # Frames of one latent are alike; a border of blocks is also one of latents, so it is compared with those.
    usual = latents if len(latents) else inside
    if not len(blocks) or not len(usual) or float(usual.mean()) < 1e-3:
        raise NotMeasurable("There is no border of blocks to compare with the movement inside blocks.")
    return float(blocks.double().mean() / usual.double().mean())


METRICS = (
    Metric(
        "change inside latents",
        "of 255",
        "as it is",
        ("change", "layout"),
        "mean absolute difference of neighbouring frames",
        _mean(INSIDE, "inside a latent"),
    ),
    Metric(
        "change between latents",
        "of 255",
        "as it is",
        ("change", "layout"),
        "the same at borders of latents inside a block",
        _mean(LATENTS, "between latents"),
    ),
    Metric(
        "change between blocks",
        "of 255",
        "as it is",
        ("change", "layout"),
        "the same at borders of blocks",
        _mean(BLOCKS, "between blocks"),
    ),
    Metric(
        "block border",
        "times",
        "lower",
        ("change", "layout"),
        "change between blocks over change between latents of a block",
        _ratio,
        warn=1.5,
        fail=2.5,
    ),
)
