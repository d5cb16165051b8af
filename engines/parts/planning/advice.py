"""What to say when the GPU's memory runs out in the middle of a video: which setting would have fitted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from .costs import Costs
from .plan import Machine, Wish, make_plan

SPARE = 0.9
"""Something is said to fit when the plan says so for this part of what was free, since the plan was wrong once."""


@contextmanager
def explained(advise: Callable[[], str]) -> Iterator[None]:
    """Let an out-of-memory error of the code inside say what ``advise`` gives: `advice`, or that of another engine."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise torch.OutOfMemoryError(advise()) from error


def advice(costs: Costs, machine: Machine, wish: Wish) -> str:
    """One sentence for a video for which the memory did not suffice: what was needed and what would have fitted.

    The arguments are those of `make_plan`; ``machine`` is what there was before anything was loaded.
    """
    spare = replace(machine, free=int(SPARE * machine.free))
    height, width, steps, multiple = costs.height, costs.width, costs.steps, costs.size_multiple

    def need(costs: Costs, wish: Wish = wish, machine: Machine = spare) -> str | None:
        try:
            return f"{make_plan(costs, machine, wish).needed / 1e9:.1f} GB"
        except (MemoryError, ValueError):
            return None

    planned = need(costs, machine=machine) or "too much"
    fits = []
    if wish.choice != "low memory":
        size = need(costs, replace(wish, choice="low memory"))
        fits += [f"performance 'low memory' ({size})"] if size else []
    for narrower in range(width - multiple, 0, -multiple):
        lower = max(1, round(height * narrower / width / multiple)) * multiple
        if size := need(costs.smaller(lower, narrower)):
            fits.append(f"{narrower}x{lower} ({size})")
            break
    for fewer in range(steps - 1, 1, -1):
        if size := need(costs.in_steps(fewer)):
            fits.append(f"{fewer} steps ({size})")
            break
    *others, last = fits or ["closing other programs that use the GPU"]
    return (
        f"The GPU's memory ran out: {width}x{height} in {steps} steps was planned with {planned} of the "
        f"{machine.free / 1e9:.1f} GB that were free, and needed more; what should fit: "
        f"{', '.join(others) + ' or ' if others else ''}{last}."
    )
