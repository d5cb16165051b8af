"""What to say when the GPU's memory runs out in the middle of a video: which setting would have fitted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from .config import SIZE_MULTIPLE, SamplingConfig
from .plan import Machine, Model, Wish, make_plan

SPARE = 0.9
"""Something is said to fit when the plan says so for this part of what was free, since the plan was wrong once."""


@contextmanager
def explained(
    model: Model, machine: Machine, height: int, width: int, sampling: SamplingConfig, wish: Wish
) -> Iterator[None]:
    """Let an out-of-memory error of the code inside say what was needed and what would have fitted.

    The arguments are those of `make_plan`; ``machine`` is what there was before anything was loaded.
    """
    try:
        yield
    except torch.OutOfMemoryError as error:
        message = advice(model, machine, height, width, sampling, wish)
        raise torch.OutOfMemoryError(message) from error


def advice(
    model: Model, machine: Machine, height: int, width: int, sampling: SamplingConfig, wish: Wish
) -> str:
    """One sentence for a video of ``width`` x ``height`` pixels for which the memory did not suffice."""
    spare = replace(machine, free=int(SPARE * machine.free))

    def need(height: int, width: int, steps: int, wish: Wish, machine: Machine = spare) -> str | None:
        try:
            plan = make_plan(model, height, width, replace(sampling, steps=steps), machine, wish)
        except (MemoryError, ValueError):
            return None
        return f"{plan.needed / 1e9:.1f} GB"

    planned = need(height, width, sampling.steps, wish, machine) or "too much"
    fits = []
    if wish.choice != "low memory":
        size = need(height, width, sampling.steps, replace(wish, choice="low memory"))
        fits += [f"performance 'low memory' ({size})"] if size else []
    for narrower in range(width - SIZE_MULTIPLE, 0, -SIZE_MULTIPLE):
        lower = max(1, round(height * narrower / width / SIZE_MULTIPLE)) * SIZE_MULTIPLE
        if size := need(lower, narrower, sampling.steps, wish):
            fits.append(f"{narrower}x{lower} ({size})")
            break
    for fewer in range(sampling.steps - 1, 1, -1):
        if size := need(height, width, fewer, wish):
            fits.append(f"{fewer} steps ({size})")
            break
    *others, last = fits or ["closing other programs that use the GPU"]
    return (
        f"The GPU's memory ran out: {width}x{height} in {sampling.steps} steps was planned with {planned} of the "
        f"{machine.free / 1e9:.1f} GB that were free, and needed more; what should fit: "
        f"{', '.join(others) + ' or ' if others else ''}{last}."
    )
