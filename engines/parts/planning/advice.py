"""What to say when memory does not suffice, before a video or in the middle of it: which setting fits."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch

from .costs import Costs
from .plan import Machine, Plan, Wish, make_plan

SPARE = 0.9
"""Something is said to fit when the plan says so for this part of what was free, since the plan was wrong once."""

OTHERWISE = "closing other programs that use the GPU"


@contextmanager
def explained(advise: Callable[[], str]) -> Iterator[None]:
    """Let an out-of-memory error of the code inside say what ``advise`` gives: `advice`, or that of another engine."""
    try:
        yield
    except torch.OutOfMemoryError as error:
        raise torch.OutOfMemoryError(advise()) from error


def planned(costs: Costs, machine: Machine, wish: Wish) -> Plan:
    """`make_plan`, whose MemoryError says what fits instead."""
    try:
        return make_plan(costs, machine, wish)
    except MemoryError as error:
        fits = fitting(costs, machine, wish)
        remedy = (
            f"Choose {_choices(fits)}"
            if fits
            else "Close other programs that use the GPU, or take a larger one"
        )
        raise MemoryError(f"{remedy}. {error}.") from error


def advice(costs: Costs, machine: Machine, wish: Wish) -> str:
    """One sentence for a video for which the memory did not suffice: what was needed and what would have fitted.

    The arguments are those of `make_plan`; ``machine`` is what there was before anything was loaded.
    """
    needed = _need(costs, machine, wish) or "too much"
    fits = _choices(fitting(costs, replace(machine, free=int(SPARE * machine.free)), wish) or [OTHERWISE])
    return (
        f"The GPU's memory ran out: {costs.width}x{costs.height} in {costs.steps} steps was planned with {needed} of "
        f"the {machine.free / 1e9:.1f} GB that were free, and needed more; what should fit: {fits}."
    )


def fitting(costs: Costs, machine: Machine, wish: Wish) -> list[str]:
    """What fits, each with its need: other choices of performance, the next smaller size, fewer steps."""
    height, width, multiple = costs.height, costs.width, costs.size_multiple
    fits = []
    for choice in ("auto", "low memory"):
        other = replace(wish, choice=choice)
        if wish.choice not in (choice, "low memory") and (size := _need(costs, machine, other)):
            fits.append(f"performance '{choice}' ({size})")
    for narrower in range(width - multiple, 0, -multiple):
        lower = max(1, round(height * narrower / width / multiple)) * multiple
        if size := _need(costs.smaller(lower, narrower), machine, wish):
            fits.append(f"{narrower}x{lower} ({size})")
            break
    for fewer in range(costs.steps - 1, 1, -1):
        if size := _need(costs.in_steps(fewer), machine, wish):
            fits.append(f"{fewer} steps ({size})")
            break
    return fits


def _need(costs: Costs, machine: Machine, wish: Wish) -> str | None:
    """What a plan takes, for people; None where there is none."""
    try:
        return f"{make_plan(costs, machine, wish).needed / 1e9:.1f} GB"
    except (MemoryError, ValueError):
        return None


def _choices(fits: list[str]) -> str:
    *others, last = fits
    return f"{', '.join(others)} or {last}" if others else last
