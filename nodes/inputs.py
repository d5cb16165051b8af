"""Inputs that samplers of several engines have."""

from __future__ import annotations

from comfy_api.latest import io

from .schema import MAX_SEED


def seed() -> io.Int.Input:
    """The seed, with the host's own control beside it."""
    return io.Int.Input(
        "seed",
        default=42,
        min=0,
        max=MAX_SEED,
        control_after_generate=True,
        tooltip="The same seed gives the same video on the same device.",
    )


def max_seconds() -> io.Float.Input:
    """Where a video ends if its speech does not end before."""
    return io.Float.Input(
        "max_seconds",
        default=0.0,
        min=0.0,
        max=86400.0,
        step=0.04,
        tooltip="Stop after this time; 0 is the whole speech.",
    )
